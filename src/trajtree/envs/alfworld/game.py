"""A game as textworld plays it: commands in, texts out, won or not; without a step limit."""

from __future__ import annotations

from trajtree.envs.alfworld.actions import Action, possible, result
from trajtree.envs.alfworld.dialects import DIALECTS, DialectName
from trajtree.envs.alfworld.scene import Scene
from trajtree.envs.alfworld.state import State
from trajtree.envs.alfworld.texts import NOTHING_HAPPENS, opening, told


class Game:
    """One play of a scene. The state is an immutable value: keep `state` as a snapshot, set it to go back."""

    def __init__(self, scene: Scene, dialect: DialectName = "put") -> None:
        self._scene, self._dialect = scene, DIALECTS[dialect]
        self.state = scene.start

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._possible: dict[str, Action] | None = None
        self.won = self._scene.goal.reached(state)

    def opening(self) -> str:
        """Restart the game; returns the banner, the room and the task."""
        self.state = self._scene.start
        return opening(self._scene, self.state)

    def commands(self) -> list[str]:
        """The admissible commands, in alphabetical order."""
        return sorted(self._actions())

    def perform(self, command: str) -> str:
        """Perform the command if, apart from surrounding spaces, it matches an admissible one exactly."""
        action = self._actions().get(command.strip())
        if action is None:
            return NOTHING_HAPPENS
        state = result(self._scene, self._state, action)
        if state is not self._state:
            self.state = state
        return told(self._scene, state, action, self._dialect)

    def _actions(self) -> dict[str, Action]:
        if self._possible is None:
            self._possible = possible(self._scene, self._state, self._dialect)
        return self._possible


__all__ = ["Game"]
