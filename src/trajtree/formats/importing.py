"""Importing other tools' runs into a store.

Records are processed in file order, and every trajectory records its source, so the store itself shows what has been
imported: after a kill, or when a file has grown, the same command adds what is missing and ends with exactly the bytes
of an uninterrupted import. A record that was left out is not in the store and is tried again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from trajtree.errors import DataError
from trajtree.formats.already_stored import Known, look_into
from trajtree.formats.containers.finding import find
from trajtree.formats.import_records import ALONE, Asked, Converted, InRun, Item, Reading, converted
from trajtree.formats.import_report import KEPT, ImportReport, LeftOut, OtherScore
from trajtree.formats.import_sources import Source, hash_of, sources
from trajtree.formats.import_tally import Tally
from trajtree.formats.one_run import Plan, plan
from trajtree.formats.read.detect import format_named, runs_of
from trajtree.formats.read.records import RawRecord, decode
from trajtree.formats.score_sheet import ScoreSheet, ids_of, is_subagents, read_scores, reported
from trajtree.store.encoding import HIGHEST_SAMPLE
from trajtree.store.lock import claimed
from trajtree.store.parallel import in_order
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore, line_with

_PIECE_ROWS = 200
_PIECE_BYTES = 1 << 21
"""Size at which records are converted together; larger pieces are of no use to the processes that share the work."""

_BATCH_ROWS = 2000
_BATCH_BYTES = 1 << 24
"""Size at which what was converted is written."""


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
    jobs: int = 1,
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
        jobs: number of processes that convert records; the store does not depend on it. With several, a script must
            have its calls below `if __name__ == "__main__":`.
        progress: counts the processed records.

    Raises:
        DataError: a file is missing or in no known format, the range is invalid, or a record was changed after it was
            imported. A file within a folder that is in no known format is left out, and so is a record that is not a
            run; the rest are imported.
        RunError: another process is writing the store, or one of several `jobs` died.
    """
    low, high = score_range
    if not 0 < high - low < math.inf:
        raise DataError(f"--score-range {low:g} {high:g}: LOW must be less than HIGH")
    if jobs < 1:
        raise DataError(f"--jobs {jobs}: must be at least 1")
    asked = Asked(score, (low, high), task, context_turns, run, keep_unscored)
    sheet = None if scores is None else read_scores(Path(scores))
    store, tally = TrajectoryStore(store_path, create=True), Tally()
    several = [files] if isinstance(files, str | os.PathLike) else files
    with ExitStack() as stack:
        finds = find(map(Path, several), lambda: _scratch(stack))
        own = [store.path] if sheet is None else [store.path, sheet.path]
        to_read, reports = sources(finds, own, tally, format=format, run=run)
        sheet = reported(sheet, reports, alone=not to_read)
        with claimed(store.path):
            progress.advance(0)  # shows that work has begun: looking into a large store takes a while
            known = look_into(store, [source.name for source in to_read], tally)
            state = _Import(asked, redact, known, tally, sheet)
            state.look_up(to_read)
            _take(to_read, store, state, progress, jobs)
    return tally.report()


def _scratch(stack: ExitStack) -> Path:
    """An empty folder that is removed at the end."""
    return Path(stack.enter_context(TemporaryDirectory(prefix="trajtree-unpacked-")))


def _take(to_read: list[Source], store: TrajectoryStore, state: _Import, progress: Progress, jobs: int) -> None:
    batch: list[bytes] = []
    size = seen = 0
    for piece, results in in_order(_converted, state.pieces(to_read), state.asked, jobs=jobs):
        for item, made in zip(piece.items, results, strict=True):
            if (line := state.take(item, made)) is not None:
                batch.append(line)
                size += len(line)
        seen += piece.seen
        if seen >= _BATCH_ROWS or size >= _BATCH_BYTES or piece.error is not None:
            _write(store, batch)
            progress.advance(seen)
            size = seen = 0
        if piece.error is not None:
            raise piece.error
    _write(store, batch)
    progress.advance(seen)


def _write(store: TrajectoryStore, batch: list[bytes]) -> None:
    if batch:
        store.append_lines(batch)
        batch.clear()


class _Piece(NamedTuple):
    """Records to be converted together; `seen` also counts those that need no conversion.

    `error` is what was wrong after them; it ends the import.
    """

    items: list[Item]
    seen: int
    error: DataError | None = None


def _converted(piece: _Piece, asked: Asked) -> list[Converted]:
    return [converted(item, asked) for item in piece.items]


@dataclass(slots=True)
class _Runs:
    """Records of a file that belong to the same run, while the file is read.

    `held` has the records contained in another one, by that one; `stored` those of them that are in the store as
    separate runs; `parts` the parts of runs until the last one is read.
    """

    plan: Plan
    held: dict[int, list[int]] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    parts: dict[int, RawRecord] = field(default_factory=dict)

    def parts_before(self, number: int) -> tuple[RawRecord, ...]:
        """The parts of the run whose last part is this record; they are forgotten, since nothing else needs them."""
        parts = (self.parts.pop(part, None) for part in self.plan.parts.get(number, ()))
        return tuple([part for part in parts if part is not None])

    def place(self, raw: RawRecord) -> InRun:
        """The place of a record in its run."""
        plan, number = self.plan, raw.number
        holder = plan.holder.get(number)
        if holder in plan.parts:
            self.parts[number] = raw
        return InRun(
            within=holder is not None,
            holds=number in self.held,
            parts=self.parts_before(number),
            context_turns=plan.context_turns.get(number),
            reason=plan.reasons.get(number),
        )


