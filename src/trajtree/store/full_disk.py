"""A full disk, as Python and the libraries that save weights tell of it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from trajtree.errors import RunError, TrajtreeError

_FULL = re.compile(
    r"I/O error: .*\(os error \d+\)|\(os error (?:27|28|122)\)|No space left on device|"
    r"inline_container.*unexpected pos|iostream error|PytorchStreamWriter failed"
)
"""What safetensors and torch say when the disk is full; their errors are not OSErrors."""


def is_full(error: BaseException) -> bool:
    """Whether an error, of Python or of the libraries that save weights, says that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return _FULL.search(str(error)) is not None


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have the error of a full disk name the file that was being written, which the system does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and is_full(error):
            error.filename = str(path)
        raise


@contextmanager
def saving_into(folder: str | os.PathLike[str], remedy: str) -> Iterator[None]:
    """Say in one sentence that the disk is full, whichever library finds out.

    Raises:
        RunError: the disk is full; it names the folder and says what to do.
    """
    try:
        yield
    except TrajtreeError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        said = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        raise RunError(f"{folder}: could not be written, is the disk full? ({said}); {remedy}") from error


__all__ = ["is_full", "naming", "saving_into"]
