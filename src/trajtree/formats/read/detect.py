"""The formats that can be imported, and telling which one a file is in."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Protocol

from trajtree.errors import DataError
from trajtree.formats.read import atif, messages, sharegpt, verifiers
from trajtree.formats.read.episode import Imported
from trajtree.formats.read.fields import Record
from trajtree.formats.read.records import decode, raw_records

_LOOK_AT = 100


class Reader(Protocol):
    """Reads one record; `score` and `task` are dotted paths or None."""

    def __call__(self, record: Record, *, score: str | None, task: str | None) -> Imported:
        """Raise DataError when the record is no run of this format."""


READERS: dict[str, Reader] = {
    "atif": atif.read,
    "messages": messages.read,
    "sharegpt": sharegpt.read,
    "verifiers": verifiers.read,
}

_HINT = (
    "known are atif (schema_version, steps), messages (messages, or prompt and completion), "
    "sharegpt (conversations of from and value) and verifiers (nodes, or prompt, completion and example_id)"
)


def reader_of(name: str) -> Reader:
    """The reader of a format. Raises DataError when there is no such format."""
    if name not in READERS:
        raise DataError(f"{name!r} is no format that can be imported; {_HINT}")
    return READERS[name]


def detect(path: Path) -> str:
    """Name of the format of a file, told by its first record that is JSON.

    Raises:
        DataError: no format fits, or no record is JSON.
    """
    problem = "the file is empty"
    for raw in islice(raw_records(path), _LOOK_AT):
        try:
            record = decode(raw)
        except DataError as error:
            problem = str(error)
            continue
        name = _format_of(record)
        if name is None:
            keys = ", ".join(list(record)[:12])[:200] or "none"
            raise DataError(f"{path}, line {raw.line}: in no known format (its fields: {keys}); {_HINT}")
        return name
    raise DataError(f"{path}: no run to be found: {problem}")


def _format_of(record: Record) -> str | None:
    if str(record.get("schema_version")).startswith("ATIF"):
        return "atif"
    if isinstance(record.get("nodes"), list):
        return "verifiers"
    turns = record.get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], dict):
        return "sharegpt" if "from" in turns[0] else "messages"
    if "prompt" in record and "completion" in record:
        return "verifiers" if "example_id" in record else "messages"
    return "messages" if isinstance(record.get("messages"), list) else None


__all__ = ["READERS", "Reader", "detect", "reader_of"]
