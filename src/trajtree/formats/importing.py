"""Bringing other people's runs into a store.

Rows are taken in the order of their files and every trajectory says which row it was, so the store itself knows what
it holds: after a kill, or when a file has grown, the same command adds what is missing and ends with the very bytes
of an import that was never broken. A row that was left out is not in the store, and is tried again.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from trajtree.errors import DataError
from trajtree.formats.read.detect import Reader, detect, reader_of
from trajtree.formats.read.episode import trajectory_of
from trajtree.formats.read.records import Row, decode, files_in, rows
from trajtree.store.lock import locked
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

KEPT = 1000
"""Rejected rows that a report names; more are counted."""

_canonical = json.JSONEncoder(sort_keys=True).encode
"""What a row says, however it is written; made once, json.dumps would make an encoder at each call."""

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
        skipped: rows that the store had already.
        rejected: the first KEPT rows that are no trajectories, and why.
        rejected_count: how many there were.
    """

    added: int
    skipped: int
    rejected: tuple[Rejected, ...]
    rejected_count: int


_Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _Place(BaseModel):
    """Where a stored row came from; `content` is missing from stores of early versions."""

    model_config = ConfigDict(extra="ignore")
    source: str
    row: PositiveInt
    digest: _Hash
    content: _Hash | None = None


class _Head(BaseModel):
    """What an import must know of a stored row."""

    model_config = ConfigDict(extra="ignore")
    task: str
    sample: int
    metadata: Annotated[_Place | Any, Field(union_mode="left_to_right")] = None


@dataclass(frozen=True, slots=True)
class _Source:
    """A file to import: `name` tells it from others wherever it lies, by its own name and its first row."""

    path: Path
    name: str
    format: str


@dataclass(slots=True)
class _Import:
    """An import under way: what the store holds, and what has happened.

    Of the rows that came from the files at hand, `stored` has the hashes of their bytes, by number from 1; 0 is a row
    that is not in the store. `elsewhere` has the hashes of all other rows' contents (or bytes, where the content's is
    not known), each as often as there are such rows: equal runs within the files at hand are as many runs, and only
    files that are not at hand can be the same ones under another name or in another form.
    """

    score: str | None
    task: str | None
    score_range: tuple[float, float]
    stored: dict[str, array[int]] = field(default_factory=dict)
    elsewhere: Counter[int] = field(default_factory=Counter)
    samples: dict[str, int] = field(default_factory=dict)
    added: int = 0
    skipped: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    rejected_count: int = 0

    def store(self, source: str, row: int, digest: int) -> None:
        digests = self.stored.setdefault(source, array("Q"))
        digests.frombytes(bytes(digests.itemsize * max(0, row + 1 - len(digests))))
        digests[row] = digest

    def digest_of(self, source: str, row: int) -> int:
        digests = self.stored.get(source, ())
        return digests[row] if row < len(digests) else 0

    def take(self, *hashes: int) -> bool:
        """Whether the row with these hashes is in the store from elsewhere; no other row is then the same one."""
        for found in hashes:
            if self.elsewhere[found] > 0:
                self.elsewhere[found] -= 1
                return True
        return False

    def reject(self, file: Path, line: int, row: int, reason: str) -> None:
        self.rejected_count += 1
        if len(self.rejected) < KEPT:
            self.rejected.append(Rejected(file, line, row, reason))


