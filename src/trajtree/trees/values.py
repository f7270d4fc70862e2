"""What the options at a fork are worth: values of nodes, and the worth of single trajectories that fits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trajtree.trajectory import SCORE_TOLERANCE
from trajtree.trees.tree import TrajectoryTree

Aggregate = Callable[[TrajectoryTree], NDArray[np.float64]]
"""Value [N] of each node of a tree, from the scores of the trajectories through it."""

Worth = Callable[[TrajectoryTree, int, int], float]
"""What a trajectory is worth after a depth: takes the tree, the index of the trajectory, and the depth."""

Ranked = TypeVar("Ranked", bound=tuple[Any, ...])


def mean(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] mean score of the trajectories through each node: what the policy achieves from there."""
    return tree.mean


def best(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] best score of the trajectories through each node: what can be achieved from there."""
    return tree.best


def discounted(gamma: float) -> Aggregate:
    """Mean of score * gamma ** (remaining steps) over the trajectories that count at a node: sooner is better."""

    def aggregate(tree: TrajectoryTree) -> NDArray[np.float64]:
        lengths = tree.depth[tree.end]  # [T]
        value = np.zeros(len(tree))
        for node in range(len(tree)):
            here = tree.counting(node)
            value[node] = np.mean(tree.scores[here] * gamma ** (lengths[here] - tree.depth[node]))
        return value

    return aggregate


def score(tree: TrajectoryTree, index: int, depth: int) -> float:
    """The score of a trajectory."""
    return tree.trajectories[index].score


def discounted_score(gamma: float) -> Worth:
    """The score of a trajectory times gamma ** (steps after `depth`)."""

    def worth(tree: TrajectoryTree, index: int, depth: int) -> float:
        run = tree.trajectories[index]
        return float(run.score * gamma ** (len(run.steps) - depth))

    return worth


def foremost(ranked: Iterable[Ranked]) -> Ranked:
    """The tuple that sorts first, where first entries within SCORE_TOLERANCE of the lowest are ties.

    Raises:
        ValueError: there is none.
    """
    several = list(ranked)
    limit = min(one[0] for one in several) + SCORE_TOLERANCE
    return min((one for one in several if one[0] <= limit), key=lambda one: one[1:])


__all__ = ["Aggregate", "Worth", "best", "discounted", "discounted_score", "foremost", "mean", "score"]
