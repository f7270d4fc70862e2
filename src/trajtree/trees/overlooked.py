"""What merging by a part of the actions (`--action`) has overlooked: steps of one node that did different things."""

from __future__ import annotations

from trajtree.trees.partings import Parting, shown_apart
from trajtree.trees.sameness import Ignoring
from trajtree.trees.tree import TrajectoryTree


class Overlooked:
    """Counts over trees, taken one at a time.

    Attributes:
        steps: steps that were merged into a node whose first run did something else as a whole.
        apart: those of them after which the agent saw something else than that run.
        example: one of them, if possible one that was answered differently.
    """

    def __init__(self) -> None:
        self.steps = self.apart = 0
        self.example: Parting | None = None

    def add(self, tree: TrajectoryTree) -> None:
        """Take a tree into account; one in which whole actions were compared has nothing to count."""
        if tree.merging.action is None:
            return
        ignoring = Ignoring(tree.merging.ignore)
        for node in range(1, len(tree)):
            through, step = tree.through(node), int(tree.depth[node]) - 1
            first = tree.trajectories[through[0]].steps
            for index in through[1:]:
                steps = tree.trajectories[index].steps
                if steps[step].action == first[step].action:
                    continue
                one, other = (ignoring(taken[step].action).strip() for taken in (first, steps))
                if one == other:
                    continue
                after = [taken[step + 1].observation for taken in (first, steps) if step + 1 < len(taken)]
                differently = len(after) == 2 and len({ignoring(text).strip() for text in after}) == 2
                if self.example is None or (differently and not self.apart):
                    self.example = Parting(tree.task, step, "action", shown_apart(one, other))
                self.steps += 1
                self.apart += differently


__all__ = ["Overlooked"]
