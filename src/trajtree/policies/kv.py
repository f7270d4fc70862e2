"""Key-value cache of conversations that move between batches.

Each conversation keeps its own memory as consecutive blocks [layers, 2, heads, length, head_dim]. A turn adds a block
and moves none: growing one tensor instead would allocate ever larger pieces and fragment the memory. For a forward
pass, the blocks of a batch are copied side by side into one buffer, padded on the left, with room for the new tokens.
New keys and values are then written in place, whereas transformers' dynamic cache would copy everything at each token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Memory = tuple[Tensor, ...]
"""Blocks of one conversation, in order; dimension 1 is key, value."""

_SPARE = 1.25
"""How much larger than asked for memory becomes where it has to grow, so that it seldom does."""


class BufferMemory:
    """Memory that one buffer after the other is laid out in.

    A buffer of 64 conversations of a small model is nearly a gigabyte, and every turn needs two. New memory for each is
    faulted in page by page, which took as long as a fifth of a turn.

    Args:
        like: a tensor of the model, for dtype and device.
    """

    def __init__(self, like: Tensor) -> None:
        self._flat = like.new_empty(0)

    def take(self, *shape: int) -> Tensor:
        """A tensor of this shape, whose contents are undefined; it takes the memory of the one before."""
        size = math.prod(shape)
        if size > self._flat.numel():
            self._flat = self._flat.new_empty(0)  # so that the old memory is free before there is new
            self._flat = self._flat.new_empty(int(_SPARE * size))
        return self._flat[:size].view(shape)


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
        within: memory for the buffer, which ends the life of the cache before.

    Attributes:
        start: first column of the new tokens, which is the length of the longest memory.
        pads: [batch] number of unused columns on the left of each row.
        buffer: [layers, 2, batch, heads, columns, head_dim].
        cache: the buffer in transformers' form.
    """

    def __init__(
        self, memories: Sequence[Memory], shape: tuple[int, int, int], room: int, within: BufferMemory
    ) -> None:
        layers, heads, width = shape
        lengths = [sum(block.shape[3] for block in memory) for memory in memories]
        self.start = max(lengths)
        self.pads = [self.start - length for length in lengths]
        self.buffer = within.take(layers, 2, len(memories), heads, self.start + room, width)
        for row, memory in enumerate(memories):
            column = self.pads[row]
            # Nothing attends to the padding, but a weight of 0 times NaN would be NaN.
            self.buffer[:, :, row, :, :column] = 0
            for block in memory:
                self.buffer[:, :, row, :, column : column + block.shape[3]] = block
                column += block.shape[3]
        self.cache = self._view(self.start)

    def block(self, row: int, begin: int, end: int) -> Tensor:
        """[layers, 2, heads, end - begin, head_dim] copy of columns [begin, end) of one row."""
        return self.buffer[:, :, row, :, begin:end].clone()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in rising order, which become rows 0, 1, ..."""
        for new, row in enumerate(rows):
            if new < row:  # so what is written over is not needed any more
                self.buffer[:, :, new] = self.buffer[:, :, row]
        self.buffer = self.buffer[:, :, : len(rows)]
        self.pads = [self.pads[row] for row in rows]
        self.cache = self._view(self.cache.layers[0].filled)

    def _view(self, filled: int) -> Cache:
        return Cache(layers=[_BufferLayer(layer[0], layer[1], filled) for layer in self.buffer])


__all__ = ["BatchCache", "BufferMemory", "Memory"]
