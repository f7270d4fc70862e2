"""Finding a path in a tree: exactly, by the paper's MCTS, or by taking the best sample.

Every root-to-end path of a tree is a trajectory that was sampled, so no search beats its best trajectory. The exact
search finds it in one pass; MCTS approaches it and is here as the paper has it, except that it may stop where a
trajectory stopped although others went on (otherwise the best trajectory of a task is lost whenever it is a
prefix of another). `trajtree.trees.stitching` makes what no search can find.
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

_WIDE = 30
"""Options from which on numpy is quicker than a loop (measured in us: 2.66 to 2.51 at 28, 2.65 to 2.74 at 32)."""


@dataclass(frozen=True)
class SearchResult:
    """A path and what the search knew.

    Attributes:
        task: the task of the tree.
        end: node at which the path ends.
        sample: the trajectory that is this path (where several are, the one that scored best, the earliest of them).
        value: what the search expects of it, in [0, 1].
        visits: [N] search visits, not data counts; 0 everywhere but in MCTS.
        compute_values: makes `values`.
    """

    task: str
    end: int
    sample: int
    value: float
    visits: NDArray[np.int64]
    compute_values: Callable[[], NDArray[np.float64]] = field(repr=False, compare=False)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """[N] value of each node.

        Of the best end below it (exact), the best sample through it (best of n), or its mean reward over the
        search's visits, nan where it never went (MCTS).
        """
        return self.compute_values()


Search = Callable[[TrajectoryTree], SearchResult]


def exact(tree: TrajectoryTree) -> SearchResult:
    """Backward induction in one pass.

    The value of ending at a node is the mean score of the trajectories that end there; the value of a node is the
    best of ending there and of its children. Ties go to the shorter path, then to the earlier node.
    """
    ends = _end_values(tree)
    highest = np.flatnonzero(ends >= ends.max() - SCORE_TOLERANCE)
    end = int(highest[np.argmin(tree.depth[highest])])

    def values() -> NDArray[np.float64]:
        return range_max(ends, np.arange(len(tree), dtype=np.int32), tree.subtree_end)

    return _result(tree, end, float(ends[end]), values, np.zeros(len(tree), np.int64))


def best_of_n(tree: TrajectoryTree, *, n: int | None = None) -> SearchResult:
    """The best of the first `n` samples, all by default; what is won without a tree. Ties as in `exact`."""
    taken = sorted(range(len(tree.trajectories)), key=lambda i: tree.trajectories[i].sample)[:n]
    index = min(taken, key=lambda i: (-tree.scores[i], tree.depth[tree.end[i]], tree.trajectories[i].sample))
    return SearchResult(
        task=tree.task,
        end=int(tree.end[index]),
        sample=tree.trajectories[index].sample,
        value=float(tree.scores[index]),
        visits=np.zeros(len(tree), np.int64),
        compute_values=lambda: tree.best,
    )


def mcts(tree: TrajectoryTree, *, iterations: int = 1000, gamma: float = math.sqrt(2), seed: int = 0) -> SearchResult:
    """The paper's MCTS on the static tree.

    Each iteration walks down by UCB = r/c + gamma sqrt(log C / c), r and c being a child's summed reward and visits
    and C its parent's visits, unvisited options first, in an order drawn once a node; it ends where there is nowhere
    to go, or by choosing to stop at a node where some trajectory stopped; the mean score of the trajectories that
    end there is added along the way. The path returned walks greedily by r/c.

    Args:
        tree: the tree.
        iterations: walks from the root.
        gamma: weight of exploration, in units of score.
        seed: order of the unvisited options.
    """
    size = len(tree)
    ends = _end_values(tree)
    options = _Options(tree, np.isfinite(ends), np.random.default_rng(seed))
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

    reward, visits = options.totals()
    here = TrajectoryTree.ROOT
    while here < size:
        choice = options[here]
        tried = [o for o in range(len(choice.leads_to)) if choice.visits[o]]
        here = choice.leads_to[max(tried, key=lambda o: choice.reward[o] / choice.visits[o])]

    def values() -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.where(visits > 0, reward / np.maximum(visits, 1), np.nan)[:size]

    return _result(tree, here - size, float(reward[here] / visits[here]), values, visits[:size])


class _Choice:
    """Statistics of the options at one node.

    Attributes:
        options: [options] children, and size + n for stopping at n.
        leads_to: [options] the next choice, or size + n: where only one way goes on there is nothing to choose.
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
        """The option to try next."""
        if self.fresh:
            return self.fresh[-1]
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
        """Count a walk through `option` that scored `score`."""
        if self.fresh:
            self.fresh.pop()
        self.reward[option] += score
        self.visits[option] += 1
        self.mean[option] = self.reward[option] / self.visits[option]
        self.count += 1


