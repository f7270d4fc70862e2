"""The tree page's data about a tree: plain lists and numbers, for JSON.

To keep the page small, there is one list per field, not one object per node, and every text is stored once, in the
tree's table `strings`, because what an agent sees and does repeats itself. Invisible characters are made visible here,
so the page need not do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trajtree.trajectory import SCORE_TOLERANCE, Sampling, Trajectory
from trajtree.trees.quality import spreads
from trajtree.trees.search import exact
from trajtree.trees.tree import TrajectoryTree
from trajtree.visible import visible

_DIGITS = 6
"""Decimals of a score: enough for every figure on the page, at half the size of full precision."""


def figures(tree: TrajectoryTree) -> dict[str, Any]:
    """The tree's entry in the list of tasks; a fork is informative if its options' mean scores differ.

    Without `best` and `mean`, and without informative forks, if runs have no score.
    """
    spread = np.zeros(sum(1 for _ in tree.forks())) if tree.unscored else spreads(tree)
    return {
        "task": visible(tree.task),
        "trajectories": len(tree.trajectories),
        "successes": 0 if tree.unscored else sum(trajectory.success for trajectory in tree.trajectories),
        "forks": len(spread),
        "informative": int((spread > SCORE_TOLERANCE).sum()),
        "best": None if tree.unscored else _short(float(tree.scores.max())),
        "mean": None if tree.unscored else _short(float(tree.scores.mean())),
    }


def record(tree: TrajectoryTree) -> dict[str, Any]:
    """The tree itself; texts are indices into `strings`, with -1 for no text.

    `parent`, `action`, `observation`, `visits`, `mean` and `value` (of the exact search) have an entry per node. `end`,
    `sample`, `score`, `success`, `outcome`, `error`, `made`, `thought` and `reward` have an entry per trajectory; those
    of the last two are lists with an entry per step, empty if no step has a thought or a reward. `made` says which
    policy sampled a trajectory, and how. `target` is the node at which the exact search ends. If runs
    have no score, `mean`, `value` and `score` hold null only, and `target` is null.
    """
    strings = _Strings()
    found = None if tree.unscored else exact(tree)
    unknown = [None] * len(tree)
    members = tree.trajectories
    return {
        "parent": tree.parent.tolist(),
        "action": [strings.add(action) for action in tree.action],
        "observation": [strings.add(observation) for observation in tree.observation],
        "visits": tree.visits.tolist(),
        "mean": unknown if found is None else [_short(value) for value in tree.mean.tolist()],
        "value": unknown if found is None else [_short(value) for value in found.values.tolist()],
        "target": None if found is None else int(found.end),
        "forks": [[int(node), [int(child) for child in children]] for node, children in tree.forks()],
        "end": tree.end.tolist(),
        "sample": [t.sample for t in members],
        "score": [None if found is None else _short(t.score) for t in members],
        "success": [int(found is not None and t.success) for t in members],
        "outcome": [strings.add(t.outcome.value.replace("_", " ")) for t in members],
        "error": [strings.add(t.error) for t in members],
        "made": [strings.add(_made(t)) for t in members],
        "thought": [_thoughts(t, strings) for t in members],
        "reward": [_rewards(t) for t in members],
        "strings": strings.table,
    }


class _Strings:
    """A table of different texts, in the order in which they were first added."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self._index: dict[str, int] = {}

    def add(self, text: str | None) -> int:
        """Return the index of the text in the table, -1 for None."""
        if text is None:
            return -1
        index = self._index.setdefault(text, len(self.table))
        if index == len(self.table):
            self.table.append(visible(text))
        return index


def _thoughts(trajectory: Trajectory, strings: _Strings) -> list[int]:
    thoughts = [strings.add(step.thought or None) for step in trajectory.steps]
    return thoughts if max(thoughts, default=-1) >= 0 else []


def _rewards(trajectory: Trajectory) -> list[float]:
    rewards = [_short(step.reward) for step in trajectory.steps]
    return rewards if any(rewards) else []


def _made(trajectory: Trajectory) -> str:
    return " · ".join(part for part in (trajectory.policy, _sampled(trajectory.sampling)) if part)


def _sampled(sampling: Sampling | None) -> str:
    if sampling is None:
        return ""
    if sampling.temperature == 0:
        return "greedy"
    return f"temperature {sampling.temperature:g}" + (f", top-p {sampling.top_p:g}" if sampling.top_p < 1 else "")


def _short(value: float) -> float:
    return round(value, _DIGITS)


__all__ = ["figures", "record"]
