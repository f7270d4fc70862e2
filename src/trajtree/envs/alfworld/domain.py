"""ALFWorld for recipes: tasks by type and split, and demonstrations verified by playing them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trajtree.envs.alfworld.env import ALFWorld, ALFWorldMove
from trajtree.envs.alfworld.expert import solve
from trajtree.envs.alfworld.game_files import data_digest, data_folder, games_in
from trajtree.envs.alfworld.packed import TASK_TYPES
from trajtree.envs.domain import Domain, NoDemonstration
from trajtree.envs.replay import replay
from trajtree.trajectory import Trajectory

_PUT = re.compile(r"^put (.+) in/on (.+)$")


def tasks(task_type: str, split: str) -> Sequence[str]:
    """Task ids of a type in the split train, dev or test; `Games.tasks` explains what dev and test are.

    Raises:
        KeyError: there is no such type or split.
        DataError: the games are missing or damaged.
    """
    return games_in(data_folder()).tasks(task_type, split)


def situation(task: str) -> str:
    """Type, object and room, shared by games that differ in trial or receptacle; the task itself if no room is known.

    Raises:
        KeyError: there is no such task.
        DataError: the games are missing or damaged.
    """
    game = games_in(data_folder()).game(task)
    match game.folder.split("-"):
        case [_, thing, _, _, room]:
            return f"{game.task_type}: {thing} in room {room}"
    return task


def demonstrate(env: ALFWorld, task: str) -> Trajectory | NoDemonstration:
    """The game's own expert actions if it has some and they win, else those of the handcoded expert.

    Raises:
        KeyError: there is no such task.
        DataError: the games are missing or damaged.
    """
    game = games_in(env.folder).game(task)
    limit = env.max_steps(task)
    actions = list(game.gt_actions)
    if env.dialect == "move":
        actions = [_PUT.sub(r"move \1 to \2", action) for action in actions]
    reasons = []
    if actions and len(actions) <= limit:
        trajectory = replay(env, task, actions, policy="expert")
        if trajectory.success:
            return trajectory
        reasons.append("the game's own actions do not win")
    elif actions:
        reasons.append(f"the game's own solution takes {len(actions)} actions, the limit is {limit}")
    trajectory = replay(env, task, solve(env, task), policy="expert")
    if trajectory.success:
        return trajectory
    reasons.append(f"the handcoded expert does not win in {len(trajectory.steps)} actions")
    return NoDemonstration(task, "; ".join(reasons))


DOMAIN = Domain(
    environment=ALFWorld,
    make=lambda max_steps: ALFWorld(max_steps=max_steps),
    tasks=tasks,
    demonstrate=demonstrate,
    types=TASK_TYPES,
    data=data_digest,
    situation=situation,
)
"""ALFWorld in the dialect of the papers; task types are the six of ALFWorld, such as `pick_and_place_simple`."""

MOVE_DOMAIN = Domain(
    environment=ALFWorldMove,
    make=lambda max_steps: ALFWorldMove(max_steps=max_steps),
    tasks=tasks,
    demonstrate=demonstrate,
    types=TASK_TYPES,
    data=data_digest,
    situation=situation,
)
"""The same in the dialect of alfworld 0.4 and later; in recipes, `trajtree.envs.alfworld:MOVE_DOMAIN`."""

__all__ = ["DOMAIN", "MOVE_DOMAIN", "demonstrate", "situation", "tasks"]
