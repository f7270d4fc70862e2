"""Adapters for existing environments: Gymnasium with text, a plain Python class, an OpenEnv client.

Each function takes a callable that makes the original environment and a `Spec` with what else is needed, and returns a
class that works like any other environment (in a `Domain`, with `check_env`). Nothing is imported for this: the
original only needs to have the methods.

    Maze = from_gymnasium(lambda: gymnasium.make("TextMaze-v0"), Spec(name="maze", version="0", instruction="..."))
    check_env(Maze, ["maze/0", "maze/1"], actions=lambda task: ["go north"])
"""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.guard import named
from trajtree.errors import EnvError

NO_ACTION = "That is not an action here."
"""The answer to text that `Spec.read` cannot parse; it costs a step."""


def clipped(total: float) -> float:
    """The sum of the rewards as a score, clipped to [0, 1]."""
    return min(1.0, max(0.0, total))


def as_text(observation: Any) -> str:
    """The observation, if it is text.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(observation, str):
        raise TypeError(
            f"the observation is {type(observation).__name__}, not text: give Spec a `show` that makes text of it"
        )
    return observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the original environment does not say about itself.

    Attributes:
        name: the environment's name, without spaces.
        version: its version; scores of different versions are not compared.
        instruction: the system message: what the world is, and what a reply must look like.
        tasks: maps a task id to the keyword arguments of `reset`; KeyError for an unknown id. None: "NAME/7" is seed 7
            (for a plain class: the id itself is the argument).
        read: maps the agent's text to the environment's action; ValueError if it is not one. None: the text itself.
        show: maps the environment's observation to text; must accept whatever `reset` and `step` return.
        score: maps the sum of an episode's rewards so far to a score in [0, 1].
        max_steps: actions after which an episode is truncated; None for only the environment's own limit.
    """

    name: str
    version: str
    instruction: str
    tasks: Callable[[str], Mapping[str, Any]] | None = None
    read: Callable[[str], Any] | None = None
    show: Callable[[Any], str] = as_text
    score: Callable[[float], float] = clipped
    max_steps: int | None = None


T = TypeVar("T")

Answer = tuple[Any, Any, bool, bool]
"""Observation, reward, terminated, truncated, before they are checked."""


class Adapted(Environment):
    """An environment that wraps another one; made by the functions of this module."""

    spec: ClassVar[Spec]
    foreign: ClassVar[Callable[[], Any]]
    _passing: ClassVar[tuple[type[Exception], ...]] = (EnvError,)

    def __init__(self, *, max_steps: int | None = None) -> None:
        """Make the original environment; `max_steps` overrides the spec's.

        Raises:
            EnvError: it cannot be made.
        """
        self._max_steps = max_steps or self.spec.max_steps
        self._task, self._steps, self._total, self._score = "", 0, 0.0, 0.0
        self._terminated = self._truncated = False
        self._env: Any = None
        self._broken = False
        self._env = self._guarded("making it", type(self).foreign)

    def reset(self, task: str) -> str:
        """Start the task, in a new original environment if the old one failed, since a lost connection stays lost.

        Raises:
            KeyError: the task does not exist.
            EnvError: the original environment failed.
        """
        arguments = self._arguments(task)
        if self._broken:
            with suppress(EnvError):
                self.close()
            self._env = self._guarded("making it again", type(self).foreign)
            self._broken = False
        self._task, self._steps, self._total, self._score = task, 0, 0.0, 0.0
        self._terminated = self._truncated = False
        return self._guarded("reset", lambda: self.spec.show(self._begin(arguments)), self._passing)

    def step(self, action: str) -> StepResult:
        """Perform the action; one that cannot be parsed costs a step and changes nothing.

        Raises:
            RuntimeError: there was no `reset`.
            EnvError: the original environment failed.
        """
        if not self._task:
            raise RuntimeError("step before reset")
        if self._terminated or self._truncated:
            return StepResult("The episode is over.", 0.0, self._terminated, self._truncated)
        self._steps += 1
        before = self._score
        try:
            meant = self.spec.read(action) if self.spec.read else action
        except ValueError:
            text = NO_ACTION
        else:
            text = self._guarded("step", lambda: self._perform(meant))
        self._truncated = not self._terminated and (self._truncated or self._steps == self._max_steps)
        return StepResult(text, self._score - before, self._terminated, self._truncated)

    def close(self) -> None:
        """Close the original environment, if it can be closed."""
        env, self._env, self._task = self._env, None, ""
        if env is not None and hasattr(env, "close"):
            self._guarded("close", env.close)

    def _perform(self, action: Any) -> str:
        observation, reward, self._terminated, self._truncated = self._act(action)
        self._total += 0.0 if reward is None else float(reward)
        self._score = self.spec.score(self._total)
        if not (math.isfinite(self._total) and 0.0 <= self._score <= 1.0):
            raise ValueError(f"rewards add up to {self._total}, a score of {self._score}: it must be in [0, 1]")
        return self.spec.show(observation)

    def _guarded(self, what: str, call: Callable[[], T], but: tuple[type[Exception], ...] = (EnvError,)) -> T:
        """The call's result; whatever it raises becomes an EnvError, except the errors in `but`."""
        try:
            return call()
        except but as error:
            self._broken = self._broken or isinstance(error, EnvError)
            raise
        except Exception as error:
            self._broken = True
            raise EnvError(f"{self.spec.name}: {what} failed: {named(error)}") from error

    def _arguments(self, task: str) -> Mapping[str, Any]:
        if self.spec.tasks is not None:
            return self.spec.tasks(task)
        name, _, seed = task.partition("/")
        if name != self.spec.name or not (seed.isascii() and seed.isdigit()):
            raise KeyError(f"no task {task!r}: tasks are {self.spec.name}/0, {self.spec.name}/1 and so on")
        return {"seed": int(seed)}

    @abstractmethod
    def _begin(self, arguments: Mapping[str, Any]) -> Any:
        """Reset the original environment and return its observation."""

    @abstractmethod
    def _act(self, action: Any) -> Answer:
        """Step the original environment."""


