"""Opening files: inputs must be regular files, and an output is either unchanged or complete, even after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from trajtree.errors import DataError, RunError
from trajtree.store.lock import claimed
from trajtree.store.unfinished import SUFFIX as UNFINISHED
from trajtree.store.unfinished import unfinished_file

_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_NEW = 0o666
"""Rights of a new file, of which the user's umask takes some away."""


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends without an error.

    It keeps the rights and, where this user may give it away, the owner of the file whose place it takes. Where `path`
    is a link, the file that it names is replaced and the link stays. A pipe or a device that takes characters, such as
    /dev/stdout, is written straight into.

    Raises:
        OSError: it cannot be written, or is something else than a file; what was there is untouched.
    """
    if is_stream(path):
        with _stream(path) as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    before = _status(target)
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, _NOT_A_FILE[stat.S_IFMT(before.st_mode)], str(path))
    with unfinished_file(target, _NEW if before is None else stat.S_IMODE(before.st_mode) & 0o600) as (there, file):
        if before is not None and sys.platform != "win32":
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        yield file
        file.flush()
        os.fsync(file.fileno())
        if sys.platform == "win32":
            file.close()
        there.replace(target)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether what is written to a path goes on to somebody, instead of staying there."""
    if _descriptor(path) is not None:
        return True
    with suppress(OSError):  # whoever opens it hears why
        found = _status(path)
        return found is not None and _flows(found.st_mode)
    return False


def _flows(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _stream(path: Path) -> BinaryIO:
    """Opened by its number where it has one: opened by name, a file behind /dev/stdout would be cut to nothing."""
    number = _descriptor(path)
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    name = os.path.abspath(path)
    if numbered := _NUMBERED.fullmatch(name):
        return int(numbered[1])
    return _STREAMS.get(name)


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


_NOT_A_FILE = {
    stat.S_IFDIR: "Is a folder, not a file",
    stat.S_IFIFO: "Is a pipe, not a file",
    stat.S_IFCHR: "Is a device, not a file",
    stat.S_IFBLK: "Is a device, not a file",
    stat.S_IFSOCK: "Is a socket, not a file",
}


def open_input(path: str | os.PathLike[str], remedy: str = "", *, buffer: int = -1) -> BufferedReader:
    """A file of the user's, open for reading; `remedy` says what to do where there is none.

    `buffer` is the number of bytes read at a time, if not Python's few thousand; more are better for long lines.

    Raises:
        DataError: it cannot be read, or is a folder, a pipe or a device. Files are read more than once, so a pipe would
            not do, and one that nobody writes to would be waited for without end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise DataError(f"{os.fspath(path)!r}: is not a file's name ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}){remedy and '; '}{remedy}") from None
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise DataError(f"{path}: {_NOT_A_FILE[kind].lower()}; name a file on disk")
    return cast(BufferedReader, os.fdopen(descriptor, "rb", buffer))


_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"BZh": ("bzip2", "bunzip2 -k"),
    b"\xfd7zXZ\0": ("xz", "unxz -k"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\x03\x04": ("zip", "unzip"),
}
"""The first bytes of compressed files: the format's name, and what unpacks it."""


def open_text(path: str | os.PathLike[str], remedy: str = "") -> BufferedReader:
    """Like `open_input`, for a file that is read as it is.

    Raises:
        DataError: also if it is compressed.
    """
    file = open_input(path, remedy)
    begin = file.peek(6)
    for first, (name, unpack) in _PACKED.items():
        if begin.startswith(first):
            file.close()
            raise DataError(f"{path}: is compressed ({name}); unpack it first: {unpack} {path}")
    return file


def write_atomically(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    with atomically(path) as file:
        file.write(text.encode())


def write_whole(path: str | os.PathLike[str], text: str | Iterable[str]) -> None:
    """Write a text file completely or not at all, for a user who asked for that file; a large one in parts.

    Raises:
        RunError: it cannot be written, or another process is writing it; an existing file is left unchanged.
    """
    try:
        with claimed(path), atomically(Path(path)) as file:
            for part in (text,) if isinstance(text, str) else text:
                file.write(part.encode())
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | os.PathLike[str], error: OSError) -> RunError:
    """The error for a file that a user asked for and that could not be written."""
    return RunError(f"cannot write {path}: {error.strerror or error}")


def digest_of_files(paths: Iterable[Path]) -> str:
    """Hash of the files' names and contents, in order of their names; SHA-256 in hex."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


__all__ = [
    "UNFINISHED",
    "atomically",
    "cannot_write",
    "digest_of_files",
    "is_stream",
    "open_input",
    "open_text",
    "write_atomically",
    "write_whole",
]
