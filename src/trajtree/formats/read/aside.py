"""Fields within a log's messages that no reader reads: kept aside in the run's metadata, never dropped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trajtree.chat import unread
from trajtree.formats.read.fields import Record, refuse_media


@dataclass(frozen=True, slots=True)
class Known:
    """The fields of an object that are read, or irrelevant to what was said.

    Attributes:
        fields: their names.
        within: what is known of the objects in them, for those that hold an object or a list of objects.
        kind: the `type` of the objects that this describes; another reader reads the others, or they are refused.
    """

    fields: frozenset[str]
    within: Mapping[str, Known] = field(default_factory=dict)
    kind: str | None = None


TEXT_PART = Known(frozenset(("type", "text", "cache_control", "annotations")), kind="text")
FUNCTION = Known(frozenset(("name", "arguments")))
CALL = Known(
    frozenset(("id", "type", "index", "function", "custom")),
    {"function": FUNCTION, "custom": Known(frozenset(("name", "input")))},
)
_THOUGHT = Known(
    frozenset(("type", "text", "summary", "thinking", "signature", "data", "format", "index", "id", "cache_control"))
)
OPENAI: Mapping[str, Known] = {
    "content": TEXT_PART,
    "tool_calls": CALL,
    "function_call": FUNCTION,
    "thinking_blocks": _THOUGHT,
    "reasoning_details": _THOUGHT,
}
"""What is known of the objects within a message of OpenAI's chat API."""

FLAT_CALL = Known(frozenset(("id", "type", "index", "name", "arguments")))
"""A call without an object `function`."""


def left_over(value: Record, known: Known, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, fields) of the unknown fields of an object and of the objects within it, except empty ones."""
    if known.kind is not None and value.get("type") != known.kind:
        return
    if not value.keys() <= known.fields:
        left = {name: said for name, said in value.items() if name not in known.fields and _says_something(said)}
        if left:
            yield where, left
    yield from left_within(value, known.within, where)


def left_within(value: Record, within: Mapping[str, Known], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same for the objects within an object only."""
    for name in within.keys() & value.keys():
        inner, known = value[name], within[name]
        if isinstance(inner, dict):
            yield from left_over(inner, known, f"{where}.{name}")
        elif isinstance(inner, list):
            for index, one in enumerate(inner):
                if isinstance(one, dict):
                    yield from left_over(one, known, f"{where}.{name}.{index}")


def _says_something(value: object) -> bool:
    return value not in (None, "", [], {}) and value is not False


def fields_aside(
    parts: Iterable[tuple[str, Sequence[Record]]],
    read: frozenset[str],
    aside: Mapping[str, object] | None = None,
    within: Mapping[str, Known] = OPENAI,
) -> dict[str, str]:
    """Metadata `message_fields`: as JSON text, the messages' fields that are not read, by position.

    Args:
        parts: (field with messages, those messages).
        read: the fields of a message that are read, or are known to be irrelevant to the conversation.
        aside: what is kept aside of the messages already, by position.
        within: what is known of the objects within a message: its parts, its calls.

    Raises:
        DataError: a message has images, videos or sound.
    """
    found: dict[str, object] = dict(aside or {})
    for name, turns in parts:
        for index, turn in enumerate(turns):
            if left := unread(turn, read):
                refuse_media(left, f"{name}.{index}.")
                found[f"{name}.{index}"] = left
            if within:
                found.update(left_within(turn, within, f"{name}.{index}"))
    return {"message_fields": json.dumps(found)} if found else {}


__all__ = ["CALL", "FLAT_CALL", "FUNCTION", "OPENAI", "TEXT_PART", "Known", "fields_aside", "left_over", "left_within"]
