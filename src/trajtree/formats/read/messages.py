"""Runs as chat messages: `messages` as OpenAI writes them, or `prompt` and `completion` as TRL does."""

from __future__ import annotations

from typing import Any

from trajtree.chat import message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.fields import Record, first_turn, leading, objects, refuse_media
from trajtree.formats.read.to_trajectory import Imported, with_usual_fields
from trajtree.trajectory import Message


def recognises(record: Record) -> bool:
    """Whether a record has messages, under whichever name, or a prompt and a completion."""
    if first_turn(record) is not None or {"prompt", "completion"} <= record.keys():
        return True
    return isinstance(record.get("messages"), list)


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Replies within a `prompt`, and leading ones marked with `weight` 0 or `loss` false, are context.

    Args:
        record: `messages` (or `conversations`), or `prompt` and `completion`; optionally `tools`.
        score: dotted path of the score; without one, the usual names are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: naming the field that is wrong.
    """
    refuse_media(record)
    messages, context_turns = conversation(record)
    return with_usual_fields(record, messages, context_turns, score=score, task=task)


def conversation(record: Record) -> tuple[tuple[Message, ...], int]:
    """The messages of a run, and how many of its first replies are context. Raises DataError naming a wrong field."""
    if "prompt" not in record:
        name = "messages" if "messages" in record else "conversations"
        turns = objects(record.get(name), name)
        messages = [_message(turn, name, index) for index, turn in enumerate(turns)]
        context = (_unlearned(turn) for turn in turns if turn.get("role") == "assistant")
    else:
        prompt, said = _turns(record, "prompt", "user"), _turns(record, "completion", "assistant")
        messages = [_message(turn, "prompt", index) for index, turn in enumerate(prompt)]
        messages += [_message(turn, "completion", index) for index, turn in enumerate(said)]
        before = (True for turn in prompt if turn.get("role") == "assistant")
        context = (c for part in (before, (_unlearned(t) for t in said if t.get("role") == "assistant")) for c in part)
    return tuple(messages), leading(context, "is not to be learned (weight is 0 or loss is false)")


def _turns(record: Record, name: str, role: str) -> list[Record]:
    """One side of a prompt and its completion, each a list of messages or plain text."""
    value = record.get(name)
    return [{"role": role, "content": value}] if isinstance(value, str) else list(objects(value, name))


def _unlearned(turn: Record) -> bool:
    weight = turn.get("weight")
    return (weight is not None and weight == 0) or turn.get("loss") is False


def _message(turn: Record, name: str, index: int) -> Message:
    where = f"{name}.{index}"
    if turn.get("audio"):
        raise DataError(f"{where}.audio: only text can be kept")
    if turn.get("function_call"):
        # OpenAI's older form of a single call, which has no id.
        made: dict[str, Any] = {**turn, "tool_calls": [{"function": turn["function_call"]}]}
        return message_from_dict(made, where)
    return message_from_dict(turn, where)


__all__ = ["conversation", "read", "recognises"]
