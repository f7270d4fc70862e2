"""Rows of LLaMA-Factory's version 1: messages whose content is parts of a `type` and a `value`."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.formats.read import messages
from trajtree.formats.read.aside import Known, left_within
from trajtree.formats.read.fields import Record, at, objects
from trajtree.formats.read.to_trajectory import Imported

_PARTS = {"content": Known(frozenset(("type", "value")))}


def recognises(record: Record) -> bool:
    """Whether the first message's first part has its text in `value`."""
    part = at(record, "messages.0.content.0")
    return isinstance(part, dict) and "value" in part and "type" in part


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run. Leading replies with a `loss_weight` of 0 are context.

    Args:
        record: `messages`, and the usual fields beside it.
        score: dotted path of the score; without one, the usual names are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: naming the field that is wrong, such as a part that is not text, reasoning or a tool call.
    """
    turns = [
        _plain(turn, f"messages.{index}") for index, turn in enumerate(objects(record.get("messages"), "messages"))
    ]
    return messages.read({**record, "messages": turns}, score=score, task=task)


def _plain(turn: Record, where: str) -> dict[str, Any]:
    """A message in OpenAI's form."""
    plain: dict[str, Any] = {name: value for name, value in turn.items() if name not in ("content", "loss_weight")}
    # Kept aside as fields that are not known, with those of the message.
    plain |= {place.removeprefix("."): left for place, left in left_within(turn, _PARTS, "")}
    texts: dict[str, list[str]] = {"text": [], "reasoning": [], "tool_call": []}
    for index, part in enumerate(objects(turn.get("content"), f"{where}.content")):
        kind, value = str(part.get("type")), part.get("value")
        if kind not in texts or not isinstance(value, str):
            raise DataError(f"{where}.content.{index}: a part of type {kind[:80]!r}; only text can be kept")
        texts[kind].append(value)
    plain["content"] = "".join(texts["text"])
    if texts["reasoning"]:
        plain["reasoning_content"] = "\n".join(texts["reasoning"])
    if texts["tool_call"]:
        plain["tool_calls"] = [{"id": "", "function": _call(text, f"{where}.content")} for text in texts["tool_call"]]
    if turn.get("loss_weight") is not None:
        plain["weight"] = turn["loss_weight"]
    return plain


def _call(text: str, where: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        raise DataError(f"{where}: a tool call that is not JSON: {text[:80]!r}") from None


__all__ = ["read", "recognises"]
