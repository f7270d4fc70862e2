"""Bringing other people's runs into a store.

Records are taken in the order of their files and every trajectory says which record it was, so the store itself knows
what it holds: after a kill, or when a file has grown, the same command adds what is missing and ends with the very
bytes of an import that was never broken. A record that was left out is not in the store, and is tried again.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from trajtree.errors import DataError
from trajtree.formats.read.detect import Reader, detect, format_named
from trajtree.formats.read.records import RawRecord, decode, files_in, raw_records
from trajtree.formats.read.to_trajectory import trajectory_of
from trajtree.store.lock import claimed
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

KEPT = 1000
"""Records left out that a report names; more are counted."""

_canonical = json.JSONEncoder(sort_keys=True).encode
"""What a record says, however it is written; made once, json.dumps would make an encoder at each call."""

_BATCH_ROWS = 500
_BATCH_BYTES = 1 << 25


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record that was not imported: number `number` of its file, beginning at `line`; 0 stands for the whole file."""

    file: Path
    line: int
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        added: trajectories that were appended.
        skipped: records that the store had already.
        left_out: the first KEPT records that are no trajectories, and why.
        left_out_count: how many there were.
    """

    added: int
    skipped: int
    left_out: tuple[LeftOut, ...]
    left_out_count: int


@dataclass(frozen=True, slots=True)
class _Source:
    """A file to import: `name` tells it from others wherever it lies, by its own name and its first record."""

    path: Path
    name: str
    format: str


@dataclass(slots=True)
class _Import:
    """An import under way: what the store holds, and what has happened.

    Of the records that came from the files at hand, `stored` has the hashes of their bytes, by number from 1; 0 is a
    record that is not in the store. `elsewhere` has the hashes of all other records' contents (or bytes, where the
    content's is not known), each as often as there are such records: equal runs within the files at hand are as many
    runs, and only files that are not at hand can be the same ones under another name or in another form.
    """

    score: str | None
    task: str | None
    score_range: tuple[float, float]
    stored: dict[str, array[int]] = field(default_factory=dict)
    elsewhere: Counter[int] = field(default_factory=Counter)
    samples: dict[str, int] = field(default_factory=dict)
    added: int = 0
    skipped: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def store(self, source: str, number: int, digest: int) -> None:
        digests = self.stored.setdefault(source, array("Q"))
        digests.frombytes(bytes(digests.itemsize * max(0, number + 1 - len(digests))))
        digests[number] = digest

    def digest_of(self, source: str, number: int) -> int:
        digests = self.stored.get(source, ())
        return digests[number] if number < len(digests) else 0

    def take(self, *hashes: int) -> bool:
        """Whether the record with these hashes is in the store from elsewhere; no other one is then the same."""
        for found in hashes:
            if self.elsewhere[found] > 0:
                self.elsewhere[found] -= 1
                return True
        return False

    def leave_out(self, file: Path, line: int, number: int, reason: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < KEPT:
            self.left_out.append(LeftOut(file, line, number, reason))


def import_files(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    store_path: str | os.PathLike[str],
    *,
    format: str | None = None,
    score: str | None = None,
    score_range: tuple[float, float] = (0.0, 1.0),
    task: str | None = None,
    progress: Progress = SILENT,
) -> ImportReport:
    """Append the runs in `files` to a store, but for those that it has already.

    Args:
        files: a file or folder, or several; a folder stands for all .json and .jsonl files below it.
        store_path: the store; it is created when there is none.
        format: the files' format; without one, each file's first record tells.
        score: dotted path of the field that holds the score, when it is not where the format has it.
        score_range: the values of the score that mean 0 and 1.
        task: dotted path of the field that names the task, likewise.
        progress: told of the records as they are dealt with.

    Raises:
        DataError: a file is not there or is in no known format, the range is none, or a record was changed since it
            was imported. A file within a folder that is in no known format is left out, and so is a record that is no
            run; the rest goes on.
        RunError: another process is writing the store.
    """
    low, high = score_range
    if not 0 < high - low < math.inf:
        raise DataError(f"--score-range {low:g} {high:g}: LOW must be less than HIGH")
    state = _Import(score, task, (low, high))
    store = TrajectoryStore(store_path)
    several = [files] if isinstance(files, str | os.PathLike) else files
    sources = list(_sources(files_in(map(Path, several)), store.path, format, state))
    with claimed(store.path):
        _take(sources, store, state, progress)
    return ImportReport(state.added, state.skipped, tuple(state.left_out), state.left_out_count)


def _take(sources: list[_Source], store: TrajectoryStore, state: _Import, progress: Progress) -> None:
    _look_into(store, {source.name for source in sources}, state)
    batch: list[Trajectory] = []
    size = seen = 0
    for source in sources:
        for raw, found in _read(source, format_named(source.format).read, state):
            seen += 1
            size += len(raw.data)
            if found is not None:
                batch.append(found)
            if seen >= _BATCH_ROWS or size >= _BATCH_BYTES:
                _write(store, batch, state)
                progress.advance(seen)
                size = seen = 0
    _write(store, batch, state)
    progress.advance(seen)


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
            state.leave_out(path, 1, 0, str(error).removeprefix(str(path)).lstrip(",: "))
            continue
        first = next((raw.data for raw in raw_records(path)), b"")
        name = path.name.encode("utf-8", "replace").decode()
        yield _Source(path, f"{name}#{_hash(first):016x}", known)
    if format is not None:
        format_named(format)


def _look_into(store: TrajectoryStore, at_hand: set[str], state: _Import) -> None:
    for head in store.heads():
        state.samples[head.task] = max(state.samples.get(head.task, 0), head.sample + 1)
        if head.place is None:
            continue
        source, number, _, digest, content = head.place
        if source in at_hand:
            state.store(source, number, int(digest, 16))
        else:
            state.elsewhere[int(content, 16)] += 1


def _write(store: TrajectoryStore, batch: list[Trajectory], state: _Import) -> None:
    if batch:
        store.append(batch)
        state.added += len(batch)
        batch.clear()


def _read(source: _Source, read: Reader, state: _Import) -> Iterator[tuple[RawRecord, Trajectory | None]]:
    """Every record of a file, with its trajectory where it has a new one.

    Raises:
        DataError: a record is another one than the store has of this file.
    """
    for raw in raw_records(source.path):
        digest = _hash(raw.data)
        stored = state.digest_of(source.name, raw.number)
        if not stored:
            yield raw, _imported(raw, digest, source, read, state)
        elif stored == digest:
            state.skipped += 1
            yield raw, None
        else:
            raise DataError(
                f"{source.path}, line {raw.line}: row {raw.number} is not the one that was imported from a file of "
                "this name and first row; if the file was changed since, import it into a new store; if it is another "
                "file, or its new rows belong beside the old ones, give it another name"
            )


def _imported(raw: RawRecord, digest: int, source: _Source, read: Reader, state: _Import) -> Trajectory | None:
    try:
        record = decode(raw)
        content = _hash(_canonical(record).encode())
        if state.take(content, digest):
            state.skipped += 1
            return None
        found = read(record, score=state.score, task=state.task)
        made = trajectory_of(found, source.format, state.score_range)
    except DataError as error:
        state.leave_out(source.path, raw.line, raw.number, str(error))
        return None
    except RecursionError:
        state.leave_out(source.path, raw.line, raw.number, "a tool call's arguments are nested too deeply")
        return None
    state.store(source.name, raw.number, digest)
    sample = state.samples.get(made.task, 0)
    state.samples[made.task] = sample + 1
    place: dict[str, str | int] = {
        "source": source.name,
        "row": raw.number,
        "line": raw.line,
        "digest": f"{digest:016x}",
        "content": f"{content:016x}",
    }
    return replace(made, sample=sample, metadata={**made.metadata, **place})


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest())


__all__ = ["KEPT", "ImportReport", "LeftOut", "import_files"]
