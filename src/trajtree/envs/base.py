"""What an environment is: reset and step over text, the score being the sum of the rewards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple


class StepResult(NamedTuple):
    """What the environment answers to an action.

    `reward` is the change of the score. `terminated`: the task ended by its own rules (won, or failed for good).
    `truncated`: the step limit cut it off. Both are False while the episode goes on.
    """

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class Environment(ABC):
    """One interactive text environment; one instance plays one episode at a time.

    To make your own, set the three class attributes and write `reset` and `step`; `check_env` proves it.
    Whatever the agent says must be answered, never raised: raise EnvError only when the environment itself broke.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    instruction: ClassVar[str]
    """The system message: what the world is, and what a reply must look like."""

    @abstractmethod
    def reset(self, task: str) -> str:
        """Start the task and return its first observation, which states the task.

        Raises:
            KeyError: the task does not exist.
            EnvError: the environment broke.
        """

    @abstractmethod
    def step(self, action: str) -> StepResult:
        """Perform the action.

        Raises:
            EnvError: the environment broke.
        """

    def close(self) -> None:  # noqa: B027 - most environments hold nothing
        """Release what the environment holds. Calling it twice is fine."""

    @staticmethod
    def canonical_action(action: str) -> str:
        """Spelling under which two actions are the same decision; used when trajectories are merged."""
        return " ".join(action.lower().split())

    @staticmethod
    def canonical_observation(observation: str) -> str:
        """Text under which two observations show the same state; used when trajectories are merged."""
        return observation
