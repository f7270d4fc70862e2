"""A file that is one run: an array, or lines, of OpenAI's chat messages and nothing around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trajtree.formats.read import messages
from trajtree.formats.read.benchmarks.reports import BESIDE, named_after_task
from trajtree.formats.read.fields import Record, at
from trajtree.formats.read.records import LONGEST, RawRecord
from trajtree.formats.read.to_trajectory import Imported

_TOO_LONG = f"the messages of the run are longer than {LONGEST >> 20} MiB, the limit for one run"
_ROLES = ("system", "developer", "user", "assistant")


def recognises(record: Record) -> bool:
    """Whether a record is a message that may begin a conversation."""
    return record.get("role") in _ROLES and isinstance(record.get("content"), str | list)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """All messages of a file as one record, `{"messages": [...]}`, with what stands beside the file."""
    parts: list[bytes] = []
    size, line, problem = 0, 1, None
    for raw in records:
        line = raw.line if not parts else line
        size += len(raw.data)
        problem = problem or raw.problem or (_TOO_LONG if size > LONGEST else None)
        parts.append(b"" if problem else raw.data)
    whole = RawRecord(1, line, b"" if problem else b'{"messages":[' + b",".join(parts) + b"]}", problem)
    yield named_after_task(path, whole)


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Args:
        record: `messages`, with `beside` from `runs`.
        score: dotted path of the score; without one, the benchmark's report.
        task: dotted path of the task; without one, the file's name if it is that of a task.

    Raises:
        DataError: naming the field that is wrong.
    """
    told = {name: at(record, f"{BESIDE}.{name}") for name in ("task", "resolved")}
    row = {**record, **{name: value for name, value in told.items() if value is not None}}
    return messages.read(row, score=score, task=task)


__all__ = ["read", "recognises", "runs"]
