"""What a preference pair holds, and how similar the pasts of its two sides are."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.sameness import Merging
from trajtree.trees.tree import TrajectoryTree


class Past(NamedTuple):
    """How similar the pasts of a pair's sides are."""

    about: str


PASTS = {
    "equal": Past("both sides had exactly the same past, up to the ids of calls"),
    "similar": Past("the pasts may differ in what merging overlooks, such as thoughts"),
    "ignored": Past("the pasts may also differ in what build's --ignore and --action leave out"),
}
"""How similar the pasts of the two sides are, strictest first.

The rejected continuation follows the better run's past, which its own run had only where they are equal.
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


def least_gap(min_gap: float) -> float:
    """The smallest difference between two values that counts: `min_gap` less the tolerance, and never 0."""
    return max(min_gap, 2 * SCORE_TOLERANCE) - SCORE_TOLERANCE


def past_of(sides: tuple[Trajectory, Trajectory], depth: int, merging: Merging) -> str:
    """How similar the pasts of two trajectories before step number `depth` are, a name in PASTS."""
    better, worse = sides
    if better.past(depth) == worse.past(depth):
        return EQUAL
    return LOOSEST if merging.ignores and _lived(better, depth) != _lived(worse, depth) else SIMILAR


def _lived(trajectory: Trajectory, depth: int) -> Hashable:
    """What was given, seen and done before step number `depth`, without thoughts."""
    seen = trajectory.steps[depth].observation.strip() if depth < len(trajectory.steps) else None
    done = tuple((step.observation.strip(), step.action.strip()) for step in trajectory.steps[:depth])
    return trajectory.context, done, seen


def allows_all(tree: TrajectoryTree, past: str) -> bool:
    """Whether all pasts that the tree treats as the same are as similar as that."""
    return past == LOOSEST or (past == SIMILAR and not tree.merging.ignores)


def allows(pair: Pair, past: str) -> bool:
    """Whether the pasts of a pair are at least as similar as `past` says."""
    order = list(PASTS)
    return order.index(pair.past) <= order.index(past)


SHARED: dict[str, Callable[[Trajectory, int], Hashable]] = {EQUAL: Trajectory.past, SIMILAR: _lived}
"""What two trajectories share before a step, by how similar their pasts are."""


__all__ = [
    "EQUAL",
    "LOOSEST",
    "PASTS",
    "SHARED",
    "SIMILAR",
    "Pair",
    "Past",
    "allows",
    "allows_all",
    "least_gap",
    "past_of",
]
