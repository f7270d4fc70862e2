"""Preference pairs at the forks of a tree: what a pair (`Pair`) holds, and which pairs are taken.

At a fork the agent saw the same thing and acted differently. The child with the higher value gives the chosen
continuation, the child with the lower value the rejected one. Both sides of a pair begin with exactly the same tokens,
because the rejected continuation is appended to the chosen side's prefix: its own past, or one that merging treats as
the same (see `PASTS`). `unstructured` and `whole` make pairs without forks, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import combinations, islice, pairwise, starmap, zip_longest
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, with_config

from trajtree.errors import one_of
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.sameness import EQUAL_TEXTS, Merging
from trajtree.trees.tree import TrajectoryTree

Aggregate = Callable[[TrajectoryTree], NDArray[np.float64]]
"""Value [N] of each node of a tree, from the scores of the trajectories through it."""

Worth = Callable[[TrajectoryTree, int, int], float]
"""What a trajectory is worth after a depth: takes the tree, the index of the trajectory, and the depth."""

Select = Callable[[Sequence[int]], list[tuple[int, int]]]
"""Which options of a fork are compared: takes its options by descending value, returns (better, worse) pairs."""


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


def extremes(options: Sequence[int]) -> list[tuple[int, int]]:
    """The best option against the worst."""
    return [(options[0], options[-1])]


def every(options: Sequence[int]) -> list[tuple[int, int]]:
    """All pairs of options."""
    return list(combinations(options, 2))


def adjacent(options: Sequence[int]) -> list[tuple[int, int]]:
    """Each option against the next one below it."""
    return list(pairwise(options))


class Past(NamedTuple):
    """How similar the pasts of a pair's sides are."""

    about: str


