"""Writing a report file: all of it or nothing."""

from __future__ import annotations

import os
from pathlib import Path

from trajtree.errors import RunError
from trajtree.store.files import write_atomically


def write_whole(text: str, path: str | os.PathLike[str]) -> None:
    """Write the file so that a reader finds either the old text or all of the new one, whatever happens.

    Raises:
        RunError: it cannot be written; what was there before is untouched.
    """
    try:
        write_atomically(Path(path), text)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


__all__ = ["write_whole"]
