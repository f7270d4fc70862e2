"""Scores from a file of their own, for logs that have none: a row per run, in CSV, JSON or JSON Lines.

A row names its run (`run`), its file (`file`), or both, and gives `score`, and optionally `task` and `outcome`. It
belongs to one run: a row that fits several, or a run that several rows fit, is a mistake, which is not guessed away.

A benchmark's report, or a folder of them, is such a file too: each task that it names is a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trajtree.errors import DataError, one_of
from trajtree.formats.import_report import SheetUse
from trajtree.formats.read.benchmarks.reports import report_in, verdicts
from trajtree.formats.read.fields import Record, at
from trajtree.formats.read.records import decode, raw_records
from trajtree.formats.read.scores import is_missing
from trajtree.formats.read.to_trajectory import Imported
from trajtree.store.files import open_input
from trajtree.trajectory import Outcome

NAMED = 10
"""Number of unmatched rows and runs that are named; further ones are counted."""

_IDS = (
    *("run", "run_id", "rollout_id", "trajectory_id", "episode_id", "trial_name", "trial_id"),
    *("session_id", "sessionId", "id", "uuid", "instance_id", "events.0.payload.id", "sample.uuid", "sample.id"),
    *("simulation.id", "trial.trial_name", "episode.id", "beside.task"),
)
"""Fields that may name a run."""

_RUN, _SCORE = ("run", "instance_id", "run_id"), ("score", "resolved", "reward", "success")
"""Columns with a run's name and with its score: ours, and those that benchmarks and others use."""

_SEVERAL = "each needs a row of its own, with columns that tell them apart (run, file)"
_SEVERAL_REPORTED = "a report has one result per task; put the report of each run beside it, or give a file of scores"


@dataclass(frozen=True, slots=True)
class Given:
    """What a row of the file `sheet` says about its run; `line` is its line, or its number where it has none."""

    sheet: str
    line: int
    score: object
    run: str | None = None
    file: str | None = None
    task: str | None = None
    outcome: Outcome | None = None

    def __str__(self) -> str:
        named = [f"{name} {value!r}" for name, value in (("run", self.run), ("file", self.file)) if value is not None]
        return f"line {self.line} ({', '.join(named)})"


@dataclass(slots=True)
class ScoreSheet:
    """The rows of a file of scores, and which run each belongs to.

    Attributes:
        path: the file.
        rows: its rows.
        several: what to do where a row fits several runs.
        without: names of the first runs that no row fits, and `without_count`, how many they are.
    """

    path: Path
    rows: tuple[Given, ...]
    several: str = _SEVERAL
    without: list[str] = field(default_factory=list)
    without_count: int = 0
    _by_name: dict[str, list[int]] = field(default_factory=dict)
    _found: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    _uses: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            path = Path(row.file or "").name
            for name in dict.fromkeys((path,) if row.run is None else (row.run, Path(row.run).name)):
                self._by_name.setdefault(name, []).append(index)

    def use(self) -> SheetUse:
        """How it was used, after all runs were looked up."""
        unmatched = [row for index, row in enumerate(self.rows) if index not in self._uses]
        return SheetUse(
            self.path.name,
            len(self.rows),
            tuple(map(str, unmatched[:NAMED])),
            len(unmatched),
            tuple(self.without),
            self.without_count,
        )

    def look_up(self, key: tuple[str, int], ids: set[str], file: Path, *, alone: bool) -> None:
        """Note which rows fit a run; all runs are looked up before any is given its score.

        Args:
            key: identifies the run.
            ids: its names in the log, see `ids_of`.
            file: its file.
            alone: whether it is the only run in that file, apart from those of its subagents.
        """
        names = ids | ({file.stem, file.name.partition(".")[0], file.name} if alone else set())
        places = (file.name, file.stem, file.parent.name)
        indices = {index for name in (*names, *places) for index in self._by_name.get(name, ())}
        fitting = sorted(index for index in indices if _fits(self.rows[index], names, file, alone))
        if not fitting:
            self.without_count += 1
            if len(self.without) < NAMED:
                self.without.append(str(file) if alone else f"{file}, row {key[1]}")
        self._found[key] = fitting
        for index in fitting:
            self._uses[index] = self._uses.get(index, 0) + 1

    def given(self, key: tuple[str, int]) -> Given | str | None:
        """The row of a run; None if there is none; if several fit, or it fits several runs, a sentence that says so."""
        fitting = self._found.get(key, [])
        if not fitting:
            return None
        rows = [self.rows[index] for index in fitting]
        if len(rows) > 1:
            return f"{self.path.name}: {' and '.join(map(str, rows[:3]))} both name this run; leave one out"
        (row,), uses = rows, self._uses[fitting[0]]
        if uses > 1:
            return f"{self.path.name}, {row} fits {uses:,} runs; {self.several}"
        return row


def with_given(found: Imported, row: Given) -> Imported:
    """A run with what its row says."""
    others = found.other_scores if is_missing(found.score[1]) else (found.score, *found.other_scores)
    return replace(
        found,
        score=(row.sheet, row.score),
        other_scores=others,
        task=found.task if row.task is None else row.task,
        outcome=found.outcome if row.outcome is None else row.outcome,
    )


def ids_of(record: Record, run: str | None) -> set[str]:
    """The names of a run in its log; `run` is a further field that names runs."""
    return {str(value) for name in (run, *_IDS) if name and type(value := at(record, name)) in (str, int)}


def is_subagents(record: Record) -> bool:
    """Whether a run is that of a subagent of a session: its id is that of the session and a name."""
    return "/" in str(record.get("session_id"))


