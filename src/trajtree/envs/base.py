"""The contract of an environment: reset and step over text; the score is the sum of the rewards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple


class StepResult(NamedTuple):
    """The environment's answer to an action.

    `reward` is the change in the score. `terminated`: the task ended by its own rules (won, or failed for good).
    `truncated`: the step limit cut it off. Both are False while the episode goes on.
    """

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class Environment(ABC):
    """One interactive text environment; one instance plays one episode at a time.

    To make your own, set the three class attributes and write `reset` and `step`; `check_env` checks it.
    Answer whatever the agent says; raise EnvError only if the environment itself failed.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    instruction: ClassVar[str]
    """The system message: what the world is, and what a reply must look like."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Optional: tools that the agent may call, as OpenAI defines functions, for policies that can call tools.

    `step` is then given a call as text, `NAME({"ARGUMENT": "VALUE"})` with the arguments sorted by name.
    """

    @abstractmethod
    def reset(self, task: str) -> str:
        """Start the task and return its first observation, which states the task.

        Raises:
            KeyError: the task does not exist.
            EnvError: the environment failed.
        """

    @abstractmethod
    def step(self, action: str) -> StepResult:
        """Perform the action.

        Raises:
            EnvError: the environment failed.
        """

    def close(self) -> None:  # noqa: B027 - most environments hold nothing
        """Release the environment's resources. Calling it twice is fine."""

    @staticmethod
    def canonical_action(action: str) -> str:
        """Normal form of an action; actions with equal forms are the same decision when trajectories are merged."""
        return " ".join(action.lower().split())

    @staticmethod
    def canonical_observation(observation: str) -> str:
        """Normal form of an observation; equal forms show the same state when trajectories are merged."""
        return observation
