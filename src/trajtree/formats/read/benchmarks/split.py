"""Files of results: one record that holds many runs, made into one record per run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.formats.read.fields import Record
from trajtree.formats.read.records import RawRecord, decode


def split(
    records: Iterable[RawRecord], parts: Callable[[Record], Iterable[dict[str, Any]] | None]
) -> Iterator[RawRecord]:
    """The runs in a file's records, numbered from 1.

    Args:
        records: the records as written.
        parts: the runs in a record; None if the record itself is a run.
    """
    number = 0
    for raw in records:
        try:
            found = parts(decode(raw))
        except DataError as error:
            found = None
            raw = raw._replace(data=b"", problem=str(error))
        if found is None:
            number += 1
            yield raw._replace(number=number)
            continue
        before = number
        for part in found:
            number += 1
            yield RawRecord(number, raw.line, json.dumps(part, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if number == before:
            number += 1
            yield RawRecord(number, raw.line, b"", "these results hold no run")


def decode_file(path: Path) -> Record:
    """The object that a small file consists of. Raises DataError if it is anything else."""
    try:
        found = from_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: must be a JSON object, got {type(found).__name__}")
    return found


__all__ = ["decode_file", "split"]
