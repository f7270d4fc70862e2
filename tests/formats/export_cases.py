"""Conversations to export, and readers of what was exported, written from the targets' documentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from msgspec import structs
from tests.builders import text

from trajtree.formats.pairs import PairMessages
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, Outcome, Step, ToolCall, Trajectory

_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
_arguments = st.dictionaries(text, _values | st.lists(_values, max_size=2), max_size=3).map(json.dumps)
_tools = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": st.dictionaries(text, text)}))


@dataclass(frozen=True)
class Can:
    """What a target is asked to hold."""

    turns: bool = True
    calls: bool = True
    several: bool = True
    text_beside_calls: bool = True
    thoughts: bool = True
    context: bool = True
    ids: bool = True
    names: bool = True
    tags: bool = True
    """Words that spell the tags around thoughts."""


@st.composite
def reply(draw: st.DrawFn, can: Can, number: int) -> Message:
    words = text if can.tags else text.filter(lambda said: "think>" not in said)
    thought = draw(st.none() | words) if can.thoughts else None
    calls = []
    if can.calls and draw(st.booleans()):
        for index in range(draw(st.integers(1, 3 if can.several else 1))):
            calls.append(ToolCall(f"call_{number}_{index}", draw(st.sampled_from(("look", "go"))), draw(_arguments)))
    content = "" if calls and not can.text_beside_calls else draw(words)
    return Message("assistant", content, thought, tuple(calls))


@st.composite
def conversation(draw: st.DrawFn, can: Can, least: int = 1) -> list[Message]:
    """[system] user reply (results | user) reply ..., calls answered in order; at least `least` replies."""
    messages = [Message("system", draw(text))] if draw(st.booleans()) else []
    messages.append(Message("user", draw(text)))
    for number in range(draw(st.integers(least, least + 3))):
        if number:
            calls = messages[-1].tool_calls
            for call in calls:
                name = draw(st.sampled_from((None, call.name))) if can.names else None
                messages.append(Message("tool", draw(text), tool_call_id=call.id, name=name))
            if not calls:
                messages.append(Message("user", draw(text)))
        messages.append(draw(reply(can, number)))
    return messages


@st.composite
def runs(draw: st.DrawFn, can: Can) -> Trajectory:
    context = draw(st.integers(0, 2)) if can.context else 0
    messages = draw(conversation(can, least=context + 1))
    return run(messages, context=context, tools=draw(_tools) if can.calls else [])


@st.composite
def pairs(draw: st.DrawFn, can: Can) -> PairMessages:
    """The fork is at a reply of a conversation; the other side goes its own way."""
    chosen, other = draw(conversation(can)), draw(conversation(can))
    said = [index for index, m in enumerate(chosen) if m.role == "assistant"]
    fork = draw(st.sampled_from(said)) if can.turns else said[-1]
    first = next(index for index, m in enumerate(other) if m.role == "assistant")
    rejected = other[first:] if can.turns else other[first : first + 1]
    tools = draw(_tools) if can.calls else []
    return pair(chosen[:fork], chosen[fork:], rejected, tools=tools)


def run(messages: Sequence[Message], *, context: int = 0, tools: Sequence[object] = ()) -> Trajectory:
    replies = sum(m.role == "assistant" for m in messages)
    steps = tuple(Step("o", "a", reward=0.5) for _ in range(max(0, replies - context)))
    return Trajectory(
        task="shop/7",
        sample=2,
        policy="weak",
        env="shop",
        env_version="1",
        seed=None,
        sampling=None,
        messages=tuple(messages),
        steps=steps,
        score=0.5,
        outcome=Outcome.COMPLETED,
        context_turns=context,
        tools=tuple(map(json.dumps, tools)),
    )


def pair(
    prompt: Sequence[Message], chosen: Sequence[Message], rejected: Sequence[Message], *, tools: Sequence[object] = ()
) -> PairMessages:
    origin: dict[str, str | int | float] = {"task": "shop/7", "depth": 1}
    return PairMessages(tuple(prompt), tuple(chosen), tuple(rejected), tuple(map(json.dumps, tools)), origin)


def plain(messages: Sequence[Message], can: Can) -> list[Message]:
    """Messages for comparison: arguments by value, and without ids and names where the order says it all."""
    found = []
    for m in messages:
        calls = tuple(
            ToolCall(c.id if can.ids else "", c.name, json.dumps(json.loads(c.arguments), sort_keys=True))
            for c in m.tool_calls
        )
        m = structs.replace(m, tool_calls=calls)
        found.append(m if can.ids else structs.replace(m, tool_call_id=None, name=None))
    return found


def own_replies(run: Trajectory) -> list[bool]:
    """[replies] which of them are trained."""
    return [turn >= run.context_turns for turn in range(sum(m.role == "assistant" for m in run.messages))]


def read_messages(rows: Sequence[JsonObject]) -> list[Message]:
    """OpenAI's, TRL's and axolotl's messages; arguments are objects or text."""
    found = []
    for row in rows:
        calls = []
        for call in row.get("tool_calls", ()):
            assert call["type"] == "function"
            arguments = call["function"]["arguments"]
            arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
            calls.append(ToolCall(call["id"], call["function"]["name"], arguments))
        assert set(row) <= {
            *("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "weight", "train")
        }
        thought, answers = row.get("reasoning_content"), row.get("tool_call_id")
        found.append(Message(row["role"], row["content"], thought, tuple(calls), answers, row.get("name")))
    return found


def split_thoughts(value: str) -> tuple[str | None, str]:
    if not value.startswith("<think>\n"):
        return None, value
    thought, _, content = value.removeprefix("<think>\n").partition("\n</think>\n\n")
    return thought, content


def read_swift(rows: Sequence[JsonObject]) -> list[tuple[Message, bool]]:
    """Messages, each with its `loss`; calls belong to the reply before them."""
    found: list[tuple[Message, bool]] = []
    for row in rows:
        assert set(row) <= {"role", "content", "loss"} and isinstance(row["content"], str)
        if row["role"] == "tool_call":
            message, loss = found.pop()
            assert message.role == "assistant" and row["loss"] == loss
            found.append(
                (structs.replace(message, tool_calls=(*message.tool_calls, _call(json.loads(row["content"])))), loss)
            )
        elif row["role"] == "assistant":
            thought, content = split_thoughts(row["content"])
            found.append((Message("assistant", content, thought), row["loss"]))
        else:
            assert "loss" not in row
            found.append((Message("tool" if row["role"] == "tool_response" else row["role"], row["content"]), False))
    return found


def read_sharegpt(rows: Sequence[JsonObject]) -> list[Message]:
    found = []
    for row in rows:
        assert set(row) == {"from", "value"}
        thought, value = split_thoughts(row["value"]) if row["from"] in ("gpt", "function_call") else (None, "")
        if row["from"] == "gpt":
            found.append(Message("assistant", value, thought))
        elif row["from"] == "function_call":
            calls = json.loads(value)
            calls = calls if isinstance(calls, list) else [calls]
            found.append(Message("assistant", "", thought, tuple(map(_call, calls))))
        else:
            role = {"system": "system", "human": "user", "observation": "tool"}[row["from"]]
            found.append(Message(role, row["value"]))
    turns = [row["from"] for row in rows if row["from"] != "system"]
    assert all(turn in ("human", "observation") for turn in turns[::2])
    assert all(turn in ("gpt", "function_call") for turn in turns[1::2])
    return found


def read_atif(document: JsonObject) -> list[Message]:
    found = []
    for step in document["steps"]:
        role = "assistant" if step["source"] == "agent" else step["source"]
        calls = tuple(
            ToolCall(c["tool_call_id"], c["function_name"], json.dumps(c["arguments"]))
            for c in step.get("tool_calls", ())
        )
        found.append(Message(role, step["message"], step.get("reasoning_content"), calls))
        for result in step.get("observation", {}).get("results", ()):
            name = result.get("extra", {}).get("name")
            found.append(Message("tool", result["content"], tool_call_id=result.get("source_call_id"), name=name))
    return found


def _call(data: JsonObject) -> ToolCall:
    assert set(data) == {"name", "arguments"} and isinstance(data["arguments"], dict)
    return ToolCall("", data["name"], json.dumps(data["arguments"]))
