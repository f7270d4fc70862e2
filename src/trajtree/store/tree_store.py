"""Trees in a file: JSON Lines, one tree with its trajectories per line, written completely or not at all.

A line contains everything that pairs, paths and pages need, so that only one task at a time is in memory. Of the tree
itself, only what cannot be derived is written: the order of the trajectories, how many steps each shares with the
previous one, and the canonical texts that differ from what the first trajectory through their node saw and did.

    {"task": "find-plant/3", "shared": [0, 2, 1], "trajectories": [...], "texts": [...], "observations": [[4, 0], ...]}
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trajtree.errors import DataError
from trajtree.store import version1
from trajtree.store.encoding import Row, from_row
from trajtree.store.files import atomically, open_text
from trajtree.store.full_disk import naming
from trajtree.store.lines import header, invalid, version_of
from trajtree.store.lock import claimed
from trajtree.store.trajectory_store import encoded, line_of
from trajtree.trajectory import Step
from trajtree.trees.checks import stray_branch, unfit_run, wrongly_merged
from trajtree.trees.numbering import from_paths, openings, situations
from trajtree.trees.sameness import EQUAL_TEXTS, Merging
from trajtree.trees.tree import TrajectoryTree

FORMAT = "trajtree.trees"
VERSION = 2

_STRIPPED = -1
"""Stands for a text that equals what was seen or done without surrounding white space."""


class _Tree(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    task: str
    shared: list[int]
    trajectories: list[Row]
    texts: list[str] = []
    observations: list[tuple[int, int]] = []
    """(node, number in `texts`, or _STRIPPED) if a node's text is not exactly what was seen there."""
    actions: list[tuple[int, int]] = []
    merging: Merging = EQUAL_TEXTS
    """What counted as the same."""
    begun: list[int] | None = None
    """For each of the root's children the first that answers the same situation, where contexts need not be equal."""


_tree = msgspec.json.Decoder(_Tree)


def write_trees(trees: Iterable[TrajectoryTree], path: str | os.PathLike[str]) -> int:
    """Write trees one by one and return how many; the file appears once the last one is on disk.

    Raises:
        DataError: two trees are of the same task, or a trajectory could not be read back as it is, see
            `trajectory_store.line_of`.
        RunError: another process is writing the file.
        OSError: the disk is full or not writable; an existing file is left unchanged.
    """
    path = Path(path)
    tasks: set[str] = set()
    with claimed(path), naming(path), atomically(path) as file:
        file.write(header(FORMAT, VERSION))
        for tree in trees:
            if tree.task in tasks:
                raise DataError(f"task {tree.task!a}: there are two trees of this task, and a file can hold only one")
            tasks.add(tree.task)
            file.write(encoded(_written(tree), f"task {tree.task!a}"))
    return len(tasks)


def read_trees(path: str | os.PathLike[str]) -> Iterator[TrajectoryTree]:
    """Read trees lazily, in the order in which they were written.

    Raises:
        DataError: the file is missing or not a file of trees, or a line is not a tree; file, line and field are named.
    """
    what = "a file of trees, as trajtree build makes it"
    readers = {1: version1.read_tree, VERSION: _read}
    lines: dict[str, int] = {}
    with open_text(path, "make it with: trajtree build") as file:
        read = readers[version_of(path, file.readline(), FORMAT, tuple(readers), what)]
        for number, line in enumerate(file, start=2):
            try:
                tree = read(line)
                if (before := lines.setdefault(tree.task, number)) != number:
                    raise ValueError(f"field task: line {before} already has a tree of task {tree.task!r}")
            except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                raise invalid(path, number, error) from None
            yield tree


def read_scored_trees(path: str | os.PathLike[str]) -> Iterator[TrajectoryTree]:
    """Read trees to learn from, as `read_trees`.

    Raises:
        DataError: as `read_trees`; or a tree has runs without a score, and so no values.
    """
    for tree in read_trees(path):
        try:
            tree.check_scored()
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        yield tree


