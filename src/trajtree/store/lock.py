"""One process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from trajtree.errors import RunError


@contextmanager
def locked(path: Path, when_taken: str) -> Iterator[None]:
    """Hold the lock file at `path`; the lock goes with the process, however it ends.

    The file says which process holds it, and is removed in the end. A killed process leaves it behind, which does no
    harm: what counts is the lock that the system keeps on it, not that it is there.

    Args:
        path: the lock file; its folder is made.
        when_taken: the sentence to say when another process holds it; `{holder}` in it stands for that process.

    Raises:
        RunError: another process holds it.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as file:
            _lock(file, when_taken)
            if not _is_at(path, file):
                continue
            file.truncate(0)
            file.write(f"pid {os.getpid()}")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _lock(file: TextIO, when_taken: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise RunError(when_taken.replace("{holder}", file.read().strip() or "unknown")) from None


def _is_at(path: Path, file: TextIO) -> bool:
    """Whether the open file still is the one at `path`.

    Whoever held the lock may have removed the file after it was opened here. The lock is then on a file that nobody
    else finds, and another process may hold the one that took its place.
    """
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


__all__ = ["locked"]
