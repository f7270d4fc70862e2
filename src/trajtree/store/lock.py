"""One process at a time: locks on files and folders that are written.

A lock is a file of its own beside what it guards, `.NAME.lock`. It stays there, which does no harm: what counts is the
lock that the system keeps on it, which goes with the process, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from trajtree.errors import RunError


def lock_of(path: Path) -> Path:
    """The lock file of a file or folder."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(lock: Path, when_taken: str = "", *, wait: bool = False) -> Iterator[None]:
    """Hold a lock.

    Args:
        lock: the lock file; its folder is made.
        when_taken: the sentence to say when another process holds it; `{holder}` in it stands for that process.
        wait: wait for the other process instead.

    Raises:
        RunError: another process holds it.
        OSError: the file cannot be written.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Within a process every use is a lock of its own: two threads, or two calls, exclude one another as processes do.
    held = FileLock(lock, timeout=-1 if wait else 0, thread_local=False)
    try:
        held.acquire()
    except Timeout:
        raise RunError(when_taken.replace("{holder}", _holder(lock))) from None
    try:
        if not wait:
            lock.write_text(f"pid {os.getpid()}")
        yield
    finally:
        held.release()


def _holder(lock: Path) -> str:
    """Who wrote itself into the lock file; Windows lets nobody read a file that is locked."""
    with suppress(OSError):
        return lock.read_text().strip() or "unknown"
    return "unknown"


__all__ = ["lock_of", "locked"]