class _Gymnasium(Adapted):
    def _begin(self, arguments: Mapping[str, Any]) -> Any:
        observation, _ = self._env.reset(**arguments)
        return observation

    def _act(self, action: Any) -> Answer:
        observation, reward, terminated, truncated, _ = self._env.step(action)
        return observation, reward, bool(terminated), bool(truncated)


class _Plain(Adapted):
    _passing = (EnvError, KeyError)

    def _arguments(self, task: str) -> Mapping[str, Any]:
        return {} if self.spec.tasks is None else self.spec.tasks(task)

    def _begin(self, arguments: Mapping[str, Any]) -> Any:
        return self._env.reset(self._task) if self.spec.tasks is None else self._env.reset(**arguments)

    def _act(self, action: Any) -> Answer:
        match self._env.step(action):
            case (observation, reward, done):
                return observation, reward, bool(done), False
            case (observation, reward, done, {**info}):
                cut = bool(info.get("truncated") or info.get("TimeLimit.truncated"))
                return observation, reward, bool(done) and not cut, bool(done) and cut
            case (observation, reward, terminated, truncated) | (observation, reward, terminated, truncated, _):
                return observation, reward, bool(terminated), bool(truncated)
            case other:
                raise TypeError(
                    f"step returns {other!r:.60}, not (observation, reward, done) or (observation, reward, terminated, "
                    "truncated)"
                )


class _OpenEnv(Adapted):
    def _begin(self, arguments: Mapping[str, Any]) -> Any:
        return self._now(self._env.reset(**arguments)).observation

    def _act(self, action: Any) -> Answer:
        result = self._now(self._env.step(action))
        return result.observation, result.reward, bool(result.done), False

    def close(self) -> None:
        env, self._env, self._task = self._env, None, ""
        if env is not None and hasattr(env, "close"):
            self._guarded("close", lambda: self._now(env.close()))

    @staticmethod
    def _now(result: Any) -> Any:
        if inspect.iscoroutine(result):
            result.close()
        if inspect.isawaitable(result):
            raise TypeError("the client is asynchronous: pass its synchronous interface, client.sync()")
        return result


def from_gymnasium(make: Callable[[], Any], spec: Spec) -> type[Adapted]:
    """A Gymnasium environment: `reset(seed=, options=)` returns (observation, info), `step` returns five values.

    If observations are not text, `spec.show` converts them; if actions are not text, `spec.read` parses them.
    Source: gymnasium.Env (gymnasium 1.x).
    """
    return _made(_Gymnasium, make, spec)


def from_class(make: Callable[[], Any], spec: Spec) -> type[Adapted]:
    """A plain Python object with `reset(task)` and `step(action)`.

    `step` returns (observation, reward, done), optionally followed by a dict that may contain `truncated`; or
    (observation, reward, terminated, truncated), optionally followed by a dict.
    A KeyError from `reset` means that there is no such task.
    """
    return _made(_Plain, make, spec)


def from_openenv(make: Callable[[], Any], spec: Spec) -> type[Adapted]:
    """A synchronous client of an OpenEnv server (`EnvClient(...).sync()`).

    `reset(**arguments)` and `step(action)` return a result with `observation`, `reward` (or None) and `done`.
    `spec.read` turns the agent's text into the environment's action, `spec.show` its observation into text. A failed
    connection is an EnvError, so the episode is played again.
    Source: openenv.core.env_client.EnvClient and openenv.core.client_types.StepResult.
    """
    return _made(_OpenEnv, make, spec)


def _made(base: type[Adapted], make: Callable[[], Any], spec: Spec) -> type[Adapted]:
    described = {"name": spec.name, "version": spec.version, "instruction": spec.instruction}
    return type(spec.name, (base,), {**described, "spec": spec, "foreign": staticmethod(make), "__doc__": base.__doc__})


__all__ = ["NO_ACTION", "Adapted", "Spec", "as_text", "clipped", "from_class", "from_gymnasium", "from_openenv"]
