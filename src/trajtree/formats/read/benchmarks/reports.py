"""What a report of SWE-bench, or of a benchmark like it, that lies beside a run says about the run.

Such agents write a file per task and no score. The score comes from the benchmark, later, as one of: the harness's
report (`resolved_ids` and other lists; SWE-smith's `ids_resolved`), the result lists of older versions and of
submissions (`resolved`, `no_generation`, ...), or a report per task (`{task: {"resolved": true}}`; SWE-smith's without
the task).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.formats.read.fields import SCORES, Record, at, fields_of, score_at
from trajtree.formats.read.records import RawRecord
from trajtree.formats.read.scores import Missing, is_missing

BESIDE = "beside"
"""Field that a record gets with what stands beside its file."""

RESOLVED = f"{BESIDE}.resolved"
SCORES_OF_FILES = (*SCORES, RESOLVED)
"""Where the score may be if a run has a file of its own, named after its task."""

TASKS_OF_FILES = ("instance_id", f"{BESIDE}.task")
"""Where such a run may name its task."""

_OF_RUNS = ("trajs", "trajectories")
_OF_REPORTS = ("", "results", "logs", "run_evaluation", "logs/run_evaluation")
_OF_ONE_TASK = "report.json"
_LARGEST = 1 << 26
"""Size in bytes above which a JSON file is not looked into for a report."""

_RUNS = ".traj.json"
_SUFFIXES = re.compile(r"(\.traj)?(\.jsonl?)?(\.gz|\.zst)?$")
_SOLVED = ("resolved_ids", "ids_resolved")
_FAILED = ("unresolved_ids", "empty_patch_ids", "ids_unresolved")
_COMPLETED = ("completed_ids",)
_SAYS_NOTHING = ("submitted_ids", "total_ids")
_IDS = re.compile(r"ids_\w+|\w+_ids")
_OLD_FAILED = ("no_generation", "no_apply", "applied", "no_patch")
_OLD_NOT_EVALUATED = ("no_logs", "install_fail", "reset_failed", "test_errored", "test_timeout")
_INSTANCE = re.compile(r".+__.+[-.]\w+$")
"""A task of SWE-bench, `owner__repository-number`, or of SWE-smith, `owner__repository.commit.kind`."""


def is_report(record: Record) -> bool:
    """Whether a record is a benchmark's report."""
    if any(isinstance(record.get(name), list) for name in _SOLVED):
        return True
    if isinstance(record.get("resolved"), list):
        return any(isinstance(record.get(name), list) for name in (*_OLD_FAILED, *_OLD_NOT_EVALUATED, "generated"))
    if isinstance(record.get("resolved"), bool):
        return "patch_exists" in record
    return bool(record) and all(isinstance(at(one, "resolved"), bool) for one in record.values())


def named_after_task(path: Path, raw: RawRecord) -> RawRecord:
    """The record of a run that is stored in a file named after its task, with what stands beside it in `beside`.

    `beside.task` is the file's name if that is a task: the name of its folder too, of SWE-bench's form, or known to a
    report. `beside.resolved` says whether the task was solved, or `beside.not_evaluated` under what `beside.report`
    lists it instead. Reports that contradict each other are the record's problem.
    """
    task = _SUFFIXES.sub("", path.name)
    try:
        found = verdict(path, task)
    except DataError as error:
        return raw._replace(data=b"", problem=str(error))
    if found or task == path.parent.name or _INSTANCE.match(task):
        return with_beside(raw, {"task": task, **found})
    return raw