def _fits(row: Given, names: set[str], file: Path, alone: bool) -> bool:
    if row.file is not None and not _is_file(row.file, file):
        return False
    if row.run is None:
        return alone
    return row.run in names or (alone and "/" in row.run and _is_file(row.run, file))


def _is_file(name: str, file: Path) -> bool:
    """Whether a name is that of the file or of its folder: the last parts, of a file with or without its suffixes."""
    parts = Path(name).parts
    if parts == file.parent.parts[-len(parts) :]:
        return True
    own = file.parts[-len(parts) :]
    return parts[:-1] == own[:-1] and parts[-1:] in ((file.name,), (file.stem,), (file.name.partition(".")[0],))


def read_scores(path: Path) -> ScoreSheet:
    """Read a file of scores. JSON may also be one object of names and scores, or a benchmark's report.

    Args:
        path: the file, or a folder with reports.

    Raises:
        DataError: naming the file and the line: a column is missing, or a value is not what it must be.
    """
    if (reported := _reported(path)) is not None:
        return ScoreSheet(path, reported, _SEVERAL_REPORTED)
    written = _csv_rows(path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(path)
    rows = tuple(_given(path, line, row) for line, row in written)
    if not rows:
        raise DataError(f"{path}: holds no scores; it needs a row per run with the columns run or file, and score")
    return ScoreSheet(path, rows)


def reported(sheet: ScoreSheet | None, reports: Sequence[Path], *, alone: bool) -> ScoreSheet | None:
    """The scores of a report that was named among the logs; without one, `sheet`.

    Raises:
        DataError: several were named, or one beside a file of scores, or nothing else (`alone`).
    """
    if not reports:
        return sheet
    if len(reports) > 1:
        raise DataError(
            f"{reports[0]} and {reports[1]} are both benchmarks' reports; name one, or put each beside its runs"
        )
    if sheet is not None:
        raise DataError(f"{reports[0]}: a benchmark's report gives scores, and so does --scores; name only one")
    if alone:
        raise DataError(f"{reports[0]}: a benchmark's report, not a run; name the runs to which it gives scores too")
    return read_scores(reports[0])


def _reported(path: Path) -> tuple[Given, ...] | None:
    """The tasks of a benchmark's report, or of all reports in a folder, as rows; None if the file is not one.

    Raises:
        DataError: the folder holds no report, or two of its reports contradict each other.
    """
    if not path.is_dir():
        report = report_in(path) if path.is_file() and path.suffix.lower() == ".json" else None
        return None if report is None else _rows(path, verdicts(report, path))
    said: dict[str, object] = {}
    for file in sorted(filter(Path.is_file, path.rglob("*.json"))):
        report = report_in(file)
        for task, found in ({} if report is None else verdicts(report, file)).items():
            if isinstance(found, bool) and isinstance(said.get(task), bool) and said[task] is not found:
                raise DataError(f"{path}: its reports contradict each other about {task}; name one of them")
            said[task] = found if isinstance(found, bool) else said.get(task, found)
    if not said:
        raise DataError(f"{path}: holds no report of a benchmark; name a file of scores, with a row per run")
    return _rows(path, said)


def _rows(path: Path, said: Mapping[str, object]) -> tuple[Given, ...]:
    return tuple(
        Given(path.name, number, score, run=task) for number, (task, score) in enumerate(said.items(), start=1)
    )


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with open_input(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{path}, line {reader.line_num}: has more or fewer values than there are columns")
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, line {reader.line_num + 1}: not CSV in UTF-8 ({error})") from None


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    for raw in raw_records(path):
        try:
            row = decode(raw)
        except DataError as error:
            raise DataError(f"{path}, line {raw.line}: {error}") from None
        if row and row.keys().isdisjoint(_SCORE) and not any(isinstance(value, dict | list) for value in row.values()):
            yield from ((raw.line, {"run": name, "score": score}) for name, score in row.items())
        else:
            yield raw.line, row


def _given(path: Path, line: int, written: Mapping[str, object]) -> Given:
    row = {name.strip().lower(): value for name, value in written.items()}
    row |= {columns[0]: next((row[name] for name in columns if name in row), None) for columns in (_RUN, _SCORE)}
    text = {name: _text(path, line, name, row.get(name)) for name in ("run", "file", "task", "outcome")}
    if text["run"] is None and text["file"] is None:
        there = f"the columns are {', '.join(written)[:200]}"
        raise DataError(f"{path}, line {line}: names no run; a row needs the column run or file; {there}")
    score = row.get("score")
    if score is None or score == "":
        what = "leave the row out if the run has no score"
        if {name.strip().lower() for name in written}.isdisjoint(_SCORE):
            what = f"rename the column that holds the scores; the columns are {', '.join(written)[:200]}"
        raise DataError(f"{path}, line {line}, field score: is missing; {what}")
    try:
        outcome = None if text["outcome"] is None else Outcome(one_of([*Outcome])(text["outcome"].strip().lower()))
    except ValueError as error:
        raise DataError(f"{path}, line {line}, field outcome: {error}") from None
    return Given(path.name, line, score, text["run"], text["file"], text["task"], outcome)


def _text(path: Path, line: int, name: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if type(value) in (str, int):
        return str(value)
    raise DataError(f"{path}, line {line}, field {name}: must be text, got {type(value).__name__}")


__all__ = ["Given", "ScoreSheet", "ids_of", "is_subagents", "read_scores", "reported", "with_given"]
