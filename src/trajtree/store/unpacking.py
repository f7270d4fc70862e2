"""Compressed input: streamed, so that a few kilobytes that stand for gigabytes fill neither memory nor disk.

There is no bound on what a file unpacks to, only on what must be in memory at once: a line, or a document read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from trajtree.errors import DataError

LONGEST = 1 << 28
"""Bytes of the longest line, and of the largest document, that is unpacked into memory."""


def lines(file: IO[bytes], where: str) -> Iterator[bytes]:
    """The lines of an unpacking file; `where` names it in errors.

    Raises:
        DataError: a line is longer than LONGEST; naming its number.
    """
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise DataError(f"{where}, line {number}: unpacks to more than {LONGEST >> 20} MiB; shorten it")
        yield line


def document(file: IO[bytes], where: str) -> bytes:
    """All that an unpacking file, or one member of an archive, holds.

    Raises:
        DataError: it is more than LONGEST.
    """
    found = file.read(LONGEST + 1)
    if len(found) > LONGEST:
        raise DataError(f"{where}: unpacks to more than {LONGEST >> 20} MiB, which are not read at once; cut it up")
    return found


__all__ = ["LONGEST", "document", "lines"]
