"""Pooling trajectories from several stores: each keeps its task and gets its own sample number."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trajtree.errors import DataError
from trajtree.store.encoding import HIGHEST_SAMPLE, Head, Place, place_of
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.trajectory import Trajectory

Pool = TrajectoryStore | Sequence[Trajectory]
"""Trajectories that can be iterated over twice."""

FROM, SAMPLE = "pooled_from", "pooled_sample"
"""Metadata of a pooled trajectory: the store that it first came from, and its sample there."""

Samples = list[int | None]
"""The new sample of each trajectory of a store; None for one that is left out. A sample may be any number."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """Counts of a pooled store: trajectories kept, those with a new sample number, and those left out as repeated."""

    kept: int
    renumbered: int
    repeated: int


def pool_stores(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Pooled:
    """Write a store with the trajectories of several stores, each with its store's name and its sample there.

    A record that was imported into more than one of them is kept only once.

    Raises:
        DataError: a line is not a trajectory (file, line and field are named), or an episode's origin is ambiguous.
        RunError: another process is writing `out`.
        OSError: the disk is full or not writable; what was there before is untouched.
    """
    places = [Path(path).resolve() for path in paths]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise DataError(f"{paths[number]}: named twice, and its runs would be there twice")
    stores = [TrajectoryStore(path) for path in paths]
    plan = _plan(stores)
    names = _distinct_names(places)
    renumbered = 0

    def trajectories() -> Iterator[Trajectory]:
        nonlocal renumbered
        for name, store, samples in zip(names, stores, plan, strict=True):
            for before, after in _renumbered(store, samples):
                renumbered += before.sample != after.sample
                yield replace(after, metadata={FROM: name, SAMPLE: before.sample, **after.metadata})

    kept = write_store(trajectories(), out, made_by="pool")
    return Pooled(kept, renumbered, sum(samples.count(None) for samples in plan))


def _distinct_names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that tell them apart, all of as many parts; usually the files' names."""
    parts = 1
    while len(set(names := ["/".join(place.parts[-parts:]) for place in places])) < len(places):
        parts += 1
    return names


def pooled(stores: Iterable[Pool]) -> Iterator[Trajectory]:
    """The trajectories of all stores, one store after another; those of the first store keep their samples.

    A task's samples from a later store follow the highest so far, in order, and so does the second of two with the same
    sample. An episode that branched off another one of its store still refers to it. Each store is read twice, so that
    only one trajectory at a time is in memory.

    Raises:
        DataError: an episode branched off a sample that is not in its store, or that occurs there twice; or a task has
            no number left.
    """
    several = list(stores)
    for store, samples in zip(several, _plan(several), strict=True):
        yield from (after for _, after in _renumbered(store, samples))


def _plan(stores: Iterable[Pool]) -> list[Samples]:
    """The new samples of each store."""
    highest: dict[str, int] = {}
    seen: set[Place] = set()
    plan: list[Samples] = []
    for number, store in enumerate(stores):
        heads = list(_heads(store))
        samples: Samples = [None] * len(heads)
        taken: set[tuple[str, int]] = set()
        later: list[int] = []
        for index, head in enumerate(heads):
            if head.place in seen:
                continue
            if number or (head.task, head.sample) in taken:
                later.append(index)
            else:
                taken.add((head.task, head.sample))
                samples[index] = head.sample
                highest[head.task] = max(head.sample, highest.get(head.task, -1))
        for index in sorted(later, key=lambda i: heads[i].sample):
            task = heads[index].task
            samples[index] = highest[task] = _after(highest.get(task, -1), task)
        seen.update(head.place for head in heads if head.place is not None)
        plan.append(samples)
    return plan


def _after(sample: int, task: str) -> int:
    if sample >= HIGHEST_SAMPLE:
        raise DataError(f"task {task}: no sample can follow {sample}; give its store last")
    return sample + 1


def _renumbered(store: Pool, samples: Samples) -> Iterator[tuple[Trajectory, Trajectory]]:
    """Each kept trajectory, before and after renumbering."""
    new: dict[tuple[str, int], Samples] = {}
    # A store may grow while it is read: what was there at first is pooled, and `samples` is as long as that was.
    for sample, head in zip(samples, _heads(store), strict=False):
        new.setdefault((head.task, head.sample), []).append(sample)
    for sample, t in zip(samples, store, strict=False):
        if sample is None:
            continue
        origin = t.origin
        if origin is not None:
            parents = new.get((t.task, origin.sample), [])
            if len(parents) != 1 or parents[0] is None:
                raise DataError(
                    f"task {t.task}, sample {t.sample}: branched off sample {origin.sample}, of which the store holds "
                    f"{len(parents)}; pool the stores that the runs were first written to"
                )
            origin = replace(origin, sample=parents[0])
        yield t, replace(t, sample=sample, origin=origin)


def _heads(store: Pool) -> Iterable[Head]:
    if isinstance(store, TrajectoryStore):
        return store.heads()
    return (Head(t.task, t.sample, place_of(t)) for t in store)


__all__ = ["FROM", "SAMPLE", "Pool", "Pooled", "pool_stores", "pooled"]
