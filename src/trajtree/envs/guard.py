"""Calling an environment so that whatever goes wrong in it becomes an EnvError."""

from __future__ import annotations

import json
from math import isfinite
from numbers import Real

from trajtree.envs.base import Environment, StepResult
from trajtree.errors import DataError, EnvError, TrajtreeError, WorkerLost
from trajtree.trajectory import SCORE_TOLERANCE


class Guarded:
    """Wraps an environment so that it returns well-formed results or raises EnvError, and keeps the score.

    Args:
        env: the environment.

    Attributes:
        score: sum of the rewards since the last `reset`.
        steps: number of steps since then.
        tools: definitions of the environment's tools, each as JSON text; () where it has none.
    """

    def __init__(self, env: Environment) -> None:
        self.env, self.score, self.steps = env, 0.0, 0
        self.tools = tuple(json.dumps(tool, ensure_ascii=False) for tool in env.tools)

    def reset(self, task: str) -> str:
        """The first observation of a task.

        Raises:
            DataError: the environment has no such task.
            EnvError: it raised something else, or its first observation is not text.
            TrajtreeError, ImportError: from the environment itself, for the user: data or a package is missing.
        """
        self.score, self.steps = 0.0, 0
        try:
            observation = self.env.reset(task)
        except (TrajtreeError, ImportError, KeyboardInterrupt):
            raise
        except KeyError as error:
            why = error.args[0] if error.args else "KeyError"
            raise DataError(f"{self.env.name} has no task {task!r} ({why})") from error
        except BaseException as error:
            raise EnvError(f"reset raised {_named(error)}") from error
        if not isinstance(observation, str):
            raise EnvError(f"reset returned {observation!r}, not text")
        return observation

    def step(self, action: str) -> StepResult:
        """The environment's answer to an action.

        Raises:
            EnvError: the environment raised an exception or returned anything but a StepResult with a finite reward, or
                the score left [0, 1]; the message names the step.
        """
        self.steps += 1
        where = f"step {self.steps} ({action[:60]!r})"
        try:
            answer = self.env.step(action)
        except KeyboardInterrupt:
            raise
        except EnvError as error:
            kind = WorkerLost if isinstance(error, WorkerLost) else EnvError
            raise kind(f"{where}: {error}") from error
        except BaseException as error:
            raise EnvError(f"{where}: raised {_named(error)}") from error
        try:
            result = well_formed(answer)
        except ValueError as error:
            raise EnvError(f"{where}: {error}") from None
        self.score += result.reward
        if not -SCORE_TOLERANCE <= self.score <= 1 + SCORE_TOLERANCE:
            raise EnvError(f"{where}: reward {result.reward:g} makes the score {self.score:g}, outside [0, 1]")
        return result


def well_formed(result: object) -> StepResult:
    """A step's result with a float as its reward.

    Raises:
        ValueError: it is not a StepResult, or one of its fields has the wrong type; the message says which.
    """
    if not (isinstance(result, tuple) and len(result) == 4):
        raise ValueError(f"returned {type(result).__name__}, not a StepResult")
    observation, reward, terminated, truncated = result
    if not isinstance(observation, str):
        raise ValueError(f"the observation is {observation!r}, not text")
    if not (isinstance(reward, Real) and isfinite(reward)):
        raise ValueError(f"the reward is {reward!r}, not a finite number")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool):
            raise ValueError(f"{name} is {flag!r}, not a bool")
    return StepResult(observation, float(reward), terminated, truncated)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


__all__ = ["Guarded", "well_formed"]
