"""Finding a path in a tree: exactly, with the paper's MCTS, or by taking the best sample.

Every path of a tree from the root to an end is a trajectory that was sampled, so no search beats the best trajectory.
The exact search finds it in one pass. MCTS approximates it. It is the paper's, except that it may stop where a
trajectory stopped although others went on. Otherwise a task's best trajectory would be lost whenever another one
continues it. `trajtree.trees.stitching` makes paths that no search can find.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, with_config

from trajtree.errors import one_of
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.tree import TrajectoryTree, range_max
from trajtree.trees.values import foremost

_WIDE = 30
"""Number of options from which numpy is faster than a loop (measured: 2.66 and 2.51 us at 28, 2.65 and 2.74 at 32)."""


@dataclass(frozen=True)
class SearchResult:
    """The path that a search found, and the search's statistics of each node.

    Attributes:
        task: the task of the tree.
        end: node at which the path ends.
        trajectory: a trajectory with this path; of several, the one with the best score, then the earliest.
        value: the score that the search expects of the path, in [0, 1].
        visits: [N] how often the search visited each node, unrelated to the tree's own visits; all 0 except for MCTS.
        compute_values: computes `values` at first access.
    """

    task: str
    end: int
    trajectory: Trajectory
    value: float
    visits: NDArray[np.int64]
    compute_values: Callable[[], NDArray[np.float64]] = field(repr=False, compare=False)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """[N] value of each node.

        The best value of ending at it or below it (exact), the best score of any sample through it (best of n), or the
        mean score of the search's visits, NaN where there are none (MCTS).
        """
        return self.compute_values()


Search = Callable[[TrajectoryTree], SearchResult]


def exact(tree: TrajectoryTree) -> SearchResult:
    """Backward induction in one pass.

    The value of ending at a node is the mean score of the trajectories that end there; the value of a node is the
    best of ending there and of its children's values. Ties go to the shorter path, then to the earlier node.
    """
    # ends [N]: value of ending at each node. Only the end of a path has a value, so the path to the best end is the
    # best path. argmin takes the first of the shortest.
    ends = _end_values(tree)
    highest = np.flatnonzero(ends >= ends.max() - SCORE_TOLERANCE)
    end = int(highest[np.argmin(tree.depth[highest])])

    def values() -> NDArray[np.float64]:
        # A node and its descendants have consecutive numbers, so induction is the maximum over a range.
        return range_max(ends, np.arange(len(tree), dtype=np.int32), tree.subtree_end)

    return _result(tree, end, float(ends[end]), values, np.zeros(len(tree), np.int64))


def best_of_n(tree: TrajectoryTree, *, n: int | None = None) -> SearchResult:
    """The best of the first `n` samples, by default of all: what you get without a tree. Ties as in `exact`."""
    taken = sorted(range(len(tree.trajectories)), key=lambda i: tree.trajectories[i].sample)[:n]
    ranked = ((-tree.scores[i], tree.depth[tree.end[i]], tree.trajectories[i].sample, i) for i in taken)
    index = foremost(ranked)[-1]
    return SearchResult(
        task=tree.task,
        end=int(tree.end[index]),
        trajectory=tree.trajectories[index],
        value=float(tree.scores[index]),
        visits=np.zeros(len(tree), np.int64),
        compute_values=lambda: tree.best,
    )


def mcts(
    tree: TrajectoryTree, *, iterations: int = 1000, gamma: float = math.sqrt(2), seed: int = 0, may_stop: bool = True
) -> SearchResult:
    """The paper's MCTS on the static tree.

    Each iteration walks down from the root by UCB = r/c + gamma sqrt(log C / c), where r and c are the summed scores
    and the visits of an option, and C the visits of the node. Options without visits come first, in an order drawn once
    per node. The walk ends at a leaf, or by choosing to stop at a node where some trajectory stopped. Its score, the
    mean of the trajectories that end there, is then added to every option on the way. The path returned is the greedy
    one by r/c.

    Args:
        tree: the tree.
        iterations: walks from the root, at least 1. 1,000 comes from the paper's code.
        gamma: weight of exploration, in units of score. sqrt(2) makes it UCB1.
        seed: for the order in which options without visits are tried.
        may_stop: whether a walk may stop at an inner node where a trajectory stopped. As published, it may not: a
            trajectory that others continue is never found, and does not count.

    Raises:
        ValueError: there is no iteration.
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}: MCTS needs at least 1 walk from the root")
    size = len(tree)
    # Numbers below `size` are nodes to walk on from; size + n is the decision to stop at node n, the end of a walk.
    ends = _end_values(tree)
    leaves = np.bincount(tree.parent[1:], minlength=size) == 0
    options = _Options(tree, np.isfinite(ends) & (leaves | may_stop), np.random.default_rng(seed))
    for _ in range(iterations):
        node, walk = TrajectoryTree.ROOT, []
        while node < size:
            choice = options[node]
            taken = choice.select(gamma)
            walk.append((choice, taken))
            node = choice.leads_to[taken]
        score = float(ends[node - size])
        for choice, taken in walk:
            choice.add(taken, score)

    reward, visits = options.totals()  # [2N]
    here = TrajectoryTree.ROOT
    while here < size:
        # Every node on this path was visited, or its option would not have been tried. So its choice exists.
        choice = options[here]
        tried = [o for o in range(len(choice.leads_to)) if choice.visits[o]]
        here = choice.leads_to[max(tried, key=lambda o: choice.reward[o] / choice.visits[o])]

    def values() -> NDArray[np.float64]:
        return np.where(visits > 0, reward / np.maximum(visits, 1), np.nan)[:size]

    return _result(tree, here - size, float(reward[here] / visits[here]), values, visits[:size])


