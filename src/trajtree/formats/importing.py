"""Importing other tools' runs into a store.

Records are processed in file order, and every trajectory records its source, so the store itself shows what has been
imported: after a kill, or when a file has grown, the same command adds what is missing and ends with exactly the bytes
of an uninterrupted import. A record that was left out is not in the store and is tried again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trajtree.errors import DataError
from trajtree.formats.already_stored import Known, look_into
from trajtree.formats.containers.finding import find
from trajtree.formats.import_report import KEPT, ImportReport, LeftOut, OtherScore, Tally
from trajtree.formats.import_sources import Source, hash_of, sources
from trajtree.formats.one_run import Plan, check_named, is_later_part, plan
from trajtree.formats.read.detect import format_named, runs_of
from trajtree.formats.read.fields import tasks_in
from trajtree.formats.read.records import RawRecord, decode
from trajtree.formats.read.to_trajectory import Imported, trajectory_of
from trajtree.formats.redaction import Redactor, may_hold_a_key
from trajtree.formats.score_sheet import ScoreSheet, ids_of, is_subagents, read_scores, reported
from trajtree.store.encoding import HIGHEST_SAMPLE
from trajtree.store.lock import claimed
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore, line_of
from trajtree.trajectory import Made

_canonical = json.JSONEncoder(sort_keys=True).encode
"""Encodes a record's content independently of its spelling; created once, as json.dumps would at each call."""

_REASONS: dict[type[Exception], str] = {
    RecursionError: "a tool call's arguments are nested too deeply",
    UnicodeEncodeError: "holds half a character (a lone surrogate), which cannot be stored",
}
"""Reasons why a record is left out, for errors whose own message is not meant for users."""

_BATCH_ROWS = 500
_BATCH_BYTES = 1 << 25


@dataclass(frozen=True, slots=True)
class _Asked:
    """The caller's options for the records; see `import_files`."""

    score: str | None
    score_range: tuple[float, float]
    task: str | None
    context_turns: int | None
    run: str | None
    keep_unscored: bool
    redact: bool | None


def import_files(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    store_path: str | os.PathLike[str],
    *,
    format: str | None = None,
    score: str | None = None,
    score_range: tuple[float, float] = (0.0, 1.0),
    task: str | None = None,
    context_turns: int | None = None,
    run: str | None = None,
    scores: str | os.PathLike[str] | None = None,
    keep_unscored: bool = False,
    redact: bool | None = None,
    progress: Progress = SILENT,
) -> ImportReport:
    """Append the runs in `files` to a store, except those that it already has.

    Args:
        files: a file, folder or archive, or several; a folder or archive stands for all logs in it (see
            `containers.finding.LOGS`).
        store_path: the store; it is created if it does not exist.
        format: the files' format; by default detected from each file's first record.
        score: dotted path of the field with the score, if it is not where the format has it.
        score_range: the score values that stand for 0 and 1.
        task: dotted path of the field that names the task, likewise.
        context_turns: number of leading replies of each run that are an example, not the agent's own.
        run: dotted path of the field that names the run; records of the same run are its calls or its parts.
        scores: a file with the scores of runs, see `score_sheet`; they take precedence over those of the logs.
        keep_unscored: store runs without a score too; they are never compared or measured.
        redact: whether keys, mail addresses and the like are replaced, see `redaction`; by default in the formats of
            people's own sessions.
        progress: counts the processed records.

    Raises:
        DataError: a file is missing or in no known format, the range is invalid, or a record was changed after it was
            imported. A file within a folder that is in no known format is left out, and so is a record that is not a
            run; the rest are imported.
        RunError: another process is writing the store.
    """
    low, high = score_range
    if not 0 < high - low < math.inf:
        raise DataError(f"--score-range {low:g} {high:g}: LOW must be less than HIGH")
    asked = _Asked(score, (low, high), task, context_turns, run, keep_unscored, redact)
    sheet = None if scores is None else read_scores(Path(scores))
    store, tally = TrajectoryStore(store_path, create=True), Tally()
    several = [files] if isinstance(files, str | os.PathLike) else files
    with ExitStack() as stack:
        finds = find(map(Path, several), lambda: _scratch(stack))
        own = [store.path] if sheet is None else [store.path, sheet.path]
        to_read, reports = sources(finds, own, tally, format=format, run=run)
        sheet = reported(sheet, reports, alone=not to_read)
        with claimed(store.path):
            progress.advance(0)  # it begins: looking into a large store takes a while
            known = look_into(store, [name for source in to_read for name in (source.name, *source.holds)], tally)
            state = _Import(asked, known, tally, sheet)
            state.look_up(to_read)
            _take(to_read, store, state, progress)
            tally.redacted.update(state.redactor.counts)
    return tally.report()


