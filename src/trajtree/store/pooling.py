"""Pooling trajectories of several origins: every one keeps its task and gets a sample of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from trajtree.trajectory import Trajectory


def pooled(stores: Iterable[Iterable[Trajectory]]) -> Iterator[Trajectory]:
    """The trajectories of all stores, one store after another; the first one's keep their samples.

    A task's samples from a later store follow the highest so far, in the order of their numbers; what branched off
    another trajectory of its store still names it.
    """
    highest: dict[str, int] = {}
    for number, store in enumerate(stores):
        rows = list(store)
        renumbered: dict[tuple[str, int], int] = {}
        for t in sorted(rows, key=lambda t: t.key):
            sample = t.sample if number == 0 else highest.get(t.task, -1) + 1
            renumbered[t.key] = sample
            highest[t.task] = max(sample, highest.get(t.task, -1))
        for t in rows:
            origin = t.origin and replace(t.origin, sample=renumbered[t.task, t.origin.sample])
            yield replace(t, sample=renumbered[t.key], origin=origin)


__all__ = ["pooled"]