_GOES_ON = InRun(reason="it continues a session that the store has as a run of its own; import into a new store")
_NO_RUNS = _Runs(Plan())
"""For a file in which every record is a run of its own."""


@dataclass(slots=True)
class _Import:
    """An import in progress."""

    asked: Asked
    redact: bool | None
    known: Known
    tally: Tally
    sheet: ScoreSheet | None
    runs: dict[str, _Runs] = field(default_factory=dict)
    """By file name, for the files in which several records may belong to one run."""

    def reading(self, source: Source) -> Reading:
        """How a file is read."""
        format = format_named(source.format)
        return Reading(source, format.read, format.tasks, format.private if self.redact is None else self.redact)

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
            own = [number for number, _, subagents in found if not subagents] or [number for number, _, _ in found]
            for number, ids, _ in found:
                if number in source.held:
                    continue
                self.sheet.look_up((source.name, number), ids, source.shown, alone=own == [number])
        self.tally.sheet = self.sheet.use()

    def pieces(self, to_read: list[Source]) -> Iterator[_Piece]:
        """Every record of the files, in pieces of those that are to be converted.

        If a record differs from the one that the store has from this file, the last piece ends with that error.
        """
        items: list[Item] = []
        size = seen = 0
        try:
            for source in to_read:
                for raw, item in self._items(source):
                    seen += 1
                    if item is not None:
                        items.append(item)
                        size += len(raw.data)
                    if seen >= _PIECE_ROWS or size >= _PIECE_BYTES:
                        yield _Piece(items, seen)
                        items, size, seen = [], 0, 0
        except DataError as error:
            yield _Piece(items, seen, error)
        else:
            yield _Piece(items, seen)

    def _items(self, source: Source) -> Iterator[tuple[RawRecord, Item | None]]:
        """Every record of a file, as an `Item` unless the store has it from this file already.

        Raises:
            DataError: a record differs from the one that the store has from this file.
        """
        reading = self.reading(source)
        runs = self._runs(source) if source.calls else None
        for raw in runs_of(source.path, source.format):
            if raw.number in source.held:
                continue
            stored = self.known.digest_of(source.name, raw.number)
            if stored and stored != hash_of(raw.data):
                raise DataError(
                    f"{source.shown}, line {raw.line}: row {raw.number} is not the one that was imported from this "
                    "file; if it was changed since, import it into a new store; if its new rows belong beside the old "
                    "ones, give it another name"
                )
            if not stored and any(self.known.digest_of(*place) for place in source.holds.get(raw.number, ())):
                yield raw, Item(reading, raw, _GOES_ON)
            elif stored:
                self.tally.skipped += 1
                if runs is not None:
                    runs.parts_before(raw.number)
                yield raw, None
            else:
                place = ALONE if runs is None else runs.place(raw)
                given = None if self.sheet is None else self.sheet.given((source.name, raw.number))
                yield raw, Item(reading, raw, place, given)

    def take(self, item: Item, made: Converted) -> bytes | None:
        """The line of a record's run; None if it gets none."""
        source, raw, runs = item.reading.source, item.raw, self.runs.get(item.reading.source.name, _NO_RUNS)
        equal: bool | None = False
        if made.hashes is not None and (equal := self.known.take(source.name, *made.hashes)):
            self.tally.skipped += 1
            if item.place.within:
                runs.stored.add(raw.number)
            return None
        earlier = runs.stored.intersection(runs.held.get(raw.number, ()))
        problem = made.problem
        if earlier and made.hashes is not None:
            problem = (
                f"its run continues row {min(earlier)}, which is in the store as a run of its own; "
                "import the file into a new store"
            )
        elif made.hashes is not None and made.run is not None:
            run, (_, digest) = made.run, made.hashes
            task = run.early if run.early is not None and run.early in self.known.samples else run.task
            sample = self.known.samples.get(task, 0)
            if sample <= HIGHEST_SAMPLE:
                self.known.store(source.name, raw.number, digest)
                self.known.samples[task] = sample + 1
                self.tally.repeated += equal is None
                self.tally.add(task, run.facts)
                return line_with(task, sample, run.rest)
            problem = f"task {task}: no sample can follow {HIGHEST_SAMPLE}; import into a new store"
        if problem is not None:
            self.tally.leave_out(LeftOut(source.shown, raw.line, raw.number, problem))
        elif runs.plan.holder[raw.number] in runs.plan.parts:
            self.tally.joined += 1
        else:
            self.tally.held += 1
        return None

    def _plan(self, source: Source) -> Plan:
        if not source.calls:
            return Plan()
        asked = self.asked
        return plan(source.path, source.format, asked.run, score=asked.score, task=asked.task)

    def _runs(self, source: Source) -> _Runs:
        made = self._plan(source)
        self.tally.undecided += made.undecided
        self.tally.disagreeing += made.disagreeing
        runs = self.runs[source.name] = _Runs(made)
        for number, holder in made.holder.items():
            runs.held.setdefault(holder, []).append(number)
            if self.known.digest_of(source.name, number):
                runs.stored.add(number)
        return runs


__all__ = ["KEPT", "ImportReport", "LeftOut", "OtherScore", "import_files"]
