"""Packing: token sequences laid out as a forest that stores every shared beginning once.

Sequences are sorted; each shares its longest common prefix with the one before it, and only its new tokens are
appended. The result is in depth-first order, so a sequence's tokens lie in few contiguous ranges. A pack is a training
batch made this way. Its forest of tokens is not the trajectory tree: steps that were merged in the tree may differ in
their thoughts, and then share nothing here.
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
        length: number of new tokens; consecutive chains cover the pack.
        path: segments from the beginning of the sequence to its end, the chain's own last.
    """

    length: int
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forest:
    """Sequences laid out as one pack of N tokens.

    Attributes:
        ids: [N] tokens, with each distinct beginning once.
        position: [N] depth of each token in its sequence, from 0.
        segments: lengths of the pieces that no chain's path enters or leaves midway; they cover the pack.
        chains: what attends to what.
        paths: for each sequence, in the given order, [length] the positions of its tokens in the pack.
    """

    ids: NDArray[np.int64]
    position: NDArray[np.int64]
    segments: tuple[int, ...]
    chains: tuple[Chain, ...]
    paths: tuple[NDArray[np.int64], ...]

    @property
    def token_ratio(self) -> float:
        """Tokens of all sequences divided by tokens of the pack: what sharing saves."""
        return sum(map(len, self.paths)) / len(self.ids)


def pack(sequences: Sequence[Sequence[int]], *, share: bool = True) -> Forest:
    """Lay out sequences in one pack with shared beginnings once; without `share`, each sequence separately.

    Raises:
        ValueError: there are no sequences, or one is empty.
    """
    if not sequences or not all(map(len, sequences)):
        raise ValueError("nothing to pack: no sequence, or an empty one")
    texts = [tuple(sequence) for sequence in sequences]
    order = sorted(range(len(texts)), key=texts.__getitem__) if share else list(range(len(texts)))
    # ranges[i]: [start, end) ranges of the pack that spell sequence i, in order.
    # new: (sequence, number of its tokens that are already in the pack), for every sequence that appends tokens. Each
    # entry is a chain; a sequence that repeats another, or its beginning, appends nothing and needs no chain.
    ranges: list[list[Range]] = [[] for _ in texts]
    new: list[tuple[int, int]] = []
    size = 0
    for before, index in zip([None, *order], order, strict=False):
        # In a sorted list no earlier sequence shares a longer beginning than the one just before, so the ranges of that
        # one contain everything that this one shares with any of them.
        shared = common_prefix(texts[before], texts[index]) if share and before is not None else 0
        ranges[index] = _beginning(ranges[before], shared) if before is not None else []
        if added := len(texts[index]) - shared:
            ranges[index].append((size, size + added))
            new.append((index, shared))
            size += added
    # Cutting the pack wherever some chain's path jumps gives segments that every path takes whole or not at all.
    # Segment k is [bounds[k], bounds[k + 1]), and segment_at[bound] is the segment that begins there.
    bounds = sorted({bound for index, _ in new for both in ranges[index] for bound in both})
    segment_at = {bound: k for k, bound in enumerate(bounds)}
    return Forest(
        ids=np.concatenate([np.array(texts[index][shared:], np.int64) for index, shared in new]),
        position=np.concatenate([np.arange(shared, len(texts[index])) for index, shared in new]),
        segments=tuple(np.diff(bounds).tolist()),
        chains=tuple(
            Chain(
                len(texts[index]) - shared,
                tuple(k for start, end in ranges[index] for k in range(segment_at[start], segment_at[end])),
            )
            for index, shared in new
        ),
        paths=tuple(np.concatenate([np.arange(start, end) for start, end in spelt]) for spelt in ranges),
    )


def common_prefix(one: Sequence[int], two: Sequence[int]) -> int:
    """Number of tokens at the beginning of `one` that are equal in `two`."""
    length = min(len(one), len(two))
    if one[:length] == two[:length]:
        return length
    return int(np.argmax(np.array(one[:length]) != np.array(two[:length])))


def packs(
    examples: Sequence[T],
    sequences: Callable[[T], Sequence[tuple[int, ...]]],
    tokens: int,
    *,
    seed: int = 0,
    share: bool = True,
) -> list[list[T]]:
    """Divide examples into packs of at most `tokens` tokens, keeping together those that share much.

    Examples are sorted by their first sequence and fill one pack after another. So those of the same tree are
    neighbours and are separated only where a pack is full; what they share is then repeated in the next one. An example
    longer than `tokens` gets its own pack.

    Args:
        examples: what to divide.
        sequences: gives the token sequences of an example.
        tokens: size of a pack, in tokens after sharing.
        seed: seed for the order in which the packs are returned.
        share: False counts every token of every sequence, as padded batches compute them.
    """
    ordered = sorted(examples, key=lambda example: sequences(example)[0])
    found: list[list[T]] = []
    # The pack being filled: its sequences, sorted, and its number of tokens.
    members: list[tuple[int, ...]] = []
    used = 0
    for example in ordered:
        added = _added(members, sequences(example), share)
        if not found or used + added > tokens:
            found.append([])
            members, used = [], 0
            added = _added(members, sequences(example), share)
        found[-1].append(example)
        for sequence in sequences(example):
            insort(members, sequence)
        used += added
    shuffled: list[int] = np.random.default_rng(seed).permutation(len(found)).tolist()
    return [found[i] for i in shuffled]


def _added(members: Sequence[tuple[int, ...]], more: Sequence[tuple[int, ...]], share: bool) -> int:
    """By how many tokens a pack with the sorted sequences `members` grows if `more` are added."""
    if not share:
        return sum(map(len, more))
    # Sequences in `more` also share beginnings with each other, so each joins the list before the next is counted.
    together = list(members)
    total = 0
    for sequence in more:
        # In a sorted list the longest common prefix is with one of the two neighbours.
        place = bisect_left(together, sequence)
        near = together[max(0, place - 1) : place + 1]
        total += len(sequence) - max((common_prefix(sequence, other) for other in near), default=0)
        together.insert(place, sequence)
    return total


def _beginning(ranges: Sequence[Range], length: int) -> list[Range]:
    """The ranges of the first `length` tokens of those in `ranges`."""
    kept: list[Range] = []
    for start, end in ranges:
        if length <= 0:
            break
        kept.append((start, min(end, start + length)))
        length -= end - start
    return kept


__all__ = ["Chain", "Forest", "common_prefix", "pack", "packs"]
