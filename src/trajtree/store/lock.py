"""Locks on files and folders, so that only one process writes at a time.

A lock is a separate file beside what it guards, `.NAME.lock`, or inside a folder, `.lock`, and is removed after use.
One left behind by a killed process does no harm: what counts is the operating system's lock on it, which disappears
with the process, however that ends.

A file has two locks. A process that writes the whole file claims it, and a second writer is refused at once, because
its work would be lost. A process that appends to the file, or replaces it, takes its turn for that moment, and others
wait.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from trajtree.errors import RunError


@contextmanager
def locked(lock: Path, when_taken: str = "", *, wait: bool = False) -> Iterator[None]:
    """Hold a lock.

    Args:
        lock: the lock file; its folder is created.
        when_taken: the error message if another process holds it; `{holder}` in it stands for that process.
        wait: wait for the other process instead.

    Raises:
        RunError: another process holds it.
        OSError: the file cannot be written.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Within a process every use is a separate lock: two threads, or two calls, exclude each other as processes do.
    held = FileLock(lock, timeout=-1 if wait else 0, thread_local=False)
    try:
        held.acquire()
    except Timeout:
        raise RunError(when_taken.replace("{holder}", _holder(lock))) from None
    try:
        if not wait:
            lock.write_text(f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        yield
    finally:
        # Removed while it is still held. A process that opened it before gets a lock on a file without a name, which
        # filelock notices. Windows does not remove open files; there it stays.
        with suppress(OSError):
            lock.unlink()
        held.release()


@contextmanager
def claimed(path: str | os.PathLike[str]) -> Iterator[None]:
    """Be the only process that writes the whole file. Pipes and devices have no lock: nothing in them can be lost.

    Raises:
        RunError: another process is writing it; the message says which.
        OSError: the lock cannot be written.
    """
    path = Path(path)
    taken = f"{path}: is being written by another process ({{holder}}); wait for it, or name another file"
    with locked(_beside(path, ".lock"), taken) if _lockable(path) else nullcontext():
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait for other processes that append to the file or replace it, and then make them wait.

    Raises:
        OSError: the lock cannot be written.
    """
    with locked(_beside(path, ".turn.lock"), wait=True) if _lockable(path) else nullcontext():
        yield


def _lockable(path: Path) -> bool:
    """Whether the path is a file or could become one; if its folder is missing, nothing can be written."""
    return path.is_file() or (not path.exists() and path.resolve().parent.is_dir())


def _beside(path: Path, suffix: str) -> Path:
    """A lock beside the file that the path resolves to, so that two links to the same file share its locks."""
    real = path.resolve()
    return real.with_name(f".{real.name}{suffix}")


def _holder(lock: Path) -> str:
    """The process that wrote itself into the lock file; Windows does not allow reading a locked file."""
    with suppress(OSError):
        return lock.read_text().strip() or "unknown"
    return "unknown"


__all__ = ["claimed", "in_turn", "locked"]
