"""What must hold of the runs of a tree, whether it is built from them or read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trajtree.errors import counted
from trajtree.trajectory import Context, Trajectory
from trajtree.trees.sameness import Ignoring
from trajtree.trees.tree import TrajectoryTree


@dataclass(frozen=True, slots=True)
class Unfit:
    """A run that cannot be in a tree: its index among the runs, the field that says so, and why."""

    index: int
    field: str
    reason: str


def unfit_run(task: str, runs: Sequence[Trajectory], *, keep_unscored: bool) -> Unfit | None:
    """The first run that cannot be in the tree of a task together with the others; None if all can.

    With `keep_unscored`, runs without a score can be.
    """
    samples: set[int] = set()
    for index, run in enumerate(runs):
        if run.task != task:
            return Unfit(index, "task", f"{run.task!r}, and the tree is of task {task!r}")
        if run.outcome.is_fault:
            return Unfit(index, "outcome", f"{run.outcome} says nothing about the policy, leave it out")
        if run.unscored and not keep_unscored:
            return Unfit(index, "unscored", "has no score, leave it out")
        if run.sample in samples:
            return Unfit(
                index,
                "sample",
                "another run has this number too, as when stores of several seeds are concatenated; pool the stores "
                "instead, which renumbers their runs: trajtree pool STORES --out FILE",
            )
        samples.add(run.sample)
    for index, run in enumerate(runs):
        if run.origin is not None and run.origin.sample not in samples:
            return Unfit(
                index,
                "origin",
                f"branched off sample {run.origin.sample}, which is not among the trajectories; build the tree with "
                "it, or remove the origin",
            )
    return None


def stray_branch(tree: TrajectoryTree) -> Unfit | None:
    """The first branched run that does not begin as its origin says; None if all do. The parents are in the tree.

    Such a run would pass nodes at which nobody counts, and they would have no value.
    """
    place = {run.sample: index for index, run in enumerate(tree.trajectories)}
    for index, run in enumerate(tree.trajectories):
        if run.origin is None:
            continue
        # The runs are sorted, so any two have in common what all neighbours between them have.
        low, high = sorted((index, place[run.origin.sample]))
        if low == high or tree.shared[low + 1 : high + 1].min() < run.origin.steps:
            return Unfit(
                index,
                "origin",
                f"branched off sample {run.origin.sample} after {counted(run.origin.steps, 'step')}, and does not "
                "begin with the same ones; correct the origin, or remove it",
            )
    if (nobody := np.flatnonzero(tree.visits == 0)).size:
        reason = "the runs that it branched off branched off it in turn; correct the origin, or remove it"
        return Unfit(int(tree.first[nobody[0]]), "origin", reason)
    return None


def wrongly_merged(tree: TrajectoryTree) -> tuple[int, str] | None:
    """A run whose steps are not on the nodes where merging puts them: its index, and what is wrong; None if all are.

    Runs with different contexts share no node, unless similar contexts were merged. Siblings differ in what was seen or
    done. Equal actions, and equal observations at one node, have one canonical text. Whether two different actions may
    be one node cannot be told here: it depends on the environment.
    """
    merging = tree.merging
    ignoring = Ignoring(merging.ignore)
    contexts = [ignoring.context(run.context) for run in tree.trajectories]
    for index, common in enumerate(tree.shared.tolist()):
        if common and merging.similarity is None and contexts[index] != contexts[index - 1]:
            return index, "shares steps with the one before it, although they began with different prompts or tools"
    for _, siblings in tree.decisions():
        actions = [tree.action[node] for node in siblings]
        if len(set(actions)) < len(actions):
            twin = next(node for i, node in enumerate(siblings) if actions[i] in actions[:i])
            where = f"in step {tree.depth[twin]} like an earlier one, and does not share it"
            return int(tree.first[twin]), f"does {tree.action[twin]!r} {where}"
    steps = [step for run in tree.trajectories for step in run.steps]
    nodes = _nodes(tree)
    for what, said, canonical in (
        ("does", [step.action for step in steps], tree.action),
        ("sees", [step.observation for step in steps], tree.observation),
    ):
        if what == "does" and merging.action is not None:  # a part of the reply, which is not in the step
            continue
        texts = [canonical[node] for node in nodes]
        if texts == said:  # the most common case: every text is canonical already
            continue
        # An action means the same wherever it occurs, an observation where the same came before.
        places = _places(tree, contexts, nodes) if what == "sees" else [TrajectoryTree.ROOT] * len(nodes)
        keys = list(zip(places, said, strict=True))
        first = dict(zip(reversed(keys), reversed(texts), strict=True))
        for at, (key, text) in enumerate(zip(keys, texts, strict=True)):
            if first[key] != text:
                where = f"in step {tree.depth[nodes[at]]}, which is {text!r} here and {first[key]!r} elsewhere"
                return _run_of(tree, at), f"{what} {said[at]!r} {where}"
    return None


def _nodes(tree: TrajectoryTree) -> list[int]:
    """[S] the node after each step, run by run."""
    nodes: list[int] = []
    path: list[int] = []
    opened = TrajectoryTree.ROOT
    for run, common in zip(tree.trajectories, tree.shared.tolist(), strict=True):
        # Nodes are numbered in the order in which the runs open them.
        new = len(run.steps) - common
        path[common:] = range(opened + 1, opened + 1 + new)
        opened += new
        nodes += path
    return nodes


def _places(tree: TrajectoryTree, contexts: Sequence[Context], nodes: Sequence[int]) -> list[int]:
    """[S] from where each step was taken: the node before, or a negative number for the context of a first step."""
    numbers: dict[Context, int] = {}
    context = [-1 - numbers.setdefault(one, len(numbers)) for one in contexts]
    before = tree.parent[np.array(nodes, np.int64)]
    found: list[int] = np.where(before == TrajectoryTree.ROOT, np.repeat(context, _lengths(tree)), before).tolist()
    return found


def _run_of(tree: TrajectoryTree, step: int) -> int:
    """The run of a step, both counted over the whole tree."""
    return int(np.searchsorted(np.cumsum(_lengths(tree)), step, side="right"))


def _lengths(tree: TrajectoryTree) -> list[int]:
    return [len(run.steps) for run in tree.trajectories]


__all__ = ["Unfit", "stray_branch", "unfit_run", "wrongly_merged"]