class _Options(dict[int, _Choice]):
    """The choice at each node that the search comes to, made when it first does.

    Option size + n is to stop at node n: a leaf of its own, with its own statistics.
    """

    def __init__(self, tree: TrajectoryTree, ends_here: NDArray[np.bool_], random: np.random.Generator) -> None:
        super().__init__()
        self._tree, self._random = tree, random
        size = len(tree)
        children = np.bincount(tree.parent[1:], minlength=size)
        # An only child is the next number, so a way without choices is a run of numbers up to the next that is none.
        passes = (children == 1) & ~ends_here
        numbers = np.where(passes, size, np.arange(size))
        after = np.minimum.accumulate(numbers[::-1])[::-1]
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
        """([2N] summed reward, [2N] visits) of each node, and of stopping at it."""
        size = len(self._tree)
        reward, visits = np.zeros(2 * size), np.zeros(2 * size, np.int64)
        root = self[TrajectoryTree.ROOT]
        reward[TrajectoryTree.ROOT], visits[TrajectoryTree.ROOT] = sum(root.reward), root.count
        for choice in self.values():
            for option, top in enumerate(choice.options):
                end = choice.leads_to[option]
                for nodes in (slice(top, end % size + 1), end) if top < size else (end,):
                    reward[nodes], visits[nodes] = choice.reward[option], choice.visits[option]
        return reward, visits


def _end_values(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] mean score of the trajectories that end at each node, -inf where none does."""
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
    ending = (tree.trajectories[index] for index in np.flatnonzero(tree.end == end).tolist())
    sample = min(ending, key=lambda t: (-t.score, t.sample)).sample
    return SearchResult(task=tree.task, end=end, sample=sample, value=value, visits=visits, compute_values=values)


def best_path(tree: TrajectoryTree, find: Search) -> Trajectory:
    """The trajectory that a search finds, up to its last gain; it stands by itself, whatever it branched off."""
    sample = find(tree).sample
    found = next(t for t in tree.trajectories if t.sample == sample).without_idle_end()
    return found if found.origin is None else replace(found, origin=None)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PathSettings:
    """How a tree's path is found, and when it is good enough to be imitated.

    Attributes:
        search: a name in SEARCHES.
        iterations, gamma, seed: of `mcts`.
        n: samples that `best-of-n` takes; None: all of them.
        min_score: least score of a path that is kept; the search does not look at it.
    """

    search: Annotated[str, AfterValidator(one_of(SEARCHES))] = "exact"
    iterations: Annotated[int, Field(ge=1)] = 1000
    gamma: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = math.sqrt(2)
    seed: Annotated[int, Field(ge=0)] = 0
    n: Annotated[int, Field(ge=1)] | None = None
    min_score: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5


def search_of(settings: PathSettings) -> Search:
    """The search that the settings ask for.

    Raises:
        ValueError: there is no such search.
    """
    return SEARCHES[one_of(SEARCHES)(settings.search)].search(settings)


@dataclass(frozen=True, slots=True)
class NamedSearch:
    """A search that settings can ask for.

    Attributes:
        search: what the settings make of it.
        about: a few words for people.
    """

    search: Callable[[PathSettings], Search]
    about: str


SEARCHES = {
    "exact": NamedSearch(lambda settings: exact, "the best end, in one pass"),
    "mcts": NamedSearch(
        lambda settings: partial(mcts, iterations=settings.iterations, gamma=settings.gamma, seed=settings.seed),
        "the paper's tree search",
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
