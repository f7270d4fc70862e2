"""TextWorldExpress for recipes: its tasks, and the simulator's own solutions, verified by replay."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

from trajtree.envs.domain import Domain, NoDemonstration
from trajtree.envs.jvm import TEXTWORLD_EXPRESS, shared_jvm, through_deaths
from trajtree.envs.replay import replay
from trajtree.envs.textworldexpress.env import GAMES, MAPPED, SEEDS, TextWorldExpress, World, parse_task
from trajtree.trajectory import Trajectory


def gold_actions(task: str) -> list[str]:
    """The simulator's own solution of a task; in `twc` the order of its steps differs from call to call.

    Raises:
        KeyError: there is no such task.
        EnvError: the virtual machine died repeatedly.
    """

    def call() -> list[str]:
        world = World(shared_jvm(TEXTWORLD_EXPRESS), task, gold=True)
        found = world.gold()
        world.close()
        return found

    return through_deaths(TEXTWORLD_EXPRESS, task, call, lambda: shared_jvm(TEXTWORLD_EXPRESS).kill())


@cache
def situation(task: str) -> str:
    """In games with several rooms, the map: the game and a digest of which room lies where. Else the task. About 20 ms.

    Raises:
        KeyError: there is no such task.
        EnvError: the virtual machine died repeatedly.
    """
    game, _, _ = parse_task(task)
    if game not in MAPPED:
        return task

    def call() -> list[str]:
        world = World(shared_jvm(TEXTWORLD_EXPRESS), task)
        found = world.doors()
        world.close()
        return found

    doors = through_deaths(TEXTWORLD_EXPRESS, task, call, lambda: shared_jvm(TEXTWORLD_EXPRESS).kill())
    return f"{game}: map {blake2b('; '.join(doors).encode(), digest_size=6).hexdigest()}"


def demonstrate(env: TextWorldExpress, task: str) -> Trajectory | NoDemonstration:
    """The simulator's solution, replayed; kept only if it wins within the step limit."""
    played = replay(env, task, gold_actions(task), policy="expert")
    return played if played.success else NoDemonstration(task, f"its gold path scores {played.score:.2f}")


def _tasks(game: str, split: str) -> list[str]:
    parse_task(f"{game}/0")
    return [f"{game}/{seed}" for seed in SEEDS[split]]


DOMAIN = Domain(
    environment=TextWorldExpress,
    make=lambda max_steps: TextWorldExpress() if max_steps is None else TextWorldExpress(max_steps=max_steps),
    tasks=_tasks,
    demonstrate=demonstrate,
    types=GAMES,
    situation=situation,
)
"""TextWorldExpress for recipes; task types are the games."""
