"""Preference pairs at the forks of a tree.

At a fork the agent saw one thing and did several. The child with the higher value gives the chosen continuation,
the lower one the rejected; both sides of a pair begin with the very same tokens, because the rejected
continuation is set behind the chosen side's prefix. `unstructured` and `whole` pair without forks, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations, islice, pairwise, zip_longest

import numpy as np
from numpy.typing import NDArray

from trajtree.trajectory import SCORE_TOLERANCE, Message, Trajectory
from trajtree.trees.tree import TrajectoryTree

Aggregate = Callable[[TrajectoryTree], NDArray[np.float64]]
"""Value [N] of each node of a tree, from the scores of the trajectories through it."""

Select = Callable[[Sequence[int]], list[tuple[int, int]]]
"""Which options of a fork are compared: from options sorted by falling value to (better, worse)."""


def mean(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] mean score behind each node: what the policy makes of it."""
    return tree.mean


def best(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] best score behind each node: what can be made of it."""
    return tree.best


def discounted(gamma: float) -> Aggregate:
    """Mean over the trajectories that count of score times gamma to the number of steps to come: sooner is better."""

    def aggregate(tree: TrajectoryTree) -> NDArray[np.float64]:
        lengths = tree.depth[tree.end]
        total = np.zeros(len(tree))
        for node in range(len(tree)):
            rows = tree.counting(node)
            total[node] = np.mean(tree.scores[rows] * gamma ** (lengths[rows] - tree.depth[node]))
        return total

    return aggregate


def extremes(options: Sequence[int]) -> list[tuple[int, int]]:
    """The best option against the worst."""
    return [(options[0], options[-1])]


def every(options: Sequence[int]) -> list[tuple[int, int]]:
    """Every two options."""
    return list(combinations(options, 2))


def adjacent(options: Sequence[int]) -> list[tuple[int, int]]:
    """Each option against the next worse one."""
    return list(pairwise(options))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of one prefix and where they come from.

    Attributes:
        task: the task of the tree.
        node: the fork; its path is the shared prefix, `depth` steps long. The root for pairs of whole trajectories.
        chosen, rejected: samples (of this task) whose steps after the prefix are the continuations.
        chosen_value, rejected_value: aggregated scores of the two children.
        chosen_visits, rejected_visits: trajectories behind them.
    """

    task: str
    node: int
    depth: int
    chosen: int
    rejected: int
    chosen_value: float
    rejected_value: float
    chosen_visits: int
    rejected_visits: int

    @property
    def gap(self) -> float:
        """How much better the chosen side is."""
        return self.chosen_value - self.rejected_value


def pairs(
    tree: TrajectoryTree,
    *,
    select: Select = every,
    aggregate: Aggregate = mean,
    min_gap: float = 0.1,
    per_fork: int = 1,
    per_tree: int = 8,
) -> list[Pair]:
    """Pairs of siblings, of every two or of those that `select` picks, whose values differ by at least `min_gap`.

    At most `per_fork` pairs a fork and `per_tree` a tree, so that one rich tree does not drown the others: the widest
    pair of every fork first, widest fork first, then the second of every fork, and so on. The chosen continuation
    is the best trajectory behind its child, the rejected one the worst behind its own; the shorter wins ties, then
    the earlier.
    """
    value, gap = aggregate(tree), _least(min_gap)
    by_fork = []
    for _, children in tree.decisions():
        if np.ptp(value[children]) < gap:
            continue
        options = sorted(children.tolist(), key=lambda child: (-value[child], child))
        side = {child: _side(tree, child) for child in options}
        wide = ((high, low) for high, low in select(options) if value[high] - value[low] >= gap)
        here = (_pair(tree, high, low, side[high][0], side[low][1], value) for high, low in wide)
        by_fork.append(nsmallest(per_fork, here, key=_widest))
    rounds = zip_longest(*by_fork)
    found = [pair for same in rounds for pair in sorted((p for p in same if p is not None), key=_widest)]
    return found[:per_tree]


def whole(tree: TrajectoryTree, *, min_gap: float = 0.1, per_tree: int = 8) -> list[Pair]:
    """Whole trajectories against each other as ETO pairs them, better against worse, sharing only the prompt.

    For comparison with pairs at forks. The best meets the worst, the next best the next worst, and so on; when all
    have met someone, each meets the next one.
    """
    order = sorted(range(len(tree.trajectories)), key=lambda i: (-tree.scores[i], i))
    worst, gap = order[::-1], _least(min_gap)
    met = (both for shift in range(len(order)) for both in zip(order, worst[shift:] + worst[:shift], strict=True))
    wide = (_whole(tree, high, low) for high, low in met if tree.scores[high] - tree.scores[low] >= gap)
    return list(islice(wide, per_tree))


def unstructured(tree: TrajectoryTree, *, min_gap: float = 0.1, per_tree: int = 8, seed: int = 0) -> list[Pair]:
    """Trajectories drawn at random and paired by score, the paper's baseline without a tree."""
    random = np.random.default_rng(seed)
    both = np.argwhere(tree.scores[:, None] - tree.scores >= _least(min_gap))
    drawn = random.permutation(len(both))[:per_tree]
    return [_whole(tree, high, low) for high, low in both[drawn].tolist()]


def grafted(better: Trajectory, worse: Trajectory, depth: int) -> tuple[Message, ...]:
    """Messages of the rejected side: `better` up to its reply at `depth`, `worse` from there on."""
    return better.messages[: better.replies[depth]] + worse.messages[worse.replies[depth] :]


def _least(min_gap: float) -> float:
    """The least difference of two values that counts: `min_gap`, but for rounding, and never nothing."""
    return max(min_gap, 2 * SCORE_TOLERANCE) - SCORE_TOLERANCE


def _side(tree: TrajectoryTree, child: int) -> tuple[int, int]:
    """The best of all trajectories behind a child, and the worst of those that count there.

    The shorter wins ties, then the earlier. A branched trajectory that does not count here may have been started from a
    bad place on purpose, which says nothing about the child.
    """

    def length(index: int) -> int:
        return int(tree.depth[tree.end[index]])

    best = min(tree.through(child), key=lambda i: (-tree.scores[i], length(i), i))
    return best, min(tree.counting(child), key=lambda i: (tree.scores[i], length(i), i))


def _pair(tree: TrajectoryTree, high: int, low: int, chosen: int, rejected: int, value: NDArray[np.float64]) -> Pair:
    node = int(tree.parent[high])
    return Pair(
        task=tree.task,
        node=node,
        depth=int(tree.depth[node]),
        chosen=tree.trajectories[chosen].sample,
        rejected=tree.trajectories[rejected].sample,
        chosen_value=float(value[high]),
        rejected_value=float(value[low]),
        chosen_visits=int(tree.visits[high]),
        rejected_visits=int(tree.visits[low]),
    )


def _whole(tree: TrajectoryTree, high: int, low: int) -> Pair:
    return Pair(
        task=tree.task,
        node=TrajectoryTree.ROOT,
        depth=0,
        chosen=tree.trajectories[high].sample,
        rejected=tree.trajectories[low].sample,
        chosen_value=float(tree.scores[high]),
        rejected_value=float(tree.scores[low]),
        chosen_visits=1,
        rejected_visits=1,
    )


def _widest(pair: Pair) -> tuple[float, int, int, int]:
    return -pair.gap, pair.depth, pair.node, pair.rejected


__all__ = [
    "Aggregate",
    "Pair",
    "Select",
    "adjacent",
    "best",
    "discounted",
    "every",
    "extremes",
    "grafted",
    "mean",
    "pairs",
    "unstructured",
    "whole",
]
