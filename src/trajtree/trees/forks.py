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
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, with_config

from trajtree.errors import one_of
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


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PairSettings:
    """Which pairs are taken from a tree.

    Attributes:
        mode: what is compared with what; a name in MODES.
        aggregate: the value of an option at a fork; a name in AGGREGATES.
        gamma: discount per step, where the aggregate discounts.
        min_gap: least difference between the values of the two sides.
        per_fork: most pairs per fork, where the mode pairs at forks.
        per_tree: most pairs per tree.
    """

    mode: Annotated[str, AfterValidator(one_of(MODES))] = "every"
    aggregate: Annotated[str, AfterValidator(one_of(AGGREGATES))] = "mean"
    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    min_gap: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    per_fork: Annotated[int, Field(ge=1)] = 1
    per_tree: Annotated[int, Field(ge=1)] = 8


def pairs_of(tree: TrajectoryTree, settings: PairSettings) -> list[Pair]:
    """The pairs of a tree that the settings ask for.

    Raises:
        ValueError: there is no such mode or aggregate.
    """
    return MODES[one_of(MODES)(settings.mode)].pairs(tree, settings)


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to pair what a tree holds.

    Attributes:
        pairs: the pairs of a tree.
        at_forks: whether the two sides share a past; otherwise they are whole trajectories, which may begin alike.
        about: a few words for people.
    """

    pairs: Callable[[TrajectoryTree, PairSettings], list[Pair]]
    at_forks: bool
    about: str


@dataclass(frozen=True, slots=True)
class Valuation:
    """A way to value the options at a fork.

    Attributes:
        aggregate: what the settings make of it.
        discounts: whether it looks at `PairSettings.gamma`.
        about: a few words for people.
    """

    aggregate: Callable[[PairSettings], Aggregate]
    discounts: bool
    about: str


def _at_forks(select: Select, about: str) -> Mode:
    def find(tree: TrajectoryTree, settings: PairSettings) -> list[Pair]:
        return pairs(
            tree,
            select=select,
            aggregate=AGGREGATES[one_of(AGGREGATES)(settings.aggregate)].aggregate(settings),
            min_gap=settings.min_gap,
            per_fork=settings.per_fork,
            per_tree=settings.per_tree,
        )

    return Mode(find, True, about)


MODES = {
    "every": _at_forks(every, "every two options of a fork"),
    "extremes": _at_forks(extremes, "the best option against the worst"),
    "adjacent": _at_forks(adjacent, "each option against the next worse one"),
    "whole": Mode(
        lambda tree, settings: whole(tree, min_gap=settings.min_gap, per_tree=settings.per_tree),
        False,
        "whole runs, the best against the worst first, as ETO pairs them",
    ),
    "unstructured": Mode(
        lambda tree, settings: unstructured(tree, min_gap=settings.min_gap, per_tree=settings.per_tree),
        False,
        "whole runs drawn at random",
    ),
}
"""What is compared with what, by name."""

AGGREGATES = {
    "mean": Valuation(lambda settings: mean, False, "mean score behind it"),
    "best": Valuation(lambda settings: best, False, "best score behind it"),
    "discounted": Valuation(
        lambda settings: discounted(settings.gamma), True, "mean score, discounted by the steps to come"
    ),
}
"""The value of an option at a fork, by name."""


__all__ = [
    "AGGREGATES",
    "MODES",
    "Aggregate",
    "Mode",
    "Pair",
    "PairSettings",
    "Select",
    "Valuation",
    "adjacent",
    "best",
    "discounted",
    "every",
    "extremes",
    "grafted",
    "mean",
    "pairs",
    "pairs_of",
    "unstructured",
    "whole",
]
