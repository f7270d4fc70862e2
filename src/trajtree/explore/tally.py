"""Figures shown while episodes are played: how many steps, how fast, how well, and what went wrong."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from trajtree.explore.episode import sampled_tokens
from trajtree.store.progress import Illustrated, Progress
from trajtree.trajectory import Trajectory
from trajtree.trees.display import sketch
from trajtree.trees.merge import build_tree

_SECONDS = 1.0
"""Shortest time between two pictures."""
_REMEMBERED = 256
"""How many of the last episodes are kept to draw from."""
_IN_PICTURE = 24
"""Largest number of episodes in a picture, which must cost no more than a moment."""


class Tally:
    """Counts the episodes that this command plays, and shows them with the tree of the last one's task.

    Args:
        progress: where it is shown.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began = self._drawn = time.monotonic()
        self._valid = self._successes = self._steps = self._tokens = 0
        self._score = 0.0
        self._errors: Counter[str] = Counter()
        self._last: deque[Trajectory] = deque(maxlen=_REMEMBERED)

    def total(self, amount: int) -> None:
        """Set how many episodes there will be, as far as is known."""
        self._progress.total(amount)

    def kept(self, amount: int) -> None:
        """Count episodes that were in the store already."""
        if amount:
            self._progress.advance(amount)

    def played(self, trajectories: Sequence[Trajectory]) -> None:
        """Count episodes that have just been stored."""
        for trajectory in trajectories:
            self._add(trajectory)
        if trajectories:
            self._progress.advance(len(trajectories), self.figures())
            self._illustrate()

    def figures(self) -> dict[str, float]:
        """What this command has played; success and score as in reports, without episodes lost to faults."""
        found: dict[str, float] = {
            "steps": self._steps,
            "tokens/s": self._tokens / max(1e-9, time.monotonic() - self._began),
        }
        if self._valid:
            found |= {"success": self._successes / self._valid, "score": self._score / self._valid}
        return found | dict(sorted(self._errors.items()))

    def _add(self, trajectory: Trajectory) -> None:
        self._steps += len(trajectory.steps) - (0 if trajectory.origin is None else trajectory.origin.steps)
        self._tokens += sampled_tokens(trajectory)
        if trajectory.cause is not None:
            self._errors[trajectory.cause.value] += 1
        if not trajectory.outcome.is_fault:
            self._valid += 1
            self._successes += trajectory.success
            self._score += trajectory.score
            if trajectory.steps:
                self._last.append(trajectory)

    def _illustrate(self) -> None:
        now = time.monotonic()
        if not self._last or not isinstance(self._progress, Illustrated) or now - self._drawn < _SECONDS:
            return
        self._drawn = now
        task = self._last[-1].task
        runs = [t for t in self._last if t.task == task][-_IN_PICTURE:]
        # Merged by their texts alone, as nothing of the environment's own may fail for a picture; and a branched run
        # whose parent is not here counts as a whole one.
        self._progress.illustrate(sketch(build_tree(replace(run, origin=None) for run in runs)))


__all__ = ["Tally"]
