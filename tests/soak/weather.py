"""A world with weather: the toy, which now and then raises, answers with nonsense, hangs or dies.

How often is in the variable SOAK_WEATHER, so that a store made in bad weather is finished in good weather.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from multiprocessing import parent_process
from random import Random
from typing import Any

from tests.toy import COLOURED, Toy

VARIABLE = "SOAK_WEATHER"

RAISED = (
    RuntimeError("x"),
    ValueError(),
    KeyError("k"),
    SystemExit(0),
    GeneratorExit(),
    StopIteration(),
    MemoryError(),
)
ANSWERS = (None, (), ("a", 0.0, True), ("a", "b", False, False), (1, 0.0, False, False), ("a", 0.0, None, 0))
REWARDS = (float("nan"), float("inf"), -float("inf"), 1e300, -7.0, 2.0, None, "1")


class Weather(Toy):
    """The toy in bad weather, for a share of all calls; it hangs and dies only where that can be borne, in workers."""

    def __init__(self, share: float, random: Random) -> None:
        super().__init__()
        self.share, self.random = share, random

    def reset(self, task: str) -> Any:
        return self._answer(super().reset(task), resetting=True)

    def step(self, action: str) -> Any:
        return self._answer(super().step(action), resetting=False)

    def close(self) -> None:
        if self.share and self.random.random() < 0.3:
            raise self.random.choice(RAISED)

    def _answer(self, sound: Any, *, resetting: bool) -> Any:
        if self.random.random() >= self.share:
            return sound
        match self.random.randrange(5 if parent_process() is not None else 3):
            case 0:
                # A KeyError in reset is not a fault: it says that there is no such task.
                raise self.random.choice([e for e in RAISED if not (resetting and isinstance(e, KeyError))])
            case 1:
                return self.random.choice(ANSWERS)
            case 2:
                return None if resetting else sound._replace(reward=self.random.choice(REWARDS))
            case 3:
                os._exit(self.random.randrange(3))
            case _:
                time.sleep(600)


def _make(limit: int | None) -> Weather:
    return Weather(float(os.environ.get(VARIABLE, "0")), Random())


DOMAIN = replace(COLOURED, environment=Weather, make=_make)

__all__ = ["ANSWERS", "DOMAIN", "RAISED", "REWARDS", "VARIABLE", "Weather"]
