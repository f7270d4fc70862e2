"""Stores and trees of version 1, which are read but never written. `trajtree upgrade` rewrites them.

In version 1 every text of a trajectory was stored twice, in its messages and its steps, and a tree stored its arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from trajtree.store.encoding import Head
from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree, from_paths, openings, situations

_Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _Place(BaseModel):
    """The source of an imported trajectory; early stores have no `content`."""

    model_config = ConfigDict(extra="ignore", defer_build=True)
    source: str
    row: PositiveInt
    line: int = 0
    digest: _Hash
    content: _Hash | None = None


class _Head(BaseModel):
    model_config = ConfigDict(extra="ignore", defer_build=True)
    task: str
    sample: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    metadata: Annotated[_Place | Any, Field(union_mode="left_to_right")] = None


@dataclass(frozen=True, slots=True)
class _Tree:
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


# Validators take longer to build than the rest of trajtree to import, and few files are of version 1.
@cache
def _trajectory() -> TypeAdapter[Trajectory]:
    return TypeAdapter(Trajectory)


@cache
def _tree() -> TypeAdapter[_Tree]:
    return TypeAdapter(_Tree)


def read_trajectory(line: bytes) -> Trajectory:
    """Parse a line of a store. Raises ValueError in the form "field NAME: what is wrong"."""
    try:
        return _trajectory().validate_json(line)
    except ValidationError as error:
        raise ValueError(_first(error)) from None


def read_head(line: bytes) -> Head:
    """Parse task, sample and source of a line. Raises ValueError."""
    try:
        head = _Head.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    place = head.metadata
    if not isinstance(place, _Place):
        return Head(head.task, head.sample)
    return Head(
        head.task, head.sample, (place.source, place.row, place.line, place.digest, place.content or place.digest)
    )


def read_tree(line: bytes) -> TrajectoryTree:
    """Parse a line of a file of trees. Raises ValueError if it is not one, or its arrays are inconsistent."""
    try:
        record = _tree().validate_json(line)
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    _check(record)
    shared = np.array([0, *_shared(record)], np.int64)
    first, depth = openings(shared, np.array([len(t.steps) for t in record.trajectories], np.int64))
    if len(first) + 1 != len(record.parent):
        raise ValueError(
            f"field parent: {len(record.parent)} nodes, of which {len(first) + 1} are on a trajectory's path"
        )
    for index, (before, after) in enumerate(pairwise(record.trajectories), start=1):
        if shared[index] and before.context != after.context:
            raise ValueError(
                "its runs began with different prompts or tools and were merged all the same, as early versions did: "
                "build it again with trajtree build"
            )
    situation = situations(record.trajectories, first, depth, record.observation[1:])
    return from_paths(record.task, record.trajectories, shared, record.observation, record.action, situation)


def _check(record: _Tree) -> None:
    """Refuse arrays that are not a tree: parents that come later, missing ends, paths of another length."""
    size = len(record.parent)
    for name in ("depth", "decision", "observation", "action", "first", "visits", "score_sum"):
        if len(getattr(record, name)) != size:
            raise ValueError(f"field {name}: {len(getattr(record, name))} values, {size} nodes")
    if not size or record.parent[0] != TrajectoryTree.NO_PARENT:
        raise ValueError("field parent: node 0 must be the root, with parent -1")
    for node in range(1, size):
        if not 0 <= record.parent[node] < node:
            raise ValueError(f"field parent.{node}: {record.parent[node]} is no earlier node")
        if record.depth[node] != record.depth[record.parent[node]] + 1:
            raise ValueError(f"field depth.{node}: {record.depth[node]}, one more than its parent's was expected")
    if len(record.end) != len(record.trajectories):
        raise ValueError(f"field end: {len(record.end)} values, {len(record.trajectories)} trajectories")
    for index, (end, trajectory) in enumerate(zip(record.end, record.trajectories, strict=True)):
        if not 0 <= end < size:
            raise ValueError(f"field end.{index}: {end} is no node")
        if record.depth[end] != len(trajectory.steps):
            raise ValueError(f"field end.{index}: node {end} is {record.depth[end]} deep, not {len(trajectory.steps)}")


def _shared(record: _Tree) -> list[int]:
    """[T - 1] steps that each trajectory but the first shares with the one before it."""

    def path(node: int) -> list[int]:
        nodes = []
        while node > 0:
            nodes.append(node)
            node = record.parent[node]
        return nodes[::-1]

    shared = []
    paths = list(map(path, record.end))
    for before, after in pairwise(paths):
        common = 0
        while common < min(len(before), len(after)) and before[common] == after[common]:
            common += 1
        shared.append(common)
    return shared


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "(whole line)"
    return f"field {field}: {first['msg'].removeprefix('Value error, ')}"


__all__ = ["read_head", "read_trajectory", "read_tree"]
