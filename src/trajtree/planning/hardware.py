"""How fast hardware is: named machines from their peak figures, and this one as measured."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trajtree.errors import counted
from trajtree.models.weights import model_cache, pick_device, pick_dtype
from trajtree.planning.shapes import Shape
from trajtree.store.files import write_atomically

_H100_PEAK = 989e12
_ON_H100 = ((896, 33e12), (1536, 87e12), (4096, 206e12))
"""(width, floating-point operations per second) on an H100, in preference steps of full packs with the shapes of
Qwen2.5-0.5B, Qwen2.5-1.5B and Llama-2-7b (docs/training.md). Narrower models wait for their kernels to start.
"""
_BANDWIDTH = 0.6
"""Share of the peak bandwidth at which weights are read while a token is decoded."""
_LAYER = 7e-4
"""Seconds that a layer's kernels take to start for one decoded token where transformers decodes on a GPU; `calibrate`
measured it on the same H100."""
_SERVED_LAYER = 3e-5
"""The same on a model server, which records its kernels."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The speed and memory of a machine.

    Attributes:
        name: what people call it.
        arithmetic: (width of a model, floating-point operations per second in training) from narrow to wide.
        bandwidth: bytes of weights read per second while a token is decoded.
        layer: seconds per layer and decoded token that are independent of the model's size.
        memory: bytes; 0 if unknown.
        source: where the figures come from.
    """

    name: str
    arithmetic: tuple[tuple[int, float], ...]
    bandwidth: float
    layer: float
    memory: float
    source: str

    def speed(self, width: int) -> float:
        """Floating-point operations per second for a model of this width: log-log interpolation."""
        below = max((known for known in self.arithmetic if known[0] <= width), default=self.arithmetic[0])
        above = min((known for known in self.arithmetic if known[0] >= width), default=self.arithmetic[-1])
        if below[0] >= above[0]:
            return above[1] if width < self.arithmetic[0][0] else below[1]
        share = math.log(width / below[0]) / math.log(above[0] / below[0])
        return math.exp((1 - share) * math.log(below[1]) + share * math.log(above[1]))

    def decoded(self, shape: Shape, *, served: bool) -> float:
        """Seconds of one decoding step that do not depend on how many conversations are decoded together."""
        layer = min(self.layer, _SERVED_LAYER) if served else self.layer
        return shape.layers * layer + 2 * (shape.body + shape.output) / self.bandwidth


def _gpu(name: str, peak: float, bandwidth: float, memory: float) -> Hardware:
    """A GPU that reaches the share of its peak that an H100 did at 7B, and the H100's speed with narrower models."""
    most = peak / _H100_PEAK * _ON_H100[-1][1]
    source = (
        f"{most / 1e12:.0f} of {peak / 1e12:.0f} Tflop/s with a model of 7B, the share that an H100 reached, "
        f"{bandwidth / 1e12:.2g} TB/s used to {_BANDWIDTH:.0%}"
    )
    arithmetic = tuple((width, min(speed, most)) for width, speed in _ON_H100)
    return Hardware(name, arithmetic, _BANDWIDTH * bandwidth, _LAYER, memory, source)


HARDWARE = {
    "H100": _gpu("H100", _H100_PEAK, 3.35e12, 80e9),
    "A100": _gpu("A100", 312e12, 2.04e12, 80e9),
    "RTX-4090": _gpu("RTX 4090", 165e12, 1.01e12, 24e9),
    "CPU": Hardware("16 cores", ((256, 2e11), (4096, 8e11)), 5e10, 2e-4, 0.0, "16 cores with AVX-512, used to a third"),
}
"""Named hardware: one GPU's peak figures for dense bfloat16 as its vendor states them, and a server's processor."""


def calibration_file() -> Path:
    """Where `calibrate` keeps what it measured."""
    return model_cache().parent / "speed.json"


