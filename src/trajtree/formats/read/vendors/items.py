"""Items of OpenAI's Responses API: messages, reasoning, calls and their outputs. Source: the API's reference."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trajtree.chat import arguments_text
from trajtree.errors import DataError
from trajtree.formats.read.aside import Known
from trajtree.formats.read.fields import Record, objects
from trajtree.formats.read.vendors.talk import Talk, kind_of
from trajtree.trajectory import Message, ToolCall

BETWEEN = "\n"
"""Separates the texts of one reply, which are messages of their own here."""

_TEXTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CALLS = {"function_call": "arguments", "custom_tool_call": "input", "local_shell_call": "action"}
"""Calls, and where each has its arguments."""

_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
_NOTES = ("ghost_snapshot", "item_reference")
"""Items that are not part of the conversation."""

_TYPES = frozenset(("reasoning", *_CALLS, *_OUTPUTS))
_PART = Known(frozenset(("type", "text", "refusal", "annotations", "logprobs")))
_KNOWN = Known(
    frozenset(
        (
            *("type", "id", "status", "role", "content", "phase", "end_turn", "summary", "encrypted_content", "name"),
            *("call_id", "arguments", "input", "action", "output", "created_by", "internal_chat_message_metadata"),
        )
    ),
    {"content": _PART, "summary": _PART, "output": Known(_PART.fields | {"content", "success"})},
)
"""What is read of an item, or irrelevant to what was said."""


def are_items(turns: Sequence[Record]) -> bool:
    """Whether messages are items, or have content as only items have it."""
    return any(kind_of(turn) in _TYPES or _is_items_content(turn.get("content")) for turn in turns)


def _is_items_content(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and kind_of(part) in ("input_text", "output_text") for part in content
    )


def add_item(talk: Talk, item: Record, where: str) -> None:
    """Add an item to a conversation: reasoning, text and calls with nothing in between are one reply.

    Raises:
        DataError: the item is of an unknown type or not text, or a field of it is wrong.
    """
    kind = kind_of(item) if item.get("type") is not None else "message"
    if kind in _NOTES:
        return
    talk.keep_aside(where, item, _KNOWN)
    if kind == "message":
        _message(talk, item, where)
    elif kind == "reasoning":
        # The model's own words where they are given, else their summary.
        thought = _texts(item.get("content"), f"{where}.content", BETWEEN)
        thought = thought or _texts(item.get("summary"), f"{where}.summary", BETWEEN)
        if thought:
            talk.reply(Message("assistant", "", thought))
    elif kind in _CALLS:
        talk.reply(Message("assistant", "", tool_calls=(_call(item, kind, where),)))
    elif kind in _OUTPUTS:
        talk.hear(Message("tool", _output(item.get("output"), f"{where}.output"), tool_call_id=_call_id(item, where)))
    else:
        known = ", ".join(("message", "reasoning", *_CALLS, *_OUTPUTS))
        raise DataError(f"{where}: an item of type {kind[:80]!r}; only {known} can be kept")


def _message(talk: Talk, item: Record, where: str) -> None:
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise DataError(f"{where}.role: {str(item.get('role'))[:80]!r} is not one of {', '.join(_ROLES)}")
    content = _texts(item.get("content"), f"{where}.content", "")
    if role == "assistant":
        talk.reply(Message("assistant", content))
    else:
        talk.hear(Message("system" if role == "system" else "user", content))


def _texts(content: object, where: str, between: str) -> str:
    """The text of parts that are all text. Raises DataError for anything else."""
    if content is None or isinstance(content, str):
        return content or ""
    found = []
    for index, part in enumerate(objects(content, where)):
        kind = kind_of(part)
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind not in _TEXTS or not isinstance(text, str):
            raise DataError(f"{where}.{index}: a part of type {kind[:80]!r}; only text can be kept")
        found.append(text)
    return between.join(found)


def _output(output: object, where: str) -> str:
    """A call's output: text, or parts, or an object with its text in `content`."""
    if isinstance(output, dict) and isinstance(output.get("content"), str):
        return str(output["content"])
    return _texts(output, where, "")


def _call(item: Record, kind: str, where: str) -> ToolCall:
    name = item.get("name", "local_shell" if kind == "local_shell_call" else None)
    if not isinstance(name, str):
        raise DataError(f"{where}.name: a call needs a name")
    given = item.get(_CALLS[kind], "")
    if kind == "custom_tool_call" and isinstance(given, str):
        return ToolCall(_call_id(item, where), name, given)
    if kind == "local_shell_call" and isinstance(given, dict):
        given = json.dumps(given, ensure_ascii=False)
    return ToolCall(_call_id(item, where), name, arguments_text(given, f"{where}.{_CALLS[kind]}"))


def _call_id(item: Record, where: str) -> str:
    found = item.get("call_id") or item.get("id")
    if not isinstance(found, str):
        raise DataError(f"{where}.call_id: must name the call")
    return found


__all__ = ["BETWEEN", "add_item", "are_items"]
