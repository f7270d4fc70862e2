"""Whatever an environment raises or returns wrongly is its own fault, with the step named."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.guard import Guarded
from trajtree.envs.replay import replay
from trajtree.errors import DataError, EnvError, RunError, UnknownTask


class Scripted(Environment):
    """Answers its second step, or its reset, with what it was given."""

    name: ClassVar[str] = "scripted"
    version: ClassVar[str] = "1"
    instruction: ClassVar[str] = "Act."

    def __init__(self, answer: Callable[[], Any], *, on_reset: bool = False) -> None:
        self.answer, self.on_reset, self.steps = answer, on_reset, 0

    def reset(self, task: str) -> str:
        self.steps = 0
        found: str = self.answer() if self.on_reset else "begin"
        return found

    def step(self, action: str) -> StepResult:
        self.steps += 1
        found: StepResult = self.answer() if self.steps == 2 else StepResult("on", 0.5, False, False)
        return found


def raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


def result(reward: Any = 0.0, observation: Any = "o", terminated: Any = False, truncated: Any = False) -> Any:
    return StepResult(observation, reward, terminated, truncated)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (raising(ValueError("no")), "raised ValueError: no"),
        (raising(KeyError("k")), "raised KeyError: 'k'"),
        (raising(EnvError("socket closed")), "socket closed"),
        (raising(RunError("odd")), "raised RunError: odd"),
        (raising(SystemExit(0)), "raised SystemExit: 0"),
        (raising(SystemExit()), "raised SystemExit"),
        (raising(GeneratorExit()), "raised GeneratorExit"),
        (raising(asyncio.CancelledError()), "raised CancelledError"),
        (raising(RecursionError("deep")), "raised RecursionError: deep"),
        (sys.exit, "raised SystemExit"),
        (lambda: None, "returned NoneType, not a StepResult"),
        (lambda: ("o", 0.0, False), "returned tuple, not a StepResult"),
        (lambda: result(reward=float("nan")), "the reward is nan, not a finite number"),
        (lambda: result(reward=float("inf")), "the reward is inf, not a finite number"),
        (lambda: result(reward=None), "the reward is None, not a finite number"),
        (lambda: result(reward="1"), "the reward is '1', not a finite number"),
        (lambda: result(reward=1j), "the reward is 1j, not a finite number"),
        (lambda: result(reward=100), "reward 100 makes the score 100.5, outside [0, 1]"),
        (lambda: result(reward=-100), "reward -100 makes the score -99.5, outside [0, 1]"),
        (lambda: result(observation=None), "the observation is None, not text"),
        (lambda: result(observation=b"o"), "the observation is b'o', not text"),
        (lambda: result(terminated=None), "terminated is None, not a bool"),
        (lambda: result(truncated=1), "truncated is 1, not a bool"),
    ],
)
def test_a_step_that_goes_wrong_is_a_fault(answer: Callable[[], Any], said: str) -> None:
    game = Guarded(Scripted(answer))
    assert game.reset("t") == "begin"
    assert game.step("look") == StepResult("on", 0.5, False, False)
    with pytest.raises(EnvError) as error:
        game.step("go " * 100)
    assert str(error.value) == f"step 2 ({('go ' * 20)!r}): {said}"
    with pytest.raises(EnvError):
        replay(Scripted(answer), "t", ["a", "b", "c"], policy="p")


@pytest.mark.parametrize("reward", [0.5, np.float32(0.5), np.float64(0.5), 0, False, -0.5, 0.5 + 1e-13])
def test_numbers_of_all_kinds_are_rewards(reward: Any) -> None:
    game = Guarded(Scripted(lambda: ("o", reward, False, True)))
    game.reset("t")
    game.step("a")
    told = game.step("b")
    assert (type(told), type(told.reward), told.reward) == (StepResult, float, reward)
    assert game.score == 0.5 + float(reward)
    assert game.reset("t") == "begin" and game.score == 0


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (raising(KeyError("tasks are a/0 to a/9")), UnknownTask, "scripted has no task 't' (tasks are a/0 to a/9)"),
        (raising(KeyError()), UnknownTask, "scripted has no task 't' (KeyError)"),
        (raising(DataError("the games are missing: trajtree data")), DataError, "the games are missing: trajtree data"),
        (raising(EnvError("socket closed")), EnvError, "socket closed"),
        (raising(SystemExit(3)), EnvError, "reset raised SystemExit: 3"),
        (raising(OSError("no socket")), EnvError, "reset raised OSError: no socket"),
        (lambda: None, EnvError, "reset returned None, not text"),
        (lambda: ("begin", {}), EnvError, "reset returned ('begin', {}), not text"),
    ],
)
def test_a_reset_that_goes_wrong(answer: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as error:
        Guarded(Scripted(answer, on_reset=True)).reset("t")
    assert type(error.value) is kind and str(error.value) == said


def test_an_interrupt_is_the_users() -> None:
    for on_reset in (True, False):
        game = Guarded(Scripted(raising(KeyboardInterrupt()), on_reset=on_reset))
        with pytest.raises(KeyboardInterrupt):
            game.reset("t")
            game.step("a")
            game.step("b")
