"""Messages read, and replies taken apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, text

from trajtree.chat import Parsed, action_of, message_from_dict, parse_act, parse_react, plain_messages, unread
from trajtree.errors import DataError
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


def test_arguments_nested_too_deeply_are_refused_as_by_import() -> None:
    for arguments in ("[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000):
        with pytest.raises(DataError, match=r"^a tool call's arguments are nested too deeply$"):
            action_of(Message("assistant", "", None, (ToolCall("1", "act", arguments),)))


odd = (
    *("NaN", "-0", "1e400", "1.0", "1E5", "0.00001", "12345678901234567890123", "18446744073709551616", "1e22", "null"),
    *('"\\ud800"', '"\\/\\u00e9"', '"\x7f"', '"\n"', '"\\u003a"', "01", "tru", "\ufeff1", "{} ", "", "[" * 300),
)
scalar = st.sampled_from(odd) | text.map(json.dumps) | st.integers().map(str) | st.floats().map(json.dumps)
argument = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda found: f"[{', '.join(found)}]")
        | st.lists(st.tuples(text.map(json.dumps) | st.just('"a"'), inner), max_size=3).map(
            lambda found: "{" + ",".join(f"{name} :{value}" for name, value in found) + "}"
        )
    ),
    max_leaves=8,
)


@quick
@given(argument)
def test_arguments_are_sorted_as_json_sorts_them(arguments: str) -> None:
    """Stores leave out actions that equal this text, so it must never change."""
    try:
        kept = json.dumps(json.loads(arguments), ensure_ascii=False, sort_keys=True)
    except ValueError:
        kept = arguments
    assert action_of(Message("assistant", "", None, (ToolCall("1", "act", arguments),))) == f"act({kept})"


def call(function: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": function, **more}


named = {"name": "f", "arguments": "{}"}
functions = st.sampled_from(
    (
        named,
        {"name": "f", "arguments": ""},
        {"name": "f"},
        {"name": 1, "arguments": "{}"},
        {"name": "f", "arguments": {"a": 1}},
        {**named, "parsed": 1},
    )
)
calls = st.lists(
    functions.map(call)
    | st.sampled_from(({"index": 0}, {"id": None}, {"type": "custom"}, {"more": 1}, {"id": 5})).map(
        lambda more: {**call(named), **more}
    ),
    max_size=2,
)
turn = st.fixed_dictionaries(
    {"role": st.sampled_from(("user", "assistant", "tool", "system", "assistant", "developer", "robot"))},
    optional={
        "content": text | st.none() | st.just([{"type": "text", "text": "x"}]) | st.just(1),
        "tool_calls": calls | st.none(),
        "tool_call_id": text | st.none() | st.just(1),
        "name": text | st.none(),
        "reasoning": text,
        "weight": st.just(0),
    },
)


@quick
@given(st.lists(turn, max_size=4))
def test_plain_messages_are_read_alike(turns: list[dict[str, Any]]) -> None:
    if (plain := plain_messages(turns)) is None:
        return
    assert plain == [message_from_dict(turn, "messages") for turn in turns]
    assert not any(map(unread, turns))


def test_which_messages_are_plain() -> None:
    reply = {"role": "assistant", "content": None, "tool_calls": [call(named, index=0)]}
    result = {"role": "tool", "content": "r", "tool_call_id": "c", "name": "f"}
    asked = {"role": "user", "content": "q"}
    assert plain_messages([asked, reply, result]) == [
        Message("user", "q"),
        Message("assistant", "", None, (ToolCall("c", "f", "{}"),)),
        Message("tool", "r", None, (), "c", "f"),
    ]
    for other in ({"weight": 0}, {"reasoning": "t"}, {"tool_calls": [{**reply["tool_calls"][0], "more": 1}]}):
        assert plain_messages([asked, {**reply, **other}]) is None
    with pytest.raises(DataError, match="only an assistant's message can have tool calls"):
        message_from_dict({**asked, "tool_calls": reply["tool_calls"]}, "messages.0")
    assert plain_messages([{**asked, "tool_calls": reply["tool_calls"]}]) is None
