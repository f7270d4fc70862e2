"""Runs as chat messages: `messages` as OpenAI or Anthropic writes them, or `prompt` and `completion` as TRL does."""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.chat import FIELDS, message_from_dict, plain_messages
from trajtree.errors import DataError
from trajtree.formats.read.aside import fields_aside
from trajtree.formats.read.fields import (
    Record,
    first_turn,
    leading,
    objects,
    refuse_media,
    system_beside,
)
from trajtree.formats.read.preferences import refuse_preferences
from trajtree.formats.read.to_trajectory import Imported, with_usual_fields
from trajtree.formats.read.vendors.blocks import add_blocks, has_blocks
from trajtree.formats.read.vendors.items import BETWEEN, add_item, are_items
from trajtree.formats.read.vendors.talk import Talk
from trajtree.trajectory import Message


def recognises(record: Record) -> bool:
    """Whether a record has messages, under any of their names, or a prompt and a completion."""
    if first_turn(record) is not None or {"prompt", "completion"} <= record.keys():
        return True
    return isinstance(record.get("messages"), list)


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Replies within a `prompt`, and leading ones marked `weight` 0 or `loss` false, are context.

    Args:
        record: `messages` (or `conversations`), or `prompt` and `completion`; optionally `tools`, and instructions
            beside them (see `fields.INSTRUCTIONS`).
        score: dotted path of the score; without one, the usual names are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: naming the field that is wrong.
    """
    refuse_media(record)
    refuse_preferences(record)
    if "messages" in record and "conversations" in record:
        raise DataError("messages, conversations: the record has both; leave out the one that is not the run")
    if record.get("functions"):
        raise DataError("functions: definitions in OpenAI's legacy form are not read; write them as tools")
    if "prompt" in record and "messages" not in record:
        turns = [
            ("prompt", _turns(record, "prompt", "user")),
            ("completion", _turns(record, "completion", "assistant")),
        ]
    else:
        name = "messages" if "messages" in record else "conversations"
        turns = [(name, objects(record.get(name), name))]
    messages: list[Message] = []
    context: list[bool] = []
    within: dict[str, object] = {}
    others: list[tuple[str, Sequence[Record]]] = []
    for name, part in turns:
        if (plain := plain_messages(part)) is not None:
            messages += plain
            context += [name == "prompt" for message in plain if message.role == "assistant"]
            continue
        if are_items(part):
            said, flags, aside = _items(name, part)
        else:
            said, flags, aside = _messages(name, part)
            others.append((name, part))
        messages += said
        context += flags
        within |= aside
    messages = [*system_beside(record, messages), *messages]
    context_turns = leading(context, "is marked as not trained (weight is 0 or loss is false)")
    aside_ = fields_aside(others, FIELDS, within)
    replies = [turn for _, part in turns for turn in part if turn.get("role") == "assistant"] if others else []
    if len(replies) != len(context):
        replies = []  # what is said of replies is not said reply by reply
    return with_usual_fields(record, messages, context_turns, score=score, task=task, metadata=aside_, replies=replies)


_Said = tuple[Sequence[Message], list[bool], dict[str, object]]
"""Messages, which of their replies are context, and what was kept aside of their parts, by position."""


def _messages(name: str, turns: Sequence[Record]) -> _Said:
    """Messages as OpenAI's chat API has them, or with Anthropic's blocks."""
    talk, context = Talk(), []
    for index, turn in enumerate(turns):
        where, before = f"{name}.{index}", len(talk.messages)
        if has_blocks(turn.get("content")):
            add_blocks(talk, turn.get("role"), turn["content"], where, where)
            replies = sum(message.role == "assistant" for message in talk.messages[before:])
        else:
            message = message_from_dict(turn, where)
            talk.hear(message)
            replies = message.role == "assistant"
        context += [name == "prompt" or _unlearned(turn)] * replies
    return talk.messages, context, talk.aside


def _items(name: str, items: Sequence[Record]) -> _Said:
    """Items of OpenAI's Responses API."""
    talk = Talk(BETWEEN)
    for index, item in enumerate(items):
        add_item(talk, item, f"{name}.{index}")
    messages, _ = talk.finished()
    return messages, [name == "prompt" for message in messages if message.role == "assistant"], talk.aside


def _turns(record: Record, name: str, role: str) -> Sequence[Record]:
    """A prompt or its completion, each a list of messages or plain text."""
    value = record.get(name)
    return [{"role": role, "content": value}] if isinstance(value, str) else objects(value, name)


def _unlearned(turn: Record) -> bool:
    weight = turn.get("weight")
    return (weight is not None and weight == 0) or turn.get("loss") is False


__all__ = ["read", "recognises"]