def _written(tree: TrajectoryTree) -> dict[str, Any]:
    texts: dict[str, int] = {}
    row: dict[str, Any] = {
        "task": tree.task,
        "shared": tree.shared.tolist(),
        "trajectories": [msgspec.Raw(line_of(t).rstrip(b"\n")) for t in tree.trajectories],
    }
    for name, canonical, of in (
        ("observations", tree.observation, _observation),
        ("actions", tree.action, _action),
    ):
        if different := list(_different(tree, canonical, of, texts)):
            row[name] = different
    if texts:
        row["texts"] = list(texts)
    if tree.merging != EQUAL_TEXTS:
        row["merging"] = tree.merging
        row["begun"] = tree.decision[tree.depth == 1].tolist()
    return row


def _different(
    tree: TrajectoryTree, canonical: Sequence[str], of: Callable[[Step], str], texts: dict[str, int]
) -> Iterator[tuple[int, int]]:
    """(node, number of its text) where the canonical text differs from the first trajectory through the node."""
    for node, step in enumerate(_first_steps(tree.trajectories, tree.first.tolist(), tree.depth.tolist()), start=1):
        said, text = of(step), canonical[node]
        if said != text:
            yield node, _STRIPPED if said.strip() == text else texts.setdefault(text, len(texts))


def _first_steps(trajectories: Sequence[Any], first: Sequence[int], depth: Sequence[int]) -> Iterator[Step]:
    """The step that opened each node except the root."""
    for row, deep in zip(first[1:], depth[1:], strict=True):
        yield trajectories[row].steps[deep - 1]


def _observation(step: Step) -> str:
    return step.observation


def _action(step: Step) -> str:
    return step.action


def _read(line: bytes) -> TrajectoryTree:
    record = _tree.decode(line)
    trajectories = [from_row(row) for row in record.trajectories]
    lengths = [len(t.steps) for t in trajectories]
    if len(record.shared) != len(trajectories):
        raise ValueError(f"field shared: {len(record.shared)} values, {len(trajectories)} trajectories")
    if not trajectories:
        raise ValueError("field trajectories: a tree has at least one")
    if (unfit := unfit_run(record.task, trajectories, keep_unscored=True)) is not None:
        raise ValueError(f"field trajectories.{unfit.index}.{unfit.field}: {unfit.reason}")
    for index, common in enumerate(record.shared):
        most = min(lengths[index - 1], lengths[index]) if index else 0
        if not 0 <= common <= most:
            raise ValueError(f"field shared.{index}: {common} steps, between 0 and {most} were expected")
    shared = np.array(record.shared, np.int64)
    first, depth = openings(shared, np.array(lengths, np.int64))
    steps = list(_first_steps(trajectories, [0, *first.tolist()], [0, *depth.tolist()]))
    observation = _texts("observations", [s.observation for s in steps], record.observations, record.texts)
    action = _texts("actions", [s.action for s in steps], record.actions, record.texts)
    begun = record.begun
    if begun is not None and len(begun) != (expected := int((depth == 1).sum())):
        raise ValueError(f"field begun: {len(begun)} values, {expected} were expected")
    situation = situations(trajectories, first, depth, observation, begun)
    tree = from_paths(record.task, trajectories, shared, ["", *observation], ["", *action], situation)
    if record.merging != EQUAL_TEXTS:
        tree = replace(tree, merging=record.merging)
    if (unfit := stray_branch(tree)) is not None:
        raise ValueError(f"field trajectories.{unfit.index}.{unfit.field}: {unfit.reason}")
    if (wrong := wrongly_merged(tree)) is not None:
        raise ValueError(f"field shared.{wrong[0]}: this run {wrong[1]}; build it again with trajtree build")
    return tree


def _texts(name: str, said: list[str], different: Sequence[tuple[int, int]], texts: Sequence[str]) -> list[str]:
    """[N - 1] canonical text of each node except the root."""
    last = 0
    for index, (node, number) in enumerate(different):
        if node <= last:
            raise ValueError(f"field {name}.{index}: node {node} after node {last}, and each has one text")
        last = node
        if not (1 <= node <= len(said) and _STRIPPED <= number < len(texts)):
            raise ValueError(f"field {name}.{index}: node {node} or text {number} is not there")
        said[node - 1] = said[node - 1].strip() if number == _STRIPPED else texts[number]
    return said


__all__ = ["FORMAT", "VERSION", "read_scored_trees", "read_trees", "write_trees"]