def _scratch(stack: ExitStack) -> Path:
    """An empty folder that is removed at the end."""
    return Path(stack.enter_context(TemporaryDirectory(prefix="trajtree-unpacked-")))


def _take(to_read: list[Source], store: TrajectoryStore, state: _Import, progress: Progress) -> None:
    batch: list[bytes] = []
    size = seen = 0
    for source in to_read:
        for raw, line in state.lines(source):
            seen += 1
            size += len(raw.data)
            if line is not None:
                batch.append(line)
            if seen >= _BATCH_ROWS or size >= _BATCH_BYTES:
                _write(store, batch)
                progress.advance(seen)
                size = seen = 0
    _write(store, batch)
    progress.advance(seen)


def _write(store: TrajectoryStore, batch: list[bytes]) -> None:
    if batch:
        store.append_lines(batch)
        batch.clear()


@dataclass(slots=True)
class _Runs:
    """Records of a file that belong to the same run, while the file is read.

    `held` has the records contained in another one, by that one; `stored` those of them that are in the store as
    separate runs; `parts` the parts of runs until the last one is read.
    """

    plan: Plan
    held: dict[int, list[int]] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    parts: dict[int, Imported] = field(default_factory=dict)

    def forget(self, number: int) -> None:
        """Drop the parts of a run whose last part is not needed."""
        for part in self.plan.parts.get(number, ()):
            self.parts.pop(part, None)