PASTS = {
    "equal": Past("both sides had exactly the same past"),
    "similar": Past("the pasts may differ in what merging overlooks, such as thoughts"),
    "ignored": Past("the pasts may also differ in what build was told to leave aside, by --ignore or --action"),
}
"""How similar the pasts of the two sides are, strictest first.

Where they are not equal, the rejected continuation follows a past that its own run did not have.
"""
EQUAL, SIMILAR, LOOSEST = PASTS


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of one prefix, and where they come from.

    Attributes:
        task: the task of the tree.
        node: the fork; the root for pairs of whole trajectories.
        depth: number of steps of the shared prefix, the path of `node`.
        chosen_sample, rejected_sample: `Trajectory.sample` of the runs whose steps after the prefix are the
            continuations. They are not indices into `tree.trajectories`; `sides` gives the runs.
        chosen_value, rejected_value: values of the two children.
        chosen_visits, rejected_visits: number of trajectories that count at them.
        past: how similar the two runs' pasts are, a name in PASTS.
    """

    task: str
    node: int
    depth: int
    chosen_sample: int
    rejected_sample: int
    chosen_value: float
    rejected_value: float
    chosen_visits: int
    rejected_visits: int
    past: str

    @property
    def gap(self) -> float:
        """How much better the chosen side is."""
        return self.chosen_value - self.rejected_value

    def sides(self, tree: TrajectoryTree) -> tuple[Trajectory, Trajectory]:
        """The trajectories of the chosen and the rejected side.

        Raises:
            ValueError: the tree is of another task.
            KeyError: the tree does not hold them.
        """
        if tree.task != self.task:
            raise ValueError(f"a pair of task {self.task!r} has no sides in the tree of task {tree.task!r}")
        return tree.trajectory(self.chosen_sample), tree.trajectory(self.rejected_sample)


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
    # value [N]. by_fork: for each fork with a wide enough pair, its widest pairs, widest first.
    value, gap = aggregate(tree), _least(min_gap)
    by_fork = []
    for _, children in tree.decisions():
        # Skip forks that teach nothing before sorting anything.
        if np.ptp(value[children]) < gap:
            continue
        options = sorted(children.tolist(), key=lambda child: (-value[child], child))
        if _loosest(tree, past):
            sides = _sides(tree, options, worth)
        else:
            sides = _alike_sides(tree, options, worth, _SHARED[past])
        wide = ((high, low) for high, low in select(options) if value[high] - value[low] >= gap)
        both = ((high, low, sides(high, low)) for high, low in wide)
        here = (_pair(tree, high, low, *found, value) for high, low, found in both if found is not None)
        by_fork.append(nsmallest(per_fork, here, key=_widest))
    # Round r holds the pair number r of every fork, None where a fork has fewer.
    rounds = zip_longest(*by_fork)
    ordered = [pair for same in rounds for pair in sorted((p for p in same if p is not None), key=_widest)]
    # Only now, because comparing pasts is slow and most pairs are not taken.
    return [replace(pair, past=_past(pair.sides(tree), pair.depth, tree.merging)) for pair in ordered[:per_tree]]


def whole(tree: TrajectoryTree, *, min_gap: float = 0.1, per_tree: int = 8, past: str = LOOSEST) -> list[Pair]:
    """Pairs of whole trajectories as in ETO, better over worse, that share only the prompt.

    A baseline for pairs at forks. The best is paired with the worst, the second best with the second worst, and so on;
    then each with the next one in the other list, until there are `per_tree` pairs. Trajectories without a step are
    left out, because they have nothing to compare, and so are pairs that began with different prompts.
    """
    # In round r, number i of the best is paired with number i + r of the worst, wrapping around. All rounds together
    # pair any two trajectories in both orders; only the order with a gap is kept.
    prompt, gap = _prompts(tree), _least(min_gap)
    best_first = sorted(np.flatnonzero(prompt >= 0).tolist(), key=lambda i: (-tree.scores[i], i))
    worst_first = best_first[::-1]
    rounds = (zip(best_first, worst_first[r:] + worst_first[:r], strict=True) for r in range(len(best_first)))
    wide = (
        _whole(tree.trajectories[both[0]], tree.trajectories[both[1]], tree.merging)
        for one in rounds
        for both in one
        if prompt[both[0]] == prompt[both[1]] and tree.scores[both[0]] - tree.scores[both[1]] >= gap
    )
    return list(islice((pair for pair in wide if _alike(pair, past)), per_tree))


def unstructured(
    tree: TrajectoryTree, *, min_gap: float = 0.1, per_tree: int = 8, past: str = LOOSEST, seed: int = 0
) -> list[Pair]:
    """Random pairs of whole trajectories, better over worse: the paper's baseline without a tree. See `whole`."""
    random = np.random.default_rng(seed)
    acting, wide, same = _comparisons(tree, min_gap)
    both = acting[np.argwhere(wide & same)]  # [pairs, 2] all (better, worse)
    order = random.permutation(len(both))
    drawn = ((tree.trajectories[high], tree.trajectories[low], tree.merging) for high, low in both[order].tolist())
    return list(islice((pair for pair in starmap(_whole, drawn) if _alike(pair, past)), per_tree))


def matched(tree: TrajectoryTree, settings: PairSettings) -> list[Pair]:
    """Random pairs of whole trajectories, as many as there are pairs at forks under the same settings."""
    at_forks = len(MODES["every"].pairs(tree, settings))
    return unstructured(tree, min_gap=settings.min_gap, per_tree=at_forks, past=settings.past)


def prompts_apart(tree: TrajectoryTree, *, min_gap: float = 0.1) -> int:
    """How many pairs of whole trajectories `whole` and `unstructured` leave out because their prompts differ."""
    _, wide, same = _comparisons(tree, min_gap)
    return int((wide & ~same).sum())


def over_each_worse(better: Trajectory, others: Iterable[Trajectory], *, min_gap: float, most: int) -> list[Pair]:
    """One trajectory over each other one of its task that scores at least `min_gap` less, worst first, at most `most`.

    Trajectories without a step, and those that began with another prompt, are left out.
    """
    gap = _least(min_gap)
    worse = sorted(
        (t for t in others if t.steps and better.score - t.score >= gap and t.prompt == better.prompt),
        key=lambda t: (t.score, t.sample),
    )
    return [_whole(better, other, EQUAL_TEXTS) for other in worse[:most]]