def runs_named_after_tasks(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """A file is one run, named after its task; the benchmark's report may lie beside it."""
    for raw in records:
        yield named_after_task(path, raw)


def with_beside(raw: RawRecord, beside: Mapping[str, Any]) -> RawRecord:
    """A record with another field, spliced in without parsing it."""
    if not beside or raw.problem is not None or not (raw.data[:1] == b"{" and raw.data[-1:] == b"}"):
        return raw
    comma = b"," if raw.data[1:-1].strip() else b""
    added = json.dumps({BESIDE: beside}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return raw._replace(data=raw.data[:-1] + comma + added[1:])


@dataclass(frozen=True, slots=True)
class _NotEvaluated(Missing):
    """The score of a run that a report lists as not evaluated."""

    report: str
    kind: str

    @property
    def reason(self) -> str:
        """What the report says."""
        return f"{self.report}: lists the task under {self.kind}: its result was not evaluated, so there is no score"


@dataclass(frozen=True, slots=True)
class _NotReported(Missing):
    """The score of a run that neither its log nor a report gives."""

    record: Record

    @property
    def reason(self) -> str:
        """What is not there, and what to do."""
        return (
            "no score: the log has none, and no report beside the run names its task; give the benchmark's report, or "
            "another file of scores, with --scores FILE, or name a field with --score FIELD; "
            f"{fields_of({name: value for name, value in self.record.items() if name != BESIDE})}"
        )


def benchmark_score(record: Record, field: str | None, usual: Sequence[str]) -> tuple[str, object]:
    """The score like `score_at`; where there is none, what is missing is the benchmark's report, or its evaluation.

    Raises:
        DataError: `field` has weights that do not add up to 1.
    """
    found = score_at(record, field, usual)
    if field is not None or not is_missing(found[1]):
        return found
    kind = at(record, f"{BESIDE}.not_evaluated")
    return "", _NotReported(record) if kind is None else _NotEvaluated(str(at(record, f"{BESIDE}.report")), str(kind))


def verdict(path: Path, task: str) -> dict[str, Any]:
    """What the nearest report beside a file says of a task: `resolved`, or `not_evaluated` and `report`; {} if nothing.

    Reports are searched for in the file's folder, and above it if that folder is the task's own or only holds runs.

    Raises:
        DataError: reports that are equally near contradict each other.
    """
    if not task:
        return {}
    for place in _places(path, task):
        said = {name: found for name, report in _reports(place, task) if (found := _says(report, task))}
        if len({json.dumps(found) for found in said.values()}) > 1:
            names = " and ".join(sorted(said))
            raise DataError(f"{place}: {names} contradict each other about {task}; keep one of them")
        if said:
            name, found = min(said.items())
            # A report of another name that says the same does not change the run.
            return found if "resolved" in found else {"report": name, **found}
    return {}


def _places(path: Path, task: str) -> Iterator[Path]:
    """The file's folder, and those above it as long as the one below is the task's own or only holds runs."""
    folder = path.absolute().parent
    yield folder
    while folder.name in (task, *_OF_RUNS) and folder.parent != folder:
        folder = folder.parent
        yield folder


def has_reports(path: Path) -> bool:
    """Whether any report about several tasks lies beside a file."""
    folder = path.absolute().parent
    return any(_candidates(folder / name) for name in _OF_REPORTS)


def _reports(folder: Path, task: str) -> Iterator[tuple[str, Record]]:
    """(name, report) of the reports in a folder, and in those within it that only hold reports."""
    own = [folder / name / task / _OF_ONE_TASK for name in _OF_REPORTS]
    for file in chain(*(_candidates(folder / name) for name in _OF_REPORTS), own):
        try:
            stat = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        report = _parsed(file, stat.st_mtime_ns, stat.st_size)
        if report is not None:
            about_one = isinstance(report.get("resolved"), bool)
            yield str(file.relative_to(folder)), {file.parent.name: report} if about_one else report


def _candidates(folder: Path) -> tuple[Path, ...]:
    return _looked_through(folder, folder.stat().st_mtime_ns) if folder.is_dir() else ()


@lru_cache(maxsize=4096)
def _looked_through(folder: Path, changed: int) -> tuple[Path, ...]:
    """The JSON files of a folder that may be reports."""
    files = (file for file in sorted(folder.glob("*.json")) if not file.name.endswith(_RUNS))
    return tuple(file for file in files if _mentions_resolved(file))


def _mentions_resolved(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size > _LARGEST:
        return False
    data = file.read_bytes()
    return b'"resolved' in data or b'ids_resolved"' in data


@lru_cache(maxsize=4096)
def _parsed(file: Path, changed: int, size: int) -> Record | None:
    try:
        report = from_json(file.read_bytes())
    except ValueError:
        return None
    return report if isinstance(report, dict) and is_report(report) else None


def verdicts(report: Record, file: Path) -> dict[str, object]:
    """What a report says of each task that it names: whether it was solved, or why that is not known."""
    if isinstance(report.get("resolved"), bool):
        report = {file.parent.name: report}
    lists: dict[str, set[str]] = defaultdict(set)
    for name, listed in report.items():
        for task in listed if isinstance(listed, list) else [name] if isinstance(listed, dict) else ():
            if isinstance(task, str):
                lists[task].add(name)
    said = {task: _judged(report, task, names) for task, names in lists.items()}
    return {
        task: found["resolved"] if "resolved" in found else _NotEvaluated(file.name, found["not_evaluated"])
        for task, found in said.items()
        if found
    }


def folder_of_reports(file: Path) -> Path:
    """Where a report lies: the folder that has it or, if it is one task's, a folder for each task."""
    return file.parent.parent if file.name == _OF_ONE_TASK else file.parent


def report_in(file: Path) -> Record | None:
    """The report that a file holds; None if it holds something else."""
    stat = file.stat()
    return _parsed(file, stat.st_mtime_ns, stat.st_size) if stat.st_size <= _LARGEST else None


def _says(report: Record, task: str) -> dict[str, Any]:
    lists = {name for name, listed in report.items() if isinstance(listed, list) and task in listed}
    return _judged(report, task, lists)


def _judged(report: Record, task: str, lists: set[str]) -> dict[str, Any]:
    """What a report says of a task: in the task's own entry, or through the `lists` that hold it."""
    if isinstance(report.get("resolved"), list):
        # These lists name only the solved tasks among the evaluated ones.
        skipped = lists.intersection(_OLD_NOT_EVALUATED)
        return _verdict(lists, {"resolved"}, {*_OLD_FAILED}, skipped) or {"resolved": False}
    if any(isinstance(report.get(name), list) for name in _SOLVED):
        known = {*_SOLVED, *_FAILED, *_COMPLETED, *_SAYS_NOTHING}
        return _verdict(lists, {*_SOLVED}, {*_FAILED}, {name for name in lists - known if _IDS.fullmatch(name)})
    one = at(report.get(task), "resolved")
    return {"resolved": one} if isinstance(one, bool) else {}


def _verdict(lists: set[str], solved: set[str], failed: set[str], skipped: set[str]) -> dict[str, Any]:
    """What a report says by having a task in some of its lists."""
    if lists & solved:
        return {"resolved": True}
    if lists & failed:
        return {"resolved": False}
    if skipped:
        return {"not_evaluated": min(skipped)}
    return {"resolved": False} if lists.intersection(_COMPLETED) else {}


__all__ = [
    "BESIDE",
    "RESOLVED",
    "SCORES_OF_FILES",
    "TASKS_OF_FILES",
    "benchmark_score",
    "folder_of_reports",
    "has_reports",
    "is_report",
    "named_after_task",
    "report_in",
    "runs_named_after_tasks",
    "verdict",
    "verdicts",
    "with_beside",
]
