"""JSON Lines: reading and writing plain files, and what trajtree's own formats share.

The first line of a trajtree file says what the file is; errors name file, line and field.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trajtree.errors import DataError
from trajtree.store.files import atomically, cannot_write, open_input, open_text
from trajtree.store.lock import claimed

JsonObject = dict[str, Any]
"""A JSON object, as read or to be written."""

_LONGEST_HEADER = 1000


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write one row per line and return how many there are; rows are taken one at a time.

    Raises:
        DataError: a row cannot be represented as JSON in UTF-8 (NaN, half a surrogate pair).
        RunError: the file cannot be written, or another process is writing it.

    After any error, including one raised by `rows`, an existing file is left unchanged.
    """
    path, count = Path(path), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with claimed(path), atomically(path) as file:
            for count, row in enumerate(rows, start=1):
                file.write(encoded(row, path, count))
    except OSError as error:
        raise cannot_write(path, error) from error
    return count


def encoded(row: Mapping[str, Any], path: Path, number: int, unit: str = "line") -> bytes:
    """A row as a line of JSON.

    Raises:
        DataError: it cannot be represented as JSON in UTF-8; `unit` is what the file has instead of lines.
    """
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        where = f"{path}, {unit} {number}"
        raise DataError(f"{where}: cannot be written as JSON in UTF-8 ({error}); fix the data") from None


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[JsonObject]:
    """Read one row per line, as `write_jsonl` writes them.

    Raises:
        DataError: the file cannot be read; or naming file and line of the first that is not a JSON object in UTF-8.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                row = parsed(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: must be a JSON object, got {type(row).__name__}")
            yield row


def parsed(text: str | bytes) -> Any:
    """What JSON text says; also what is nested too deeply to be read is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def header(format: str, version: int, made_by: str | None = None) -> bytes:
    """The first line of a file; `made_by` names the command that rewrites it each time."""
    maker = {} if made_by is None else {"made_by": made_by}
    return json.dumps({"format": format, "version": version, **maker}).encode() + b"\n"


def version_of(path: str | os.PathLike[str], line: bytes, format: str, versions: tuple[int, ...], what: str) -> int:
    """The version given in a first line, one of `versions`.

    Raises:
        DataError: the file is not `what`, or has another version.
    """
    try:
        found = parsed(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != format:
        raise DataError(f"{path}, line 1: not {what} (no {format!r} header)")
    version = found.get("version")
    if type(version) is not int or version not in versions:
        known = " and ".join(map(str, versions))
        raise DataError(f"{path}, line 1, field version: {version!r}; this trajtree reads versions {known}")
    return version


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The format given in a file's first line; None if there is none."""
    return _named(path, "format")


def made_by(path: str | os.PathLike[str]) -> str | None:
    """The command given in a file's first line; None if there is none."""
    return _named(path, "made_by")


def _named(path: str | os.PathLike[str], field: str) -> str | None:
    with open_input(path) as file:
        line = file.readline(_LONGEST_HEADER)
    try:
        found = parsed(line)
    except ValueError:
        return None
    named = found.get(field) if isinstance(found, dict) else None
    return named if isinstance(named, str) else None


def invalid(path: str | os.PathLike[str], number: int, error: Exception) -> DataError:
    """The error for an invalid line, naming its first wrong field."""
    return DataError(f"{path}, line {number}, {faulty_field(error)}")


def faulty_field(error: Exception) -> str:
    """The first wrong field of a line that cannot be decoded, in the form "field NAME: what is wrong"."""
    if isinstance(error, msgspec.MsgspecError):
        return wrong_field(error)
    said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return said if said.startswith("field ") else f"field (whole line): {said}"


def wrong_field(error: msgspec.MsgspecError) -> str:
    """What does not fit, in the form "field NAME: what is wrong"."""
    what, _, where = str(error).partition(" - at ")
    place = where.strip("`").removeprefix("$").replace("[...]", "").replace("[", ".").replace("]", "").removeprefix(".")
    if missing := re.match(r"Object missing required field `(\w+)`", what):
        place, what = f"{place}.{missing[1]}".lstrip("."), "missing"
    elif unknown := re.match(r"Object contains unknown field `(\w+)`", what):
        place, what = f"{place}.{unknown[1]}".lstrip("."), "unknown to this version of trajtree"
    return f"field {place or '(whole line)'}: {what}"


__all__ = [
    "JsonObject",
    "encoded",
    "faulty_field",
    "format_of",
    "header",
    "invalid",
    "made_by",
    "parsed",
    "read_jsonl",
    "version_of",
    "write_jsonl",
    "wrong_field",
]
