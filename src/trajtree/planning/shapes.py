"""The shapes of models, from which arithmetic and memory follow without their weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajtree.errors import PolicyError
from trajtree.models.weights import PACKAGED
from trajtree.train.settings import Lora, Scratch


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder with gated feed-forward layers, as Llama and Qwen are.

    Attributes:
        layers, hidden, feed_forward: number of layers, and their widths.
        heads, kv_heads, head: attention heads, those with keys and values, and the width of one.
        vocabulary: number of tokens.
        tied: whether input and output embeddings are the same.
        context: longest conversation, in tokens.
    """

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    context: int

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the linear layers of one layer."""
        inner, keys = self.heads * self.head, self.kv_heads * self.head
        up = (self.hidden, self.feed_forward)
        return ((self.hidden, inner), *2 * ((self.hidden, keys),), (inner, self.hidden), up, up, up[::-1])

    @property
    def body(self) -> int:
        """Parameters of all layers."""
        return self.layers * sum(wide * high for wide, high in self.linears)

    @property
    def output(self) -> int:
        """Parameters of the output embedding."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters of the model, without norms and biases."""
        return self.body + self.output * (1 if self.tied else 2)

    @property
    def memory_of_a_token(self) -> int:
        """Bytes of its keys and values, in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head * 2

    def tuned(self, lora: Lora) -> int:
        """Number of layers with an adapter."""
        return self.layers if lora.layers is None else min(lora.layers, self.layers)

    def adapter(self, lora: Lora) -> int:
        """Parameters of an adapter on all linear layers of those that get one."""
        return lora.rank * self.tuned(lora) * sum(wide + high for wide, high in self.linears)

    def forward(self, tokens: float, length: float, places: float) -> float:
        """Floating-point operations of a forward pass.

        Args:
            tokens: number of tokens.
            length: of the conversations that they are in; a token attends to half of one on average.
            places: tokens whose next token is predicted.
        """
        attention = 2 * self.layers * self.heads * self.head * length
        return tokens * (2 * self.body + attention) + 2 * self.output * places


SHAPES = {
    "Llama-2-7b": Shape(32, 4096, 11_008, 32, 32, 128, 32_000, tied=False, context=4096),
    "Llama-2-13b": Shape(40, 5120, 13_824, 40, 40, 128, 32_000, tied=False, context=4096),
    "Llama-3-8B": Shape(32, 4096, 14_336, 32, 8, 128, 128_256, tied=False, context=8192),
    "Qwen2.5-0.5B": Shape(24, 896, 4864, 14, 2, 64, 151_936, tied=True, context=32_768),
    "Qwen2.5-7B": Shape(28, 3584, 18_944, 28, 4, 128, 152_064, tied=False, context=32_768),
    "Qwen2.5-14B": Shape(48, 5120, 13_824, 40, 8, 128, 152_064, tied=False, context=32_768),
    PACKAGED: Shape(30, 576, 1536, 9, 3, 64, 49_152, tied=True, context=8192),
}
"""Shapes by what the models' names contain, from their configurations: the paper's models, and two small ones."""


def shape_of(model: str) -> Shape:
    """The shape of a model: from the table, or from the `config.json` in its folder.

    Raises:
        PolicyError: it is in neither.
    """
    config = Path(model).expanduser() / "config.json"
    if config.exists():
        try:
            return _from_config(json.loads(config.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise PolicyError(f"{config}: has no shape of a decoder ({type(error).__name__}: {error})") from None
    for name, shape in SHAPES.items():
        if name.lower() in model.lower():
            return shape
    raise PolicyError(
        f"{model}: its shape is unknown; download it and name its folder, or plan with a model of the same size "
        f"({', '.join(SHAPES)})"
    )


def _from_config(config: dict[str, Any]) -> Shape:
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    return Shape(
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        feed_forward=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        context=int(config.get("max_position_embeddings") or 0),
    )


def shape_from_scratch(scratch: Scratch) -> Shape:
    """The shape of a model that is trained from scratch, as `trajtree.train.trainable.from_scratch` makes it.

    Its vocabulary counts as empty, since training leaves out the rows that its data do not use.
    """
    heads = max(1, scratch.hidden // 64)
    width = scratch.hidden // heads
    return Shape(
        scratch.layers, scratch.hidden, 4 * scratch.hidden, heads, heads, width, 0, tied=True, context=scratch.context
    )


__all__ = ["SHAPES", "Shape", "shape_from_scratch", "shape_of"]
