"""Everything that needs a GPU, in one go of at most seven minutes on a single card.

    bash benchmarks/gpu.sh                                    # writes benchmarks/results/gpu.json
    bash benchmarks/gpu.sh --device cpu --tiny --out x.json   # the same steps in small, which tests all but the device

For models with random weights in the shapes of Qwen2.5-0.5B and 1.5B (neither speed nor exactness depends on what a
model has learnt), in bfloat16 with an adapter as in training:

* exactness: log-probabilities and gradients of packed trees and of the same branches computed alone, both against
  branches computed alone in float32. Packing is as exact as bfloat16 where both are equally far from these;
* steps: seconds and memory of a training step at the shapes of docs/training.md and in a full row, for padded batches,
  packs by three kinds of attention (the loop over chains, one mask, flex attention), packs with --deterministic, and
  TRL's DPOTrainer;
* attention: the kind with which the steps of all shapes together are fastest;
* rollouts: tokens sampled per second by the policy that plays, by the number of episodes at once;
* plan: the arithmetic of a full row's step, as `trajtree plan` counts it, and how fast it is done, also for the paper's
  smallest model.

What does not fit into the time is left out, and the results say so. They are written after every part.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

import attentions
from trajtree.models.weights import ModelRef, versions
from trajtree.planning.shapes import Shape
from trajtree.policies.local import LocalPolicy
from trajtree.train.batch import Batch, collate
from trajtree.train.examples import Example, PairExample, SftExample
from trajtree.train.losses import dpo, sft
from trajtree.train.repeatable import repeatable
from trajtree.train.scoring import logits_of, scores_of, token_logprobs
from trajtree.train.tree_attention import NAME, use_tree_attention
from trajtree.trajectory import Message, Sampling, Tokens
from with_trl import trl_step, trl_trainer

MODELS: dict[str, dict[str, int]] = {
    "Qwen2.5-0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "Qwen2.5-1.5B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "Llama-2-7b": {
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32_000,
    },
}
LARGE = "Llama-2-7b"
"""Of this model only the step of a full row is measured."""
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 600,
}
"""With --tiny, in place of these."""

ATTENTIONS = {"loop": attentions.LOOP, "mask": attentions.MASK, "flex": attentions.FLEX}
REPLY, OBSERVATION = 10, 25
"""Tokens of a reply and of the observation after it."""
PACK_TOKENS = 4096
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}<|eos|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class Clock:
    """How much of the time is left, and what was left out for want of it."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.left_out: list[str] = []

    def allows(self, what: str, seconds: float) -> bool:
        """Whether so many seconds are left; if not, `what` is noted."""
        if self.end - time.monotonic() < seconds:
            self.left_out.append(f"{what}: no time was left")
            return False
        return True


# --- what is computed ---


