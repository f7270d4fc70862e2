"""ALFWorld as an environment: a game with a step limit and a score."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from trajtree.envs.alfworld.dialects import DialectName
from trajtree.envs.alfworld.game import Game
from trajtree.envs.alfworld.game_files import data_folder, scene_of
from trajtree.envs.alfworld.state import State
from trajtree.envs.alfworld.texts import BANNER
from trajtree.envs.base import Environment, StepResult

MAX_STEPS = 40
"""Step limit of the paper's code and of ETO."""

LONGEST_ACTION = 400
"""In characters; no command is as long."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of an episode."""

    task: str
    state: State
    steps: int
    won: bool


def _read(name: str) -> str:
    return files("trajtree.envs.alfworld").joinpath(name).read_text(encoding="utf-8").strip()


class ALFWorld(Environment):
    """The household tasks of ALFWorld in the dialect `put X in/on Y`; tasks are written "pick_and_place_simple/TRIAL".

    The score is 1 if the task is done, else 0. Observations, admissible commands and the won flag equal those of
    textworld 1.7.0 for the same game. Two texts are shortened as in ETO, because they say nothing about the task: the
    banner (and a blank line) of the first observation, and "You arrive at loc 7." before what the agent sees there.
    `verbatim` keeps both.
    """

    name: ClassVar[str] = "alfworld"
    version: ClassVar[str] = "1-put"
    instruction: ClassVar[str] = _read("instruction.txt")
    dialect: ClassVar[DialectName] = "put"

    def __init__(self, *, max_steps: int | None = None, verbatim: bool = False, folder: Path | None = None) -> None:
        """Make an idle environment.

        Args:
            max_steps: actions after which an episode is truncated; 40 by default.
            verbatim: whether to keep every word of textworld's texts.
            folder: where the packed games are; `data_folder()` by default.
        """
        self._max_steps = MAX_STEPS if max_steps is None else max_steps
        self._verbatim = verbatim
        self._folder = folder
        self._task, self._steps, self._won = "", 0, False
        self._game: Game | None = None

    @property
    def folder(self) -> Path:
        """Where the packed games are."""
        return data_folder() if self._folder is None else self._folder

    def max_steps(self, task: str) -> int:
        """Number of actions after which an episode of the task is truncated."""
        return self._max_steps

    def reset(self, task: str) -> str:
        """Start the task; the observation is the room and the task.

        Raises:
            KeyError: there is no such task.
            DataError: the games are missing or damaged.
        """
        self._game = Game(scene_of(self.folder, task), self.dialect)
        self._task, self._steps, self._won = task, 0, False
        text = self._game.opening()
        return text if self._verbatim else text.removeprefix(f"{BANNER}\n\n").replace("\n\n", "\n")

    def step(self, action: str) -> StepResult:
        """Perform the action; "Nothing happens." unless it matches an admissible command exactly.

        Raises:
            RuntimeError: there was no `reset`.
        """
        game = self._playing()
        truncated = not self._won and self._steps >= self._max_steps
        if self._won or truncated:
            return StepResult("The episode is over.", 0.0, self._won, truncated)
        self._steps += 1
        text = game.perform(action if len(action) <= LONGEST_ACTION else "")
        self._won = game.won
        if text.startswith("You arrive at loc ") and not self._verbatim:
            text = text.partition(". ")[2]
        return StepResult(text, float(self._won), self._won, not self._won and self._steps >= self._max_steps)

    def admissible(self) -> list[str]:
        """The commands that currently have an effect, in alphabetical order.

        Raises:
            RuntimeError: there was no `reset`.
        """
        return self._playing().commands()

    def snapshot(self) -> Snapshot:
        """The current moment of the episode, to return to. Free, because states are immutable.

        Raises:
            RuntimeError: there was no `reset`.
        """
        return Snapshot(self._task, self._playing().state, self._steps, self._won)

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a moment of an episode, from this environment or another one with the same dialect.

        Raises:
            KeyError: there is no such task.
            DataError: the games are missing or damaged.
        """
        self._game = Game(scene_of(self.folder, snapshot.task), self.dialect)
        self._game.state = snapshot.state
        self._task, self._steps, self._won = snapshot.task, snapshot.steps, snapshot.won

    def _playing(self) -> Game:
        if self._game is None:
            raise RuntimeError("no episode: reset first")
        return self._game

    @staticmethod
    def canonical_action(action: str) -> str:
        """Without surrounding spaces. Everything else matters, because a command must match exactly."""
        return action.strip()


class ALFWorldMove(ALFWorld):
    """ALFWorld in the dialect of alfworld 0.4 and later: `move X to Y`, arrivals that name the place, and `help`."""

    version: ClassVar[str] = "1-move"
    instruction: ClassVar[str] = _read("instruction_move.txt")
    dialect: ClassVar[DialectName] = "move"


__all__ = ["MAX_STEPS", "ALFWorld", "ALFWorldMove", "Snapshot"]
