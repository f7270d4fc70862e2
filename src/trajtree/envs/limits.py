"""An environment with a largest number of steps that depends on the task."""

from __future__ import annotations

from collections.abc import Callable

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.domain import Domain


def limited(domain: Domain, limit_of: Callable[[str], int | None]) -> Environment:
    """The domain's environment, made again whenever the next task has another step limit.

    Args:
        domain: makes the environment.
        limit_of: gives a task's step limit; None for the environment's own.
    """
    kind = domain.environment

    class Limited(Environment):
        name, version, instruction = kind.name, kind.version, kind.instruction
        tools = kind.tools
        canonical_action = staticmethod(kind.canonical_action)
        canonical_observation = staticmethod(kind.canonical_observation)

        def __init__(self) -> None:
            self._limit: int | None = None
            self._current: Environment | None = None

        def reset(self, task: str) -> str:
            limit = limit_of(task)
            if self._current is None or limit != self._limit:
                self.close()
                self._limit, self._current = limit, domain.make(limit)
            return self._current.reset(task)

        def step(self, action: str) -> StepResult:
            if self._current is None:
                raise RuntimeError("step before reset")
            return self._current.step(action)

        def close(self) -> None:
            current, self._current = self._current, None
            if current is not None:
                current.close()

    return Limited()


__all__ = ["limited"]
