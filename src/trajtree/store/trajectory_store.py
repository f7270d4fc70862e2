"""An append-only JSONL store of trajectories that survives SIGKILL.

Line 1 says what the file is; every other line is one trajectory (see `trajtree.store.encoding`). A line counts once its
newline is on disk, so an incomplete last line left by a kill is not data: readers skip it, and the next append removes
it. Anything else that does not parse is an error that names file, line and field. Writers take turns; a reader running
beside a writer sees only whole trajectories.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import msgspec

from trajtree.errors import DataError
from trajtree.store import version1
from trajtree.store.encoding import Head, Row, from_row, is_read_back, to_row
from trajtree.store.files import atomically, open_input, open_text
from trajtree.store.full_disk import naming
from trajtree.store.lines import faulty_field, header, invalid, made_by, version_of
from trajtree.store.lock import claimed, in_turn
from trajtree.trajectory import Trajectory

FORMAT = "trajtree.trajectories"
VERSION = 2

_WHAT = "a trajectory store"
_HEADER = header(FORMAT, VERSION)
_SHOWN = 80
"""Length of values in messages, in characters."""
T = TypeVar("T")


class _Codec(NamedTuple):
    """How lines of one version are decoded."""

    trajectory: Callable[[bytes], Trajectory]
    head: Callable[[bytes], Head]


_row = msgspec.json.Decoder(Row)
_head = msgspec.json.Decoder(Head)
_CODECS = {
    1: _Codec(version1.read_trajectory, version1.read_head),
    VERSION: _Codec(lambda line: from_row(_row.decode(line)), _head.decode),
}


class TrajectoryStore:
    """Trajectories in one file, in the order in which they were appended.

    Args:
        path: the file; the first `append` creates it if it does not exist.
        create: whether a file that does not exist yet is an empty store; without this, reading it is an error.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        self.path = Path(path)
        self._create = create

    def __iter__(self) -> Iterator[Trajectory]:
        """Read lazily, one trajectory at a time.

        Raises:
            DataError: there is no such file; or naming file, line and field of the first line that is not a trajectory.
        """
        for number, _, line, codec in self._rows():
            yield self._parse(codec.trajectory, line, number)

    def by_task(self) -> Iterator[list[Trajectory]]:
        """The trajectories task by task, with tasks sorted and each task's trajectories in file order.

        The file is read twice: first to find where each row begins (keeping 16 bytes per row), then task by task, so
        that only one task's trajectories are in memory.

        Raises:
            DataError: naming file, line and field of the first line that is not a trajectory.
        """
        places: dict[str, array[int]] = {}
        codec = _CODECS[VERSION]
        for number, offset, line, codec in self._rows():
            head = self._parse(codec.head, line, number)
            places.setdefault(head.task, array("q")).extend((number, offset))
        if not places:
            return
        with open_input(self.path) as file:
            for task in sorted(places):
                found = places[task]
                yield [self._row_at(file, codec, found[i], found[i + 1]) for i in range(0, len(found), 2)]

    def heads(self) -> Iterator[Head]:
        """Task, sample and source of each trajectory, in file order; the rest is not parsed.

        Raises:
            DataError: naming file, line and field of the first line that does not have them.
        """
        for number, _, line, codec in self._rows():
            yield self._parse(codec.head, line, number)

    def _row_at(self, file: BinaryIO, codec: _Codec, number: int, offset: int) -> Trajectory:
        file.seek(offset)
        return self._parse(codec.trajectory, file.readline(), number)

    def _rows(self) -> Iterator[tuple[int, int, bytes, _Codec]]:
        """(line number, byte offset, line, codec) of every complete row; the header is checked in the process."""
        if not self.path.exists():
            if self._create:
                return
            raise DataError(
                f"{self.path}: there is no such store; name another one, or make it with: trajtree import or explore "
                "(in Python, TrajectoryStore(path, create=True) is a new, empty one)"
            )
        offset = 0
        codec = _CODECS[VERSION]
        with open_text(self.path) as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    if number == 1:
                        self._check_torn_header(line)
                    return
                if number == 1:
                    codec = _CODECS[version_of(self.path, line, FORMAT, tuple(_CODECS), _WHAT)]
                else:
                    yield number, offset, line, codec
                offset += len(line)

    def append(self, trajectories: Iterable[Trajectory]) -> None:
        """Write all of them and return once they are on disk. Writers of the same file wait for each other.

        Raises:
            DataError: what is there is something else, a store of an earlier version, or a file with several
                names (hard links, which share no lock); or a trajectory could not be read back as it is, see
                `line_of`. Then none of them is written.
            OSError: the disk is full or not writable; what was already stored is left unchanged.
        """
        self.append_lines(map(line_of, trajectories))

    def append_lines(self, lines: Iterable[bytes]) -> None:
        """Write trajectories as `line_of` made them, like `append`."""
        data = b"".join(lines)
        if self.path.exists() and not self.path.is_file():
            raise DataError(f"{self.path}: is not a file, so runs cannot be added to it; name another")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with in_turn(self.path), naming(self.path), self.path.open("a+b") as file:
            if (names := os.fstat(file.fileno()).st_nlink) > 1:
                raise DataError(
                    f"{self.path}: the file has {names} names (hard links), and a lock holds for one name only, so "
                    "runs that are added under another one could be lost; copy the file, and add to the copy"
                )
            end = self._end_of_data(file.seek(0, os.SEEK_END))
            file.truncate(end)
            if end == 0:
                data = _HEADER + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def drop(self, unwanted: Callable[[Trajectory], bool]) -> int:
        """Take out what is unwanted, the rest staying in its order, and return how many that were.

        The file is written anew only where there are any, and is whole at every moment.

        Raises:
            DataError: naming file, line and field of the first line that is not a trajectory.
            OSError: the disk is full or not writable; the file is untouched.
        """
        count = sum(map(unwanted, self))
        if count:
            write_store((t for t in self if not unwanted(t)), self.path, made_by=made_by(self.path))
        return count

    def _end_of_data(self, size: int) -> int:
        """Offset just after the last complete line, in a file that is a store or the incomplete beginning of one."""
        with self.path.open("rb") as file:
            first = file.readline()
            if not first.endswith(b"\n"):
                self._check_torn_header(first)
                return 0
            if version_of(self.path, first, FORMAT, tuple(_CODECS), _WHAT) != VERSION:
                raise DataError(f"{self.path}: a store of version 1; upgrade it first: trajtree upgrade {self.path}")
            position = size
            while True:
                start = max(0, position - 65536)
                file.seek(start)
                newline = file.read(position - start).rfind(b"\n")
                if newline >= 0:
                    return start + newline + 1
                position = start

    def _check_torn_header(self, line: bytes) -> None:
        if not _HEADER.startswith(line):
            version_of(self.path, line, FORMAT, tuple(_CODECS), _WHAT)
            raise DataError(f"{self.path}, line 1: not {_WHAT} (the line does not end)")

    def _parse(self, read: Callable[[bytes], T], line: bytes, number: int) -> T:
        try:
            return read(line)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise invalid(self.path, number, error) from None


