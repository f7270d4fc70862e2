"""Records of a file that belong to one run: one per model call, each with everything before it, or parts of the run.

A file with such records is read an additional time beforehand. Only hashes and numbers are kept of each record.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from trajtree.errors import DataError
from trajtree.formats.read.detect import format_named, runs_of
from trajtree.formats.read.fields import TASKS, Record, at, no_such_field, task_at
from trajtree.formats.read.records import decode
from trajtree.formats.read.scores import is_missing
from trajtree.formats.read.to_trajectory import Imported

RUNS = ("rollout_id", "trajectory_id", "episode_id", "trial_name", "trial_id")
"""Fields with a value that identifies a single run."""

NAMES = (*RUNS, "run", "run_id", "session_id")
"""Fields that name a run or a group of runs; records of a single run also have a step number."""

PART = "part"
STEPS = ("step", "step_index", "turn", "turn_index", "call", "call_index", "episode", PART)
"""Fields that number the calls of a run, or its parts."""

_NUMBER = re.compile(r"\d+$")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with the records of a file, by their numbers.

    Attributes:
        holder: for a record contained in another one of its run, that other record.
        parts: for the last part of a run, the parts before it, in order.
        context_turns: for a record that contains others, how many of its first replies are not the agent's: as many as
            in the shortest of them, because a later call is given all earlier replies.
        reasons: why a record is left out.
        undecided: records whose fields say that they belong to one run, but whose messages do not fit.
        disagreeing: those whose messages would fit, but whose scores or models differ.
    """

    holder: dict[int, int] = field(default_factory=dict)
    parts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    context_turns: dict[int, int] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    undecided: int = 0
    disagreeing: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """A record of a run: its numbers in the file and in the run, its counts of messages and context turns, and a hash.

    `first` is a hash of the first message, or None if that is an instruction. `goes_on` says whether the first message
    is a tool's result, so that the record cannot be a run of its own. `score` and `policy` are None if the record has
    none.
    """

    number: int
    step: int | None
    length: int
    context_turns: int
    end: int
    first: int | None
    goes_on: bool
    score: str | None
    policy: str | None


@dataclass(slots=True)
class _Run:
    """The records of one run. `value` is the value of the requested field; `joins` says that they may be parts."""

    value: object
    joins: bool
    rows: list[_Row] = field(default_factory=list)
    longest: array[int] = field(default_factory=lambda: array("q"))
    """[messages] for the longest record, the hash of all messages up to each."""

    def add(self, number: int, step: int | None, found: Imported) -> None:
        hashes = array("q")
        here = 0
        for message in found.messages:
            here = hash((here, message))
            hashes.append(here)
        begins = found.messages[0]
        first = None if begins.role == "system" else hash(begins)
        _, value = found.score
        score = None if is_missing(value) else repr(float(value) if isinstance(value, int | float) else value)
        self.rows.append(
            _Row(
                number,
                step,
                length=len(hashes),
                context_turns=found.context_turns,
                end=here,
                first=first,
                goes_on=begins.role == "tool",
                score=score,
                policy=found.policy,
            )
        )
        if len(hashes) > len(self.longest):
            self.longest = hashes

    def holder(self) -> _Row | None:
        """The longest record; None unless each of the others is a shorter beginning of it."""
        lengths = {row.length for row in self.rows}
        if len(lengths) < len(self.rows) or any(self.longest[row.length - 1] != row.end for row in self.rows):
            return None
        return max(self.rows, key=lambda row: row.length)

    def agrees_with(self, last: _Row) -> bool:
        """Whether all records have the last one's score and model, or none of their own."""
        return all(row.score in (None, last.score) and row.policy in (None, last.policy) for row in self.rows)

    def numbered(self) -> bool:
        """Whether the records have consecutive numbers."""
        steps = sorted(-1 if row.step is None else row.step for row in self.rows)
        return steps[0] >= 0 and steps == list(range(steps[0], steps[0] + len(steps)))

    def in_parts(self) -> bool:
        """Whether each record continues where the one before it ended: none repeats another one's beginning.

        Unless the fields say that they are parts, all but the first must begin with a tool's result.
        """
        if not self.joins and not all(row.goes_on for row in self.rows[1:]):
            return False
        steps = [row.step for row in self.rows]
        firsts = {row.first for row in self.rows[1:]}
        begins_anew = None in firsts or self.rows[0].first in firsts or len(firsts) < len(self.rows) - 1
        in_order = self.numbered() and steps == sorted(steps, key=lambda step: step or 0)
        return in_order and not begins_anew and not any(row.context_turns for row in self.rows[1:])


def may_be_calls(record: Record) -> bool:
    """Whether a record has a field that names its run or numbers it within the run."""
    return any(record.get(name) is not None for name in (*NAMES, *STEPS))


def check_named(record: Record, run: str) -> None:
    """Raise DataError if field `run` of a record does not name a run."""
    value = at(record, run)
    if value is None:
        raise no_such_field(record, run, "--run", "must name the one that names the run")
    if _scalar(value) is None:
        raise DataError(f"{run}: does not name a run (text or a number); --run must name another field")


