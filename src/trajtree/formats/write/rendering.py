"""Tool calls and thoughts as text, for formats and chat templates that have no place for them.

The form is that of Qwen2.5's template: tools in the system message within <tools>, calls at the end of a reply within
<tool_call>, results as a user's message within <tool_response>. Thoughts come first in a reply, within <think>. A text
that holds such a tag already is refused, because nobody could tell any more where a call, a result or a thought ends.

Source: the chat template of Qwen2.5, which follows NousResearch's "Hermes Function Calling".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from msgspec import structs

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.checks import (
    check_answered,
    check_results,
    check_roles,
    refusal,
    tools_of,
    trajectory_name,
    with_thoughts,
)
from trajtree.trajectory import Message, ToolCall, Trajectory

Part = Literal["calls", "thoughts"]
"""What can be written as text: tool calls with their results and the tools' definitions, or thoughts."""

TAGS: dict[Part, str] = {"calls": "<tools>, <tool_call>, <tool_response>", "thoughts": "<think>"}
"""The tags that are used, for cards."""

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def as_text(
    messages: Sequence[Message], tools: Sequence[str], parts: Collection[Part], name: str, target: str
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Messages with `parts` as text, and the tools that are left: none, if calls are written as text.

    Replies stay replies, and results in a row become one message. Ids are left out: the order says which result
    answers which call. Arguments stay as the agent wrote them; what is not a JSON object becomes a JSON string.

    Args:
        messages: a conversation, or a part of one that begins with a reply.
        tools: the tools' definitions, each as JSON text.
        parts: what to write as text.
        name, target: names for errors: of the conversation, and of where it is written to.

    Raises:
        DataError: a text holds one of the tags already; a tool's definition is not a JSON object.
    """
    calls, thoughts = "calls" in parts, "thoughts" in parts
    found: list[Message] = []
    for results, group in groupby(messages, lambda m: calls and m.role == "tool"):
        if results:
            texts = [_tagged("tool_response", m.content, "a result", name, target) for m in group]
            found.append(Message("user", "\n".join(texts)))
            continue
        for m in group:
            if m.role == "assistant":
                m = _with_calls(m, name, target) if calls else m
                m = _with_thoughts(m, name, target) if thoughts else m
            elif calls and m.role == "user":
                _without("tool_response", [m.content], "a message", name, target)
            found.append(m)
    if calls and tools:
        return _with_tools(found, tools, name, target), ()
    return tuple(found), tuple(tools)


def run_as_text(run: Trajectory, parts: Collection[Part], target: str) -> Trajectory:
    """A run with `parts` as text.

    Raises:
        DataError: as `as_text`, or the order of results does not say which call each of them answers.
    """
    name = trajectory_name(run)
    _check(run.messages, parts, name, target)
    messages, tools = as_text(run.messages, run.tools, parts, name, target)
    return replace(run, messages=messages, tools=tools, tokens=())


def pair_as_text(pair: PairMessages, parts: Collection[Part], target: str) -> PairMessages:
    """A pair with `parts` as text. Raises DataError as `run_as_text`."""
    own = pair.own
    for before, side in ((pair.prompt, pair.chosen), (pair.prompt, pair.rejected), *([own[:2]] if own else [])):
        _check([*before, *side], parts, pair.name, target)

    def side_as_text(side: Sequence[Message]) -> tuple[Message, ...]:
        return as_text(side, (), parts, pair.name, target)[0]

    prompt, tools = as_text(pair.prompt, pair.tools, parts, pair.name, target)
    if own is not None:
        before, tools_then = as_text(own[0], own[2], parts, pair.name, target)
        own = before, side_as_text(own[1]), tools_then
    return PairMessages(prompt, side_as_text(pair.chosen), side_as_text(pair.rejected), tools, pair.provenance, own)


def _check(messages: Sequence[Message], parts: Collection[Part], name: str, target: str) -> None:
    """Refuse what would be hidden in the text: fields in the wrong place, open calls, results out of order."""
    check_roles(messages, name, target)
    if "calls" in parts:
        check_answered(messages, name, target)
        check_results(messages, name, target)


def _with_calls(reply: Message, name: str, target: str) -> Message:
    _without("tool_call", [reply.content], "a reply", name, target)
    texts = [_tagged("tool_call", _call(call), "a call", name, target) for call in reply.tool_calls]
    content = "\n".join([*([reply.content] if reply.content else []), *texts]) if texts else reply.content
    return structs.replace(reply, content=content, tool_calls=())


def _call(call: ToolCall) -> str:
    try:
        whole = isinstance(json.loads(call.arguments, parse_constant=_not_json), dict)
    except ValueError:
        whole = False
    arguments = call.arguments if whole else json.dumps(call.arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {arguments}}}'


def _not_json(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _with_thoughts(reply: Message, name: str, target: str) -> Message:
    if reply.reasoning is not None:
        _without("think", [reply.reasoning, reply.content], "a reply", name, target)
    return structs.replace(reply, content=with_thoughts(reply, reply.content, name, target), reasoning=None)


def _with_tools(messages: Sequence[Message], tools: Sequence[str], name: str, target: str) -> tuple[Message, ...]:
    text = _TOOLS.format("\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools_of(tools, name, target)))
    if not messages or messages[0].role != "system":
        return (Message("system", text), *messages)
    _without("tools", [messages[0].content], "the system message", name, target)
    content = "\n\n".join(part for part in (messages[0].content, text) if part)
    return (structs.replace(messages[0], content=content), *messages[1:])


def _tagged(tag: str, text: str, what: str, name: str, target: str) -> str:
    _without(tag, [text], what, name, target)
    return f"<{tag}>\n{text}\n</{tag}>"


def _without(tag: str, texts: Iterable[str], what: str, name: str, target: str) -> None:
    if any(mark in text for mark in (f"<{tag}>", f"</{tag}>") for text in texts):
        reason = f"{what} holds <{tag}> already, so it could not be told from what is written as text"
        raise refusal(name, target, reason, "leave it out, or do not write it as text")


__all__ = ["TAGS", "Part", "as_text", "pair_as_text", "run_as_text"]
