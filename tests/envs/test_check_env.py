"""`check_env` accepts a good environment and names the fault of every broken one."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import pytest
from tests.toy import TASKS, Toy, solution

from trajtree.envs.base import StepResult
from trajtree.envs.check import EnvCheckError, check_env


def test_the_toy_world_passes() -> None:
    report = check_env(Toy, TASKS[:6], actions=solution)
    assert (report.name, report.tasks, report.episodes) == ("toy", 6, 79)
    assert report.terminated == 19 and report.truncated == 0


def test_the_toy_world_has_dead_ends_and_partial_credit() -> None:
    env = Toy()
    env.reset("toy/1")
    assert env.step("take red key").reward == 0.0
    assert env.step("open red door") == ("A pit!", 0.0, True, False)
    env.reset("toy/1")
    assert [env.step(action).reward for action in solution("toy/1")] == [0.5, 0.5]


class Nameless(Toy):
    name = ""


class Silent(Toy):
    def reset(self, task: str) -> str:
        super().reset(task)
        return ""


class Raises(Toy):
    def step(self, action: str) -> StepResult:
        action.encode()
        return super().step(action)


class Generous(Toy):
    def step(self, action: str) -> StepResult:
        return super().step(action)._replace(reward=0.75)


class BareTuple(Toy):
    def step(self, action: str) -> Any:
        return tuple(super().step(action))


class TwoEnds(Toy):
    def step(self, action: str) -> StepResult:
        result = super().step(action)
        return result._replace(truncated=result.terminated or result.truncated)


class NumberFlags(Toy):
    def step(self, action: str) -> StepResult:
        result = super().step(action)
        return result._replace(terminated=int(result.terminated))  # type: ignore[arg-type]


class NoReward(Toy):
    def step(self, action: str) -> StepResult:
        return super().step(action)._replace(reward=None)  # type: ignore[arg-type]


class NoText(Toy):
    def step(self, action: str) -> StepResult:
        return super().step(action)._replace(observation=None)  # type: ignore[arg-type]


class Moody(Toy):
    moods = itertools.count()

    def step(self, action: str) -> StepResult:
        return super().step(action)._replace(observation=f"Mood {next(self.moods)}")


class Fickle(Toy):
    days = itertools.count()

    def step(self, action: str) -> StepResult:
        return super().step(action)._replace(reward=0.001 * next(self.days))


class SharedHands(Toy):
    hands: ClassVar[list[str | None]] = [None]

    @property
    def held(self) -> str | None:  # type: ignore[override]
        return self.hands[0]

    @held.setter
    def held(self, colour: str | None) -> None:
        self.hands[0] = colour


class TakesAnything(Toy):
    def reset(self, task: str) -> str:
        return super().reset(task if task in TASKS else "toy/0")


class Trips(Toy):
    def reset(self, task: str) -> str:
        return super().reset(TASKS[TASKS.index(task)])


class ClosesOnce(Toy):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class Endless(Toy):
    def step(self, action: str) -> StepResult:
        self.moves = 0
        return super().step("look")


class Unstable(Toy):
    @staticmethod
    def canonical_action(action: str) -> str:
        return f"{action} "


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Nameless, "'name'"),
        (Silent, "reset returns ''"),
        (Raises, "raises UnicodeEncodeError"),
        (Generous, "score is 1.5"),
        (BareTuple, "returns tuple"),
        (TwoEnds, "both terminated and truncated"),
        (NumberFlags, "not a bool"),
        (NoReward, "the reward is None"),
        (NoText, "the observation is None"),
        (Moody, "observation 1 is 'Mood 0', then 'Mood"),
        (Fickle, "step 1 gives"),
        (SharedHands, "in turns with another"),
        (TakesAnything, "does not raise KeyError"),
        (Trips, "does not raise KeyError, although there is no such task; reset raises ValueError"),
        (ClosesOnce, "close"),
        (Endless, "does not end within 1000 steps; give the environment a step limit"),
        (Unstable, "changes its own result"),
    ],
)
def test_every_fault_is_named(broken: type[Toy], message: str) -> None:
    with pytest.raises(EnvCheckError, match=message):
        check_env(broken, TASKS[:2], actions=solution)


def test_one_task_is_enough_to_find_shared_state() -> None:
    with pytest.raises(EnvCheckError, match="in turns"):
        check_env(SharedHands, TASKS[:1], actions=solution)


def test_environments_are_closed_when_a_check_fails() -> None:
    closed: list[Toy] = []

    class Closing(Generous):
        def close(self) -> None:
            closed.append(self)

    with pytest.raises(EnvCheckError, match="score is"):
        check_env(Closing, TASKS[:1], actions=solution)
    assert len(set(closed)) == 2


def test_it_wants_a_task() -> None:
    with pytest.raises(ValueError, match="at least one"):
        check_env(Toy, [], actions=solution)


class Forgetful(Toy):
    """Its snapshots hold nothing."""

    def snapshot(self) -> None:
        pass

    def restore(self, snapshot: None) -> None:
        pass


def test_a_snapshot_that_does_not_go_back() -> None:
    with pytest.raises(EnvCheckError, match="restored from a snapshot"):
        check_env(Forgetful, TASKS[:2], actions=solution)
