"""Finding fields in other tools' records: the score, the task, the tools, how the run ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any

from pydantic_core import from_json

from trajtree.chat import MEDIA, text_of
from trajtree.errors import DataError
from trajtree.formats.read.scores import Missing, Weighed, short, weights_in
from trajtree.trajectory import Message, Outcome

Record = Mapping[str, Any]

SCORES = (
    *("score", "reward", "final_reward", "success", "meta.reward"),
    *("resolved", "is_resolved", "passed", "is_correct"),
)
TASKS = ("task", "task_id", "instance_id", "question_id", "example_id", "item_id")

INSTRUCTIONS = ("system", "system_prompt", "instructions")
"""Fields in which the system message may stand beside the messages."""

_STOPPED = ("finish_reason", "stop_reason", "stop_condition", "meta.terminate_reason")
_FLAGS = ("truncated", "is_truncated")
_MAY_STOP = frozenset((*_FLAGS, *_STOPPED, *(name.partition(".")[0] for name in _STOPPED)))
_CUT_SHORT = ("length", "max_tokens", "max_turns", "max_steps", "max_turns_reached")
_NAMED = 24
"""Largest number of fields that an error names."""

_LOOKED_AT = 200
"""Number of a record's fields that are compared with a misspelt one."""

_WORD = re.compile(r"\w+")


def at(record: object, path: str) -> Any:
    """The value at a dotted path, `a.b.0.c`, or None; a key that itself contains dots takes precedence."""
    if isinstance(record, dict):
        if path in record or "." not in path:
            return record.get(path)
        head, _, rest = path.partition(".")
        return at(record.get(head), rest)
    if isinstance(record, list):
        head, dot, rest = path.partition(".")
        if head.isdecimal() and int(head[:9]) < len(record):
            return at(record[int(head)], rest) if dot else record[int(head)]
    return None


def text_at(record: object, *paths: str) -> str | None:
    """The first text found at several paths."""
    for path in paths:
        value = at(record, path)
        if value and isinstance(value, str):
            return value
    return None


def objects(value: object, where: str) -> Sequence[Record]:
    """`value` as a list of objects. Raises DataError, naming `where`, if it is anything else."""
    if not isinstance(value, list):
        raise DataError(f"{where}: must be a list, got {type(value).__name__}")
    if set(map(type, value)) == {dict}:
        return value
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise DataError(f"{where}.{index}: must be an object, got {type(item).__name__}")
    return value


def system_beside(record: Record, messages: Sequence[Message], places: Sequence[str] = INSTRUCTIONS) -> list[Message]:
    """The system message that stands beside the messages; none if there is none, or if the messages begin with it.

    Raises:
        DataError: it is not text, or the messages begin with another one.
    """
    for name in places:
        value = at(record, name)
        if value is None or not (said := text_of(value, name)):
            continue
        if not messages or messages[0].role != "system":
            return [Message("system", said)]
        if messages[0].content != said:
            raise DataError(f"{name}: the messages begin with another system message")
    return []


def first_turn(record: Record) -> Record | None:
    """The first of a record's `conversations`; None if it is not an object."""
    turns = record.get("conversations")
    return turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else None


@dataclass(frozen=True, slots=True)
class NoScore(Missing):
    """The value of a score that a record does not have.

    Attributes:
        record: the record.
        field: the field that was asked for; None if the usual places were searched.
        usual: the usual places.
        session: whether it is somebody's session, which never has a score of its own.
    """

    record: Record
    field: str | None
    usual: Sequence[str]
    session: bool = False

    @property
    def reason(self) -> str:
        """Where it was looked for, and what to do."""
        asked = self.usual if self.field is None else (self.field,)
        null = ", ".join(f"{name} is null" for name in asked if _is_null(self.record, name))
        if self.field is not None and null:
            return f"no score: {null}; give a file of scores with --scores FILE"
        if self.field is not None:
            return str(no_such_field(self.record, self.field, "--score", "must name the one that holds the score"))
        if self.session:
            return (
                "no score: a session has none; give a file of scores with --scores FILE, a row per session with the "
                "columns run (its id, or its file's name) and score; or name a field of its events with --score FIELD"
            )
        where = f"none of {', '.join(self.usual)} is there; " if self.usual else "this format has none; "
        where = f"{null}; " if null else where
        return (
            f"no score: {where}say where it is with --score FIELD, or give a file of scores with --scores FILE; "
            f"{fields_of(self.record)}"
        )


