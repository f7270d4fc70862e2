"""Locks on files and folders, so that only one process writes at a time.

A lock is a file of its own beside what it guards, `.NAME.lock`, or inside a folder, `.lock`, and is removed after use.
One that a killed process left behind does no harm: what counts is the lock that the system keeps on it, which goes with
the process, however that ends.

A file has two locks. Whoever writes it as a whole claims it, and a second writer is refused at once, because what it
wrote would be lost. Whoever adds to it, or puts another file in its place, holds its turn for that moment, and the
others wait.
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
        # Removed while it is still held. Whoever opened it before gets a lock on a file without a name, which filelock
        # notices. Windows removes no open file; then it stays.
        with suppress(OSError):
            lock.unlink()
        held.release()


@contextmanager
def claimed(path: str | os.PathLike[str]) -> Iterator[None]:
    """Be the only one that writes a file as a whole. A pipe or a device has no lock: nothing in it can be lost.

    Raises:
        RunError: another process is writing it, in one sentence that says which.
        OSError: the lock cannot be written.
    """
    path = Path(path)
    taken = f"{path}: is being written by another process ({{holder}}); wait for it, or name another file"
    with locked(_beside(path, ".lock"), taken) if _lockable(path) else nullcontext():
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait for the others that add to a file, or are putting another in its place, and hold them off.

    Raises:
        OSError: the lock cannot be written.
    """
    with locked(_beside(path, ".turn.lock"), wait=True) if _lockable(path) else nullcontext():
        yield


def _lockable(path: Path) -> bool:
    """Whether a path is a file's, or could become one; where its folder is missing, nothing can be written."""
    return path.is_file() or (not path.exists() and path.resolve().parent.is_dir())


def _beside(path: Path, suffix: str) -> Path:
    """A lock beside the file that a path leads to: two links to one file share its locks."""
    real = path.resolve()
    return real.with_name(f".{real.name}{suffix}")


def _holder(lock: Path) -> str:
    """The process that wrote itself into the lock file; Windows does not allow reading a locked file."""
    with suppress(OSError):
        return lock.read_text().strip() or "unknown"
    return "unknown"


__all__ = ["claimed", "in_turn", "locked"]
