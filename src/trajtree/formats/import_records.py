"""What an import makes of a record, except for its number among the runs of its task, which depends on the others.

A record becomes the same wherever and whenever it is converted, so records may be converted in several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from trajtree.errors import DataError
from trajtree.formats.import_sources import Source, hash_of
from trajtree.formats.import_tally import Facts, facts_of
from trajtree.formats.one_run import check_named, is_later_part
from trajtree.formats.read.detect import Reader
from trajtree.formats.read.fields import Record, early_prompt_task, error_in, tasks_in
from trajtree.formats.read.records import RawRecord, decode, decode_with_content
from trajtree.formats.read.to_trajectory import Imported, trajectory_of
from trajtree.formats.redaction import Redactor, may_hold_a_key
from trajtree.formats.score_sheet import Given, with_given
from trajtree.store.trajectory_store import head_of, line_of
from trajtree.trajectory import Made

_REASONS: dict[type[Exception], str] = {
    RecursionError: "a tool call's arguments are nested too deeply",
    UnicodeEncodeError: "holds half a character (a lone surrogate), which cannot be stored",
}
"""Reasons why a record is left out, for errors whose own message is not meant for users."""


_OPEN = ("messages", "sharegpt", "message-list", "hub-rows", "llamafactory")
"""Formats in which a field such as `error` means what the log's author wants it to mean."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The caller's options for the records; see `importing.import_files`."""

    score: str | None
    score_range: tuple[float, float]
    task: str | None
    context_turns: int | None
    run: str | None
    keep_unscored: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """How the records of a file are read: by its format's reader, whose fields with tasks are `tasks`.

    The reader is named and not looked up, so that a process that converts records has imported its module.
    """

    source: Source
    read: Reader
    tasks: tuple[str, ...]
    redacts: bool


class InRun(NamedTuple):
    """What the plan of a file says about one of its records.

    Attributes:
        within: whether another record of its run contains it, or it is a part before the last one.
        holds: whether it is the one of several records of its run that stands for all of them.
        parts: the parts of its run that come before it.
        context_turns: see `one_run.Plan`.
        reason: why it is left out.
    """

    within: bool = False
    holds: bool = False
    parts: Sequence[RawRecord] = ()
    context_turns: int | None = None
    reason: str | None = None


ALONE = InRun()
"""A record that is a run of its own."""


class Item(NamedTuple):
    """A record with everything that decides what becomes of it.

    Attributes:
        reading: how its file is read.
        raw: the record.
        place: its place in its run.
        given: the row of the file of scores for it, or the reason why the record is left out if its row is unclear.
    """

    reading: Reading
    raw: RawRecord
    place: InRun = ALONE
    given: Given | str | None = None


class Run(NamedTuple):
    """A run ready to be stored.

    Attributes:
        task: its task.
        early: the name of the task in early stores, see `fields.early_prompt_task`; None if the run names its task.
        rest: its line in the store, from after the number of its sample.
        facts: for the report.
    """

    task: str
    early: str | None
    rest: bytes
    facts: Facts


class Converted(NamedTuple):
    """What became of a record.

    Attributes:
        hashes: those of its content and of its bytes; None if it could not be decoded.
        run: the run; None if it is left out, or is within another record.
        problem: why it is left out.
    """

    hashes: tuple[int, int] | None
    run: Run | None = None
    problem: str | None = None


def converted(item: Item, asked: Asked) -> Converted:
    """What becomes of a record."""
    hashes = None
    try:
        record, text = decode_with_content(item.raw)
        hashes = hash_of(text), hash_of(item.raw.data)
        found = _found(record, item, asked)
        return Converted(hashes) if found is None else Converted(hashes, _run(record, found, item, asked, hashes))
    except (DataError, RecursionError, UnicodeEncodeError) as error:
        return Converted(hashes, problem=_REASONS.get(type(error), str(error)))


def _found(record: Record, item: Item, asked: Asked) -> Imported | None:
    """The run in a record; None if another record of its run contains it.

    Raises:
        DataError: the record is not a run.
    """
    place = item.place
    if asked.run is not None:
        check_named(record, asked.run)
    if place.reason is not None:
        raise DataError(place.reason)
    if place.within:
        return None
    read, source = item.reading.read, item.reading.source
    found = read(record, score=asked.score, task=asked.task)
    if place.parts:
        parts = {part.number: read(decode(part), score=asked.score, task=asked.task) for part in place.parts}
        found = _joined(parts, found)
    elif not place.holds and is_later_part(record):
        raise DataError("part: this is a later part of a run, and the parts before it are not in the file")
    context_turns = found.context_turns if place.context_turns is None else place.context_turns
    if asked.context_turns is not None:
        context_turns = asked.context_turns
    if context_turns != found.context_turns:
        found = replace(found, context_turns=context_turns)
    if found.task is None and found.named_by_file and source.alone:
        found = replace(found, task=source.path.stem.encode("utf-8", "replace").decode())
    return found


def _run(record: Record, found: Imported, item: Item, asked: Asked, hashes: tuple[int, int]) -> Run:
    """The run to be stored for what was found in a record.

    Raises:
        DataError: it cannot be stored.
    """
    reading, raw = item.reading, item.raw
    named = tasks_in(record, reading.tasks if asked.task is None else (asked.task,))
    if item.given is not None:
        if isinstance(item.given, str):
            raise DataError(item.given)
        task, found = found.task, with_given(found, item.given)
        named = named if found.task == task else [(item.given.sheet, str(found.task)), *named]
    content, digest = hashes
    redacted: dict[str, int] = {}
    if reading.redacts:
        redactor = Redactor()
        found = redactor.run(found)
        redacted = dict(redactor.counts)
    place: dict[str, str | int] = {
        "source": reading.source.name,
        "row": raw.number,
        "line": raw.line,
        "digest": f"{digest:016x}",
        "content": f"{content:016x}",
    }
    made = trajectory_of(
        found, reading.source.format, asked.score_range, keep_unscored=asked.keep_unscored, place=place
    )
    line = line_of(made)
    early = early_prompt_task(made.messages[: made.replies[0]]) if not found.task else None
    facts = facts_of(
        found,
        made,
        named,
        asked.score_range,
        redacted=redacted,
        with_key=not reading.redacts and may_hold_a_key(line),
        error=error_in(record) if made.env in _OPEN else None,
    )
    return Run(made.task, early, line[len(head_of(made.task, made.sample)) :], facts)


def _joined(parts: dict[int, Imported], last: Imported) -> Imported:
    """A run made from its parts, by number: the last part with the messages and metadata of all of them."""
    messages = chain.from_iterable(part.messages for part in (*parts.values(), last))
    metadata = {
        f"{name}_row_{number}": value for number, part in parts.items() for name, value in part.metadata.items()
    }
    made = [one for part in (*parts.values(), last) for one in part.made or (Made(),) * _replies(part)]
    return replace(
        last,
        messages=tuple(messages),
        metadata={**metadata, **last.metadata},
        made=tuple(made) if any(one != Made() for one in made) else (),
    )


def _replies(part: Imported) -> int:
    return sum(message.role == "assistant" for message in part.messages)


__all__ = ["ALONE", "Asked", "Converted", "InRun", "Item", "Reading", "Run", "converted"]