@dataclass(frozen=True, slots=True)
class Option:
    """What the agent did at a fork, on its own: the first step of a continuation.

    Attributes:
        task: the task of the tree.
        node: the fork.
        depth: number of steps before it.
        sample: `Trajectory.sample` of the best run through the option.
        advantage: value of the option less the mean of all runs that count at the fork's options, in [-1, 1].
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
        if np.ptp(value[children]) < _least(settings.min_gap):
            continue
        advantages = value[children] - np.average(value[children], weights=tree.visits[children])
        for child, advantage in zip(children.tolist(), advantages.tolist(), strict=True):
            if abs(advantage) > SCORE_TOLERANCE:
                best = tree.trajectories[min(_best_first(tree, child, worth))[-1]]
                node = int(tree.parent[child])
                found.append(Option(tree.task, node, int(tree.depth[node]), best.sample, advantage))
    return found


def over_explored(tree: TrajectoryTree, experts: Collection[int], settings: PairSettings) -> list[Pair]:
    """At the forks on an expert's path, the expert's continuation over those that only the explorer took.

    The value of the expert's side is the score that the expert reached, that of the other the mean of the runs through
    it. Widest first, then by where the pair is in the tree; at most `per_fork` of a fork and `per_tree` of the tree.

    Args:
        tree: the expert's trajectories and the explorer's, merged.
        experts: samples of the expert's trajectories; the first of those that share a step stands for them.
        settings: `min_gap`, `per_fork` and `per_tree` count.
    """
    shown = {index for index, t in enumerate(tree.trajectories) if t.sample in experts}
    value, gap = tree.mean, _least(settings.min_gap)
    found: list[Pair] = []
    for _, children in tree.decisions():
        through = {child: sorted(shown & set(tree.through(child))) for child in children.tolist()}
        taken = [(-tree.scores[indices[0]], child, indices[0]) for child, indices in through.items() if indices]
        if not taken:
            continue
        _, high, best = min(taken)
        expert, values = tree.trajectories[best], value.copy()
        values[high] = expert.score
        here = (
            _pair(tree, high, child, expert, tree.trajectories[min(_worst_first(tree, child, score))[-1]], values)
            for child, indices in through.items()
            if not indices and expert.score - value[child] >= gap
        )
        found += nsmallest(settings.per_fork, here, key=_widest)
    widest = sorted(found, key=_widest)[: settings.per_tree]
    return [replace(pair, past=_past(pair.sides(tree), pair.depth, tree.merging)) for pair in widest]


def _least(min_gap: float) -> float:
    """The smallest difference between two values that counts: `min_gap` less the tolerance, and never 0."""
    return max(min_gap, 2 * SCORE_TOLERANCE) - SCORE_TOLERANCE


Sides = Callable[[int, int], tuple[Trajectory, Trajectory] | None]
"""The trajectories that represent a better and a worse child; None if no two have pasts as similar as required."""


def _sides(tree: TrajectoryTree, children: Sequence[int], worth: Worth) -> Sides:
    """The best trajectory through the better child, the worst through the worse one."""
    best = {child: tree.trajectories[min(_best_first(tree, child, worth))[-1]] for child in children}
    worst = {child: tree.trajectories[min(_worst_first(tree, child, worth))[-1]] for child in children}
    return lambda high, low: (best[high], worst[low])


def _alike_sides(
    tree: TrajectoryTree, children: Sequence[int], worth: Worth, shared: Callable[[Trajectory, int], Hashable]
) -> Sides:
    """The best trajectory through the better child that shares its past with one through the other, and its worst."""
    depth = int(tree.depth[children[0]]) - 1
    past = {index: shared(tree.trajectories[index], depth) for child in children for index in tree.through(child)}

    def sides(high: int, low: int) -> tuple[Trajectory, Trajectory] | None:
        worst: dict[Hashable, tuple[float, int]] = {}
        for worse, _, index in sorted(_worst_first(tree, low, worth)):
            worst.setdefault(past[index], (worse, index))
        for better, _, index in sorted(_best_first(tree, high, worth)):
            other = worst.get(past[index])
            if other is not None and -better > other[0]:
                return tree.trajectories[index], tree.trajectories[other[1]]
        return None

    return sides


def _best_first(tree: TrajectoryTree, child: int, worth: Worth) -> Iterator[tuple[float, int, int]]:
    """The trajectories through a child as (-worth, length, index), which sorts the best first.

    Ties go to the shorter, then to the earlier one.
    """
    depth = int(tree.depth[child])
    return ((-worth(tree, i, depth), len(tree.trajectories[i].steps), i) for i in tree.through(child))


def _worst_first(tree: TrajectoryTree, child: int, worth: Worth) -> Iterator[tuple[float, int, int]]:
    """Those that count at a child as (worth, length, index), which sorts the worst first.

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


