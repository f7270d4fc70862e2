"""What a reply looks like: a bare action, or a thought and an action."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple


class Parsed(NamedTuple):
    """A reply taken apart."""

    thought: str | None
    action: str


Parser = Callable[[str], Parsed | None]

REACT = "First write one line 'Thought:' with your reasoning, then one line 'Action:' with the action."
"""What the instruction says, beside the environment's own words, when replies carry thoughts."""

_REACT = re.compile(r"(?:Thought:(?P<thought>.*?))?^\s*Action:(?P<action>.*)", re.DOTALL | re.MULTILINE)


def parse_act(text: str) -> Parsed | None:
    """The first line that is not blank is the action; None when there is none."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), None)
    return None if line is None else Parsed(None, line)


def parse_react(text: str) -> Parsed | None:
    """`Thought: ...` (optional) and `Action: ...`; None when there is no action."""
    match = _REACT.search(text)
    action = parse_act(match["action"]) if match else None
    if match is None or action is None:
        return None
    thought = match["thought"]
    return Parsed(thought.strip() if thought is not None else None, action.action)


__all__ = ["REACT", "Parsed", "Parser", "parse_act", "parse_react"]