def _words(random: np.random.Generator, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(random.integers(8, vocabulary, count).tolist())


def _turns(start: int, end: int) -> tuple[tuple[int, int], ...]:
    """Replies with observations between them."""
    return tuple((at, min(at + REPLY, end)) for at in range(start, end, REPLY + OBSERVATION))


def _sides(random: np.random.Generator, vocabulary: int, trunk: int, ends: Sequence[int]) -> list[Tokens]:
    """Branches that share a trunk of so many tokens and go on alone for as many as `ends` says."""
    shared = _words(random, trunk, vocabulary)
    return [Tokens(shared + _words(random, end, vocabulary), _turns(trunk, trunk + end)) for end in ends]


def shapes(vocabulary: int, *, tiny: bool) -> dict[str, list[Example]]:
    """Examples of the shapes measured in docs/training.md, and of a row that is full."""
    random = np.random.default_rng(0)
    by = 8 if tiny else 1

    def sides(trunk: int, end: int, count: int) -> list[Tokens]:
        return _sides(random, vocabulary, trunk // by, [end // by] * count)

    def pairs(trunk: int, end: int, count: int) -> list[Example]:
        made = sides(trunk, end, 2 * count)
        return [PairExample(*made[2 * i : 2 * i + 2], name=f"pair {i}") for i in range(count)]

    row: list[Example] = []
    for _ in range(PACK_TOKENS // 594):
        row += pairs(325, 45, 3)
    return {
        "one pair at a fork": pairs(319, 51, 1),
        "one pair that diverges early": pairs(127, 393, 1),
        "a tree's three pairs": pairs(325, 45, 3),
        "SFT on a tree's six branches": [SftExample(side, 1.0) for side in sides(331, 48, 6)],
        "a row of trees": row,
    }


def base_of(name: str, args: argparse.Namespace) -> Any:
    """A model of this name's shape with random weights, in bfloat16."""
    torch.manual_seed(0)
    config = Qwen2Config(
        **MODELS[name] | (TINY if args.tiny else {}),
        max_position_embeddings=32_768,
        rope_theta=1e6,
        tie_word_embeddings=name != LARGE,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.device(args.device):
        model = Qwen2ForCausalLM(config)
    return model.to(torch.bfloat16).eval()


def adapted(model: Any) -> Any:
    """The model with a float32 adapter that changes something, as during training."""
    wrapped = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    return wrapped


def attend(model: Any, attention: str) -> None:
    """Choose the attention of all layers by its name."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation(attention)


# --- exactness ---


def exactness(model: Any, examples: list[Example], kinds: Sequence[str], device: str) -> dict[str, Any]:
    """How far packed and separate computation are from separate computation in float32."""
    branches = [side for number in range(len(examples[0].sides)) for side in (e.sides[number] for e in examples)]
    alone = [collate([SftExample(side, 1.0)], packed=False).to(device) for side in branches]
    packed = collate(examples, packed=True).to(device)
    found = {}
    # The float32 model is the bfloat16 one with the same weights, so only the arithmetic differs.
    for name, attention, batches in (
        ("alone", "sdpa", alone),
        *((f"packed, {kind}", ATTENTIONS[kind], [packed]) for kind in kinds),
    ):
        attend(model, attention)
        found[name] = _computed(model, batches)
    attend(model, "sdpa")
    rounded = [parameter for parameter in model.parameters() if parameter.dtype == torch.bfloat16]
    for parameter in rounded:
        parameter.data = parameter.data.float()
    truth = _computed(model, alone)
    for parameter in rounded:
        parameter.data = parameter.data.bfloat16()
    figures: dict[str, Any] = {"trained tokens": len(truth[0])}
    for name, (logprobs, gradient) in found.items():
        apart = (logprobs - truth[0]).abs()
        figures[name] = {
            "nats from float32, mean": float(apart.mean()),
            "nats from float32, largest": float(apart.max()),
            "gradient from float32, share": None if gradient is None else _apart(gradient, truth[1]),
        }
    return figures


def _computed(model: Any, batches: Sequence[Batch]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """[M] log-probabilities of the trained tokens of all branches; and the adapter's gradient of their sum, flat.

    Flex attention has no gradient on a CPU.
    """
    differentiable = model.device.type == "cuda" or model.config._attn_implementation != attentions.FLEX
    model.zero_grad()
    logprobs = []
    with torch.set_grad_enabled(differentiable):
        for batch in batches:
            here = token_logprobs(logits_of(model, batch), batch)[batch.token]
            logprobs.append(here.detach().float().cpu())
            if differentiable:
                here.sum().backward()
    if not differentiable:
        return torch.cat(logprobs), None
    gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(logprobs), torch.cat(gradients)


def _apart(one: torch.Tensor, other: torch.Tensor | None) -> float:
    return float("nan") if other is None else float((one - other).norm() / other.norm())


# --- steps ---


def our_step(
    model: Any, examples: list[Example], attention: str, device: str, *, packed: bool, deterministic: bool = False
) -> Callable[[], None]:
    """A training step of ours: the reference's forward pass (the adapter switched off), the policy's, and backward."""
    objective = sft() if isinstance(examples[0], SftExample) else dpo(0.1)
    batch = collate(examples, packed=packed).to(device)

    def step() -> None:
        attend(model, attention)
        with repeatable(torch.device(device)) if deterministic else nullcontext():
            losses, _ = objective.loss(scores_of(model, batch, objective), batch)
            weights = objective.items(batch)
            ((losses * weights).sum() / weights.sum()).backward()

    return step


def measured(
    step: Callable[[], object], zero: Callable[[], None], device: str, *, warm_up: int, repeat: int
) -> dict[str, Any]:
    """Median seconds of a step, after some that warm up, and its largest memory beyond what was there before it."""
    cuda = device != "cpu"
    seconds = []
    for _ in range(warm_up):
        step()
        zero()
    before = 0
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    for _ in range(repeat):
        began = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        zero()
    peak = torch.cuda.max_memory_allocated() - before if cuda else None
    return {"seconds": statistics.median(seconds), "MiB": None if peak is None else peak / 2**20}


def steps(
    model: Any, trainer: Any | None, made: dict[str, list[Example]], args: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
    """Steps of every shape by every side."""
    found: dict[str, Any] = {}
    often = {"warm_up": 0, "repeat": 1} if args.tiny else {"warm_up": 2, "repeat": 8}
    for shape, examples in made.items():
        if not clock.allows(f"steps, {shape}", 25):
            continue
        packed = collate(examples, packed=True)
        sides: dict[str, Callable[[], object]] = {
            "padded": our_step(model, examples, "sdpa", args.device, packed=False)
        }
        for kind, attention in ATTENTIONS.items():
            if kind != "flex" or args.device != "cpu":
                sides[f"packed, {kind}"] = our_step(model, examples, attention, args.device, packed=True)
        sides["packed, deterministic"] = our_step(model, examples, NAME, args.device, packed=True, deterministic=True)
        pairs = [example for example in examples if isinstance(example, PairExample)]
        if trainer is not None and pairs:
            sides["TRL"] = trl_step(trainer, pairs, precomputed=False)
            sides["TRL, reference precomputed"] = trl_step(trainer, pairs, precomputed=True)
        found[shape] = {"tokens": packed.tokens, "packed tokens": packed.ids.numel(), "sides": {}}
        for side, step in sides.items():
            zero = trainer.model.zero_grad if trainer is not None and "TRL" in side else model.zero_grad
            found[shape]["sides"][side] = measured(step, zero, args.device, **often)
        print(shape, json.dumps(found[shape]), flush=True)
    return found


def fastest(found: dict[str, Any]) -> dict[str, Any]:
    """The attention with which all shapes together take least time, and how the others of each shape compare with it.

    Args:
        found: what `steps` measured, of which there is at least one shape.
    """
    kinds = [f"packed, {kind}" for kind in ATTENTIONS if f"packed, {kind}" in next(iter(found.values()))["sides"]]
    total = {side: sum(shape["sides"][side]["seconds"] for shape in found.values()) for side in kinds}
    best = min(total, key=total.__getitem__)
    return {
        "fastest": best.removeprefix("packed, "),
        "seconds of all shapes": total,
        "times as fast as": {
            name: {
                side: figures["seconds"] / shape["sides"][best]["seconds"]
                for side, figures in shape["sides"].items()
                if side != best
            }
            for name, shape in found.items()
        },
    }


def large_steps(model: Any, examples: list[Example], args: argparse.Namespace) -> dict[str, Any]:
    """The packed step of a full row by the attentions that need no compiler, where its activations fit the memory."""
    sides: dict[str, Any] = {}
    for side, attention, deterministic in (
        ("packed, loop", attentions.LOOP, False),
        ("packed, mask", attentions.MASK, False),
        ("packed, deterministic", NAME, True),
    ):
        step = our_step(model, examples, attention, args.device, packed=True, deterministic=deterministic)
        try:
            sides[side] = measured(step, model.zero_grad, args.device, warm_up=1, repeat=3)
        except torch.cuda.OutOfMemoryError as error:
            sides[side] = str(error)
    packed = collate(examples, packed=True)
    return {"a row of trees": {"tokens": packed.tokens, "packed tokens": packed.ids.numel(), "sides": sides}}


def planned_arithmetic(
    name: str, found: dict[str, Any], examples: list[Example], args: argparse.Namespace
) -> dict[str, Any]:
    """The arithmetic of a full row's step as `trajtree plan` counts it, and how fast it was done.

    A pair's step is two forward passes (policy and reference) and a backward pass through frozen weights.
    """
    shape = MODELS[name] | (TINY if args.tiny else {})
    heads, width = shape["num_attention_heads"], shape["hidden_size"]
    counted = Shape(
        layers=shape["num_hidden_layers"],
        hidden=width,
        feed_forward=shape["intermediate_size"],
        heads=heads,
        kv_heads=shape["num_key_value_heads"],
        head=width // heads,
        vocabulary=shape["vocab_size"],
        tied=name != LARGE,
        context=32_768,
    )
    row = found["a row of trees"]
    sides = [side for pair in examples for side in pair.sides]
    length = sum(len(side.ids) for side in sides) / len(sides)
    places = sum(end - start for side in sides for start, end in side.agent)
    work = 3 * counted.forward(row["packed tokens"], length, places)
    ours = ("packed, loop", "packed, mask", "packed, flex", "packed, deterministic")
    timed = {side: figures for side in ours if isinstance(figures := row["sides"].get(side), dict)}
    return {
        "Tflop": work / 1e12,
        "Tflop/s": {side: work / 1e12 / figures["seconds"] for side, figures in timed.items()},
    }


# --- rollouts ---


def tokenizer_of(vocabulary: int) -> Any:
    """A token per character, so that what is decoded is read as the same tokens again."""
    letters = [chr(c) for c in range(32, 127)] + ["\n"]
    alphabet = ["<|bos|>", "<|eos|>", "<|pad|>", *letters]
    alphabet += [chr(0x20000 + number) for number in range(vocabulary - len(alphabet))]
    tokenizer = Tokenizer(WordLevel({text: number for number, text in enumerate(alphabet)}, unk_token="?"))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def rollouts(model: Any, tokenizer: Any, args: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Tokens per second of episodes that are played at once: four turns, observations of 60 tokens, replies of 24."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        policy = LocalPolicy(ModelRef(folder), max_new_tokens=24, one_line=False, dtype="bfloat16")
    found["keeps what it read"] = policy.remembers
    policy.model.to(args.device)
    for batch in (2, 4) if args.tiny else (8, 32, 128):
        if not clock.allows(f"rollouts of {batch}", 20):
            continue
        talks = [policy.start("x" * 300, Sampling(1.0), (batch, number)) for number in range(batch)]
        sampled, began = 0, time.perf_counter()
        for turn in range(4):
            for talk in talks:
                talk.messages.append(Message("user", f"{turn} {'y' * 60}"))
            policy.reply(talks)
            sampled += sum(len(talk.drawn) for talk in talks)
        seconds = time.perf_counter() - began
        found[f"{batch} at once"] = {"sampled tokens": sampled, "seconds": seconds, "per second": sampled / seconds}
        print("rollouts", batch, json.dumps(found[f"{batch} at once"]), flush=True)
    return found


# --- all of it ---


def launch_microseconds(device: str) -> float:
    """Microseconds from one small operation to the next: no step is faster than its kernels start."""
    number, seconds = torch.zeros(1, device=device), []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            number.add_(1)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / 2000 * 1e6


def main() -> None:
    """Measure all parts that the time allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small models and shapes, to test the script")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="of these only")
    parser.add_argument("--seconds", type=float, default=390.0, help="time for all parts, after importing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; to test the script without one: --device cpu --tiny --out FILE")
    warnings.filterwarnings("ignore")
    began, clock = time.monotonic(), Clock(args.seconds)
    results: dict[str, Any] = {
        "command": " ".join(["bash benchmarks/gpu.sh", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {platform.machine()}",
        "dtype": "bfloat16, adapter float32",
        "versions": versions(["trajtree", "torch", "transformers", "peft", "trl"]),
        "microseconds to start a kernel": launch_microseconds(args.device),
        "models": {},
        "left out": clock.left_out,
    }
    if args.device == "cpu":
        clock.left_out.append("steps with flex attention: it has no gradient on a CPU")

    def keep(name: str, part: str, figures: Any) -> None:
        results["models"].setdefault(name, {})[part] = figures
        write()

    def write() -> None:
        results["seconds"] = round(time.monotonic() - began, 1)
        args.out.write_text(json.dumps(results, indent=1) + "\n")

    for name in args.models:
        if not clock.allows(name, 60):
            continue
        vocabulary = (MODELS[name] | (TINY if args.tiny else {}))["vocab_size"]
        made, tokenizer = shapes(vocabulary, tiny=args.tiny), tokenizer_of(vocabulary)
        model = adapted(base_of(name, args))
        use_tree_attention(model)
        if name == LARGE:
            found = large_steps(model, made["a row of trees"], args)
            keep(name, "steps", found)
            keep(name, "plan", planned_arithmetic(name, found, made["a row of trees"], args))
            del model
            continue
        tree = made["a tree's three pairs"]
        keep(name, "exactness", exactness(model, tree, list(ATTENTIONS), args.device))
        print(name, json.dumps(results["models"][name]["exactness"]), flush=True)
        try:
            trainer = trl_trainer(base_of(name, args), tokenizer, args.device)
        except ImportError as error:
            clock.left_out.append(f"{name}, TRL: {error}")
            trainer = None
        found = steps(model, trainer, made, args, clock)
        keep(name, "steps", found)
        if found:
            keep(name, "attention", fastest(found))
        if "a row of trees" in found:
            keep(name, "plan", planned_arithmetic(name, found, made["a row of trees"], args))
        del model, trainer
        if clock.allows(f"{name}, rollouts", 30):
            keep(name, "rollouts", rollouts(base_of(name, args), tokenizer, args, clock))
    write()  # with what was left out last
    print(f"{args.out}: {results['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
