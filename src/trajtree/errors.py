"""The words for what can go wrong.

A `TrajtreeError` is for people: its message names the thing and the way out, and the command line prints it
without a traceback. Anything else that escapes is a bug in trajtree.
"""

from collections.abc import Callable, Collection
from difflib import get_close_matches


class TrajtreeError(Exception):
    """Base of every error that a user can cause and fix."""


class DataError(TrajtreeError):
    """A file holds something that it must not; the message names file, line and field."""


class EnvError(TrajtreeError):
    """The environment failed, not the agent: the episode is retried, never counted as a failure of the policy."""


class EngineError(TrajtreeError):
    """The engine that runs the model failed, not the agent: the episode is retried, as it is after an EnvError."""


class PolicyError(TrajtreeError):
    """The model cannot be loaded or cannot play: wrong path, no chat template, context too short."""


class RecipeError(TrajtreeError):
    """The recipe asks for something that does not exist or cannot be done."""


class RunError(TrajtreeError):
    """The run directory cannot be used: locked by another process, written by another version, disk full."""


def one_of(choices: Collection[str]) -> Callable[[str], str]:
    """A check that a name is one of `choices`; its ValueError says what there is, and what was probably meant."""

    def check(name: str) -> str:
        if name in choices:
            return name
        near = get_close_matches(name, choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is none of {', '.join(choices)}{hint}")

    return check


def counted(number: int, noun: str) -> str:
    """A number of things: "1 pair", "2 pairs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
