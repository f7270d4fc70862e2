"""Key-value memory of conversations that come and go between batches.

Each conversation keeps its own memory, blocks [layers, 2, heads, length, head_dim] one after another: a turn adds a
block and moves none, or memory freed and asked for in ever larger pieces would leave holes. For a forward pass the
blocks of a batch are laid side by side in one buffer, padded on the left, with room for the tokens to come; new
keys and values are written in place, where transformers' own dynamic cache would copy everything at each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Memory = tuple[Tensor, ...]
"""Blocks of one conversation, in order."""

_GRAIN = 64
"""Buffers hold a multiple of this many columns, so that one fits where the last one was."""


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
        memories: one a row, () where nothing is remembered yet.
        shape: (layers, heads, head_dim).
        room: columns to reserve after the longest memory.
        like: a tensor of the model, for dtype and device.
    """

    def __init__(self, memories: Sequence[Memory], shape: tuple[int, int, int], room: int, like: Tensor) -> None:
        layers, heads, width = shape
        lengths = [sum(block.shape[3] for block in memory) for memory in memories]
        self.start = max(lengths)
        self.pads = [self.start - length for length in lengths]
        columns = -(-(self.start + room) // _GRAIN) * _GRAIN
        self.buffer = torch.zeros(layers, 2, len(memories), heads, columns, width, dtype=like.dtype, device=like.device)
        for row, memory in enumerate(memories):
            column = self.pads[row]
            for block in memory:
                self.buffer[:, :, row, :, column : column + block.shape[3]] = block
                column += block.shape[3]
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


__all__ = ["BatchCache", "Memory"]
