"""Which episodes an exploration plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trajtree.explore.episode import EpisodeSpec
from trajtree.trajectory import Sampling

Strategy = Callable[[Sequence[str], int, Sequence[Sampling]], list[EpisodeSpec]]
"""From tasks, rollouts per task and the sampling grid to the episodes to play, in order."""


def independent(tasks: Sequence[str], rollouts: int, grid: Sequence[Sampling]) -> list[EpisodeSpec]:
    """`rollouts` episodes per task, each from the beginning, going round the sampling grid."""
    return [EpisodeSpec(task, sample, grid[sample % len(grid)]) for task in tasks for sample in range(rollouts)]


STRATEGIES: dict[str, Strategy] = {"independent": independent}
"""Strategies by the name that recipes use."""

__all__ = ["STRATEGIES", "Strategy", "independent"]
