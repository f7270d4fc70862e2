"""The table of log formats that can be imported, and detection of a file's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol

from trajtree.errors import DataError, NoFormat, NoLog
from trajtree.formats.read import atif, harbor, hub_rows, llamafactory, message_list, messages, sharegpt, verifiers
from trajtree.formats.read.benchmarks import inspect_ai, mini_swe_agent, openhands, rllm, swe_agent, tau2, tau_bench
from trajtree.formats.read.fields import TASKS, Record
from trajtree.formats.read.not_runs import beside_runs, why_no_run
from trajtree.formats.read.records import RawRecord, decode, raw_records
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors import claude_code, codex, gemini, pi, spans
from trajtree.formats.read.vendors.resumed import Place

_LOOK_AT = 100


class Reader(Protocol):
    """Reads one record; `score` and `task` are dotted paths or None."""

    def __call__(self, record: Record, *, score: str | None, task: str | None) -> Imported:
        """Raise DataError if the record is not a run in this format."""


def _as_written(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    return records


@dataclass(frozen=True, slots=True)
class Format:
    """A log format.

    Attributes:
        read: reads one record.
        recognises: whether a record, as written in its file, is of this format, unless it is of one that comes earlier
            in FORMATS.
        about: the fields by which users recognise the format.
        whole: whether a record is by definition a whole run, never a single model call.
        goes_on_in: the file, relative to the record's folder, in which a record's run continues.
        runs: makes one record per run of a file's records as written: joins the events of a session, splits a file of
            results, adds what stands in files beside it. By default every record is a run. The records that it makes
            are JSON objects like those of a file, numbered from 1, each with the line on which its run begins.
        held: of several files, the runs that a run of another file contains, each with that run.
        tasks: the fields in which a record may name its task; none if the reader makes the name of several.
        private: whether such logs are somebody's own sessions, which are redacted unless the user says otherwise.
    """

    read: Reader
    recognises: Callable[[Record], bool]
    about: str
    whole: bool = False
    goes_on_in: Callable[[Record], str | None] = lambda record: None
    runs: Callable[[Path, Iterator[RawRecord]], Iterator[RawRecord]] = _as_written
    held: Callable[[Sequence[Path]], Mapping[Place, Place]] = lambda paths: {}
    tasks: tuple[str, ...] = TASKS
    private: bool = False

    @property
    def makes_runs(self) -> bool:
        """Whether a run is not simply a record as written."""
        return self.runs is not _as_written


FORMATS = {
    "atif": Format(
        atif.read,
        atif.recognises,
        "schema_version, steps",
        whole=True,
        goes_on_in=atif.goes_on_in,
        tasks=atif.TASKS,
        runs=harbor.runs,
    ),
    "harbor-traces": Format(harbor.read_trace, harbor.recognises_trace, "conversations, task, episode, trial_name"),
    "claude-code": Format(
        claude_code.read,
        claude_code.recognises,
        "events with type and sessionId",
        whole=True,
        runs=claude_code.runs,
        held=claude_code.held,
        private=True,
    ),
    "codex": Format(
        codex.read, codex.recognises, "events, first session_meta", whole=True, runs=codex.runs, private=True
    ),
    "pi": Format(
        pi.read,
        pi.recognises,
        "entries, first session with cwd",
        whole=True,
        runs=pi.runs,
        held=pi.held,
        private=True,
    ),
    "gemini": Format(
        gemini.read, gemini.recognises, "contents of role and parts, or a session with projectHash", runs=gemini.runs
    ),
    "opentelemetry": Format(
        spans.read,
        spans.recognises,
        "spans with trace_id and attributes",
        whole=True,
        tasks=spans.TASKS,
        runs=spans.runs,
    ),
    "verifiers": Format(
        verifiers.read,
        verifiers.recognises,
        "nodes, or prompt, completion and example_id",
        whole=True,
        tasks=verifiers.TASKS,
    ),
    "swe-agent": Format(
        swe_agent.read,
        swe_agent.recognises,
        "history and info of SWE-agent",
        whole=True,
        tasks=swe_agent.TASKS,
        runs=swe_agent.runs,
    ),
    "mini-swe-agent": Format(
        mini_swe_agent.read,
        mini_swe_agent.recognises,
        "messages and info.exit_status",
        whole=True,
        tasks=mini_swe_agent.TASKS,
        runs=mini_swe_agent.runs,
    ),
    "tau-bench": Format(tau_bench.read, tau_bench.recognises, "traj and task_id", whole=True, tasks=()),
    "tau2-bench": Format(tau2.read, tau2.recognises, "simulations", whole=True, tasks=(), runs=tau2.runs),
    "inspect": Format(
        inspect_ai.read,
        inspect_ai.recognises,
        "eval and samples of inspect_ai",
        whole=True,
        tasks=(),
        runs=inspect_ai.runs,
    ),
    "openhands": Format(
        openhands.read,
        openhands.recognises,
        "history of OpenHands' events",
        whole=True,
        tasks=openhands.TASKS,
        runs=openhands.runs,
    ),
    "rllm": Format(
        rllm.read, rllm.recognises, "id and trajectories of steps", whole=True, tasks=rllm.TASKS, runs=rllm.runs
    ),
    "hub-rows": Format(hub_rows.read, hub_rows.recognises, "messages as JSON text, or trajectory"),
    "llamafactory": Format(llamafactory.read, llamafactory.recognises, "messages of parts with type and value"),
    "message-list": Format(
        message_list.read,
        message_list.recognises,
        "messages alone, one run per file",
        whole=True,
        runs=message_list.runs,
    ),
    "sharegpt": Format(sharegpt.read, sharegpt.recognises, "conversations of from and value"),
    "messages": Format(messages.read, messages.recognises, "messages, or prompt and completion"),
}
"""Log formats by name; the first that recognises a record is its format."""


def format_named(name: str) -> Format:
    """The format with that name. Raises DataError if there is none."""
    if name not in FORMATS:
        raise DataError(f"{name!r} is not a format that can be imported; {known_formats()}")
    return FORMATS[name]


def runs_of(path: Path, format: str) -> Iterator[RawRecord]:
    """The runs in a file of a format, one record per run."""
    return format_named(format).runs(path, raw_records(path))


class Beginning(NamedTuple):
    """The beginning of a file: its format, its first record as written, and the first record that can be read."""

    format: str
    first: bytes
    record: Record
    alone: bool
    """Whether the first record is the only one."""


def beginning_of(path: Path, format: str | None = None) -> Beginning:
    """The beginning of a file; its format is `format`, or detected from its first record that is JSON.

    Raises:
        NoFormat: no format fits, and none was named.
        NoLog: it is not a log, but a file that accompanies one.
        DataError: no record is JSON, and no format was named; or the first one is known not to be a run.
    """
    records = raw_records(path)
    head = list(islice(records, 2))
    first, alone = head[0].data if head else b"", len(head) < 2
    problem = "the file is empty"
    for raw in islice(chain(head, records), _LOOK_AT):
        try:
            record = decode(raw)
        except DataError as error:
            problem = str(error)
            continue
        name = format or next((name for name, known in FORMATS.items() if known.recognises(record)), None)
        if name is None and (kind := beside_runs(record)) is not None:
            raise NoLog(f"{path}: not a log, but {kind}, which are read with the runs beside them", kind)
        if name is None and (reason := why_no_run(record)) is not None:
            raise DataError(f"{path}, line {raw.line}: {reason}")
        if name is None:
            keys = ", ".join(list(record)[:12])[:200] or "none"
            reason = f"line {raw.line}: in no known format (its fields: {keys})"
            raise NoFormat(f"{path}, {reason}; {known_formats()}", reason)
        return Beginning(name, first, record, alone)
    if format is not None:
        return Beginning(format, first, {}, alone)
    if path.suffix.lower() in (".csv", ".tsv"):
        problem = "tables of text are not read; write a JSON object with messages, task and score per run (a line each)"
    raise DataError(f"{path}: no run found: {problem}")


def known_formats() -> str:
    """The formats that can be imported, and how each is recognised."""
    return "known formats: " + ", ".join(f"{name} ({format.about})" for name, format in FORMATS.items())


__all__ = ["FORMATS", "Beginning", "Format", "Reader", "beginning_of", "format_named", "known_formats", "runs_of"]
