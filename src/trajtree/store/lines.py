"""What our files of JSON Lines share: the first line says what the file is, errors name file, line and field."""

from __future__ import annotations

import json
import os

from pydantic import ValidationError

from trajtree.errors import DataError

_LONGEST_HEADER = 1000


def header(format: str, version: int, made_by: str | None = None) -> bytes:
    """The first line of a file; `made_by` names the command that makes it anew each time."""
    maker = {} if made_by is None else {"made_by": made_by}
    return json.dumps({"format": format, "version": version, **maker}).encode() + b"\n"


def check_header(path: str | os.PathLike[str], line: bytes, format: str, version: int, what: str) -> None:
    """Raise DataError, saying that this is not `what`, unless a first line is of this format and version."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != format:
        raise DataError(f"{path}, line 1: not {what} (no {format!r} header)")
    if found.get("version") != version:
        raise DataError(
            f"{path}, line 1, field version: {found.get('version')!r}; this trajtree reads version {version}"
        )


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The format that a file's first line names; None where it names none."""
    return _named(path, "format")


def made_by(path: str | os.PathLike[str]) -> str | None:
    """The command that a file's first line names; None where it names none."""
    return _named(path, "made_by")


def _named(path: str | os.PathLike[str], field: str) -> str | None:
    with open(path, "rb") as file:
        line = file.readline(_LONGEST_HEADER)
    try:
        found = json.loads(line)
    except ValueError:
        return None
    named = found.get(field) if isinstance(found, dict) else None
    return named if isinstance(named, str) else None


def invalid(path: str | os.PathLike[str], number: int, error: ValidationError) -> DataError:
    """The error of a line that is not what it should be, by its first wrong field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "(whole line)"
    return DataError(f"{path}, line {number}, field {field}: {first['msg']}")


__all__ = ["check_header", "format_of", "header", "invalid", "made_by"]
