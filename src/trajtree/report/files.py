"""Writing a report file: all of it or nothing."""

from __future__ import annotations

import os
from pathlib import Path

from trajtree.errors import RunError


def write_whole(text: str, path: str | os.PathLike[str]) -> None:
    """Write the file so that a reader finds either the old text or all of the new one, whatever happens.

    Raises:
        RunError: it cannot be written; what was there before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["write_whole"]
