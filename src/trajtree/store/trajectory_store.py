"""An append-only JSONL store of trajectories that survives SIGKILL.

Line 1 says what the file is; every other line is one trajectory. A line counts once its newline is on disk, so
a torn tail left by a kill is not data: readers skip it, and the next append cuts it off. Anything else that does
not parse is an error that names file, line and field.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from trajtree.errors import DataError
from trajtree.store.files import atomically
from trajtree.store.lines import check_header, header, invalid
from trajtree.trajectory import Trajectory

FORMAT = "trajtree.trajectories"
VERSION = 1

_HEADER = header(FORMAT, VERSION)
_adapter = TypeAdapter(Trajectory)
M = TypeVar("M", bound=BaseModel)


class _Task(BaseModel):
    """What the index needs of a row; the rest is skipped at the parser's speed."""

    model_config = ConfigDict(extra="ignore")
    task: str


class TrajectoryStore:
    """Trajectories in one file, in the order in which they were appended.

    Args:
        path: the file; it is created by the first `append`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __iter__(self) -> Iterator[Trajectory]:
        """Read lazily, one trajectory at a time.

        Raises:
            DataError: naming file, line and field of the first line that is not a trajectory.
        """
        for number, _, line in self._rows():
            yield self._parse(line, number)

    def by_task(self) -> Iterator[list[Trajectory]]:
        """The trajectories of one task after another, tasks sorted, each in the order of the file.

        The file is read twice: once for where each row begins (16 bytes a row are kept), then task by task, so memory
        holds one task's trajectories at a time.

        Raises:
            DataError: naming file, line and field of the first line that is not a trajectory.
        """
        places: dict[str, array[int]] = {}
        for number, offset, head in self._heads(_Task):
            places.setdefault(head.task, array("q")).extend((number, offset))
        if not places:
            return
        with self.path.open("rb") as file:
            for task in sorted(places):
                found = places[task]
                yield [self._row_at(file, found[i], found[i + 1]) for i in range(0, len(found), 2)]

    def heads(self, model: type[M]) -> Iterator[M]:
        """Of each row, in the order of the file, only the fields that `model` names; the rest is not looked at.

        Raises:
            DataError: naming file, line and field of the first line that does not have them.
        """
        for _, _, head in self._heads(model):
            yield head

    def _heads(self, model: type[M]) -> Iterator[tuple[int, int, M]]:
        """(line number, byte offset, head) of every complete row."""
        for number, offset, line in self._rows():
            try:
                head = model.model_validate_json(line)
            except ValidationError as error:
                raise invalid(self.path, number, error) from None
            yield number, offset, head

    def _row_at(self, file: BinaryIO, number: int, offset: int) -> Trajectory:
        file.seek(offset)
        return self._parse(file.readline(), number)

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        """(line number, byte offset, line) of every complete row; the header is checked on the way."""
        if not self.path.exists():
            return
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    if number == 1:
                        self._check_torn_header(line)
                    return
                if number == 1:
                    self._check_header(line)
                else:
                    yield number, offset, line
                offset += len(line)

    def append(self, trajectories: Iterable[Trajectory]) -> None:
        """Write all of them and return when they are on disk.

        Raises:
            DataError: the existing file is something else.
            OSError: the disk is full or not writable; nothing that was stored before is touched.
        """
        data = b"".join(map(_line, trajectories))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            end = self._end_of_data(file.seek(0, os.SEEK_END))
            file.truncate(end)
            if end == 0:
                data = _HEADER + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _end_of_data(self, size: int) -> int:
        """Offset just after the last complete line, in a file that is a store or the torn beginning of one."""
        with self.path.open("rb") as file:
            first = file.readline()
            if not first.endswith(b"\n"):
                self._check_torn_header(first)
                return 0
            self._check_header(first)
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
            self._check_header(line)
            raise DataError(f"{self.path}, line 1: not a trajectory store (the line does not end)")

    def _check_header(self, line: bytes) -> None:
        check_header(self.path, line, FORMAT, VERSION, "a trajectory store")

    def _parse(self, line: bytes, number: int) -> Trajectory:
        try:
            return _adapter.validate_json(line)
        except ValidationError as error:
            raise invalid(self.path, number, error) from None


def write_store(trajectories: Iterable[Trajectory], path: str | os.PathLike[str], *, made_by: str | None = None) -> int:
    """Write a whole new store in place of what is there, and return how many trajectories it holds.

    `made_by` names the command that may write over it.

    Raises:
        OSError: the disk is full or not writable; what was there before is untouched.
    """
    count = 0
    with atomically(Path(path)) as file:
        file.write(header(FORMAT, VERSION, made_by))
        for count, trajectory in enumerate(trajectories, start=1):  # noqa: B007 - the last one is returned
            file.write(_line(trajectory))
    return count


def _line(trajectory: Trajectory) -> bytes:
    return _adapter.dump_json(trajectory, exclude_defaults=True) + b"\n"


__all__ = ["FORMAT", "VERSION", "TrajectoryStore", "write_store"]
