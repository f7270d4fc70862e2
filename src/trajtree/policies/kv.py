"""Key-value cache of conversations that move between batches.

Each conversation keeps its own memory as consecutive blocks [layers, 2, heads, length, head_dim]. A turn adds a block
and moves none: growing one tensor instead would allocate ever larger pieces and fragment the memory. For a forward
pass, the blocks of a batch are copied side by side into one buffer, padded on the left, with room for the new tokens.
New keys and values are then written in place, whereas transformers' dynamic cache would copy everything at each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Memory = tuple[Tensor, ...]
"""Blocks of one conversation, in order; dimension 1 is key, value."""

_GRAIN = 64
"""Buffer widths are multiples of this many columns, so that a new buffer fits into memory freed by an old one."""


class _BufferLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's view of the buffer: keys and values [batch, heads, columns, head_dim], with `filled` columns used."""

    def __init__(self, keys: Tensor, values: Tensor, filled: int) -> None:
        super().__init__()
        self.keys, self.values, self.filled = keys, values, filled
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        # States are [batch, heads, new, head_dim]. The slices are views, so this writes into the batch's buffer.
        end = self.filled + key_states.shape[-2]
        self.keys[:, :, self.filled : end] = key_states
        self.values[:, :, self.filled : end] = value_states
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.filled


class BatchCache:
    """The memories of a batch of conversations, laid out for one call of the model and the decoding that follows.

    Every memory ends at column `start`, and new tokens follow from there in all rows:

        row 0   . . . . m m m | n n
        row 1   m m m m m m m | n n      m: remembered, n: new, .: pads[0] = 4

    Args:
        memories: one per row, () if nothing is remembered yet.
        shape: (layers, heads, head_dim).
        room: columns to reserve after the longest memory.
        like: a tensor of the model, for dtype and device.

    Attributes:
        start: first column of the new tokens, which is the length of the longest memory.
        pads: [batch] number of unused columns on the left of each row.
        buffer: [layers, 2, batch, heads, columns, head_dim].
        cache: the buffer in transformers' form.
    """

    def __init__(self, memories: Sequence[Memory], shape: tuple[int, int, int], room: int, like: Tensor) -> None:
        layers, heads, width = shape
        lengths = [sum(block.shape[3] for block in memory) for memory in memories]
        self.start = max(lengths)
        self.pads = [self.start - length for length in lengths]
        columns = -(-(self.start + room) // _GRAIN) * _GRAIN  # rounded up
        self.buffer = torch.zeros(layers, 2, len(memories), heads, columns, width, dtype=like.dtype, device=like.device)
        for row, memory in enumerate(memories):
            column = self.pads[row]
            for block in memory:
                self.buffer[:, :, row, :, column : column + block.shape[3]] = block
                column += block.shape[3]
        self.cache = self._view(self.start)

    def block(self, row: int, begin: int, end: int) -> Tensor:
        """[layers, 2, heads, end - begin, head_dim] copy of columns [begin, end) of one row."""
        return self.buffer[:, :, row, :, begin:end].clone()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, which become rows 0, 1, ..."""
        self.buffer = self.buffer[:, :, list(rows)]
        self.pads = [self.pads[row] for row in rows]
        self.cache = self._view(self.cache.layers[0].filled)

    def _view(self, filled: int) -> Cache:
        return Cache(layers=[_BufferLayer(layer[0], layer[1], filled) for layer in self.buffer])


__all__ = ["BatchCache", "Memory"]
