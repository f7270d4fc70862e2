"""The formats that can be imported, and telling which one a file is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from trajtree.errors import DataError
from trajtree.formats.read import atif, messages, sharegpt, verifiers
from trajtree.formats.read.fields import Record
from trajtree.formats.read.records import decode, raw_records
from trajtree.formats.read.to_trajectory import Imported

_LOOK_AT = 100


class Reader(Protocol):
    """Reads one record; `score` and `task` are dotted paths or None."""

    def __call__(self, record: Record, *, score: str | None, task: str | None) -> Imported:
        """Raise DataError when the record is no run of this format."""


@dataclass(frozen=True, slots=True)
class Format:
    """A log format.

    Attributes:
        read: reads one record.
        recognises: whether a record is of this format, unless it is of one that comes earlier in FORMATS.
        about: the fields by which people tell the format.
    """

    read: Reader
    recognises: Callable[[Record], bool]
    about: str


FORMATS = {
    "atif": Format(atif.read, atif.recognises, "schema_version, steps"),
    "verifiers": Format(verifiers.read, verifiers.recognises, "nodes, or prompt, completion and example_id"),
    "sharegpt": Format(sharegpt.read, sharegpt.recognises, "conversations of from and value"),
    "messages": Format(messages.read, messages.recognises, "messages, or prompt and completion"),
}
"""Log formats by name; the first that recognises a record is its format."""


def format_named(name: str) -> Format:
    """The format of that name. Raises DataError when there is none."""
    if name not in FORMATS:
        raise DataError(f"{name!r} is no format that can be imported; {_known()}")
    return FORMATS[name]


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
        name = next((name for name, format in FORMATS.items() if format.recognises(record)), None)
        if name is None:
            keys = ", ".join(list(record)[:12])[:200] or "none"
            raise DataError(f"{path}, line {raw.line}: in no known format (its fields: {keys}); {_known()}")
        return name
    raise DataError(f"{path}: no run to be found: {problem}")


def _known() -> str:
    return "known are " + ", ".join(f"{name} ({format.about})" for name, format in FORMATS.items())


__all__ = ["FORMATS", "Format", "Reader", "detect", "format_named"]
