"""How a tree is made of trajectories: they are sorted, and nodes are numbered in their order, depth first."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree, counts_from


def from_labels(
    task: str,
    trajectories: Sequence[Trajectory],
    labels: NDArray[np.int64],
    options: int,
    observations: Sequence[str],
    actions: Sequence[str],
) -> TrajectoryTree:
    """The tree in which steps are one node when the labels of all steps up to them are equal.

    Args:
        task: the task.
        trajectories: [T] the trajectories, in any order.
        labels: [S] a number for what was seen and done in each of all S steps, trajectory by trajectory; siblings are
            ordered by it. Steps that saw the same thing answer the same situation: their labels are equal after
            integer division by `options`.
        options: number of distinct actions.
        observations, actions: [S] canonical texts of each step.
    """
    # A label as eight bytes, highest first, sorts like the number. So sorting trajectories by the bytes of their labels
    # puts those that share a beginning next to each other, and one that ends where another goes on right before it.
    lengths = np.array([len(t.steps) for t in trajectories], np.int64)
    ends = np.cumsum(lengths)
    bytes_of, bounds = labels.astype(">u8").tobytes(), [0, *(8 * ends).tolist()]
    order = sorted(
        range(len(trajectories)),
        key=lambda i: (bytes_of[bounds[i] : bounds[i + 1]], trajectories[i].sample, trajectories[i].score),
    )
    # steps [S]: position in `labels` of each step of the sorted trajectories.
    steps = _ranges((ends - lengths)[order], lengths[order])
    ordered = [trajectories[i] for i in order]
    shared = _shared(labels[steps], lengths[order])
    opened = steps[_opens(shared, lengths[order])]
    return from_paths(
        task,
        ordered,
        shared,
        ["", *map(observations.__getitem__, opened.tolist())],
        ["", *map(actions.__getitem__, opened.tolist())],
        labels[opened] // options,
    )


def from_paths(
    task: str,
    trajectories: Sequence[Trajectory],
    shared: NDArray[np.int64],
    observation: Sequence[str],
    action: Sequence[str],
    situation: NDArray[np.int64],
) -> TrajectoryTree:
    """The tree of trajectories that are already sorted.

    Args:
        task: the task.
        trajectories: [T] sorted, so that each shares no more steps with any earlier one than with the one before it.
        shared: [T] steps that each has in common with the one before it; 0 for the first.
        observation, action: [N] texts of the nodes, "" for the root.
        situation: [N - 1] number of the situation before each node but the root; siblings with the same number are
            answers to the same situation.
    """
    lengths = np.array([len(t.steps) for t in trajectories], np.int64)
    unscored = any(t.unscored for t in trajectories)
    scores = np.array([np.nan if unscored else t.score for t in trajectories])
    count, starts = len(trajectories), np.cumsum(lengths) - lengths
    opens = _opens(shared, lengths)
    # node [S]: the node after each step. The steps that open nodes number them in their order, which is depth first;
    # those that are shared lead to the nodes of the trajectory before.
    node = np.cumsum(opens)
    for start, before, common in zip(starts[1:].tolist(), starts[:-1].tolist(), shared[1:].tolist(), strict=True):
        node[start : start + common] = node[before : before + common]
    depth = np.arange(len(node)) - np.repeat(starts, lengths) + 1  # [S] of that node
    row = np.repeat(np.arange(count), lengths)  # [S] the trajectory of each step
    came_from = np.where(depth == 1, TrajectoryTree.ROOT, np.concatenate([[0], node[:-1]]))  # [S] the node before

    # Every (trajectory, node) passage, those of the root first; `counted` are those from where a trajectory begins to
    # count.
    begins = counts_from(trajectories)
    passages = np.concatenate([np.zeros(count, np.int64), node])
    counted = np.concatenate([begins == 0, depth >= begins[row]])
    weights = np.concatenate([scores, scores[row]])
    size = 1 + int(opens.sum())
    parent = np.concatenate([[TrajectoryTree.NO_PARENT], came_from[opens]])
    first = np.concatenate([[0], row[opens]]).astype(np.int32)
    end = np.zeros(count, np.int32)
    end[lengths > 0] = node[(starts + lengths - 1)[lengths > 0]]
    return TrajectoryTree(
        task=task,
        trajectories=tuple(trajectories),
        parent=parent.astype(np.int32),
        depth=np.concatenate([[0], depth[opens]]).astype(np.int32),
        decision=_decisions(parent, situation),
        observation=tuple(observation),
        action=tuple(action),
        first=first,
        stop=(first + np.bincount(passages, minlength=size)).astype(np.int32),
        visits=np.bincount(passages[counted], minlength=size).astype(np.int32),
        score_sum=np.bincount(passages[counted], weights=weights[counted], minlength=size).astype(np.float64),
        end=end,
    )


def openings(shared: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """([N - 1] trajectory, [N - 1] depth) of the step that opens each node but the root."""
    opens = _opens(shared, lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    return row[opens], _ranges(np.ones(len(lengths), np.int64), lengths)[opens]


def situations(
    trajectories: Sequence[Trajectory],
    first: NDArray[np.int64],
    depth: NDArray[np.int64],
    observation: Sequence[str],
    begun: Sequence[int] | None = None,
) -> NDArray[np.int64]:
    """[N - 1] number of the situation before each node but the root.

    Siblings are in the same situation when they saw the same, before the first step in the same context.

    Args:
        trajectories: [T] the trajectories.
        first, depth: [N - 1] as `openings` gives them.
        observation: [N - 1] what was seen before each node.
        begun: [children of the root] numbers of their situations, where more than equal contexts count as the same.
    """
    numbers: dict[Hashable, int] = {}
    given = None if begun is None else iter(begun)
    keys: Iterator[Hashable] = (
        seen if deep > 1 else (seen, trajectories[row].context) if given is None else (next(given),)
        for row, deep, seen in zip(first.tolist(), depth.tolist(), observation, strict=True)
    )
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers starts[0], ..., starts[0] + lengths[0] - 1, starts[1], ... in one array."""
    before = np.cumsum(lengths) - lengths
    numbers: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return numbers