def _prompts(tree: TrajectoryTree) -> NDArray[np.int64]:
    """[T] number identifying the prompt with which each trajectory began; -1 for those without a step."""
    prompt = np.full(len(tree.trajectories), -1, np.int64)
    for node in np.flatnonzero(tree.depth == 1).tolist():
        prompt[tree.first[node] : tree.stop[node]] = tree.decision[node]
    return prompt


def _comparisons(tree: TrajectoryTree, min_gap: float) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """The A trajectories that took a step; [A, A] whether one beats the other; [A, A] whether their prompts agree."""
    prompt = _prompts(tree)
    acting = np.flatnonzero(prompt >= 0)
    scores, begun = tree.scores[acting], prompt[acting]
    return acting, scores[:, None] - scores >= _least(min_gap), begun[:, None] == begun


def _whole(better: Trajectory, worse: Trajectory, merging: Merging) -> Pair:
    """The pair of two whole trajectories."""
    return Pair(
        task=better.task,
        node=TrajectoryTree.ROOT,
        depth=0,
        chosen_sample=better.sample,
        rejected_sample=worse.sample,
        chosen_value=better.score,
        rejected_value=worse.score,
        chosen_visits=1,
        rejected_visits=1,
        past=_past((better, worse), 0, merging),
    )


def _past(sides: tuple[Trajectory, Trajectory], depth: int, merging: Merging) -> str:
    better, worse = sides
    if better.past(depth) == worse.past(depth):
        return EQUAL
    return LOOSEST if merging.ignores and _lived(better, depth) != _lived(worse, depth) else SIMILAR


def _lived(trajectory: Trajectory, depth: int) -> Hashable:
    """What was given, seen and done before step number `depth`, without thoughts."""
    seen = trajectory.steps[depth].observation.strip() if depth < len(trajectory.steps) else None
    done = tuple((step.observation.strip(), step.action.strip()) for step in trajectory.steps[:depth])
    return trajectory.context, done, seen


_SHARED: dict[str, Callable[[Trajectory, int], Hashable]] = {EQUAL: Trajectory.past, SIMILAR: _lived}
"""What two trajectories share before a step, by how similar their pasts are."""


def _loosest(tree: TrajectoryTree, past: str) -> bool:
    """Whether all pasts that the tree treats as the same are as similar as that."""
    return past == LOOSEST or (past == SIMILAR and not tree.merging.ignores)


def _alike(pair: Pair, past: str) -> bool:
    order = list(PASTS)
    return order.index(pair.past) <= order.index(past)


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
    "EQUAL",
    "LOOSEST",
    "MODES",
    "PASTS",
    "SIMILAR",
    "Aggregate",
    "Mode",
    "Option",
    "Pair",
    "PairSettings",
    "Past",
    "Select",
    "Valuation",
    "adjacent",
    "best",
    "discounted",
    "every",
    "extremes",
    "mean",
    "options_of",
    "over_each_worse",
    "over_explored",
    "pairs",
    "pairs_of",
    "prompts_apart",
    "unstructured",
    "whole",
]
