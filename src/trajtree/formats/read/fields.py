"""Finding things in the records of others: the score, the task, the tools, how the run ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.trajectory import Message, Outcome

Record = Mapping[str, Any]

SCORES = ("score", "reward", "final_reward", "success")
TASKS = ("task", "task_id", "instance_id", "question_id", "example_id", "item_id")

_CUT_SHORT = ("length", "max_tokens", "max_turns", "max_steps", "max_turns_reached")
_MEDIA = ("images", "image", "videos", "audios")
_WORD = re.compile(r"\w+")


def at(record: object, path: str) -> Any:
    """What stands at a dotted path, `a.b.0.c`, or None; a key that itself has dots is found first."""
    if isinstance(record, dict):
        if path in record:
            return record[path]
        head, dot, rest = path.partition(".")
        return at(record.get(head), rest) if dot else None
    if isinstance(record, list):
        head, dot, rest = path.partition(".")
        if head.isdecimal() and int(head[:9]) < len(record):
            return at(record[int(head)], rest) if dot else record[int(head)]
    return None


def text_at(record: object, *paths: str) -> str | None:
    """The first of several places at which there is text."""
    found = (at(record, path) for path in paths)
    return next((value for value in found if isinstance(value, str) and value), None)


def objects(value: object, where: str) -> Sequence[Record]:
    """`value` as a list of objects. Raises DataError naming `where` when it is anything else."""
    if not isinstance(value, list):
        raise DataError(f"{where}: must be a list, got {type(value).__name__}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise DataError(f"{where}.{index}: must be an object, got {type(item).__name__}")
    return value


def first_turn(record: Record) -> Record | None:
    """The first of a record's `conversations`; None when there is none that is an object."""
    turns = record.get("conversations")
    return turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else None


def score_at(record: Record, field: str | None, usual: Sequence[str]) -> tuple[str, object]:
    """(field, value) of the score: at `field`, or at the first of the usual places.

    Raises:
        DataError: there is none.
    """
    for name in usual if field is None else (field,):
        value = at(record, name)
        if value is not None:
            return name, value
    if field is not None:
        raise DataError(f"{field}: no such field; --score must name the one that holds the score")
    raise DataError(f"no score: none of {', '.join(usual)} is there; say where it is with --score FIELD")


def task_at(record: Record, field: str | None, usual: Sequence[str]) -> str | None:
    """The task: at `field`, or at the first of the usual places, or None.

    Raises:
        DataError: `field` was asked for and is not there, or is not text or a whole number.
    """
    for name in usual if field is None else (field,):
        value = at(record, name)
        if field is not None and value is None:
            raise DataError(f"{field}: no such field; --task must name the one that names the task")
        if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
    if field is not None:
        raise DataError(f"{field}: {_short(at(record, field))} names no task; --task must name a field with text")
    return None


def prompt_task(prompt: Sequence[Message]) -> str:
    """A name for the task that a prompt states: a few words of it to read, a hash of it to tell tasks apart."""
    digest = blake2b(digest_size=4)
    for message in prompt:
        digest.update(f"{message.role}\0{message.content}\0".encode())
    asked = next((m.content for m in reversed(prompt) if m.role == "user"), "")
    words = "-".join(_WORD.findall(asked[:200].lower())[:6])[:40]
    return f"{words or 'task'}-{digest.hexdigest()}"


def scaled(field: str, value: object, low: float, high: float) -> float:
    """A score in [0, 1], where `low` is 0 and `high` is 1; true and false are 1 and 0 whatever the range.

    Raises:
        DataError: it is no number, or outside the range.
    """
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float):
        raise DataError(f"{field}: {_short(value)} is no score; name the field that holds a number with --score FIELD")
    if not low <= value <= high:
        raise DataError(
            f"{field}: {_short(value)} is outside [{low:g}, {high:g}]; "
            "name another field with --score FIELD, or its range with --score-range LOW HIGH"
        )
    return float((value - low) / (high - low))


def tools_at(record: Record, path: str) -> tuple[str, ...]:
    """The definitions of tools at `path`, a list or its JSON text, each as JSON text in OpenAI's form.

    Raises:
        DataError: they are something else.
    """
    value = at(record, path)
    if isinstance(value, str) and value.strip():
        try:
            value = from_json(value)
        except ValueError:
            raise DataError(f"{path}: not JSON: {_short(value)}") from None
    if not value:
        return ()
    return tuple(
        json.dumps({"type": "function", "function": tool} if "name" in tool else tool, ensure_ascii=False)
        for tool in objects(value, path)
    )


def refuse_media(record: Record) -> None:
    """Raise DataError when images, videos or sound come with the run."""
    for name in _MEDIA:
        if record.get(name):
            raise DataError(f"{name}: only text can be kept; runs with images or sound cannot be imported")


def outcome_at(record: object) -> Outcome:
    """`truncated` when the record says so, by a flag or by why it stopped; else `completed`."""
    flagged = any(at(record, name) is True for name in ("truncated", "is_truncated"))
    stopped = any(at(record, name) in _CUT_SHORT for name in ("finish_reason", "stop_reason", "stop_condition"))
    return Outcome.TRUNCATED if flagged or stopped else Outcome.COMPLETED


def leading(context: Iterable[bool], why: str) -> int:
    """How many replies at the beginning are context, given which of all are.

    Raises:
        DataError: one stands behind a reply of the agent's; `why` says what makes it context.
    """
    count, agent = 0, False
    for index, is_context in enumerate(context):
        if not is_context:
            agent = True
        elif agent:
            raise DataError(
                f"reply {index + 1} {why}, but stands behind the agent's own; only leading ones can be kept"
            )
        else:
            count += 1
    return count


def _short(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:
        # A number of thousands of digits.
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = [
    "SCORES",
    "TASKS",
    "Record",
    "at",
    "first_turn",
    "leading",
    "objects",
    "outcome_at",
    "prompt_task",
    "refuse_media",
    "scaled",
    "score_at",
    "task_at",
    "text_at",
    "tools_at",
]
