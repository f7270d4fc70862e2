"""Preference pairs at the forks of a tree.

At a fork the agent saw one thing and did several. The child with the higher value gives the chosen continuation,
the lower one the rejected; both sides of a pair begin with the very same tokens, because the rejected
continuation is set behind the chosen side's prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trajtree.tree import TrajectoryTree

Aggregate = Callable[[Sequence[float]], float]


def mean(scores: Sequence[float]) -> float:
    """Mean score behind a child: what the weak policy makes of it."""
    return float(np.mean(scores))


def best(scores: Sequence[float]) -> float:
    """Best score behind a child: what can be made of it."""
    return max(scores)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of one prefix and where they come from.

    Attributes:
        task: the task of the tree.
        node: the fork; its path is the shared prefix, `depth` steps long.
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
    tree: TrajectoryTree, *, aggregate: Aggregate = mean, min_gap: float = 0.1, per_fork: int = 1, per_tree: int = 8
) -> list[Pair]:
    """Pairs of siblings whose values differ by at least `min_gap`, widest gap first.

    At most `per_fork` pairs a fork and `per_tree` a tree, so that one rich tree does not drown the others. The
    chosen continuation is the best trajectory behind its child, the rejected one the worst behind its own; the
    shorter wins ties, then the earlier.
    """
    found: list[Pair] = []
    for node, children in tree.forks():
        behind = {child: tree.through(child) for child in children}
        value = {child: aggregate([tree.trajectories[i].score for i in behind[child]]) for child in children}
        here = []
        for a, b in combinations(children, 2):
            high, low = (a, b) if value[a] >= value[b] else (b, a)
            if value[high] - value[low] >= max(min_gap, 1e-9):
                here.append(_pair(tree, node, behind[high], behind[low], value[high], value[low]))
        found += sorted(here, key=_widest)[:per_fork]
    return sorted(found, key=_widest)[:per_tree]


def _pair(
    tree: TrajectoryTree, node: int, high: Sequence[int], low: Sequence[int], high_value: float, low_value: float
) -> Pair:
    def score_then_short(index: int) -> tuple[float, int, int]:
        return -tree.trajectories[index].score, int(tree.depth[tree.end[index]]), index

    def bad_then_short(index: int) -> tuple[float, int, int]:
        return tree.trajectories[index].score, int(tree.depth[tree.end[index]]), index

    return Pair(
        task=tree.task,
        node=node,
        depth=int(tree.depth[node]),
        chosen=tree.trajectories[min(high, key=score_then_short)].sample,
        rejected=tree.trajectories[min(low, key=bad_then_short)].sample,
        chosen_value=high_value,
        rejected_value=low_value,
        chosen_visits=len(high),
        rejected_visits=len(low),
    )


def _widest(pair: Pair) -> tuple[float, int, int, int]:
    return -pair.gap, pair.depth, pair.node, pair.rejected


__all__ = ["Aggregate", "Pair", "best", "mean", "pairs"]