def _opens(shared: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[S] whether each step opens a node, which is any step that its trajectory does not share with the one before."""
    position = _ranges(np.zeros(len(lengths), np.int64), lengths)
    opens: NDArray[np.bool_] = position >= np.repeat(shared, lengths)
    return opens


def _shared(labels: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """[T] steps that each trajectory has in common with the one before it, from the labels [S] of sorted ones.

    In a sorted list no earlier trajectory shares more than the one before.
    """
    shared = np.zeros(len(lengths), np.int64)
    starts = np.cumsum(lengths) - lengths
    # Neighbours are compared up to the end of the shorter one; where one is empty, nothing is shared.
    compared = np.minimum(lengths[1:], lengths[:-1])
    pairs = np.flatnonzero(compared)
    sizes = compared[pairs]
    if not len(pairs):
        return shared
    here, there = _ranges(starts[1:][pairs], sizes), _ranges(starts[:-1][pairs], sizes)
    position = _ranges(np.zeros(len(sizes), np.int64), sizes)
    # The first position at which they differ, or the length compared if they do not.
    differs = np.where(labels[here] != labels[there], position, np.repeat(sizes, sizes))
    shared[pairs + 1] = np.minimum.reduceat(differs, np.cumsum(sizes) - sizes)
    return shared


def _decisions(parent: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.int32]:
    """[N] first sibling that answers the same situation.

    Args:
        parent: [N] parents.
        seen: [N - 1] number of the situation before each node but the root.
    """
    # Sorted by parent, then by what was seen; the sort is stable, so the first of each group is its lowest node.
    order = np.lexsort((seen, parent[1:]))
    starts = np.empty(len(order), bool)
    starts[:1] = True
    starts[1:] = (np.diff(parent[1:][order]) != 0) | (np.diff(seen[order]) != 0)
    # cumsum(starts) - 1 numbers the groups, so each member gets the node that starts its own.
    decision = np.full(len(parent), TrajectoryTree.NO_PARENT, np.int32)
    decision[order + 1] = (order[starts] + 1)[np.cumsum(starts) - 1]
    return decision


__all__ = ["from_labels", "from_paths", "openings", "situations"]
