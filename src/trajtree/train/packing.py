"""Packing: token sequences as a forest in which every shared beginning stands once.

Sequences are sorted; each shares the longest common prefix with the one before it, and what is new of it is appended.
The result is depth first, so a sequence's tokens lie in few contiguous ranges. This forest of tokens is not the
trajectory tree: steps that were merged there may differ in their thoughts, and then share nothing here.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Chain:
    """The new tokens of one sequence, and the segments that they attend to.

    Attributes:
        length: new tokens; chains follow one another and cover the row.
        path: segments from the sequence's beginning to its end, the chain's own last.
    """

    length: int
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """Sequences in one row of N tokens.

    Attributes:
        ids: [N] tokens, each distinct beginning once.
        position: [N] depth of each token in its sequence, from 0.
        segments: lengths of the pieces that no chain enters or leaves midway; they cover the row.
        chains: who attends to what.
        paths: for each sequence, in the order given, [length] where its tokens are in the row.
    """

    ids: NDArray[np.int64]
    position: NDArray[np.int64]
    segments: tuple[int, ...]
    chains: tuple[Chain, ...]
    paths: tuple[NDArray[np.int64], ...]

    @property
    def token_ratio(self) -> float:
        """Tokens of all sequences over tokens of the row: what sharing saves."""
        return sum(map(len, self.paths)) / len(self.ids)


def pack(sequences: Sequence[Sequence[int]], *, share: bool = True) -> Forest:
    """Lay sequences into one row, shared beginnings once; with `share` off, each stands alone.

    Raises:
        ValueError: there is no sequence, or one is empty.
    """
    if not sequences or not all(map(len, sequences)):
        raise ValueError("nothing to pack: no sequence, or an empty one")
    texts = [tuple(sequence) for sequence in sequences]
    order = sorted(range(len(texts)), key=texts.__getitem__) if share else list(range(len(texts)))
    ranges: list[list[Range]] = [[] for _ in texts]
    owners: list[int] = []
    pieces: list[tuple[int, int]] = []
    size = 0
    for before, index in zip([None, *order], order, strict=False):
        shared = common_prefix(texts[before], texts[index]) if share and before is not None else 0
        new = len(texts[index]) - shared
        ranges[index] = _beginning(ranges[before], shared) if before is not None else []
        if new:
            ranges[index].append((size, size + new))
            owners.append(index)
            pieces.append((index, shared))
            size += new
    bounds = sorted({bound for index in owners for both in ranges[index] for bound in both})
    number = {bound: i for i, bound in enumerate(bounds)}
    return Forest(
        ids=np.concatenate([np.array(texts[index][shared:], np.int64) for index, shared in pieces]),
        position=np.concatenate([np.arange(shared, len(texts[index])) for index, shared in pieces]),
        segments=tuple(np.diff(bounds).tolist()),
        chains=tuple(
            Chain(
                len(texts[index]) - shared,
                tuple(segment for a, b in ranges[index] for segment in range(number[a], number[b])),
            )
            for index, shared in pieces
        ),
        paths=tuple(np.concatenate([np.arange(a, b) for a, b in found]) for found in ranges),
    )


def common_prefix(one: Sequence[int], two: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    length = min(len(one), len(two))
    if one[:length] == two[:length]:
        return length
    return int(np.argmax(np.array(one[:length]) != np.array(two[:length])))


def rows(
    examples: Sequence[T],
    sequences: Callable[[T], Sequence[tuple[int, ...]]],
    tokens: int,
    *,
    seed: int = 0,
    share: bool = True,
) -> list[list[T]]:
    """Examples by rows of at most `tokens` packed tokens each, those that share much together.

    Without `share` a row counts every token of every sequence, as padded batches compute them.

    Neighbours in the order of their sequences go into one row until it is full, so a tree that fits is never cut and a
    larger one is cut where little is shared. An example that is longer than a row has one of its own. The order of
    the rows is drawn.
    """
    ordered = sorted(examples, key=lambda example: sequences(example)[0])
    found: list[list[T]] = []
    held: list[tuple[int, ...]] = []
    used = 0
    for example in ordered:
        new = _added(held, sequences(example), share)
        if not found or used + new > tokens:
            found.append([])
            held, used = [], 0
            new = _added(held, sequences(example), share)
        found[-1].append(example)
        for sequence in sequences(example):
            insort(held, sequence)
        used += new
    drawn: list[int] = np.random.default_rng(seed).permutation(len(found)).tolist()
    return [found[i] for i in drawn]


def _added(held: Sequence[tuple[int, ...]], more: Sequence[tuple[int, ...]], share: bool) -> int:
    """How many tokens a row that holds the sorted sequences `held` grows by."""
    if not share:
        return sum(map(len, more))
    together = list(held)
    total = 0
    for sequence in more:
        place = bisect_left(together, sequence)
        near = together[max(0, place - 1) : place + 1]
        total += len(sequence) - max((common_prefix(sequence, other) for other in near), default=0)
        together.insert(place, sequence)
    return total


def _beginning(ranges: Sequence[Range], length: int) -> list[Range]:
    """The first `length` tokens of a path."""
    kept: list[Range] = []
    for start, end in ranges:
        if length <= 0:
            break
        kept.append((start, min(end, start + length)))
        length -= end - start
    return kept


__all__ = ["Chain", "Forest", "common_prefix", "pack", "rows"]
