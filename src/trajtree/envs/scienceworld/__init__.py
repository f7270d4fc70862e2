"""ScienceWorld: thirty kinds of elementary science tasks in a house of ten rooms, with partial credit."""

from trajtree.envs.scienceworld.domain import DOMAIN
from trajtree.envs.scienceworld.env import (
    TASK_TYPES,
    ScienceWorld,
    eto_split,
    parse_task,
    simplifications_for,
    splits,
    tasks,
)
from trajtree.envs.scienceworld.expert import demonstrate, demonstrations, gold_actions
from trajtree.envs.scienceworld.situations import situation

__all__ = [
    "DOMAIN",
    "TASK_TYPES",
    "ScienceWorld",
    "demonstrate",
    "demonstrations",
    "eto_split",
    "gold_actions",
    "parse_task",
    "simplifications_for",
    "situation",
    "splits",
    "tasks",
]