def is_later_part(record: Record) -> bool:
    """Whether a record says that it is a part of a run other than the first."""
    number = record.get(PART)
    return type(number) is int and number > 1 and any(record.get(name) is not None for name in NAMES)


def plan(path: Path, format: str, run: str | None, *, score: str | None, task: str | None) -> Plan:
    """Which records of a file are one run: those with one value in field `run`, or, without it, in the usual fields.

    Records of one run are beginnings of the longest one, or parts with consecutive numbers, and all have the last one's
    score and model, or none. If the field was named by the user, all others are left out; if it was guessed, they are
    separate runs.
    """
    read = format_named(format).read
    sizes: Counter[int] = Counter()
    for _, _, key in _keyed(path, format, run, task):
        if key is not None:
            sizes[key.hash] += 1
    shared = {key for key, size in sizes.items() if size > 1}
    runs: dict[int, _Run] = {}
    for number, record, key in _keyed(path, format, run, task) if shared else ():
        if key is not None and key.hash in shared:
            try:
                found = read(record, score=score, task=task)
            except (DataError, RecursionError):
                continue  # it is left out for that reason later, when it is read
            if found.messages:
                runs.setdefault(key.hash, _Run(key.value, key.joins)).add(number, key.step, found)
    made = Plan()
    counts: Counter[_Verdict] = Counter()
    for rows in runs.values():
        counts[_decide(made, rows, run)] += len(rows.rows)
    return replace(made, undecided=counts[_Verdict.UNDECIDED], disagreeing=counts[_Verdict.DISAGREEING])


class _Verdict(StrEnum):
    """What was decided on records whose fields say that they are one run, where nobody named the field."""

    ONE_RUN = "one run"
    UNDECIDED = "undecided"
    DISAGREEING = "disagreeing"


def _decide(made: Plan, run: _Run, field: str | None) -> _Verdict:
    """Add a run's records to the plan, and say what was decided."""
    numbers = [row.number for row in run.rows]
    if len(numbers) < 2 or (field is None and not run.numbered() and run.rows[0].step is not None):
        return _Verdict.ONE_RUN
    holder = run.holder()
    last = holder or (run.rows[-1] if run.in_parts() else None)
    if last is not None and run.agrees_with(last):
        made.holder.update((number, last.number) for number in numbers if number != last.number)
        if holder is not None:
            made.context_turns[last.number] = min(row.context_turns for row in run.rows)
        else:
            made.parts[last.number] = tuple(numbers[:-1])
            made.context_turns[last.number] = run.rows[0].context_turns
    elif field is None and (last is None or holder is not None or not run.joins):
        return _Verdict.UNDECIDED if last is None else _Verdict.DISAGREEING
    else:
        named = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
        why = (
            "neither beginnings of the longest one nor parts whose steps follow one another"
            if last is None
            else f"their scores or models are not those of row {last.number}"
        )
        which = "of one run" if field is None else f"of run {str(run.value)[:80]!r}"
        reason = f"{field or PART}: rows {named} are all {which}, but {why}"
        made.reasons.update((number, reason) for number in numbers)
    return _Verdict.ONE_RUN


class _Key(NamedTuple):
    """The run of a record, its number in the run, and whether the run may be in parts."""

    hash: int
    value: object
    step: int | None
    joins: bool


def _keyed(path: Path, format: str, run: str | None, task: str | None) -> Iterator[tuple[int, Record, _Key | None]]:
    """(number, record, run) of each readable record; None if it names no run."""
    began, before = 0, (0, 0)
    for raw in runs_of(path, format):
        try:
            record = decode(raw)
        except DataError:
            continue
        asked, (name, step) = hash(_task(record, task)), _step(record)
        key = None
        if run is not None:
            value = _scalar(at(record, run))
            if value is not None:
                key = _Key(hash((asked, repr(value))), value, step, True)
        elif names := tuple((name, value) for name in NAMES if (value := _scalar(record.get(name))) is not None):
            one = any(name in RUNS for name, _ in names)
            if one or step is not None:
                key = _Key(hash((asked, repr(names))), None, step, name == PART)
        elif step is not None:
            # Only numbers: records with consecutive numbers in the file belong to one run.
            if before != (asked, step - 1):
                began = raw.number
            key = _Key(hash((asked, began)), None, step, False)
            before = asked, step
        yield raw.number, record, key


def _task(record: Record, task: str | None) -> str | None:
    try:
        return task_at(record, task, TASKS)
    except DataError:
        return None


def _step(record: Record) -> tuple[str, int | None]:
    """The field that numbers a record in its run, and the number: an integer, or the number at the end of a text."""
    for name in STEPS:
        value = record.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return name, value
        if isinstance(value, str) and (found := _NUMBER.search(value)):
            return name, int(found.group()[-18:])
    return "", None


def _scalar(value: object) -> object:
    return value if isinstance(value, str | int | float) else None


__all__ = ["NAMES", "RUNS", "STEPS", "Plan", "check_named", "is_later_part", "may_be_calls", "plan"]
