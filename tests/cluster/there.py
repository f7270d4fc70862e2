"""A policy and environments that workers of a cluster open for themselves, and that break when they are told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests import toy

from trajtree.envs.base import StepResult
from trajtree.envs.domain import Domain
from trajtree.policies.base import Reply
from trajtree.policies.opening import SCHEMES, Scheme
from trajtree.trajectory import Message, Sampling, Tokens

ACTIONS = (
    *(f"take {colour} key" for colour in toy.COLOURS),
    *(f"open {colour} door" for colour in toy.COLOURS),
    "look",
)


class Talk:
    def __init__(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> None:
        self.messages = [Message("system", system)]
        self.random = Random(str((seed, sampling.temperature)))

    def tokens(self) -> tuple[Tokens, ...]:
        return ()


class Dice:
    """Throws dice for its actions.

    With a task, the first wave with it ends its process, unless `mark` is there already. With "slow" for a task, each
    process makes a mark of its own, and takes its time.
    """

    def __init__(self, name: str, task: str, mark: str) -> None:
        self.name, self.task, self.mark = name, task, mark

    def start(self, system: str, sampling: Sampling, seed: tuple[int, ...]) -> Talk:
        return Talk(system, sampling, seed)

    def reply(self, conversations: Sequence[Talk]) -> list[Reply]:
        replies = []
        if self.task == "slow":
            Path(f"{self.mark}-{os.getpid()}").touch()
            time.sleep(0.2)
        for talk in conversations:
            if self.task.isdigit() and f"Task {self.task}:" in talk.messages[1].content:
                die_once(self.mark)
            said = talk.random.choice(ACTIONS)
            talk.messages.append(Message("assistant", said))
            replies.append(Reply(said))
        return replies


def die_once(mark: str) -> None:
    if mark == "always" or not Path(mark).exists():
        if mark != "always":
            Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def dice(ref: Any, *, name: str, **settings: Any) -> Dice:
    """dice:TASK@MARK; both may be empty."""
    task, _, mark = ref.base.removeprefix("dice:").partition("@")
    return Dice(name, task, mark)


SCHEMES["dice"] = Scheme(dice, "throws dice")


class Fatal(toy.Toy):
    """Its process dies in a step of toy/1, once."""

    def step(self, action: str) -> StepResult:
        if self.task == "toy/1":
            die_once(os.environ["TRAJTREE_TEST_MARK"])
        return super().step(action)

    def reset(self, task: str) -> str:
        self.task = task
        return super().reset(task)


FATAL = Domain(environment=Fatal, make=lambda max_steps: Fatal(), tasks=toy._tasks, demonstrate=toy.demonstrate)
