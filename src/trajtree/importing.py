"""Bringing other people's runs into a store.

Rows are taken in the order of their files and every trajectory says where it comes from, so the store itself knows
how far an import came: after a kill, or when a file has grown, the same command goes on where it stopped and ends
with the very bytes of an import that was never broken.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from trajtree.errors import DataError, RunError
from trajtree.formats.detect import Reader, detect, reader_of
from trajtree.formats.episode import trajectory_of
from trajtree.formats.rows import Row, decode, files_in, rows
from trajtree.store import TrajectoryStore
from trajtree.trajectory import Trajectory

KEPT = 1000
"""Rejected rows that a report names; more are counted."""

_BATCH_ROWS = 500
_BATCH_BYTES = 1 << 25


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not imported: the `row`-th of its file, beginning at `line`; or a whole file, when `row` is 0."""

    file: Path
    line: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        added: trajectories that were appended.
        skipped: rows that an earlier import has dealt with.
        rejected: the first KEPT rows that are no trajectories, and why.
        rejected_count: how many there were.
    """

    added: int
    skipped: int
    rejected: tuple[Rejected, ...]
    rejected_count: int


class _Head(BaseModel):
    """What an import must know of a stored row."""

    model_config = ConfigDict(extra="ignore")
    task: str
    sample: int
    metadata: dict[str, Any] = {}


@dataclass(slots=True)
class _Import:
    """An import under way: what the store holds, by source and by task, and what has happened."""

    score: str | None
    task: str | None
    score_range: tuple[float, float]
    last: dict[str, tuple[int, str]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    added: int = 0
    skipped: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    rejected_count: int = 0

    def reject(self, file: Path, line: int, row: int, reason: str) -> None:
        self.rejected_count += 1
        if len(self.rejected) < KEPT:
            self.rejected.append(Rejected(file, line, row, reason))


def import_files(
    files: Iterable[str | os.PathLike[str]],
    store_path: str | os.PathLike[str],
    *,
    format: str | None = None,
    score: str | None = None,
    score_range: tuple[float, float] = (0.0, 1.0),
    task: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> ImportReport:
    """Append the runs in `files` to a store, but for those that it has already.

    Args:
        files: files or folders; a folder stands for all .json and .jsonl files below it.
        store_path: the store; it is created when there is none.
        format: the files' format; without one, each file's first row tells.
        score: dotted path of the field that holds the score, when it is not where the format has it.
        score_range: the values of the score that mean 0 and 1.
        task: dotted path of the field that names the task, likewise.
        progress: called with the number of rows dealt with since the last call.

    Raises:
        DataError: a file is not there or is in no known format, or the range is none. A file within a folder that is
            in no known format is rejected, and so is a row that is no run; the rest goes on.
        RunError: another process is importing into the store.
    """
    low, high = score_range
    if not 0 < high - low < math.inf:
        raise DataError(f"--score-range {low:g} {high:g}: LOW must be less than HIGH")
    state = _Import(score, task, (low, high))
    store = TrajectoryStore(store_path)
    sources = list(_sources(files_in(map(Path, files)), store.path, format, state))
    with _alone(store.path):
        _take(sources, store, state, progress)
    return ImportReport(state.added, state.skipped, tuple(state.rejected), state.rejected_count)


def _take(
    sources: Iterable[tuple[Path, str]], store: TrajectoryStore, state: _Import, progress: Callable[[int], None]
) -> None:
    _look_into(store, state)
    batch: list[Trajectory] = []
    size = seen = 0
    for path, name in sources:
        for row, found in _rows_of(path, name, reader_of(name), state):
            seen += 1
            size += len(row.raw)
            if found is not None:
                batch.append(found)
            if seen >= _BATCH_ROWS or size >= _BATCH_BYTES:
                _write(store, batch, state)
                progress(seen)
                size = seen = 0
    _write(store, batch, state)
    progress(seen)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the store; the lock goes with the process, however it ends. A store that stays empty is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{path}: another import is writing to it; wait for it, or name another store") from None
        try:
            yield
        finally:
            if path.stat().st_size == 0:
                path.unlink()


def _sources(
    found: list[tuple[Path, bool]], store: Path, format: str | None, state: _Import
) -> Iterator[tuple[Path, str]]:
    """(file, format) of every file that can be read; the store may lie in the folder, and is none of them."""
    for path, named in found:
        if path.resolve() == store.resolve():
            if named:
                raise DataError(f"{path}: a store cannot be imported into itself")
            continue
        try:
            yield path, format or detect(path)
        except DataError as error:
            if named:
                raise
            state.reject(path, 1, 0, str(error).removeprefix(str(path)).lstrip(",: "))
    if format is not None:
        reader_of(format)


def _look_into(store: TrajectoryStore, state: _Import) -> None:
    for head in store.heads(_Head):
        state.samples[head.task] = max(state.samples.get(head.task, 0), head.sample + 1)
        source, row, digest = (head.metadata.get(key) for key in ("source", "row", "digest"))
        if isinstance(source, str) and isinstance(row, int) and isinstance(digest, str):
            state.last[source] = row, digest


def _write(store: TrajectoryStore, batch: list[Trajectory], state: _Import) -> None:
    if batch:
        store.append(batch)
        state.added += len(batch)
        batch.clear()


def _rows_of(path: Path, env: str, read: Reader, state: _Import) -> Iterator[tuple[Row, Trajectory | None]]:
    """Every row of a file, with its trajectory where it has a new one."""
    source, done, stored = "", 0, ""
    number = 0
    for row in rows(path):
        number = row.number
        if not source:
            name = path.name.encode("utf-8", "replace").decode()
            source = f"{name}#{_digest(row.raw)}"
            done, stored = state.last.get(source, (0, ""))
        if number > done:
            yield row, _imported(path, row, source, env, read, state)
            continue
        if number == done and _digest(row.raw) != stored:
            break
        state.skipped += 1
        yield row, None
    else:
        if number >= done:
            return
    state.reject(
        path,
        1,
        0,
        f"row {done} is not the one that was imported from a file of this name and first row before; "
        "if it is another file, rename it; if it was changed, import it into a new store",
    )


def _imported(path: Path, row: Row, source: str, env: str, read: Reader, state: _Import) -> Trajectory | None:
    try:
        found = read(decode(row), score=state.score, task=state.task)
        made = trajectory_of(found, env, state.score_range)
    except DataError as error:
        state.reject(path, row.line, row.number, str(error))
        return None
    except RecursionError:
        state.reject(path, row.line, row.number, "a tool call's arguments are nested too deeply")
        return None
    digest = _digest(row.raw)
    state.last[source] = row.number, digest
    sample = state.samples.get(made.task, 0)
    state.samples[made.task] = sample + 1
    place: dict[str, str | int] = {"source": source, "row": row.number, "line": row.line, "digest": digest}
    return replace(made, sample=sample, metadata={**made.metadata, **place})


def _digest(raw: bytes) -> str:
    return blake2b(raw, digest_size=8).hexdigest()


__all__ = ["KEPT", "ImportReport", "Rejected", "import_files"]