class _Choice:
    """Statistics of the options at one node: its children and, if a trajectory stopped there, stopping.

    Attributes:
        options: [options] the children, then size + n for stopping at node n.
        leads_to: [options] the node of the next choice, or size + n if the walk then ends at node n. Nodes with a
            single option are skipped, because there is nothing to choose.
        reward, visits, mean: [options] summed scores, number and mean score of the walks through each option; arrays
            if `wide`, else lists, which are faster for few options.
        count: number of walks through the node, the sum of `visits`.
        fresh: options without visits; the last one is tried next.
    """

    def __init__(self, options: list[int], leads_to: list[int], order: list[int]) -> None:
        self.options, self.leads_to = options, leads_to
        self.reward: NDArray[np.float64] | list[float]
        self.visits: NDArray[np.int64] | list[int]
        self.wide = len(options) >= _WIDE
        self.reward = np.zeros(len(options)) if self.wide else [0.0] * len(options)
        self.visits = np.zeros(len(options), np.int64) if self.wide else [0] * len(options)
        self.mean: NDArray[np.float64] | list[float] = np.zeros(len(options)) if self.wide else [0.0] * len(options)
        self.count = 0
        self.fresh = order[::-1]

    def select(self, gamma: float) -> int:
        """The option to take: the next one without visits, or else the first with the highest UCB."""
        if self.fresh:
            return self.fresh[-1]
        # Every option has visits now, so nothing is divided by 0.
        log = math.log(self.count)
        if self.wide:
            return int((self.mean + gamma * np.sqrt(np.divide(log, self.visits))).argmax())
        best, highest = 0, -math.inf
        for option, (mean, count) in enumerate(zip(self.mean, self.visits, strict=True)):
            ucb = mean + gamma * math.sqrt(log / count)
            if ucb > highest:
                best, highest = option, ucb
        return best

    def add(self, option: int, score: float) -> None:
        """Count a walk through `option`, the one selected last, that scored `score`."""
        if self.fresh:
            self.fresh.pop()  # it is `option`
        self.reward[option] += score
        self.visits[option] += 1
        self.mean[option] = self.reward[option] / self.visits[option]
        self.count += 1


