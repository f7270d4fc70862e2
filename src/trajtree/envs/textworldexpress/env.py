"""TextWorldExpress: eight kinds of short household games, quick and with partial credit.

The simulator is the Scala program inside the package textworld-express (Apache-2.0), called directly. A game is
generated from a seed, and its answers depend only on the seed and the actions.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.jvm import TEXTWORLD_EXPRESS, Jvm, Replayed
from trajtree.errors import EnvError

GAMES = ("cookingworld", "twc", "coin", "mapreader", "arithmetic", "sorting", "simonsays", "peckingorder")

MAPPED = ("cookingworld", "twc", "coin", "mapreader")
"""Games with several rooms."""

SEEDS = {"train": range(0, 1000), "dev": range(10_000, 11_000), "test": range(20_000, 21_000)}
"""Seeds of each split, as in the package's own folds."""


def parse_task(task: str) -> tuple[str, int, str]:
    """Game, seed and split of an id such as "coin/17".

    Raises:
        KeyError: there is no such game or seed; the message says what exists.
    """
    game, _, seed = task.partition("/")
    if game not in GAMES:
        raise KeyError(f"TextWorldExpress has no game {game!r}; it has {', '.join(GAMES)}")
    number = int(seed) if seed.isascii() and seed.isdigit() and len(seed) < 8 else -1
    split = next((name for name, seeds in SEEDS.items() if number in seeds), None)
    if split is None:
        ranges = ", ".join(f"{seeds[0]} to {seeds[-1]} ({name})" for name, seeds in SEEDS.items())
        raise KeyError(f"{task!r} is not a task: seeds are {ranges}")
    return game, number, split


class World:
    """A game inside the virtual machine."""

    def __init__(self, jvm: Jvm, task: str, *, gold: bool = False) -> None:
        game, seed, split = parse_task(task)
        self.jvm = jvm
        with jvm.lock:
            self._interface: Any = jvm.interface()
            if error := str(self._interface.load(game, "")):
                raise EnvError(f"TextWorldExpress does not load {task}: {error}")
            first = json.loads(self._interface.generateNewGameJSON(seed, split, gold))
            goal = str(self._interface.getTaskDescription()).strip()
        self.opening = f"{goal}\n{first['observation'].strip()}"

    def gold(self) -> list[str]:
        with self.jvm.lock:
            return [str(action) for action in self._interface.getGoldActionSequence()]

    def doors(self) -> list[str]:
        """Which room lies in which direction of which other, in alphabetical order."""
        with self.jvm.lock:
            found = []
            for room in self._interface.game().locations():
                for direction in ("North", "South", "East", "West"):
                    beyond = getattr(room, f"location{direction}")()
                    if beyond is not None:
                        found.append(f"{room.name()} {direction.lower()} {beyond.name()}")
            return sorted(found)

    def perform(self, action: str) -> tuple[str, float, bool]:
        """Observation, score in [0, 1], whether the game is over."""
        with self.jvm.lock:
            answer = json.loads(self._interface.stepJSON(action))
        over = bool(answer["tasksuccess"]) or bool(answer["taskfailure"])
        return str(answer["observation"]).strip(), min(1.0, max(0.0, float(answer["score"]))), over

    def close(self) -> None:
        with self.jvm.lock:
            self.jvm.release(self._interface)


def _installed_version() -> str:
    try:
        return version("textworld-express")
    except PackageNotFoundError:
        return "not installed"


class TextWorldExpress(Environment):
    """TextWorldExpress over text; tasks are written "coin/17" (game/seed).

    An episode survives the death of the virtual machine: it is replayed in a new one.
    """

    name: ClassVar[str] = "textworldexpress"
    version: ClassVar[str] = _installed_version()
    instruction: ClassVar[str] = (
        "You play a text game in a house. Reply with one command: look around; inventory; move north, south, east or "
        "west; open or close THING; take THING; put THING in PLACE; read THING; cook, chop, slice, dice, eat THING; or "
        "what the game asks for."
    )

    def __init__(self, *, max_steps: int = 50) -> None:
        """Make an idle environment; the virtual machine starts with the first `reset`."""
        self._limit = max_steps
        self._world: Replayed[World] | None = None
        self._score = 0.0
        self._over: tuple[bool, bool] | None = None

    def reset(self, task: str) -> str:
        """Start the game; the observation is its goal and the first room."""
        parse_task(task)
        self.close()
        self._score, self._over = 0.0, None
        self._world = Replayed(TEXTWORLD_EXPRESS, task, lambda jvm: World(jvm, task))
        return self._world.do(lambda world: world.opening)

    def step(self, action: str) -> StepResult:
        """Perform the action; a meaningless one costs a step.

        Raises:
            RuntimeError: there was no `reset`.
            EnvError: the virtual machine died repeatedly.
        """
        if self._world is None:
            raise RuntimeError("step before reset")
        if self._over is not None:
            return StepResult("The game is over.", 0.0, *self._over)
        observation, score, over = self._world.perform(action)
        before, self._score = self._score, score
        truncated = not over and len(self._world.actions) >= self._limit
        if over or truncated:
            self._over = (over, truncated)
        return StepResult(observation, score - before, over, truncated)

    def close(self) -> None:
        """Leave the game; the shared virtual machine keeps running until the process ends."""
        if self._world is not None:
            self._world.close()
        self._world = None
