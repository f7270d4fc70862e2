"""Calling an environment or a function of its domain, so that whatever goes wrong there becomes an EnvError."""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TypedDict

from trajtree.envs.base import Environment, StepResult
from trajtree.errors import EnvError, TrajtreeError, UnknownTask, WorkerLost
from trajtree.trajectory import SCORE_TOLERANCE

FOR_THE_USER = (TrajtreeError, ModuleNotFoundError, KeyboardInterrupt)
"""What code of an environment's author raises for the user: data or a package is missing, or it was interrupted."""

_LONGEST = 300
"""Characters of an author's own message or value that are quoted."""


@contextmanager
def blamed(what: str, *, unknown: str | None = None, place: bool = False) -> Iterator[None]:
    """Whatever is raised inside is the fault of the environment's author, unless it is FOR_THE_USER.

    Args:
        what: what was called; the message begins with it.
        unknown: what a KeyError means, for example `maze has no task 'a'`; without it, a KeyError is a fault.
        place: whether to say in which file and line it was raised.

    Raises:
        EnvError: something was raised.
        UnknownTask: a KeyError was raised, and `unknown` says what it means.
    """
    try:
        yield
    except FOR_THE_USER:
        raise
    except BaseException as error:
        if unknown is not None and isinstance(error, KeyError):
            raise UnknownTask(f"{unknown} ({shown(error.args[0]) if error.args else 'KeyError'})") from error
        raise EnvError(f"{what} raised {named(error, place=place)}") from error


class Guarded:
    """Wraps an environment so that it returns well-formed results or raises EnvError, and keeps the score.

    Args:
        env: the environment.

    Attributes:
        score: sum of the rewards since the last `reset`.
        steps: number of steps since then.
        tools: definitions of the environment's tools, each as JSON text; () where it has none.
        canonical_observation: normal form of an observation.
    """

    def __init__(self, env: Environment) -> None:
        self.env, self.score, self.steps = env, 0.0, 0
        self.canonical_observation = canonical_forms(type(env))["canonical_observation"]
        with blamed(f"{env.name}: reading its tools"):
            self.tools = tuple(json.dumps(tool, ensure_ascii=False) for tool in env.tools)

    def reset(self, task: str) -> str:
        """The first observation of a task.

        Raises:
            UnknownTask: the environment has no such task.
            EnvError: it raised something else, or its first observation is not text.
            TrajtreeError, ModuleNotFoundError: from the environment itself, see FOR_THE_USER.
        """
        self.score, self.steps = 0.0, 0
        with blamed("reset", unknown=f"{self.env.name} has no task {task!r}"):
            observation: object = self.env.reset(task)
        if not isinstance(observation, str):
            raise EnvError(f"reset returned {quoted(observation)}, not text")
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
            raise EnvError(f"{where}: raised {named(error)}") from error
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
        raise ValueError(f"the observation is {quoted(observation)}, not text")
    if not (isinstance(reward, Real) and isfinite(reward)):
        raise ValueError(f"the reward is {quoted(reward)}, not a finite number")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool):
            raise ValueError(f"{name} is {quoted(flag)}, not a bool")
    return StepResult(observation, float(reward), terminated, truncated)


class CanonicalForms(TypedDict):
    """Normal forms of actions and observations, by the names under which trees are merged with them."""

    canonical_action: Callable[[str], str]
    canonical_observation: Callable[[str], str]


def canonical_forms(environment: type[Environment]) -> CanonicalForms:
    """An environment's normal forms; each raises EnvError if the environment's own raises, or returns no text."""
    return {
        "canonical_action": _guarded(f"{environment.name}: canonical_action", environment.canonical_action),
        "canonical_observation": _guarded(
            f"{environment.name}: canonical_observation", environment.canonical_observation
        ),
    }


def _guarded(name: str, form: Callable[[str], str]) -> Callable[[str], str]:
    # Not `blamed`: it would quote every text beforehand, and this runs for every node of every tree.
    def canonical(text: str) -> str:
        try:
            found: object = form(text)
        except FOR_THE_USER:
            raise
        except BaseException as error:
            raise EnvError(f"{name}({quoted(text)}) raised {named(error, place=True)}") from error
        if not isinstance(found, str):
            raise EnvError(f"{name}({quoted(text)}) returned {quoted(found)}, not text")
        return found

    return canonical


@contextmanager
def closed(env: Environment) -> Iterator[Environment]:
    """The environment, closed after the block. A fault in closing is a warning: nothing depends on it any more."""
    try:
        yield env
    finally:
        if problem := problem_of_closing(env):
            warnings.warn(problem, stacklevel=1)


def problem_of_closing(env: Environment) -> str | None:
    """Close the environment and return what went wrong, if anything did."""
    try:
        env.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it as text
        return f"{env.name}: close raised {named(error, place=True)}"
    return None


def named(error: BaseException, *, place: bool = False) -> str:
    """An exception of the author's, in one line; with the file and line where it was raised."""
    said = shown(error)
    name = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if not place or isinstance(error, SyntaxError):  # its own message names them
        return name
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{name} ({Path(frame.filename).name}, line {frame.lineno})"


def quoted(value: object) -> str:
    """A value of the author's as code, in one line; its type where its `repr` fails."""
    return _one_line(value, repr)


def shown(value: object) -> str:
    """A value of the author's as text, in one line; its type where its `str` fails."""
    return _one_line(value, str)


def _one_line(value: object, text_of: Callable[[object], str]) -> str:
    try:
        text = " ".join(text_of(value).split())
    except Exception:  # noqa: BLE001 - classes of the author's own may raise anything here
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


__all__ = [
    "FOR_THE_USER",
    "CanonicalForms",
    "Guarded",
    "blamed",
    "canonical_forms",
    "closed",
    "named",
    "problem_of_closing",
    "quoted",
    "shown",
    "well_formed",
]
