"""Preference pairs at the forks of a tree, and the modes and settings by which pairs are taken from a tree.

At a fork the agent saw the same thing and acted differently. The child with the higher value gives the chosen
continuation, the child with the lower value the rejected one. Both sides of a pair begin with exactly the same tokens,
because the rejected continuation is appended to the chosen side's prefix: its own past, or one that merging treats as
the same (see `PASTS`). The modes of `whole_runs` make pairs without forks, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import combinations, pairwise, zip_longest
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, with_config

from trajtree.errors import one_of
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.pair import LOOSEST, PASTS, SHARED, Pair, allows_all, least_gap, past_of
from trajtree.trees.tree import TrajectoryTree
from trajtree.trees.values import Aggregate, Worth, best, discounted, discounted_score, foremost, mean, score
from trajtree.trees.whole_runs import unstructured, whole

Select = Callable[[Sequence[int]], list[tuple[int, int]]]
"""Which options of a fork are compared: takes its options by descending value, returns (better, worse) pairs."""


def extremes(options: Sequence[int]) -> list[tuple[int, int]]:
    """The best option against the worst."""
    return [(options[0], options[-1])]


def every(options: Sequence[int]) -> list[tuple[int, int]]:
    """All pairs of options."""
    return list(combinations(options, 2))


def adjacent(options: Sequence[int]) -> list[tuple[int, int]]:
    """Each option against the next one below it."""
    return list(pairwise(options))


def pairs(
    tree: TrajectoryTree,
    *,
    select: Select = every,
    aggregate: Aggregate = mean,
    worth: Worth = score,
    min_gap: float = 0.1,
    per_fork: int = 1,
    per_tree: int = 8,
    past: str = LOOSEST,
) -> list[Pair]:
    """Pairs of options of the same fork whose values differ by at least `min_gap`.

    The number of pairs is limited, so that a tree with many forks does not crowd out the others. The pair with the
    widest gap of every fork comes first, in descending order of gap; then the second widest of every fork, and so on.
    The chosen continuation is that of the best trajectory through its child, the rejected continuation that of the
    worst trajectory through its child; ties go to the shorter, then to the earlier trajectory.

    Args:
        tree: the tree.
        select: which options of a fork are compared.
        aggregate: value of each node.
        worth: by what the best and the worst trajectory through a child are chosen; it should fit `aggregate`.
        min_gap: smallest difference between the values of a pair.
        per_fork: largest number of pairs per fork.
        per_tree: largest number of pairs per tree.
        past: how similar the pasts of the two sides must be; a name in PASTS. If the tree has looser ones, a side is
            the best or worst of those trajectories that share such a past with one through the other child.
    """
    tree.check_scored()
    # value [N]. by_fork: for each fork with a wide enough pair, its widest pairs, widest first.
    value, gap = aggregate(tree), least_gap(min_gap)
    by_fork = []
    for _, children in tree.decisions():
        # Skip forks that teach nothing before sorting anything.
        if np.ptp(value[children]) < gap:
            continue
        options = sorted(children.tolist(), key=lambda child: (-value[child], child))
        if allows_all(tree, past):
            sides = _sides(tree, options, worth)
        else:
            sides = _alike_sides(tree, options, worth, SHARED[past])
        wide = ((high, low) for high, low in select(options) if value[high] - value[low] >= gap)
        both = ((high, low, sides(high, low)) for high, low in wide)
        here = (_pair(tree, high, low, *found, value) for high, low, found in both if found is not None)
        by_fork.append(nsmallest(per_fork, here, key=_widest))
    # Round r holds the pair number r of every fork, None where a fork has fewer.
    rounds = zip_longest(*by_fork)
    ordered = [pair for same in rounds for pair in sorted((p for p in same if p is not None), key=_widest)]
    # Only now, because comparing pasts is slow and most pairs are not taken.
    return [replace(pair, past=past_of(pair.sides(tree), pair.depth, tree.merging)) for pair in ordered[:per_tree]]


def matched(tree: TrajectoryTree, settings: PairSettings) -> list[Pair]:
    """Random pairs of whole trajectories, as many as there are pairs at forks under the same settings."""
    at_forks = len(MODES["every"].pairs(tree, settings))
    return unstructured(tree, min_gap=settings.min_gap, per_tree=at_forks, past=settings.past)


@dataclass(frozen=True, slots=True)
class Option:
    """What the agent did at a fork, on its own: the first step of a continuation.

    Attributes:
        task: the task of the tree.
        node: the fork.
        depth: number of steps before it.
        sample: `Trajectory.sample` of the best run through the option.
        advantage: value of the option less the mean of the options' values, weighted by the runs that count at them,
            in [-1, 1].
    """

    task: str
    node: int
    depth: int
    sample: int
    advantage: float


def options_of(tree: TrajectoryTree, settings: PairSettings) -> list[Option]:
    """The options of every fork whose values differ by at least `min_gap`; those with no advantage are left out."""
    valuation = AGGREGATES[one_of(AGGREGATES)(settings.aggregate)]
    value, worth = valuation.aggregate(settings)(tree), valuation.worth(settings)  # value [N]
    found = []
    for _, children in tree.decisions():
        if np.ptp(value[children]) < least_gap(settings.min_gap):
            continue
        advantages = value[children] - np.average(value[children], weights=tree.visits[children])
        for child, advantage in zip(children.tolist(), advantages.tolist(), strict=True):
            if abs(advantage) > SCORE_TOLERANCE:
                best = tree.trajectories[foremost(_best_first(tree, child, worth))[-1]]
                node = int(tree.parent[child])
                found.append(Option(tree.task, node, int(tree.depth[node]), best.sample, advantage))
    return found


def over_explored(tree: TrajectoryTree, experts: Collection[int], settings: PairSettings) -> list[Pair]:
    """At the forks on an expert's path, the expert's continuation over those that only the explorer took.

    The value of the expert's side is the score that the expert reached, that of the other the mean of the runs through
    it. Widest first, then by where the pair is in the tree; at most `per_fork` per fork and `per_tree` per tree.

    Args:
        tree: the expert's trajectories and the explorer's, merged.
        experts: samples of the expert's trajectories; the first of those that share a step stands for them.
        settings: `min_gap`, `per_fork` and `per_tree` count.
    """
    shown = {index for index, t in enumerate(tree.trajectories) if t.sample in experts}
    value, gap = tree.mean, least_gap(settings.min_gap)
    found: list[Pair] = []
    for _, children in tree.decisions():
        through = {child: sorted(shown & set(tree.through(child))) for child in children.tolist()}
        taken = [(-tree.scores[indices[0]], child, indices[0]) for child, indices in through.items() if indices]
        if not taken:
            continue
        _, high, best = foremost(taken)
        expert, values = tree.trajectories[best], value.copy()
        values[high] = expert.score
        here = (
            _pair(tree, high, child, expert, tree.trajectories[foremost(_worst_first(tree, child, score))[-1]], values)
            for child, indices in through.items()
            if not indices and expert.score - value[child] >= gap
        )
        found += nsmallest(settings.per_fork, here, key=_widest)
    widest = sorted(found, key=_widest)[: settings.per_tree]
    return [replace(pair, past=past_of(pair.sides(tree), pair.depth, tree.merging)) for pair in widest]


Sides = Callable[[int, int], tuple[Trajectory, Trajectory] | None]
"""The trajectories that represent a better and a worse child; None if no two have pasts as similar as required."""


def _sides(tree: TrajectoryTree, children: Sequence[int], worth: Worth) -> Sides:
    """The best trajectory through the better child, the worst through the worse one."""
    best = {child: tree.trajectories[foremost(_best_first(tree, child, worth))[-1]] for child in children}
    worst = {child: tree.trajectories[foremost(_worst_first(tree, child, worth))[-1]] for child in children}
    return lambda high, low: (best[high], worst[low])


def _alike_sides(
    tree: TrajectoryTree, children: Sequence[int], worth: Worth, shared: Callable[[Trajectory, int], Hashable]
) -> Sides:
    """The best trajectory through the better child that shares its past with one through the other, and its worst."""
    depth = int(tree.depth[children[0]]) - 1
    past = {index: shared(tree.trajectories[index], depth) for child in children for index in tree.through(child)}

    def sides(high: int, low: int) -> tuple[Trajectory, Trajectory] | None:
        behind: dict[Hashable, list[tuple[float, int, int]]] = {}
        for one in _worst_first(tree, low, worth):
            behind.setdefault(past[one[-1]], []).append(one)
        worst = {same: foremost(several) for same, several in behind.items()}
        better = [
            one
            for one in _best_first(tree, high, worth)
            if (other := worst.get(past[one[-1]])) is not None and -one[0] - other[0] > SCORE_TOLERANCE
        ]
        if not better:
            return None
        best = foremost(better)[-1]
        return tree.trajectories[best], tree.trajectories[worst[past[best]][-1]]

    return sides


def _best_first(tree: TrajectoryTree, child: int, worth: Worth) -> Iterator[tuple[float, int, int]]:
    """The trajectories through a child as (-worth, length, index), of which the best is `foremost`.

    Ties go to the shorter, then to the earlier one.
    """
    depth = int(tree.depth[child])
    return ((-worth(tree, i, depth), len(tree.trajectories[i].steps), i) for i in tree.through(child))


def _worst_first(tree: TrajectoryTree, child: int, worth: Worth) -> Iterator[tuple[float, int, int]]:
    """Those that count at a child as (worth, length, index), of which the worst is `foremost`.

    A branched trajectory that does not count there may have been started from a bad place on purpose, which says
    nothing about the child.
    """
    depth = int(tree.depth[child])
    return ((worth(tree, i, depth), len(tree.trajectories[i].steps), i) for i in tree.counting(child))


def _pair(
    tree: TrajectoryTree, high: int, low: int, better: Trajectory, worse: Trajectory, value: NDArray[np.float64]
) -> Pair:
    """The pair of children `high` over `low`, continued by `better` and `worse`."""
    node = int(tree.parent[high])
    return Pair(
        task=tree.task,
        node=node,
        depth=int(tree.depth[node]),
        chosen_sample=better.sample,
        rejected_sample=worse.sample,
        chosen_value=float(value[high]),
        rejected_value=float(value[low]),
        chosen_visits=int(tree.visits[high]),
        rejected_visits=int(tree.visits[low]),
        past=LOOSEST,
    )


def _widest(pair: Pair) -> tuple[float, int, int, int]:
    """Sorts the widest pair first, then by where the pair is in the tree."""
    return -pair.gap, pair.depth, pair.node, pair.rejected_sample


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PairSettings:
    """Which pairs are taken from a tree.

    Attributes:
        mode: what is compared with what; a name in MODES.
        aggregate: the value of an option at a fork; a name in AGGREGATES.
        gamma: discount per step, where the aggregate discounts.
        min_gap: smallest difference between the values of the two sides.
        per_fork: largest number of pairs per fork, for modes that pair at forks.
        per_tree: largest number of pairs per tree.
        past: how similar the pasts of the two sides must be; a name in PASTS.
    """

    mode: Annotated[str, AfterValidator(one_of(MODES))] = "every"
    aggregate: Annotated[str, AfterValidator(one_of(AGGREGATES))] = "mean"
    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    min_gap: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    per_fork: Annotated[int, Field(ge=1)] = 1
    per_tree: Annotated[int, Field(ge=1)] = 8
    past: Annotated[str, AfterValidator(one_of(PASTS))] = LOOSEST


def pairs_of(tree: TrajectoryTree, settings: PairSettings) -> list[Pair]:
    """The pairs of a tree that the settings select.

    Raises:
        ValueError: there is no such mode or aggregate.
        DataError: the tree has runs without a score.
    """
    return MODES[one_of(MODES)(settings.mode)].pairs(tree, settings)


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to form pairs from a tree.

    Attributes:
        pairs: the pairs of a tree.
        at_forks: whether the two sides share a past; otherwise they are whole trajectories, which may begin alike.
        about: a short description.
    """

    pairs: Callable[[TrajectoryTree, PairSettings], list[Pair]]
    at_forks: bool
    about: str


