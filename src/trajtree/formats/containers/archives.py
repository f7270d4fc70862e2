"""Archives: zip and tar, unpacked into a folder; and the samples of an inspect log, which is a zip.

An archive is written by somebody else: only regular files with a relative path inside it are unpacked, and their
number and sizes are bounded.
"""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from trajtree.errors import DataError
from trajtree.formats.containers.streams import DAMAGED, opened, zstd_stream
from trajtree.store.files import open_input
from trajtree.store.unpacking import document

MOST_MEMBERS = 100_000
LARGEST_MEMBER = 1 << 32
LARGEST_ARCHIVE = 1 << 35
"""Bytes that all members together may unpack to."""

_ZSTD = 93
_ZIP = b"PK\x03\x04"
_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<26xHH")
"""What follows a member's local header: the lengths of its name and of its extra fields."""

_LONGEST_HEADER = 1 << 20
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Members of a tar that describe others; tarfile reads them whole."""

_DAMAGED: tuple[type[Exception], ...] = (
    *DAMAGED,
    *(zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError, struct.error),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its path there, and where it was unpacked; or `problem`, why it was not."""

    name: str
    path: Path | None
    problem: str = ""


def is_zip(magic: bytes) -> bool:
    """Whether a file that begins with `magic` is a zip."""
    return magic.startswith(_ZIP)


def is_tar(path: Path) -> bool:
    """Whether a file, maybe compressed, is a tar."""
    with opened(path) as (file, _):
        return file.read(262)[257:] == b"ustar"


def unpack(path: Path, into: Path) -> Iterator[Member]:
    """Unpack an archive into an empty folder.

    Links, devices and members with a path out of the archive are not unpacked. Where a limit is reached or the archive
    is damaged, one last member says so.
    """
    written = 0
    try:
        with open_input(path) as file:
            zipped = is_zip(file.peek(4))
        members = _zipped(path) if zipped else _tarred(path)
        for count, (name, size, stream) in enumerate(members):
            if count >= MOST_MEMBERS:
                yield Member("", None, f"more than {MOST_MEMBERS:,} files in one archive; unpack it yourself")
                return
            member = _written(name, size, stream, into, LARGEST_ARCHIVE - written)
            written += member.path.stat().st_size if member.path is not None else 0
            yield member
    except _DAMAGED as error:
        yield Member("", None, f"the archive is damaged or cut off ({str(error)[:200] or type(error).__name__})")


def _written(name: str, size: int, stream: IO[bytes] | str, into: Path, room: int) -> Member:
    if isinstance(stream, str):
        return Member(name, None, stream)
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name or ":" in parts[0]:
        return Member(name, None, "its path leads out of the archive")
    most = min(LARGEST_MEMBER, room, shutil.disk_usage(into).free // 2)
    if size > most:
        return Member(name, None, f"unpacks to {size >> 20:,} MiB, which is too much; unpack it yourself")
    there = into.joinpath(*parts)
    try:
        there.parent.mkdir(parents=True, exist_ok=True)
        with there.open("xb") as file:
            left = most
            while data := stream.read(min(_CHUNK, left + 1)):
                left -= len(data)
                if left < 0:
                    raise DataError(f"unpacks to more than {most >> 20:,} MiB; unpack it yourself")
                file.write(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return Member(name, None, "another file of the archive is in its place")
    except DataError as error:
        there.unlink()
        return Member(name, None, str(error))
    return Member(name, there)


def _zipped(path: Path) -> Iterator[tuple[str, int, IO[bytes] | str]]:
    with open_input(path) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            kind = info.external_attr >> 28  # the Unix type of a file, if any
            if kind not in (0, 8):
                yield info.filename, 0, "is a link or a device"
            elif info.flag_bits & 1:
                yield info.filename, 0, "is encrypted"
            else:
                with _member(archive, info, path) as stream:
                    yield info.filename, info.file_size, stream


def _tarred(path: Path) -> Iterator[tuple[str, int, IO[bytes] | str]]:
    with opened(path) as (file, unpacked):
        with tarfile.open(fileobj=file, mode="r|", tarinfo=_Bounded) as archive:
            for info in archive:
                if info.isdir():
                    continue
                stream = archive.extractfile(info) if info.isreg() else None
                yield info.name, info.size, "is a link or a device" if stream is None else stream
        if unpacked is not None and unpacked.problem:
            raise EOFError(unpacked.problem)


class _Bounded(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError("a header of it is too long")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found


@contextmanager
def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Iterator[IO[bytes]]:
    """A member of a zip, unpacking. `zipfile` cannot read zstd before Python 3.14."""
    if info.compress_type != _ZSTD:
        with archive.open(info) as stream:
            yield stream
        return
    with open_input(path) as file:
        file.seek(info.header_offset)
        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        file.seek(name + extra, os.SEEK_CUR)
        packed = cast(IO[bytes], _Slice(file, info.compress_size))
        yield cast(IO[bytes], _Checked(zstd_stream(packed, path), info.file_size, info.CRC))


class _Slice:
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class _Checked:
    """An unpacking member: raises BadZipFile if its size or checksum is not the one in the archive's directory."""

    def __init__(self, file: Any, size: int, crc: int) -> None:
        self._file, self._left, self._crc, self._now = file, size, crc, 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._now = zlib.crc32(data, self._now)
        if self._file.problem or (not data and size and self._left) or (not self._left and self._now != self._crc):
            raise zipfile.BadZipFile(self._file.problem or "a file in it is not what it should be")
        return data


def samples_in(path: Path) -> Iterator[bytes]:
    """The samples of an inspect log (`.eval`), each as `{"header": ..., "sample": ...}`, in the order of the archive.

    Raises:
        DataError: it is damaged, or no such log, or too large; or needs a package that is not installed.
    """
    try:
        with open_input(path) as file, zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            # A log that was not finished has only the journal's beginning.
            header = next((infos[name] for name in ("header.json", "_journal/start.json") if name in infos), None)
            if header is None:
                raise DataError(f"{path}: not an inspect log (it has no header.json)")
            about = _text(archive, header, path)
            samples = [name for name in infos if name.startswith("samples/") and name.endswith(".json")]
            if len(samples) > MOST_MEMBERS:
                raise DataError(f"{path}: more than {MOST_MEMBERS:,} samples in one log")
            for name in samples:
                yield b'{"header":' + about + b',"sample":' + _text(archive, infos[name], path) + b"}"
    except _DAMAGED as error:
        raise DataError(f"{path}: the archive is damaged or cut off ({str(error)[:200]})") from None


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    with _member(archive, info, path) as stream:
        return document(stream, f"{path}/{info.filename}")


__all__ = ["LARGEST_MEMBER", "MOST_MEMBERS", "Member", "is_tar", "is_zip", "samples_in", "unpack"]
