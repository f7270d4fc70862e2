"""Foreign environments keep our contract once they are adapted; their failures are theirs, not the agent's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trajtree.envs.adapters import NO_ACTION, Adapted, Spec, from_class, from_gymnasium, from_openenv
from trajtree.envs.check import EnvCheckError, check_env
from trajtree.errors import EnvError


class Count:
    """Say "up" until 3; a plain class."""

    limit = 5

    def reset(self, task: str) -> str:
        self.start = {"count/0": 0, "count/1": 1}[task]
        self.value, self.steps = self.start, 0
        return f"at {self.value}"

    def step(self, action: str) -> tuple[str, float, bool, dict[str, bool]]:
        self.value += action == "up"
        self.steps += 1
        won = self.value == 3
        return f"at {self.value}", float(won), won or self.steps >= self.limit, {"truncated": not won}


class GymCount(Count):
    """The same with Gymnasium's methods."""

    closed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:  # type: ignore[override]
        return super().reset(f"count/{seed}"), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        text, reward, done, info = super().step(action)
        return text, reward, bool(reward), done and info["truncated"], {}

    def close(self) -> None:
        self.closed += 1


@dataclass
class Result:
    """As openenv.core.client_types.StepResult."""

    observation: Any
    reward: float | None = None
    done: bool = False


class Client(Count):
    """As a synchronous client of OpenEnv: observations and actions are objects."""

    def reset(self, **arguments: Any) -> Result:  # type: ignore[override]
        return Result({"text": super().reset(f"count/{arguments['seed']}")})

    def step(self, action: dict[str, str]) -> Result:  # type: ignore[override]
        text, reward, done, _ = super().step(action["say"])
        return Result({"text": text}, reward or None, done)


def spec(**more: Any) -> Spec:
    return Spec(**{"name": "count", "version": "1", "instruction": "Say up.", **more})


def known(task: str) -> dict[str, int]:
    return {"seed": {"count/0": 0, "count/1": 1}[task]}


PLAIN = from_class(Count, spec())
GYM = from_gymnasium(GymCount, spec(tasks=known))
OPEN = from_openenv(
    Client, spec(tasks=known, read=lambda text: {"say": text}, show=lambda observation: observation["text"])
)


@pytest.mark.parametrize("adapted", [PLAIN, GYM, OPEN])
def test_the_contract_is_kept(adapted: type[Adapted]) -> None:
    report = check_env(adapted, ["count/0", "count/1"], actions=lambda task: ["up"] * 3)
    assert report.name == "count" and report.terminated == 7
    report = check_env(adapted, ["count/0"], actions=lambda task: ["wait"] * 6)
    assert report.terminated + report.truncated == 4


@pytest.mark.parametrize("adapted", [PLAIN, GYM])
def test_a_limit_of_their_own_truncates(adapted: type[Adapted]) -> None:
    env = adapted()
    env.reset("count/0")
    assert [env.step("wait")[2:] for _ in range(5)] == [(False, False)] * 4 + [(False, True)]
    assert env.step("up").observation == "The episode is over."


def test_a_limit_of_ours_truncates() -> None:
    for env in (PLAIN(max_steps=2), from_class(Count, spec(max_steps=2))()):
        env.reset("count/1")
        assert env.step("wait")[2:] == (False, False) and env.step("wait")[2:] == (False, True)
        env.reset("count/1")
        assert env.step("up")[2:] == (False, False) and env.step("up") == ("at 3", 1.0, True, False)


def test_what_cannot_be_read_costs_a_step_and_does_nothing() -> None:
    def read(text: str) -> str:
        if text not in ("up", "wait"):
            raise ValueError(text)
        return text

    env = from_class(Count, spec(read=read, max_steps=3))()
    env.reset("count/1")
    assert env.step("dance") == (NO_ACTION, 0.0, False, False)
    assert env.step("up").observation == "at 2"
    assert env.step("dance") == (NO_ACTION, 0.0, False, True)


def test_rewards_become_a_score() -> None:
    class Paid(Count):
        def step(self, action: str) -> Any:
            return "paid", {"more": 30.0, "less": -10.0}[action], False

    env = from_class(Paid, spec(score=lambda total: min(1.0, max(0.0, total / 100))))()
    env.reset("count/0")
    assert [env.step(one).reward for one in ("more", "less", "more")] == pytest.approx([0.3, -0.1, 0.3])
    unscaled = from_class(Paid, spec())()
    unscaled.reset("count/0")
    assert [unscaled.step(one).reward for one in ("less", "more", "less")] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("kind", [bool, int, np.bool_])
