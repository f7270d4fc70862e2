"""Domains whose authors made mistakes, by what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.toy import COLOURED, TASKS, Toy

from trajtree.envs.base import Environment
from trajtree.envs.domain import Domain, NoDemonstration

ESCAPE = "\x1b[31mred\x1b]0;title\x07"


class Unspeakable:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*asked: Any) -> Any:
        raise error

    return function


def returning(value: object) -> Callable[..., Any]:
    return lambda *asked: value


LEAVES: Callable[..., Any] = lambda *asked: sys.exit(0)  # noqa: E731

RAISED: dict[str, tuple[Callable[..., Any], str]] = {
    "value": (raising(ValueError(f"no {ESCAPE}\nat all")), "raised ValueError: no \x1b[31mred\x1b]0;title\x07 at all"),
    "silent": (raising(RuntimeError()), "raised RuntimeError"),
    "exit": (LEAVES, "raised SystemExit: 0"),
    "stop": (raising(StopIteration()), "raised StopIteration"),
    "unspeakable": (raising(UnspeakableError()), "raised UnspeakableError: a UnspeakableError"),
    "lacks": (raising(ImportError("cannot import name 'a'")), "raised ImportError: cannot import name 'a'"),
}
"""What any function of a domain may raise, and how that is reported."""

TRUE = COLOURED.demonstrate(Toy(), TASKS[1])

RETURNED: dict[str, list[tuple[object, str]]] = {
    "make": [(None, "None, not an Environment"), (Toy, "<class 'tests.toy.Toy'>, not an Environment")],
    "tasks": [
        (None, "None, not a list of distinct task ids"),
        ("toy/0", "'toy/0', not a list of distinct task ids"),
        ({"toy/0"}, "{'toy/0'}, not a list of distinct task ids"),
        ([0], "[0], not a list of distinct task ids"),
        (["toy/0", ""], "['toy/0', ''], not a list of distinct task ids"),
        (["toy/0", "toy/0"], "['toy/0', 'toy/0'], not a list of distinct task ids"),
        ([Unspeakable()], "a list, not a list of distinct task ids"),
    ],
    "demonstrate": [
        (None, "None, not a Trajectory or NoDemonstration of this task"),
        (NoDemonstration("toy/9", "no"), "not a Trajectory or NoDemonstration of this task"),
        (TRUE, "not a Trajectory or NoDemonstration of this task"),
    ],
    "data": [(None, "None, not text")],
    "situation": [
        (None, "None, not a non-empty string"),
        ("", "'', not a non-empty string"),
        (["red"], "['red'], not a non-empty string"),
        (Unspeakable(), "a Unspeakable, not a non-empty string"),
    ],
}
"""What a function of a domain must not return, and how that is reported."""


def broken(function: str, does: Callable[..., Any]) -> Domain:
    """The toy's domain, one of whose functions does something else."""
    changed: dict[str, Any] = {function: does}
    return replace(COLOURED, **changed)


class Deaf(Toy):
    @staticmethod
    def canonical_observation(observation: str) -> Any:
        return None


class Stubborn(Toy):
    def close(self) -> None:
        sys.exit(0)


class Unlisted(Toy):
    tools: Any = ({"function": {"name": Unspeakable()}},)


def of(environment: type[Environment]) -> Domain:
    """The toy's domain with another class."""
    return replace(COLOURED, environment=environment, make=lambda limit: environment())


CURRENT: Domain = COLOURED
"""The domain that a test puts here for commands to find."""
