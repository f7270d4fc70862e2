"""Replies taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from tests.builders import quick, text

from trajtree.chat import Parsed, action_of, parse_act, parse_react
from trajtree.trajectory import Message, ToolCall


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("click[Buy Now]", "click[Buy Now]"),
        ("  go north \n", "go north"),
        ("\n\n go north\nthen south", "go north"),
        ("Action: look", "Action: look"),  # bare actions are taken as they are
        ("", None),
        (" \n\t ", None),
    ],
)
def test_act(reply: str, action: str | None) -> None:
    assert parse_act(reply) == (None if action is None else Parsed(None, action))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Thought: the key is red\nAction: take red key", ("the key is red", "take red key")),
        ("Thought:two\nlines\n\n  Action:  look  \nmore", ("two\nlines", "look")),
        ("Action: click[Buy Now]", (None, "click[Buy Now]")),
        ("Well.\nAction: look", (None, "look")),
        ("Thought:\nAction: look", ("", "look")),
        ("Thought: Action: is a word\nAction: look", ("Action: is a word", "look")),
        ("Action: look\nThought: late\nAction: wait", (None, "look")),
        ("Action:\nlook", (None, "look")),
        ("Thought: nothing to do", None),
        ("Thought: no line of its own. Action: look", None),
        ("Action:", None),
        ("Action: \n ", None),
        ("take red key", None),
        ("", None),
    ],
)
def test_react(reply: str, expected: tuple[str | None, str] | None) -> None:
    assert parse_react(reply) == (None if expected is None else Parsed(*expected))


@quick
@given(text, text)
def test_actions_are_one_line_without_margins(thought: str, action: str) -> None:
    for parsed in (parse_act(action), parse_react(f"Thought: {thought}\nAction: {action}"), parse_react(action)):
        if parsed is not None:
            assert parsed.action == parsed.action.strip() != ""
            assert len(parsed.action.splitlines()) == 1


def test_what_makes_an_action_never_changes() -> None:
    """Stores leave out an action that is this text."""
    calls = (
        ToolCall("1", "find", '{"b": [1, 2.50], "a": "\\u00e9 x"}'),
        ToolCall("2", "say", "no JSON"),
        ToolCall("3", "wait", "{}"),
    )
    called = 'find({"a": "é x", "b": [1, 2.5]})\nsay(no JSON)\nwait({})'
    assert action_of(Message("assistant", "hm", tool_calls=calls)) == called
    assert action_of(Message("assistant", " hm ")) == " hm "
