"""Key-value memory of conversations that come and go between batches.

Each conversation keeps its own block, a tensor [layers, 2, heads, length, head_dim]. For a forward pass the
blocks of a batch are laid side by side in one buffer, padded on the left, with room for the tokens to come; new
keys and values are written in place, where transformers' own dynamic cache would copy everything at each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _BufferLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's window on the buffer: keys and values [batch, heads, capacity, head_dim], `filled` columns used."""

    def __init__(self, keys: Tensor, values: Tensor, filled: int) -> None:
        super().__init__()
        self.keys, self.values, self.filled = keys, values, filled
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        end = self.filled + key_states.shape[-2]
        self.keys[:, :, self.filled : end] = key_states
        self.values[:, :, self.filled : end] = value_states
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.filled


class BatchCache:
    """A batch of conversation blocks, laid out for one call of the model and the decoding that follows.

    Args:
        blocks: one block a row, None where nothing is cached yet.
        shape: (layers, heads, head_dim).
        room: columns to reserve after the longest block.
        like: a tensor of the model, for dtype and device.
    """

    def __init__(self, blocks: Sequence[Tensor | None], shape: tuple[int, int, int], room: int, like: Tensor) -> None:
        layers, heads, width = shape
        lengths = [0 if block is None else block.shape[3] for block in blocks]
        self.start = max(lengths)
        self.pads = [self.start - length for length in lengths]
        self.buffer = torch.zeros(
            layers, 2, len(blocks), heads, self.start + room, width, dtype=like.dtype, device=like.device
        )
        for row, block in enumerate(blocks):
            if block is not None:
                self.buffer[:, :, row, :, self.pads[row] : self.start] = block
        self.cache = self._window(self.start)

    def block(self, row: int, begin: int, end: int) -> Tensor:
        """A copy of columns [begin, end) of one row."""
        return self.buffer[:, :, row, :, begin:end].clone()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        self.buffer = self.buffer[:, :, list(rows)]
        self.cache = self._window(self.cache.layers[0].filled)

    def _window(self, filled: int) -> Cache:
        return Cache(layers=[_BufferLayer(layer[0], layer[1], filled) for layer in self.buffer])


__all__ = ["BatchCache"]
