"""Trees in a file: JSON Lines, one tree with its trajectories a line, written whole or not at all.

A line holds all that pairs, paths and pages need, so that one task at a time is in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from trajtree.errors import DataError
from trajtree.store.files import atomically
from trajtree.store.lines import check_header, header, invalid
from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree

FORMAT = "trajtree.trees"
VERSION = 1

_INTEGERS = ("parent", "depth", "decision", "first", "visits", "end")


@dataclass(frozen=True, slots=True)
class _Record:
    task: str
    parent: list[int]
    depth: list[int]
    decision: list[int]
    observation: tuple[str, ...]
    action: tuple[str, ...]
    first: list[int]
    visits: list[int]
    score_sum: list[float]
    end: list[int]
    trajectories: tuple[Trajectory, ...]
    stop: list[int] | None = None


_adapter = TypeAdapter(_Record)


def write_trees(trees: Iterable[TrajectoryTree], path: str | os.PathLike[str]) -> int:
    """Write trees as they come and return how many; the file appears when the last is on disk.

    Raises:
        OSError: the disk is full or not writable; what was there before is untouched.
    """
    count = 0
    with atomically(Path(path)) as file:
        file.write(header(FORMAT, VERSION))
        for tree in trees:
            arrays = {name: getattr(tree, name).tolist() for name in (*_INTEGERS, "score_sum")}
            # Without branched trajectories all that pass a node count there, and `stop` says nothing new.
            branched = bool((tree.stop - tree.first != tree.visits).any())
            record = _Record(
                stop=tree.stop.tolist() if branched else None,
                task=tree.task,
                observation=tree.observation,
                action=tree.action,
                trajectories=tree.trajectories,
                **arrays,
            )
            file.write(_adapter.dump_json(record, exclude_defaults=True) + b"\n")
            count += 1
    return count


def read_trees(path: str | os.PathLike[str]) -> Iterator[TrajectoryTree]:
    """Read trees lazily, in the order in which they were written.

    Raises:
        DataError: the file is missing or no file of trees, or a line is not a tree; naming file, line and field.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below, an error of opening is another error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it with: trajtree build") from None
    with file:
        check_header(path, file.readline(), FORMAT, VERSION, "a file of trees, as trajtree build makes it")
        for number, line in enumerate(file, start=2):
            yield _tree(path, number, line)


def _tree(path: str | os.PathLike[str], number: int, line: bytes) -> TrajectoryTree:
    try:
        record = _adapter.validate_json(line)
    except ValidationError as error:
        raise invalid(path, number, error) from None
    size = len(record.parent)
    if record.stop is None:
        record = replace(record, stop=[a + b for a, b in zip(record.first, record.visits, strict=False)])
    for name in ("depth", "decision", "observation", "action", "first", "stop", "visits", "score_sum"):
        if len(getattr(record, name)) != size:
            raise DataError(f"{path}, line {number}, field {name}: {len(getattr(record, name))} values, {size} nodes")
    return TrajectoryTree(
        task=record.task,
        trajectories=record.trajectories,
        observation=record.observation,
        action=record.action,
        score_sum=np.array(record.score_sum, np.float64),
        **{name: np.array(getattr(record, name), np.int32) for name in (*_INTEGERS, "stop")},
    )


__all__ = ["FORMAT", "VERSION", "read_trees", "write_trees"]
