"""An environment whose step limit depends on the task."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.toy import DOMAIN, Toy

from trajtree.envs.base import StepResult
from trajtree.envs.limits import limited
from trajtree.errors import EnvError


class Short(Toy):
    """The toy with a step limit, which says when it is closed and does nothing after."""

    closed = False

    def __init__(self, limit: int | None, log: list[str]) -> None:
        super().__init__()
        self.limit, self.log = limit or 6, log

    def step(self, action: str) -> StepResult:
        assert not self.closed
        result = super().step(action)
        return result._replace(truncated=not result.terminated and self.moves >= self.limit)

    def close(self) -> None:
        self.closed = True
        self.log.append(f"closed {self.limit}")


def test_each_task_has_its_limit_and_one_environment_is_open() -> None:
    log: list[str] = []
    domain = replace(DOMAIN, make=lambda limit: Short(limit, log))
    limits = {"toy/0": 2, "toy/1": 3, "toy/2": 3, "toy/3": None}
    env = limited(domain, limits.__getitem__)
    assert (env.name, env.version, env.instruction) == (Toy.name, Toy.version, Toy.instruction)
    for task, limit in limits.items():
        env.reset(task)
        ends = [env.step("look").truncated for _ in range(limit or 6)]
        assert ends == [False] * (len(ends) - 1) + [True]
    env.close()
    assert log == ["closed 2", "closed 3", "closed 6"]


def test_an_environment_that_could_not_be_made_leaves_no_closed_one() -> None:
    log: list[str] = []
    fails = [3]

    def make(limit: int | None) -> Short:
        if limit in fails:
            raise EnvError("no memory")
        return Short(limit, log)

    env = limited(replace(DOMAIN, make=make), {"toy/0": 2, "toy/1": 3}.__getitem__)
    env.reset("toy/0")
    with pytest.raises(EnvError, match="no memory"):
        env.reset("toy/1")
    fails.clear()
    for task in ("toy/0", "toy/1"):
        env.reset(task)
        log.append(f"plays {task}")
        env.step("look")
    env.close()
    assert log == ["closed 2", "plays toy/0", "closed 2", "plays toy/1", "closed 3"]


def test_a_step_before_reset() -> None:
    with pytest.raises(RuntimeError, match="before reset"):
        limited(DOMAIN, lambda task: None).step("look")
