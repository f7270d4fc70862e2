"""Files and folders that are still being written, beside what they will become: `.NAME.HOST-RANDOM.tmp`.

Nobody can foretell their names, and nothing that is there already is opened, so that no link that somebody laid in wait
is followed. Their writer holds a lock on them, which goes with it however it ends: what a killed one of this machine
left is removed by the next writer of the same name. What another machine left stays, and on Windows everything does.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

SUFFIX = ".tmp"
"""Of everything that is still being written."""

_LONGEST_NAME = 180
"""Bytes of a file's name that go into the name of the unfinished one; 255 are what file systems take."""


def remove_abandoned(path: Path) -> None:
    """Remove what killed writers of `path` on this machine left beside it."""
    with suppress(OSError):
        for left in path.parent.glob(f"{_escaped(_beginning(path))}*{SUFFIX}"):
            _remove_if_dead(left)


@contextmanager
def unfinished_file(path: Path, mode: int) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside `path`, open for writing; what is left of it in the end is removed."""
    remove_abandoned(path)
    while True:
        there = _name_for(path)
        descriptor = os.open(there, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        if _lock(descriptor):
            break
        os.close(descriptor)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield there, file
    finally:
        there.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, with the rights of a folder that is there; what is left in the end is removed."""
    remove_abandoned(path)
    mode = stat.S_IMODE(path.stat().st_mode) if path.is_dir() else 0o777
    while True:
        there = _name_for(path)
        there.mkdir(mode)
        if sys.platform == "win32":
            descriptor = None
            break
        descriptor = os.open(there, os.O_RDONLY)
        if _lock(descriptor):
            break
        os.close(descriptor)
    try:
        yield there
    finally:
        shutil.rmtree(there, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _beginning(path: Path) -> str:
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    name = os.fsencode(path.name)[:_LONGEST_NAME].decode(errors="ignore")
    return f".{name}.{host}-"


def _name_for(path: Path) -> Path:
    return path.with_name(f"{_beginning(path)}{secrets.token_hex(8)}{SUFFIX}")


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _lock(descriptor: int) -> bool:
    """Lock what has just been made; False when someone took it for abandoned before it was locked, and removed it."""
    if sys.platform != "win32":
        with suppress(OSError):  # a file system without locks: nobody else can lock it either, and so nobody removes it
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return os.fstat(descriptor).st_nlink > 0
    return True


def _remove_if_dead(path: Path) -> None:
    if sys.platform != "win32":
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(descriptor)


__all__ = ["SUFFIX", "remove_abandoned", "unfinished_file", "unfinished_folder"]