@dataclass(slots=True)
class _Import:
    """An import in progress."""

    asked: _Asked
    known: Known
    tally: Tally
    sheet: ScoreSheet | None
    redactor: Redactor = field(default_factory=Redactor)

    def redacts(self, source: Source) -> bool:
        """Whether the runs of a file are redacted."""
        return format_named(source.format).private if self.asked.redact is None else self.asked.redact

    def look_up(self, to_read: list[Source]) -> None:
        """Find the rows of the file of scores for all runs, if there is one: a row that fits several is not used."""
        if self.sheet is None:
            return
        for source in to_read:
            plan = self._plan(source)
            found: list[tuple[int, set[str], bool]] = []
            for raw in runs_of(source.path, source.format):
                if raw.number not in plan.holder:
                    try:
                        record = decode(raw)
                    except DataError:
                        continue  # it is left out for that reason later
                    found.append((raw.number, ids_of(record, self.asked.run), is_subagents(record)))
            alone = sum(not subagents for _, _, subagents in found) == 1
            for number, ids, subagents in found:
                self.sheet.look_up((source.name, number), ids, source.shown, alone=alone and not subagents)
        self.tally.sheet = self.sheet.use()

    def lines(self, source: Source) -> Iterator[tuple[RawRecord, bytes | None]]:
        """Every record of a file, with the line of its trajectory if it has a new one.

        Raises:
            DataError: a record differs from the one that the store has from this file.
        """
        runs = self._runs(source)
        for raw in runs_of(source.path, source.format):
            digest = hash_of(raw.data)
            stored = self.known.digest_of(source.name, raw.number)
            if stored not in (0, digest):
                raise DataError(
                    f"{source.shown}, line {raw.line}: row {raw.number} is not the one that was imported from this "
                    "file; if it was changed since, import it into a new store; if its new rows belong beside the old "
                    "ones, give it another name"
                )
            earlier = any(self.known.digest_of(name, raw.number) for name in source.holds)
            if not stored and earlier:
                reason = "it goes on from a session that the store has as a run of its own; import into a new store"
                self.tally.leave_out(LeftOut(source.shown, raw.line, raw.number, reason))
                yield raw, None
            elif stored:
                self.tally.skipped += 1
                runs.forget(raw.number)
                yield raw, None
            else:
                yield raw, self._line(raw, digest, source, runs)

    def _line(self, raw: RawRecord, digest: int, source: Source, runs: _Runs) -> bytes | None:
        """The line for a record that the store does not have from this file; None if it gets none."""
        try:
            record = decode(raw)
            content = hash_of(_canonical(record).encode())
            equal = self.known.take(source.name, content, digest)
            if equal:
                self.tally.skipped += 1
                runs.forget(raw.number)
                if raw.number in runs.plan.holder:
                    runs.stored.add(raw.number)
                return None
            found = self._found(record, raw.number, source, runs)
            if found is None:
                joined = runs.plan.holder[raw.number] in runs.plan.parts
                self.tally.joined += joined
                self.tally.held += not joined
                return None
            named = tasks_in(record, self._task_places(source))
            if self.sheet is not None:
                task = found.task
                found = self.sheet.given((source.name, raw.number), found)
                named = named if found.task == task else [(self.sheet.path.name, str(found.task)), *named]
            redacts = self.redacts(source)
            if redacts:
                found = self.redactor.run(found)
            made = trajectory_of(
                found,
                source.format,
                self.asked.score_range,
                samples=self.known.samples,
                keep_unscored=self.asked.keep_unscored,
                place={
                    "source": source.name,
                    "row": raw.number,
                    "line": raw.line,
                    "digest": f"{digest:016x}",
                    "content": f"{content:016x}",
                },
            )
            if made.sample > HIGHEST_SAMPLE:
                raise DataError(f"task {made.task}: no sample can follow {HIGHEST_SAMPLE}; import into a new store")
            line = line_of(made)
        except (DataError, RecursionError, UnicodeEncodeError) as error:
            self.tally.leave_out(LeftOut(source.shown, raw.line, raw.number, _REASONS.get(type(error), str(error))))
            return None
        self.tally.with_keys += not redacts and may_hold_a_key(line)
        self.known.store(source.name, raw.number, digest)
        self.known.samples[made.task] = made.sample + 1
        self.tally.repeated += equal is None
        self.tally.add(found, made, named, self.asked.score_range)
        return line

    def _task_places(self, source: Source) -> tuple[str, ...]:
        return format_named(source.format).tasks if self.asked.task is None else (self.asked.task,)

    def _plan(self, source: Source) -> Plan:
        if not source.calls:
            return Plan()
        asked = self.asked
        return plan(source.path, source.format, asked.run, score=asked.score, task=asked.task)

    def _runs(self, source: Source) -> _Runs:
        made = self._plan(source)
        self.tally.undecided += made.undecided
        self.tally.disagreeing += made.disagreeing
        runs = _Runs(made)
        for number, holder in made.holder.items():
            runs.held.setdefault(holder, []).append(number)
            if self.known.digest_of(source.name, number):
                runs.stored.add(number)
        return runs

    def _found(self, record: dict[str, Any], number: int, source: Source, runs: _Runs) -> Imported | None:
        """The run in a record; None if another record of its run contains it.

        Raises:
            DataError: the record is not a run, or the store already has a part of it as a separate run.
        """
        asked, plan = self.asked, runs.plan
        if asked.run is not None:
            check_named(record, asked.run)
        if number in plan.reasons:
            raise DataError(plan.reasons[number])
        holder = plan.holder.get(number)
        if holder is not None and holder not in plan.parts:
            return None
        found = format_named(source.format).read(record, score=asked.score, task=asked.task)
        if holder is not None:
            runs.parts[number] = found
            return None
        earlier = runs.stored.intersection(runs.held.get(number, ()))
        if earlier:
            raise DataError(
                f"its run goes on from row {min(earlier)}, which is in the store as a run of its own; "
                "import the file into a new store"
            )
        if number in plan.parts:
            found = _joined({part: runs.parts.pop(part) for part in plan.parts[number]}, found)
        elif is_later_part(record) and number not in runs.held:
            raise DataError("part: this is a later part of a run, and the parts before it are not in the file")
        context_turns = plan.context_turns.get(number, found.context_turns)
        if asked.context_turns is not None:
            context_turns = asked.context_turns
        if context_turns != found.context_turns:
            found = replace(found, context_turns=context_turns)
        if found.task is None and found.named_by_file and source.alone:
            found = replace(found, task=source.path.stem.encode("utf-8", "replace").decode())
        return found


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


__all__ = ["KEPT", "ImportReport", "LeftOut", "OtherScore", "import_files"]