def write_store(trajectories: Iterable[Trajectory], path: str | os.PathLike[str], *, made_by: str | None = None) -> int:
    """Write a new store, replacing any existing file, and return its number of trajectories.

    `made_by` names the command that may overwrite it.

    Raises:
        RunError: another process is writing the file.
        OSError: the disk is full or not writable; an existing file is left unchanged.
    """
    path, count = Path(path), 0
    # Anything that another process appends meanwhile would be lost together with the old file.
    with claimed(path), in_turn(path), naming(path), atomically(path) as file:
        file.write(header(FORMAT, VERSION, made_by))
        for count, trajectory in enumerate(trajectories, start=1):  # noqa: B007 - the last one is returned
            file.write(line_of(trajectory))
    return count


def line_of(trajectory: Trajectory) -> bytes:
    """A trajectory as a line of the store, which is read back as the same trajectory.

    Raises:
        DataError: it would not be: a value has another type than its field or is out of its range, a text holds half a
            character, which UTF-8 cannot encode, or a number has more than 64 bits. The field is named.
    """
    what = f"task {trajectory.task!a}, sample {trajectory.sample!a}"
    try:
        row = to_row(trajectory)
        line = encoded(row, what)
        if is_read_back(trajectory, row):
            return line
        again = from_row(_row.decode(line))
    except (TypeError, AttributeError, KeyError) as error:  # what no field can hold
        raise DataError(f"{what}: cannot be stored, a value has another type than its field: {error}") from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise DataError(f"{what}: cannot be stored, it could not be read again: {faulty_field(error)}") from None
    for field in () if again == trajectory else fields(trajectory):
        kept, given = getattr(again, field.name), getattr(trajectory, field.name)
        if kept != given:
            said = f"field {field.name}: {_shown(given)} would be read back as {_shown(kept)}"
            raise DataError(f"{what}: cannot be stored, {said}")
    return line


def line_with(task: str, sample: int, rest: bytes) -> bytes:
    """A line of the store from the name of its task, the number of its sample, and the `rest` of a line of `line_of`.

    Raises:
        DataError: the task or the number could not be read back.
    """
    head = head_of(task, sample)
    try:
        again = _head.decode(head + b"}")
    except msgspec.MsgspecError as error:
        raise DataError(f"task {task!a}, sample {sample}: cannot be stored: {faulty_field(error)}") from None
    assert (again.task, again.sample) == (task, sample)
    return head + rest


def head_of(task: str, sample: int) -> bytes:
    """How the line of a trajectory begins; nothing after it depends on its task or sample."""
    return msgspec.json.encode({"task": task, "sample": sample})[:-1]


def _shown(value: object) -> str:
    text = f"{type(value).__name__} {value!a}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def encoded(row: dict[str, Any], what: str) -> bytes:
    """A row as a line; `what` names it in errors."""
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError as error:
        raise DataError(f"{what}: holds half a character (a lone surrogate), which cannot be stored: {error}") from None
    except OverflowError:
        raise DataError(f"{what}: holds a whole number of more than 64 bits, which cannot be stored") from None


__all__ = ["FORMAT", "VERSION", "TrajectoryStore", "encoded", "head_of", "line_of", "line_with", "write_store"]
