"""Stores and trees of version 1, which are read but never written. `trajtree upgrade` rewrites them.

In version 1 every text of a trajectory was stored twice, in its messages and its steps, and a tree stored its arrays.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from trajtree.store.encoding import Digest, Head, Place, Sample
from trajtree.trajectory import Cause, Message, Origin, Outcome, Sampling, Step, Tokens, Trajectory
from trajtree.trees.checks import stray_branch, unfit_run, wrongly_merged
from trajtree.trees.numbering import from_paths, openings, situations
from trajtree.trees.tree import TrajectoryTree


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An unknown field is an error, so that nothing is lost silently."""


class _Sampling(_Strict):
    temperature: float = 0.0
    top_p: float = 1.0


class _Tokens(_Strict):
    ids: tuple[int, ...]
    agent: tuple[tuple[int, int], ...]


class _Origin(_Strict):
    sample: int
    steps: int


class _Run(_Strict):
    task: str
    sample: Sample
    policy: str
    env: str
    env_version: str
    seed: int | None
    sampling: _Sampling | None
    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    score: Annotated[float, Meta(ge=0, le=1)]
    outcome: Outcome
    tokens: tuple[_Tokens, ...] = ()
    error: str | None = None
    context_turns: Annotated[int, Meta(ge=0)] = 0
    tools: tuple[str, ...] = ()
    metadata: dict[str, str | int | float | bool] = {}
    origin: _Origin | None = None
    cause: Cause | None = None


class _Place(msgspec.Struct):
    """The source of an imported trajectory, among its metadata; early stores have no `content`."""

    source: str
    row: Annotated[int, Meta(ge=1)]
    digest: Digest
    line: int = 0
    content: Digest | None = None


class _Head(msgspec.Struct):
    task: str
    sample: Sample
    metadata: Any = None


class _Tree(_Strict):
    task: str
    parent: list[int]
    depth: list[int]
    decision: list[int]
    observation: list[str]
    action: list[str]
    first: list[int]
    visits: list[int]
    score_sum: list[float]
    end: list[int]
    trajectories: list[_Run]
    stop: list[int] | None = None


_run = msgspec.json.Decoder(_Run)
_head = msgspec.json.Decoder(_Head)
_tree = msgspec.json.Decoder(_Tree)


def read_trajectory(line: bytes) -> Trajectory:
    """Parse a line of a store. Raises ValueError or msgspec.MsgspecError."""
    return _trajectory(_run.decode(line))


def _trajectory(run: _Run) -> Trajectory:
    fields = {name: getattr(run, name) for name in run.__struct_fields__} | {
        "sampling": run.sampling and Sampling(run.sampling.temperature, run.sampling.top_p),
        "tokens": tuple(Tokens(tokens.ids, tokens.agent) for tokens in run.tokens),
        "origin": run.origin and Origin(run.origin.sample, run.origin.steps),
    }
    return Trajectory(**fields)


def read_head(line: bytes) -> Head:
    """Parse task, sample and source of a line. Raises ValueError or msgspec.MsgspecError."""
    head = _head.decode(line)
    try:
        found = msgspec.convert(head.metadata, _Place)
    except msgspec.ValidationError:  # it was not imported
        return Head(head.task, head.sample)
    place: Place = (found.source, found.row, found.line, found.digest, found.content or found.digest)
    return Head(head.task, head.sample, place)


def read_tree(line: bytes) -> TrajectoryTree:
    """Parse a line of a file of trees. Raises ValueError or msgspec.MsgspecError if it is not one."""
    record = _tree.decode(line)
    _check(record)
    runs = [_trajectory(run) for run in record.trajectories]
    if (unfit := unfit_run(record.task, runs, keep_unscored=False)) is not None:
        raise ValueError(f"field trajectories.{unfit.index}.{unfit.field}: {unfit.reason}")
    shared = [0, *_shared(record)]
    lengths = np.array([len(run.steps) for run in runs], np.int64)
    first, depth = openings(np.array(shared, np.int64), lengths)
    if len(first) + 1 != len(record.parent):
        raise ValueError(
            f"field parent: {len(record.parent)} nodes, of which {len(first) + 1} are on a trajectory's path"
        )
    situation = situations(runs, first, depth, record.observation[1:])
    tree = from_paths(record.task, runs, np.array(shared, np.int64), record.observation, record.action, situation)
    if (unfit := stray_branch(tree)) is not None:
        raise ValueError(f"field trajectories.{unfit.index}.{unfit.field}: {unfit.reason}")
    if (wrong := wrongly_merged(tree)) is not None:
        raise ValueError(f"field trajectories.{wrong[0]}: this run {wrong[1]}; build it again with trajtree build")
    return tree


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
            raise ValueError(f"field parent.{node}: {record.parent[node]} is not an earlier node")
        if record.depth[node] != record.depth[record.parent[node]] + 1:
            raise ValueError(f"field depth.{node}: {record.depth[node]}, one more than its parent's was expected")
    if len(record.end) != len(record.trajectories):
        raise ValueError(f"field end: {len(record.end)} values, {len(record.trajectories)} trajectories")
    for index, (end, trajectory) in enumerate(zip(record.end, record.trajectories, strict=True)):
        if not 0 <= end < size:
            raise ValueError(f"field end.{index}: {end} is not a node")
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


__all__ = ["read_head", "read_trajectory", "read_tree"]
