"""An append-only JSONL store of trajectories that survives SIGKILL.

Line 1 says what the file is; every other line is one trajectory. A line counts once its newline is on disk, so
a torn tail left by a kill is not data: readers skip it, and the next append cuts it off. Anything else that does
not parse is an error that names file, line and field.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from trajtree.errors import DataError
from trajtree.trajectory import Trajectory

FORMAT = "trajtree.trajectories"
VERSION = 1

_HEADER = json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n"
_adapter = TypeAdapter(Trajectory)


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
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    if number == 1:
                        self._check_torn_header(line)
                    return
                if number == 1:
                    self._check_header(line)
                else:
                    yield self._parse(line, number)

    def append(self, trajectories: Iterable[Trajectory]) -> None:
        """Write all of them and return when they are on disk.

        Raises:
            DataError: the existing file is something else.
            OSError: the disk is full or not writable; nothing that was stored before is touched.
        """
        data = b"".join(json.dumps(asdict(t), ensure_ascii=False).encode() + b"\n" for t in trajectories)
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
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise DataError(f"{self.path}, line 1: not a trajectory store (no {FORMAT!r} header)")
        if header.get("version") != VERSION:
            raise DataError(
                f"{self.path}, line 1, field version: {header.get('version')!r}; this trajtree reads version {VERSION}"
            )

    def _parse(self, line: bytes, number: int) -> Trajectory:
        try:
            return _adapter.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "(whole line)"
            raise DataError(f"{self.path}, line {number}, field {field}: {first['msg']}") from None


__all__ = ["FORMAT", "VERSION", "TrajectoryStore"]
