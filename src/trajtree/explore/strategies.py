"""Which episodes an exploration plays: how many, where each begins, and where new ones branch off.

A strategy works in passes. It yields the episodes of a pass and is sent their trajectories, so the next pass depends
only on finished passes: a killed exploration that is started again ends with the same trajectories.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import overload

from pydantic import ConfigDict, with_config

from trajtree.errors import RunError, counted
from trajtree.explore.branching import TreeOf, branch_points
from trajtree.explore.episode import EpisodeSpec, Start, sampled_tokens
from trajtree.trajectory import Sampling, Trajectory

Passes = Generator[Sequence[EpisodeSpec], Iterable[Trajectory], None]
"""Yields the episodes of one pass after another, and is sent their trajectories, in any order."""

MOST_BRANCHES = 1000
"""Largest number of episodes from one point in one pass; a branching pass is planned as a whole."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Slot(Sampling):
    """A slot of a grid: how replies are sampled and, where it names a policy, by whom.

    Attributes:
        by: the row whose model plays the slot's episodes; None for the one that explores.
    """

    by: str | None = None

    @property
    def sampling(self) -> Sampling:
        """The decoding settings alone."""
        return Sampling(self.temperature, self.top_p)


@dataclass(frozen=True, slots=True)
class ExploreSettings:
    """How much is explored.

    Attributes:
        rollouts: episodes per task from its beginning; an upper limit for independent rollouts with a budget.
        grid: sampling settings, used in turn by the episodes of a task; a Slot may name the policy too.
        budget: total number of agent tokens to sample; the last pass may exceed it by less than its own length. None
            leaves it to the strategy.
        branches: episodes that start from one branching point in one pass.
    """

    rollouts: int
    grid: Sequence[Sampling]
    budget: int | None = None
    branches: int = 4

    def episode(self, task: str, sample: int) -> EpisodeSpec:
        """Sample number `sample` of a task, from its beginning, as its slot of the grid says."""
        return _in_turn(task, sample, self.grid)


def _in_turn(task: str, sample: int, grid: Sequence[Sampling]) -> EpisodeSpec:
    """An episode from the task's beginning; the samples of a task take turns through the grid."""
    slot = grid[sample % len(grid)]
    if isinstance(slot, Slot):
        return EpisodeSpec(task, sample, slot.sampling, by=slot.by)
    return EpisodeSpec(task, sample, slot)


@dataclass(frozen=True, slots=True)
class Independent(Sequence[EpisodeSpec]):
    """`rollouts` episodes per task, each from the beginning, cycling through the sampling grid.

    They are made on demand, so that any number of them takes no memory.
    """

    tasks: tuple[str, ...]
    rollouts: int
    grid: tuple[Sampling, ...]

    def __post_init__(self) -> None:
        """Raise RunError if there are more than Python can count."""
        if (number := len(self.tasks) * self.rollouts) > sys.maxsize:
            raise RunError(f"{counted(number, 'episode')} are more than can be counted; lower the number of rollouts")

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.tasks) * self.rollouts

    @overload
    def __getitem__(self, index: int) -> EpisodeSpec: ...

    @overload
    def __getitem__(self, index: slice) -> list[EpisodeSpec]: ...

    def __getitem__(self, index: int | slice) -> EpisodeSpec | list[EpisodeSpec]:
        """Return the episodes at these positions, all samples of a task one after the other."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        task, sample = divmod(range(len(self))[index], self.rollouts)
        return _in_turn(self.tasks[task], sample, self.grid)


def independent(tasks: Sequence[str], rollouts: int, grid: Sequence[Sampling]) -> Independent:
    """`rollouts` episodes per task, each from the beginning, cycling through the sampling grid.

    Raises:
        RunError: there are more than Python can count.
    """
    return Independent(tuple(tasks), rollouts, tuple(grid))


def one_pass(episodes: Sequence[EpisodeSpec]) -> Passes:
    """All episodes in a single pass."""
    yield episodes


def independent_passes(tasks: Sequence[str], settings: ExploreSettings, tree_of: TreeOf) -> Passes:
    """Episodes from the beginning: all in one pass or, with a budget, one per task and pass until it is spent."""
    if settings.budget is None:
        yield independent(tasks, settings.rollouts, settings.grid)
        return
    spent = 0
    for sample in range(settings.rollouts):
        if spent >= settings.budget:
            return
        played = yield [settings.episode(task, sample) for task in tasks]
        spent += sum(map(sampled_tokens, played))


def branching(tasks: Sequence[str], settings: ExploreSettings, tree_of: TreeOf) -> Passes:
    """First `rollouts` episodes per task from the beginning, then episodes that branch off them.

    In each pass, every task may get `branches` episodes from one point of its tree, the points with the highest worth
    per token first (see `trajtree.explore.branching`), until the budget is spent; by default twice what the first
    pass took. It ends early if no point is worth anything, which means that the runs of each task all succeeded or that
    its forks are known. Slots of other policies play from the beginning only: what is to become known are the options
    of the policy that explores. If there are no other slots, it plays the branches with their sampling settings.
    """
    own = [slot for slot in settings.grid if not (isinstance(slot, Slot) and slot.by is not None)]
    own = own or [Sampling(slot.temperature, slot.top_p) for slot in settings.grid]
    warm = [slot for slot in own if slot.temperature > 0] or own
    runs: dict[str, list[Trajectory]] = {task: [] for task in tasks}
    samples = dict.fromkeys(tasks, settings.rollouts)
    played = list((yield independent(tasks, settings.rollouts, settings.grid)))
    spent = sum(map(sampled_tokens, played))
    budget = 2 * spent if settings.budget is None else settings.budget
    tried = set(tasks)
    while spent < budget:
        usable = [trajectory for trajectory in played if not trajectory.outcome.is_fault and trajectory.steps]
        for trajectory in usable:
            runs[trajectory.task].append(trajectory)
        for task in tried.difference(trajectory.task for trajectory in usable):
            # Its world has changed, or fails whatever is played: another pass would end the same way.
            runs[task].clear()
        episodes: list[EpisodeSpec] = []
        planned = 0.0
        for point in branch_points([tree_of(found) for found in runs.values() if found], settings.branches):
            if spent + planned >= budget:
                break
            planned += point.tokens
            task = point.parent.task
            start = Start(point.parent, point.steps) if point.steps else None
            for sample in range(samples[task], samples[task] + settings.branches):
                episodes.append(replace(_in_turn(task, sample, warm), start=start))
            samples[task] += settings.branches
        if not episodes:
            return
        tried = {episode.task for episode in episodes}
        played = list((yield episodes))
        spent += sum(map(sampled_tokens, played))


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to explore: `passes` plans it, `about` is a short description."""

    passes: Callable[[Sequence[str], ExploreSettings, TreeOf], Passes]
    about: str


STRATEGIES: dict[str, Strategy] = {
    "independent": Strategy(independent_passes, "every episode from the task's beginning"),
    "branching": Strategy(
        branching, "after the first episodes, from points of the tree where options are likely to prove different"
    ),
}
"""Strategies by the name that recipes use."""

__all__ = [
    "MOST_BRANCHES",
    "STRATEGIES",
    "ExploreSettings",
    "Independent",
    "Passes",
    "Slot",
    "Strategy",
    "branching",
    "independent",
    "independent_passes",
    "one_pass",
]