class _Options(dict[int, _Choice]):
    """The choice at each node that the search reaches, created when it first gets there.

    The root always has one, other nodes only if they have several options. Stopping at node n is the option size + n:
    a leaf of its own, with its own statistics.
    """

    def __init__(self, tree: TrajectoryTree, ends_here: NDArray[np.bool_], random: np.random.Generator) -> None:
        super().__init__()
        self._tree, self._random = tree, random
        size = len(tree)
        # children [N]: number of children. passes [N]: whether a walk that comes to the node has nothing to choose.
        children = np.bincount(tree.parent[1:], minlength=size)
        passes = (children == 1) & ~ends_here
        # after [N]: the first node from each on, itself included, at which the walk does not just pass. An only child
        # has the number after its parent's, so the walk goes through consecutive numbers, and the node is the lowest
        # such number from here on: a running minimum from the right.
        numbers = np.where(passes, size, np.arange(size))
        after = np.minimum.accumulate(numbers[::-1])[::-1]
        # _stops [N]: whether some trajectory ends at the node. _after [N]: where a walk from the node gets without a
        # choice; at a leaf, that is stopping there.
        self._stops: list[bool] = ends_here.tolist()
        self._after: list[int] = np.where(children[after] == 0, size + after, after).tolist()

    def __missing__(self, node: int) -> _Choice:
        stop = len(self._tree) + node
        options = self._tree.children_of(node)
        leads_to = [self._after[child] for child in options]
        if self._stops[node]:
            options.append(stop)
            leads_to.append(stop)
        order = self._random.permutation(len(options)).tolist() if len(options) > 1 else [0]
        self[node] = choice = _Choice(options, leads_to, order)
        return choice

    def totals(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """([2N] summed scores, [2N] visits) of each node, followed by those of stopping at each node."""
        size = len(self._tree)
        reward, visits = np.zeros(2 * size), np.zeros(2 * size, np.int64)
        root = self[TrajectoryTree.ROOT]
        reward[TrajectoryTree.ROOT], visits[TrajectoryTree.ROOT] = sum(root.reward), root.count
        for choice in self.values():
            for option, top in enumerate(choice.options):
                # Walks through an option pass its child `top`, all nodes that were skipped after it, and where it leads
                # to: the next choice, or to stop at a leaf. `end % size` is the last of these nodes, and the nodes are
                # consecutive numbers. An option to stop (top >= size) passes no further node.
                end = choice.leads_to[option]
                for passed in (slice(top, end % size + 1), end) if top < size else (end,):
                    reward[passed], visits[passed] = choice.reward[option], choice.visits[option]
        return reward, visits


def _end_values(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] mean score of the trajectories that end at each node, -inf where there are none."""
    count = np.bincount(tree.end, minlength=len(tree))
    total = np.bincount(tree.end, weights=tree.scores, minlength=len(tree))
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)


def _result(
    tree: TrajectoryTree,
    end: int,
    value: float,
    values: Callable[[], NDArray[np.float64]],
    visits: NDArray[np.int64],
) -> SearchResult:
    """The result of a search that ends at node `end`, with the best sample that ends there."""
    ending = np.flatnonzero(tree.end == end).tolist()
    index = foremost((-tree.scores[i], tree.trajectories[i].sample, i) for i in ending)[-1]
    found = tree.trajectories[index]
    return SearchResult(task=tree.task, end=end, trajectory=found, value=value, visits=visits, compute_values=values)


def best_path(tree: TrajectoryTree, find: Search, *, whole: bool = False) -> Trajectory:
    """The trajectory that a search finds, up to its last gain unless it is wanted `whole`, and without its origin.

    It is used without the other trajectories, so it must not refer to the one that it branched off.
    """
    found = find(tree).trajectory
    found = found if whole else found.without_idle_end()
    return found if found.origin is None else replace(found, origin=None)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PathSettings:
    """How a tree's path is found, and when it is good enough to imitate.

    Attributes:
        search: a name in SEARCHES.
        iterations, gamma, seed: arguments of `mcts` and `mcts-published`.
        n: samples that `best-of-n` considers; None for all.
        min_score: lowest score of a path that is kept; the search itself does not use it.
        whole: whether a path keeps the steps after its last gain.
    """

    search: Annotated[str, AfterValidator(one_of(SEARCHES))] = "exact"
    iterations: Annotated[int, Field(ge=1)] = 1000
    gamma: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = math.sqrt(2)
    seed: Annotated[int, Field(ge=0)] = 0
    n: Annotated[int, Field(ge=1)] | None = None
    min_score: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    whole: bool = False


def search_of(settings: PathSettings) -> Search:
    """The search that the settings select.

    Raises:
        ValueError: there is no such search.
    """
    return SEARCHES[one_of(SEARCHES)(settings.search)].search(settings)


@dataclass(frozen=True, slots=True)
class NamedSearch:
    """A search that settings can select.

    Attributes:
        search: makes the search from the settings.
        about: a short description.
    """

    search: Callable[[PathSettings], Search]
    about: str


def _mcts(settings: PathSettings, *, may_stop: bool) -> Search:
    return partial(mcts, iterations=settings.iterations, gamma=settings.gamma, seed=settings.seed, may_stop=may_stop)


SEARCHES = {
    "exact": NamedSearch(lambda settings: exact, "the best end, in one pass"),
    "mcts": NamedSearch(lambda settings: _mcts(settings, may_stop=True), "the paper's tree search"),
    "mcts-published": NamedSearch(
        lambda settings: _mcts(settings, may_stop=False), "the same as published: it cannot stop where other runs go on"
    ),
    "best-of-n": NamedSearch(lambda settings: partial(best_of_n, n=settings.n), "the best sample, without a tree"),
}
"""Searches by name."""


__all__ = [
    "SEARCHES",
    "NamedSearch",
    "PathSettings",
    "Search",
    "SearchResult",
    "best_of_n",
    "best_path",
    "exact",
    "mcts",
    "search_of",
]