@dataclass(frozen=True, slots=True)
class Valuation:
    """A way to value the options at a fork.

    Attributes:
        aggregate: makes the aggregate from the settings.
        worth: makes the worth of a single trajectory from them, by which the sides of a pair are chosen.
        discounts: whether it uses `PairSettings.gamma`.
        about: a short description.
    """

    aggregate: Callable[[PairSettings], Aggregate]
    worth: Callable[[PairSettings], Worth]
    discounts: bool
    about: str


def _at_forks(select: Select, about: str) -> Mode:
    def find(tree: TrajectoryTree, settings: PairSettings) -> list[Pair]:
        valuation = AGGREGATES[one_of(AGGREGATES)(settings.aggregate)]
        return pairs(
            tree,
            select=select,
            aggregate=valuation.aggregate(settings),
            worth=valuation.worth(settings),
            min_gap=settings.min_gap,
            per_fork=settings.per_fork,
            per_tree=settings.per_tree,
            past=settings.past,
        )

    return Mode(find, True, about)


MODES = {
    "every": _at_forks(every, "every two options of a fork"),
    "extremes": _at_forks(extremes, "the best option against the worst"),
    "adjacent": _at_forks(adjacent, "each option against the next one below it"),
    "whole": Mode(
        lambda tree, settings: whole(tree, min_gap=settings.min_gap, per_tree=settings.per_tree, past=settings.past),
        False,
        "whole runs as in ETO, starting with the best against the worst",
    ),
    "unstructured": Mode(
        lambda tree, settings: unstructured(
            tree, min_gap=settings.min_gap, per_tree=settings.per_tree, past=settings.past
        ),
        False,
        "whole runs drawn at random",
    ),
    "matched": Mode(matched, False, "whole runs drawn at random, as many per task as there are pairs at its forks"),
}
"""What is compared with what, by name."""

AGGREGATES = {
    "mean": Valuation(lambda settings: mean, lambda settings: score, False, "mean score of the runs through it"),
    "best": Valuation(lambda settings: best, lambda settings: score, False, "best score of the runs through it"),
    "discounted": Valuation(
        lambda settings: discounted(settings.gamma),
        lambda settings: discounted_score(settings.gamma),
        True,
        "mean score, discounted by the remaining steps",
    ),
}
"""The value of an option at a fork, by name."""


__all__ = [
    "AGGREGATES",
    "MODES",
    "Mode",
    "Option",
    "PairSettings",
    "Select",
    "Valuation",
    "adjacent",
    "every",
    "extremes",
    "options_of",
    "over_explored",
    "pairs",
    "pairs_of",
]