def _is_null(record: Record, path: str) -> bool:
    """Whether a field is there, but holds nothing."""
    above, _, name = path.rpartition(".")
    place = at(record, above) if above else record
    return isinstance(place, dict) and name in place and place[name] is None


def score_at(record: Record, field: str | None, usual: Sequence[str], *, session: bool = False) -> tuple[str, object]:
    """(field, value) of the score: at `field`, or at the first of the usual places; a `NoScore` where there is none.

    Of several rewards in one object, the only one is taken, or the one named `reward`; else the object is the value,
    which is not a score. `field` may name one of them, or weigh several: `accuracy=0.7,style=0.3`. `session` says that
    the record is somebody's session, which has no score of its own.

    Raises:
        DataError: `field` has weights that do not add up to 1.
    """
    if field is None:
        for name in usual:
            if (value := at(record, name)) is not None:
                return _only(name, value)
        return "", NoScore(record, field, usual, session)
    value = _named(record, field, usual)
    weights = weights_in(field) if value is None else ()
    if not weights:
        return _only(field, value) if value is not None else (field, NoScore(record, field, usual))
    parts = []
    for name, weight in weights:
        value = _named(record, name, usual)
        if value is None:
            return field, NoScore(record, name, usual)
        parts.append((*_only(name, value), weight))
    return field, Weighed(tuple(parts))


def _named(record: Record, field: str, usual: Sequence[str]) -> Any:
    """The value at `field`, or the reward of that name at one of the usual places."""
    value = at(record, field)
    if value is not None:
        return value
    rewards = (at(record, place) for place in usual)
    return next((one[field] for one in rewards if isinstance(one, dict) and one.get(field) is not None), None)


def _only(field: str, value: object) -> tuple[str, object]:
    """The one reward that counts among those in an object, with its field; anything else as it is."""
    if isinstance(value, dict):
        given = [name for name, reward in value.items() if reward is not None]
        name = given[0] if len(given) == 1 else "reward" if "reward" in given else None
        if name is not None:
            return f"{field}.{name}", value[name]
    return field, value


def other_scores(record: Record, taken: str, usual: Sequence[str]) -> tuple[tuple[str, object], ...]:
    """(field, value) of the usual places that have a value, except the one that was used."""
    found = [(name, value) for name in usual if (value := at(record, name)) is not None]
    return tuple([one for one in found if one[0] != taken and not taken.startswith(f"{one[0]}.")])


def task_at(record: Record, field: str | None, usual: Sequence[str]) -> str | None:
    """The task: at `field`, or at the first of the usual places, or None.

    Raises:
        DataError: `field` was requested and is missing, or is not text or a whole number.
    """
    for name in usual if field is None else (field,):
        value = at(record, name)
        if field is not None and value is None:
            raise no_such_field(record, field, "--task", "must name the one that names the task")
        if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
    if field is not None:
        raise DataError(f"{field}: {short(at(record, field))} does not name a task; --task must name a field with text")
    return None


def tasks_in(record: Record, usual: Sequence[str]) -> list[tuple[str, str]]:
    """(field, value) of every usual place that names a task."""
    return [(name, str(value)) for name in usual if (value := at(record, name)) and type(value) in (str, int)]


def no_such_field(record: Record, field: str, option: str, what: str) -> DataError:
    """The error for an option that names a field missing from a record; it names the fields that exist."""
    near = _nearest(field, tuple(islice(_paths(record), _LOOKED_AT)))
    hint = f"; did you mean {near!r}?" if near else ""
    return DataError(f"{field}: no such field; {option} {what}{hint}; {fields_of(record)}")


@lru_cache(maxsize=64)
def _nearest(field: str, names: tuple[str, ...]) -> str | None:
    return next(iter(get_close_matches(field, names, n=1)), None)