def test_the_contract_as_a_plain_tuple_is_taken(kind: Callable[[bool], Any]) -> None:
    class Four(Count):
        def step(self, action: str) -> Any:
            observation, reward, done, info = super().step(action)
            return observation, reward, kind(done and not info["truncated"]), kind(done and info["truncated"])

    report = check_env(from_class(Four, spec()), ["count/0"], actions=lambda task: ["up"] * 3)
    assert report.terminated == 4
    assert check_env(from_class(Four, spec()), ["count/0"], actions=lambda task: ["wait"] * 6).truncated == 4


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda: 1 / 0, "step failed: ZeroDivisionError"),
        (lambda: {}["x"], "step failed: KeyError: 'x'"),
        (lambda: ("text", float("nan"), False), "rewards add up to nan"),
        (lambda: ("text", 1.0), r"step returns \('text', 1.0\), not \(observation, reward, done\)"),
        (lambda: (7, 0.0, False), "observation is int, not text: give Spec a `show`"),
    ],
)
def test_a_broken_environment_is_an_env_error(step: Callable[[], Any], words: str) -> None:
    class Broken(Count):
        def step(self, action: str) -> Any:
            return step()

    env = from_class(Broken, spec())()
    env.reset("count/0")
    with pytest.raises(EnvError, match=words):
        env.step("up")
    with pytest.raises(EnvError, match=r"count: making it failed: OSError: no socket"):
        from_openenv(lambda: (_ for _ in ()).throw(OSError("no socket")), spec())()


def test_a_lost_connection_is_made_anew() -> None:
    made: list[Lost] = []

    class Lost(Count):
        closed = False

        def step(self, action: str) -> Any:
            if self is made[0]:
                raise OSError("no socket")
            return super().step(action)

        def close(self) -> None:
            self.closed = True
            raise OSError("no socket")

    def make() -> Lost:
        made.append(Lost())
        return made[-1]

    env = from_class(make, spec())()
    env.reset("count/0")
    with pytest.raises(EnvError, match="step failed: OSError: no socket"):
        env.step("up")
    with pytest.raises(KeyError):
        env.reset("elsewhere/0")
    env.reset("count/0")
    assert env.step("up").observation == "at 1"
    assert len(made) == 2 and made[0].closed


def test_unknown_tasks_and_early_steps() -> None:
    for adapted in (PLAIN, GYM, OPEN, from_gymnasium(GymCount, spec())):
        for task in ("count/2x", "other/1", ""):
            with pytest.raises(KeyError):
                adapted().reset(task)
        with pytest.raises(RuntimeError, match="before reset"):
            adapted().step("up")


def test_closing_reaches_the_foreign_environment_once() -> None:
    made: list[GymCount] = []

    def make() -> GymCount:
        made.append(GymCount())
        return made[-1]

    env = from_gymnasium(make, spec())()
    env.reset("count/0")
    env.close()
    env.close()
    assert made[0].closed == 1


def test_an_asynchronous_client_is_refused() -> None:
    class Async:
        async def reset(self, **arguments: Any) -> Result:
            return Result("text")

        def step(self, action: Any) -> Awaitable[Result]:
            return asyncio.sleep(0, Result("text"))

    env = from_openenv(Async, spec())()
    with pytest.raises(EnvError, match=r"client.sync\(\)"):
        env.reset("count/0")


def test_a_foreign_environment_that_is_not_repeatable_is_found_out() -> None:
    class Moody(Count):
        mood = 0

        def reset(self, task: str) -> str:
            Moody.mood += 1
            return super().reset(task) + f", mood {self.mood}"

    with pytest.raises(EnvCheckError, match="first observation differs"):
        check_env(from_class(Moody, spec()), ["count/0"], actions=lambda task: ["up"])


def test_a_real_gymnasium_environment_as_in_the_docs() -> None:
    pytest.importorskip("gymnasium")
    docs = (Path(__file__).parents[2] / "docs" / "environments.md").read_text("utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", docs, re.DOTALL) if "gymnasium.make" in block)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["report"].terminated == 7
    lake = from_gymnasium(scope["Lake"].foreign, replace(scope["Lake"].spec, max_steps=8))
    way = ["down", "down", "right", "right", "down", "right"]
    env = lake()
    env.reset("lake/0")
    assert [env.step(move).reward for move in way] == [0.0] * 5 + [1.0]
    env.reset("lake/0")
    assert [env.step("left")[2:] for _ in range(8)][-1] == (False, True)
    env.close()