def import_files(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
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
        files: a file or folder, or several; a folder stands for all .json and .jsonl files below it.
        store_path: the store; it is created when there is none.
        format: the files' format; without one, each file's first row tells.
        score: dotted path of the field that holds the score, when it is not where the format has it.
        score_range: the values of the score that mean 0 and 1.
        task: dotted path of the field that names the task, likewise.
        progress: called with the number of rows dealt with since the last call.

    Raises:
        DataError: a file is not there or is in no known format, the range is none, or a row was changed since it was
            imported. A file within a folder that is in no known format is rejected, and so is a row that is no run;
            the rest goes on.
        RunError: another process is importing into the store.
    """
    low, high = score_range
    if not 0 < high - low < math.inf:
        raise DataError(f"--score-range {low:g} {high:g}: LOW must be less than HIGH")
    state = _Import(score, task, (low, high))
    store = TrajectoryStore(store_path)
    several = [files] if isinstance(files, str | os.PathLike) else files
    sources = list(_sources(files_in(map(Path, several)), store.path, format, state))
    lock = store.path.with_name(f".{store.path.name}.lock")
    with locked(lock, f"{store.path}: another import is writing to it; wait for it, or name another store"):
        _take(sources, store, state, progress)
    return ImportReport(state.added, state.skipped, tuple(state.rejected), state.rejected_count)


def _take(sources: list[_Source], store: TrajectoryStore, state: _Import, progress: Callable[[int], None]) -> None:
    _look_into(store, {source.name for source in sources}, state)
    batch: list[Trajectory] = []
    size = seen = 0
    for source in sources:
        for row, found in _rows_of(source, reader_of(source.format), state):
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


def _sources(found: list[tuple[Path, bool]], store: Path, format: str | None, state: _Import) -> Iterator[_Source]:
    """Every file that can be read; the store may lie in the folder, and is none of them."""
    for path, named in found:
        if path.resolve() == store.resolve():
            if named:
                raise DataError(f"{path}: a store cannot be imported into itself")
            continue
        try:
            known = format or detect(path)
        except DataError as error:
            if named:
                raise
            state.reject(path, 1, 0, str(error).removeprefix(str(path)).lstrip(",: "))
            continue
        first = next((row.raw for row in rows(path)), b"")
        name = path.name.encode("utf-8", "replace").decode()
        yield _Source(path, f"{name}#{_hash(first):016x}", known)
    if format is not None:
        reader_of(format)


def _look_into(store: TrajectoryStore, at_hand: set[str], state: _Import) -> None:
    for head in store.heads(_Head):
        state.samples[head.task] = max(state.samples.get(head.task, 0), head.sample + 1)
        place = head.metadata
        if not isinstance(place, _Place):
            continue
        if place.source in at_hand:
            state.store(place.source, place.row, int(place.digest, 16))
        else:
            state.elsewhere[int(place.content or place.digest, 16)] += 1


def _write(store: TrajectoryStore, batch: list[Trajectory], state: _Import) -> None:
    if batch:
        store.append(batch)
        state.added += len(batch)
        batch.clear()


def _rows_of(source: _Source, read: Reader, state: _Import) -> Iterator[tuple[Row, Trajectory | None]]:
    """Every row of a file, with its trajectory where it has a new one.

    Raises:
        DataError: a row is another one than the store has of this file.
    """
    for row in rows(source.path):
        digest = _hash(row.raw)
        stored = state.digest_of(source.name, row.number)
        if not stored:
            yield row, _imported(row, digest, source, read, state)
        elif stored == digest:
            state.skipped += 1
            yield row, None
        else:
            raise DataError(
                f"{source.path}, line {row.line}: row {row.number} is not the one that was imported from a file of "
                "this name and first row; if the file was changed since, import it into a new store; if it is another "
                "file, or its new rows belong beside the old ones, give it another name"
            )


def _imported(row: Row, digest: int, source: _Source, read: Reader, state: _Import) -> Trajectory | None:
    try:
        record = decode(row)
        content = _hash(_canonical(record).encode())
        if state.take(content, digest):
            state.skipped += 1
            return None
        found = read(record, score=state.score, task=state.task)
        made = trajectory_of(found, source.format, state.score_range)
    except DataError as error:
        state.reject(source.path, row.line, row.number, str(error))
        return None
    except RecursionError:
        state.reject(source.path, row.line, row.number, "a tool call's arguments are nested too deeply")
        return None
    state.store(source.name, row.number, digest)
    sample = state.samples.get(made.task, 0)
    state.samples[made.task] = sample + 1
    place: dict[str, str | int] = {
        "source": source.name,
        "row": row.number,
        "line": row.line,
        "digest": f"{digest:016x}",
        "content": f"{content:016x}",
    }
    return replace(made, sample=sample, metadata={**made.metadata, **place})


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest())


__all__ = ["KEPT", "ImportReport", "Rejected", "import_files"]
