"""ScienceWorld for recipes; task types are the thirty names such as `find-plant`."""

from __future__ import annotations

from typing import cast

from trajtree.envs.domain import Domain
from trajtree.envs.scienceworld.env import TASK_TYPES, ScienceWorld, Split, splits
from trajtree.envs.scienceworld.expert import demonstrate
from trajtree.envs.scienceworld.situations import situation


def _tasks(task_type: str, split: str) -> list[str]:
    return [f"{task_type}/{variation}" for variation in splits(task_type, cast(Split, split))]


DOMAIN = Domain(
    environment=ScienceWorld,
    make=lambda max_steps: ScienceWorld(max_steps=max_steps),
    tasks=_tasks,
    demonstrate=demonstrate,
    types=tuple(TASK_TYPES),
    situation=situation,
)
"""ScienceWorld for recipes; task types are the thirty names such as `find-plant`."""
