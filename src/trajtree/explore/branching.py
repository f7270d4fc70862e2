"""The rule for where new episodes of a task branch off, and its reasons.

What teaches is a fork whose options are known to differ. A fork counts as known once two of its options have RUNS runs
of their own each, and mean scores at least MIN_GAP apart. So a situation is worth the chance that its fork becomes
known with `n` more episodes, per agent token that they are expected to take:

    worth = max over two options of P(both have RUNS runs after n more) * P(they differ) / (n * tokens left)

A new episode takes an option as often as earlier ones did, with one pseudo-observation for options that were not seen
yet: of v runs, an option with k of them is taken with probability k / (v + 1), a new one with 1 / (v + 1). Whether two
options that were seen differ, their means say. A new option differs from another one in half of all cases, times the
share of the episode that is left: the later, the less it can change. The share cancels with the tokens left, so among
situations of which nothing is known, deep ones are not preferred.

Preferred are situations at which runs parted, to different scores: failures with a prefix that once succeeded, the
latest first because they cost least. A known fork is left alone, and the task's next one is looked for. A task in which
every run succeeded is skipped.

The rule is ours; the paper samples independent runs only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb

import numpy as np

from trajtree.envs.base import Environment
from trajtree.envs.guard import canonical_forms
from trajtree.explore.episode import tokens_per_step
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.merge import build_tree
from trajtree.trees.tree import TrajectoryTree

RUNS = 2
"""Least number of runs that each of two options needs for their fork to be known: one may be chance."""
MIN_GAP = 0.2
"""Smallest difference between the means of two options for their fork to be known, a fifth of the best score."""
_NEW_DIFFERS = 0.5
"""Chance that an option that was not seen yet leads to another score, if the whole episode is left."""

TreeOf = Callable[[Sequence[Trajectory]], TrajectoryTree]
"""Merges the trajectories of one task, as the environment spells actions and observations."""


def tree_maker(environment: type[Environment]) -> TreeOf:
    """A function that merges trajectories with the environment's normal forms of actions and observations."""
    return partial(build_tree, **canonical_forms(environment))


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """A situation from which new episodes should start.

    Attributes:
        parent: a trajectory through it.
        steps: number of the parent's steps that lead there; 0 is the task's beginning.
        worth: chance that its fork becomes known, per agent token.
        tokens: agent tokens that the new episodes are expected to take in total.
    """

    parent: Trajectory
    steps: int
    worth: float
    tokens: float


def branch_points(trees: Sequence[TrajectoryTree], episodes: int) -> list[BranchPoint]:
    """The best point of each task's tree, highest worth first; tasks in which nothing can be learned are left out.

    Args:
        trees: one per task.
        episodes: how many new episodes would start at a point.
    """
    best = [max(_points(tree, episodes), key=_worth, default=None) for tree in trees]
    found = [point for point in best if point is not None and point.worth > 0]
    return sorted(found, key=lambda point: (-point.worth, point.parent.task))


def _worth(point: BranchPoint) -> tuple[float, int]:
    return point.worth, -point.steps


def _points(tree: TrajectoryTree, episodes: int) -> list[BranchPoint]:
    if all(t.reaches(1.0) for t in tree.trajectories):
        return []
    lengths = [len(t.steps) for t in tree.trajectories]
    costs = [tokens_per_step(t) for t in tree.trajectories]
    points: list[BranchPoint] = []
    decisions = tree.decision[1:]
    for first in np.unique(decisions).tolist():
        options = np.flatnonzero(decisions == first) + 1
        through = [index for option in options.tolist() for index in tree.through(option)]
        steps = int(tree.depth[first]) - 1
        left = float(np.mean([lengths[i] - steps for i in through]))
        share = float(np.mean([(lengths[i] - steps) / lengths[i] for i in through]))
        tokens = episodes * left * float(np.mean([costs[i] for i in through]))
        own = [len(tree.counting(option)) for option in options.tolist()]
        chance = chance_to_be_known(own, tree.mean[options].tolist(), episodes, _NEW_DIFFERS * share)
        # Any of them may be the parent: all took the same steps and saw the same.
        points.append(BranchPoint(tree.trajectories[through[0]], steps, chance / max(tokens, 1.0), tokens))
    return points


def chance_to_be_known(own: Sequence[int], means: Sequence[float], episodes: int, new_differs: float) -> float:
    """About how likely a fork is to become known with more episodes; 0 if it is known already.

    Options are taken as if independently of each other.

    Args:
        own: [options] how many runs each has.
        means: [options] their mean scores.
        episodes: how many more there are.
        new_differs: how likely an option that was not seen yet differs from another one.
    """
    seen = sum(own) + 1
    enough = [_at_least(RUNS - runs, runs / seen, episodes) for runs in own]
    chance = new_differs * max(enough, default=0.0) * _at_least(RUNS, 1 / seen, episodes)
    for one, other in combinations(range(len(own)), 2):
        if abs(means[one] - means[other]) >= MIN_GAP - SCORE_TOLERANCE:
            if min(own[one], own[other]) >= RUNS:
                return 0.0
            chance = max(chance, enough[one] * enough[other])
    return chance


def _at_least(successes: int, probability: float, tries: int) -> float:
    """How likely so many tries have at least so many successes."""
    missed = (comb(tries, k) * probability**k * (1 - probability) ** (tries - k) for k in range(successes))
    return 1 - sum(missed)


__all__ = ["MIN_GAP", "RUNS", "BranchPoint", "TreeOf", "branch_points", "chance_to_be_known", "tree_maker"]
