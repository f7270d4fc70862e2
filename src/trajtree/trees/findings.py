"""What merging has found, over all trees: how much the runs share, where they fork, and how many pairs to expect."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trajtree.trees.forks import PairSettings
from trajtree.trees.overlooked import Overlooked
from trajtree.trees.pair import least_gap
from trajtree.trees.partings import Divergence
from trajtree.trees.tree import TrajectoryTree


class Findings:
    """Figures over trees, taken one at a time.

    Attributes:
        settings: the default settings of pairs, for which pairs are counted.
        divergence: how the runs diverge.
        overlooked: steps that were merged although they did different things.
        contexts: tasks whose runs began with several instructions, tools or examples, between which there are no pairs;
            counted only where texts are compared exactly.
        policies: names of the policies in those tasks.
        unscored: trees with runs without a score, which have no values and no pairs.
        runs_per_task: how many tasks have each number of runs.
        steps: steps of all runs.
        shared: those of them that merging saved, because another run took the same step.
        wide: forks whose gap is wide enough for a pair.
        pairs: number of pairs to expect.
    """

    def __init__(self) -> None:
        self.settings = PairSettings()
        self.divergence = Divergence(self.settings)
        self.overlooked = Overlooked()
        self.runs_per_task: Counter[int] = Counter()
        self.policies: set[str] = set()
        self.contexts = self.unscored = self.steps = self.shared = self.wide = self.pairs = 0

    @property
    def runs(self) -> int:
        """Number of runs."""
        return sum(size * tasks for size, tasks in self.runs_per_task.items())

    def add(self, tree: TrajectoryTree) -> None:
        """Take a tree into account."""
        self.overlooked.add(tree)
        self.runs_per_task[len(tree.trajectories)] += 1
        steps = int(tree.depth[tree.end].sum())
        self.steps += steps
        self.shared += steps - (len(tree) - 1)
        if _contexts(tree) > 1:
            self.contexts += 1
            self.policies.update(run.policy for run in tree.trajectories)
        if tree.unscored:
            self.unscored += 1
            return
        gaps = self.divergence.add(tree)
        wide = sum(gap >= least_gap(self.settings.min_gap) for gap in gaps)
        self.wide += wide
        # By default a fork gives one pair, the widest, and a tree at most `per_tree`.
        self.pairs += min(wide, self.settings.per_tree)


def _contexts(tree: TrajectoryTree) -> int:
    """How many contexts the runs began with, if texts are compared exactly; else merging alone knows, and it is 1."""
    if tree.merging.ignores or tree.merging.similarity is not None:
        return 1
    firsts = np.unique(tree.decision[tree.children_of(0)]).tolist()  # one node of each situation at the beginning
    return len({tree.trajectories[tree.first[node]].context for node in firsts})


__all__ = ["Findings"]