def fields_of(record: Record) -> str:
    """A sentence that names a record's fields, for errors; not more than a reader can take in."""
    names = list(islice(_paths(record), _LOOKED_AT))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the fields are {', '.join(names[:_NAMED])[:600]}{more}"


def _paths(value: object, before: str = "", depth: int = 3) -> Iterator[str]:
    """Dotted paths of the fields that are not objects; lists are not searched."""
    if isinstance(value, dict) and value and depth:
        for name, inner in value.items():
            yield from _paths(inner, f"{before}.{name}" if before else name, depth - 1)
    elif before:
        yield before


def prompt_task(prompt: Sequence[Message]) -> str:
    """A name for the task stated in a prompt: a few of its words for readers, and its hash to tell tasks apart."""
    return _named_by(prompt, 8)


def early_prompt_task(prompt: Sequence[Message]) -> str:
    """The name of the task in early stores, whose hashes are shorter; further runs join those that a store has."""
    return _named_by(prompt, 4)


def _named_by(prompt: Sequence[Message], digest_size: int) -> str:
    said = "".join([f"{message.role}\0{message.content}\0" for message in prompt]).encode()
    asked = next((m.content for m in reversed(prompt) if m.role == "user"), "")
    words = "-".join(_WORD.findall(asked[:200].lower())[:6])[:40] or "task"
    return f"{words}-{blake2b(said, digest_size=digest_size).hexdigest()}"


def tools_at(record: Record, path: str) -> tuple[str, ...]:
    """The tool definitions at `path`, a list or its JSON text, each as JSON text in OpenAI's form.

    Raises:
        DataError: they are something else.
    """
    value = at(record, path)
    if isinstance(value, str) and value.strip():
        try:
            value = from_json(value)
        except ValueError:
            raise DataError(f"{path}: not JSON: {short(value)}") from None
    if not value:
        return ()
    return tuple(
        json.dumps({"type": "function", "function": tool} if "name" in tool else tool, ensure_ascii=False)
        for tool in objects(value, path)
    )


def refuse_media(record: Record, where: str = "") -> None:
    """Raise DataError if the run, or one of its messages, has images, videos or sound."""
    for name in () if record.keys().isdisjoint(MEDIA) else MEDIA:
        if record.get(name):
            raise DataError(f"{where}{name}: only text can be kept; runs with images or sound cannot be imported")


_ERRORS = tuple(f"{within}{name}" for within in ("", "metadata.", "info.") for name in ("error", "exception"))


def error_in(record: Record) -> str | None:
    """The first of the usual fields that says that something failed; None if none does."""
    return next((name for name in _ERRORS if isinstance(said := at(record, name), str | dict) and said), None)


def outcome_at(record: object) -> Outcome:
    """`truncated` if the record says so, by a flag or by its stop reason; else `completed`."""
    if isinstance(record, dict) and record.keys().isdisjoint(_MAY_STOP):  # most records
        return Outcome.COMPLETED
    flagged = any(at(record, name) is True for name in _FLAGS)
    stopped = any(at(record, name) in _CUT_SHORT for name in _STOPPED)
    return Outcome.TRUNCATED if flagged or stopped else Outcome.COMPLETED


def leading(context: Iterable[bool], why: str) -> int:
    """How many leading replies are context, given which of all replies are.

    Raises:
        DataError: a context reply follows one of the agent's own; `why` says what makes it context.
    """
    count, agent = 0, False
    for index, is_context in enumerate(context):
        if not is_context:
            agent = True
        elif agent:
            raise DataError(f"reply {index + 1} {why}, but follows the agent's own; only leading ones can be kept")
        else:
            count += 1
    return count


__all__ = [
    "INSTRUCTIONS",
    "SCORES",
    "TASKS",
    "NoScore",
    "Record",
    "at",
    "early_prompt_task",
    "error_in",
    "fields_of",
    "first_turn",
    "leading",
    "no_such_field",
    "objects",
    "other_scores",
    "outcome_at",
    "prompt_task",
    "refuse_media",
    "score_at",
    "system_beside",
    "task_at",
    "tasks_in",
    "text_at",
    "tools_at",
]