def this_machine() -> Hardware | None:
    """This machine as it was last measured; None if it was not, or if what was kept cannot be read."""
    try:
        held = json.loads(calibration_file().read_text())
        return Hardware(**{**held, "arithmetic": tuple((int(w), float(s)) for w, s in held["arithmetic"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


_WIDTHS = (256, 576, 1024)
_TOKENS = 384
"""Tokens of a conversation in the measurement."""
_SECONDS = 1.5
"""Seconds for each of the measurements."""
_LAYERS, _VOCABULARY = 4, 512
"""Layers and vocabulary of the small models."""


def calibrate() -> Hardware:
    """Measure this machine with small models of random weights, about ten seconds, and keep the result.

    The fastest repetition counts, because other work on the machine can only slow one down.
    """
    import torch

    device, dtype = pick_device(), pick_dtype("auto")
    on_gpu = device != "cpu"
    found = Hardware(
        "this machine",
        tuple((width, _training_speed(width, device, dtype)) for width in _WIDTHS),
        _reading_speed(device, dtype),
        _seconds_of_a_layer(device, dtype),
        float(torch.cuda.get_device_properties(device).total_memory) if on_gpu else 0.0,
        f"measured in {dtype}" if on_gpu else f"measured in {dtype}, {counted(torch.get_num_threads(), 'thread')}",
    )
    calibration_file().parent.mkdir(parents=True, exist_ok=True)
    write_atomically(calibration_file(), json.dumps(asdict(found), indent=1))
    return found


def _training_speed(width: int, device: str, dtype: str) -> float:
    """Floating-point operations per second, forward and backward."""
    import torch

    # A model as narrow as the first is trained from scratch, and so with float32 weights; wider ones get an adapter.
    model = _model(width, "float32" if width == _WIDTHS[0] else dtype, device)
    number = max(1, _WIDTHS[-1] // width)
    ids = torch.randint(_VOCABULARY, (number, _TOKENS), device=device)

    def step() -> None:
        with torch.autocast(device.partition(":")[0], getattr(torch, dtype), enabled=dtype != "float32"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        _wait(device)

    tokens = number * _TOKENS
    return 3 * _shape(width).forward(tokens, _TOKENS, tokens) / _fastest(step, device)


def _reading_speed(device: str, dtype: str) -> float:
    """Bytes of a matrix that are read per second, to multiply it by one vector."""
    import torch

    weights = torch.randn(4096, 4096, device=device, dtype=getattr(torch, dtype))
    one = torch.randn(4096, 1, device=device, dtype=weights.dtype)

    def read() -> None:
        weights @ one
        _wait(device)

    return weights.numel() * weights.element_size() / _fastest(read, device)


def _seconds_of_a_layer(device: str, dtype: str) -> float:
    """Seconds per layer of a narrow model that decodes one token."""
    import torch

    model = _model(_WIDTHS[0], dtype, device).eval()
    ids = torch.randint(_VOCABULARY, (1, _TOKENS), device=device)
    with torch.inference_mode():
        cache = model(input_ids=ids, use_cache=True).past_key_values

        def decode() -> None:
            model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
            cache.crop(-1)
            _wait(device)

        return _fastest(decode, device) / _LAYERS


def _model(width: int, weights: str, device: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = _shape(width)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context,
    )
    return LlamaForCausalLM(config).to(device=device, dtype=getattr(torch, weights))


def _shape(width: int) -> Shape:
    heads = width // 64
    return Shape(_LAYERS, width, 8 * width // 3, heads, heads, 64, _VOCABULARY, tied=False, context=2048)


def _wait(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def _fastest(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest repetition, after one that warms up.

    On a processor they are CPU seconds over the number of threads: what else runs on the machine does not count.
    """
    import torch

    clock, threads = (time.perf_counter, 1) if device != "cpu" else (time.process_time, torch.get_num_threads())
    work()
    best, end = math.inf, clock() + _SECONDS * threads
    while clock() < end:
        began = clock()
        work()
        best = min(best, clock() - began)
    return best / threads


__all__ = ["HARDWARE", "Hardware", "calibrate", "calibration_file", "this_machine"]
