"""The rule for where new episodes of a task branch off, and its reasons.

Another sample at a situation is most informative where the situation's value is least certain, and costs the tokens
left to play from there. So a situation is worth the drop in the standard error of its mean score that `n` more episodes
bring, per agent token that they are expected to take:

    worth = (sd / sqrt(v) - sd / sqrt(v + n)) / (n * tokens left)

where v is the number of episodes that count at the situation. Its standard deviation is estimated from their scores and
one pseudo-observation, because two equal scores do not mean that nothing can change:

    sd^2 = (sum of (score - mean)^2 + prior^2) / v
    prior = sd of the task's scores * share of the episode that is left

A task whose runs all scored the same uses the sd of the scores of all tasks instead. The share scales the prior with
the tokens that are left, so among situations about which nothing is known, deep ones are not preferred. Preferred are
situations that led to both successes and failures, the latest first because they cost least: failures with a prefix
that once succeeded. A task in which every run succeeded is skipped.

The rule is ours; the paper samples independent runs only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np

from trajtree.envs.base import Environment
from trajtree.envs.guard import canonical_forms
from trajtree.explore.episode import tokens_per_step
from trajtree.trajectory import Trajectory
from trajtree.trees.merge import build_tree
from trajtree.trees.tree import TrajectoryTree

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
        worth: drop in the standard error of the situation's value per agent token.
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
    everything = float(np.std(np.concatenate([tree.scores for tree in trees]))) if trees else 0.0
    best = [max(_points(tree, episodes, everything), key=_worth, default=None) for tree in trees]
    found = [point for point in best if point is not None and point.worth > 0]
    return sorted(found, key=lambda point: (-point.worth, point.parent.task))


def _worth(point: BranchPoint) -> tuple[float, int]:
    return point.worth, -point.steps


def _points(tree: TrajectoryTree, episodes: int, everything: float) -> list[BranchPoint]:
    if all(t.reaches(1.0) for t in tree.trajectories):
        return []
    spread = float(np.std(tree.scores)) or everything
    lengths = [len(t.steps) for t in tree.trajectories]
    costs = [tokens_per_step(t) for t in tree.trajectories]
    points: list[BranchPoint] = []
    decisions = tree.decision[1:]
    for first in np.unique(decisions).tolist():
        options = np.flatnonzero(decisions == first) + 1
        counting = [index for option in options.tolist() for index in tree.counting(option)]
        through = [index for option in options.tolist() for index in tree.through(option)]
        steps = int(tree.depth[first]) - 1
        left = float(np.mean([lengths[i] - steps for i in through]))
        share = float(np.mean([(lengths[i] - steps) / lengths[i] for i in through]))
        tokens = episodes * left * float(np.mean([costs[i] for i in through]))
        scores = tree.scores[counting] if counting else tree.scores[through]
        visits = len(scores)
        sd = sqrt((float(np.sum((scores - scores.mean()) ** 2)) + (spread * share) ** 2) / visits)
        worth = (sd / sqrt(visits) - sd / sqrt(visits + episodes)) / max(tokens, 1.0)
        # Any of them may be the parent: all took the same steps and saw the same.
        points.append(BranchPoint(tree.trajectories[through[0]], steps, worth, tokens))
    return points


__all__ = ["BranchPoint", "TreeOf", "branch_points", "tree_maker"]
