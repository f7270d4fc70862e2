"""Which tasks share a situation, and which situations lie in one stratum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.results import Situations

ENOUGH = 5
"""Situations that a type of task must have to be a stratum of its own."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which tasks share a situation, and which situations share a stratum.

    Attributes:
        situation: [tasks] index of each task's situation.
        stratum: [situations] index of each situation's stratum.
        sizes: [situations] number of tasks.
    """

    situation: NDArray[np.intp]
    stratum: NDArray[np.intp]
    sizes: _Floats

    @classmethod
    def of(cls, situations: Sequence[str], types: Sequence[str]) -> Layout:
        """The layout of tasks whose situations and types these are, in the tasks' order.

        The types of task are fixed by design, so what they differ in is no uncertainty: each type is a stratum where it
        has ENOUGH situations. The types that have fewer form one stratum together, which takes in the next smallest
        type until it has enough. There are no strata where a situation holds tasks of several types.
        """
        names, situation = np.unique(np.array(situations, dtype=object), return_inverse=True)
        kinds: list[set[str]] = [set() for _ in names]
        for index, kind in zip(situation, types, strict=True):
            kinds[index].add(kind)
        stratum = np.zeros(len(names), dtype=np.intp)
        if all(len(kind) == 1 for kind in kinds):
            strata = _strata(Counter(next(iter(kind)) for kind in kinds))
            stratum = np.array([strata[next(iter(kind))] for kind in kinds], dtype=np.intp)
        return cls(situation, stratum, np.bincount(situation).astype(np.float64))

    @classmethod
    def apart(cls, tasks: int) -> Layout:
        """The layout of tasks that share nothing."""
        return cls(np.arange(tasks), np.zeros(tasks, dtype=np.intp), np.ones(tasks))

    @cached_property
    def situations(self) -> Situations:
        """How many there are, and how many equal ones they are worth."""
        return Situations(len(self.sizes), float(self.sizes.sum() ** 2 / (self.sizes**2).sum()))

    @cached_property
    def shares(self) -> _Floats:
        """[situations] each situation's share of the tasks of its stratum."""
        shares: _Floats = self.sizes / self.by_stratum(self.sizes)[self.stratum]
        return shares

    @cached_property
    def freedom(self) -> _Floats:
        """[situations] what CR2 divides squared residuals by, since the mean that they differ from holds themselves."""
        # A stratum of one situation has residuals of 0: it says nothing of how situations differ.
        freedom: _Floats = np.where(self.shares < 1, 1 - self.shares, 1)
        return freedom

    @cached_property
    def worth(self) -> _Floats:
        """[strata] how many equal situations each stratum's are worth."""
        worth: _Floats = self.by_stratum(self.sizes) ** 2 / self.by_stratum(self.sizes**2)
        return worth

    def pooled(self) -> Layout:
        """The layout without strata."""
        return Layout(self.situation, np.zeros_like(self.stratum), self.sizes)

    def sums(self, values: _Floats) -> _Floats:
        """[situations] sums of `values` [tasks]."""
        return _sums(self.situation, values)

    def by_stratum(self, values: _Floats) -> _Floats:
        """[strata] sums of `values` [situations]."""
        return _sums(self.stratum, values)

    def residuals(self, values: _Floats) -> _Floats:
        """[situations] sums of what `values` [tasks] differ from their stratum's mean by."""
        means = self.by_stratum(self.sums(values)) / self.by_stratum(self.sizes)
        residuals: _Floats = self.sums(values) - self.sizes * means[self.stratum]
        return residuals


def _sums(group: NDArray[np.intp], values: _Floats) -> _Floats:
    """[groups] sums of `values` by their `group`."""
    return np.bincount(group, values).astype(np.float64)


def _strata(counts: Counter[str]) -> dict[str, int]:
    """Each type's stratum; `counts` are the types' situations."""
    ordered = sorted(counts, key=lambda kind: (counts[kind], kind))
    pooled = sum(counts[kind] < ENOUGH for kind in ordered)
    while pooled < len(ordered) and 0 < sum(counts[kind] for kind in ordered[:pooled]) < ENOUGH:
        pooled += 1
    return {kind: max(0, position - max(0, pooled - 1)) for position, kind in enumerate(ordered)}


__all__ = ["ENOUGH", "Layout"]
