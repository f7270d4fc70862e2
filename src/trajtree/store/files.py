"""Writing a file so that a reader finds the old one or all of the new one, whatever happens."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trajtree.errors import RunError
from trajtree.store.lock import claimed

UNFINISHED = ".tmp"
"""Suffix of a file still being written."""


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with atomically(path) as file:
        file.write(text.encode())


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file or nothing, for a user who asked for that file.

    Raises:
        RunError: it cannot be written, or another process is writing it; what was there before is untouched.
    """
    try:
        with claimed(path):
            write_atomically(Path(path), text)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | os.PathLike[str], error: OSError) -> RunError:
    """The error of a file that a user asked for and that could not be written."""
    return RunError(f"cannot write {path}: {error.strerror or error}")


def digest_of_files(paths: Iterable[Path]) -> str:
    """Hash of the files' names and contents, in the order of their names; sha256 in hex."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


__all__ = ["UNFINISHED", "atomically", "cannot_write", "digest_of_files", "write_atomically", "write_whole"]
