"""The records of a JSON file, one at a time, each with its position.

JSON Lines, an array and a single object are read alike. Records are cut out of the file as bytes, without parsing them
and without holding the whole file in memory, so records that are already known cost next to nothing; a broken record
does not hide those after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.store.files import open_input

LONGEST = 1 << 28
"""Largest length of a record in bytes; an unclosed quote or bracket must not fill the memory."""

_CHUNK = 1 << 16
_SUFFIXES = (".json", ".jsonl", ".traj")
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = f"the row is longer than {LONGEST >> 20} MiB, the limit for one run"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_WITHIN = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
"""Everything up to the next bracket, or up to an unclosed string."""

_BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
"""The same, but a comma stops it too."""


class RawRecord(NamedTuple):
    """One record as written in its file.

    `number` counts the records from 1, skipping blank lines; `line` is where the record begins. `problem` says why
    `data` could not be cut out.
    """

    number: int
    line: int
    data: bytes
    problem: str | None = None


def files_in(paths: Iterable[Path]) -> list[tuple[Path, bool]]:
    """(file, whether it was named explicitly), each once: a folder stands for all .json and .jsonl files below it.

    Raises:
        DataError: there is no such file or folder, or a folder contains no such file.
    """
    found: dict[Path, tuple[Path, bool]] = {}
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            if not below:
                raise DataError(f"{path}: no .json or .jsonl file in this folder")
        elif path.exists():
            below = [path]
        else:
            raise DataError(f"{path}: no such file or folder")
        for file in below:
            first, named = found.get(file.resolve(), (file, False))
            found[file.resolve()] = first, named or file is path
    return list(found.values())


def raw_records(path: Path) -> Iterator[RawRecord]:
    """The records of a file: the lines of JSON Lines, the elements of an array, or a single object."""
    with open_input(path) as file:
        start = 3 if file.read(3) == _BOM else 0
        file.seek(start)
        line = 1
        while (first := file.read(1)).isspace():
            start += 1
            line += first == b"\n"
        if first == b"[":
            yield from _elements(file, line)
            return
        whole = first == b"{" and path.suffix != ".jsonl" and _spread_over_lines(file, start)
        file.seek(start)
        if not whole:
            yield from _lines(file, 0, line - 1)
            return
        raw = file.read(LONGEST + 1)
        yield RawRecord(1, line, raw.strip(), _TOO_LONG if len(raw) > LONGEST else None)


def decode(raw: RawRecord) -> dict[str, Any]:
    """The object in a record. Raises DataError, without naming the position, if it is not one."""
    if raw.problem is not None:
        raise DataError(raw.problem)
    try:
        value = from_json(raw.data)
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"a run is a JSON object, got {type(value).__name__}")
    return value


def _spread_over_lines(file: BinaryIO, start: int) -> bool:
    """Whether the first line begins an object that continues on the next, and is not a record by itself."""
    file.seek(start)
    first = file.readline(LONGEST + 1)
    try:
        from_json(first)
        return False
    except ValueError:
        pass
    try:
        from_json(first, allow_partial=True)
    except ValueError:
        return False
    return not file.readline(LONGEST + 1).lstrip().startswith(b"{")


def _lines(file: BinaryIO, number: int, line: int) -> Iterator[RawRecord]:
    """The lines from the current file position, after `number` records and `line` lines."""
    while raw := file.readline(LONGEST + 1):
        line += 1
        too_long = len(raw) > LONGEST
        while len(raw) > LONGEST:
            raw = file.readline(LONGEST + 1)
        stripped = raw.strip()
        if stripped or too_long:
            number += 1
            yield RawRecord(number, line, b"", _TOO_LONG) if too_long else RawRecord(number, line, stripped)


def _elements(file: BinaryIO, line: int) -> Iterator[RawRecord]:
    """The elements of the array that was just opened, then the lines after it."""
    buffer, base = b"", file.tell()
    number = begin = position = depth = 0
    while True:
        match = (_WITHIN if depth else _BETWEEN).match(buffer, position)
        end = position if match is None else match.end()
        mark = buffer[end : end + 1]
        if mark in (b"", b'"'):
            # The element, or a string in it, continues beyond the buffer; doubling the amount read each time keeps the
            # work linear.
            position = end - begin
            base, buffer, begin = base + begin, buffer[begin:], 0
            more = file.read(max(_CHUNK, len(buffer))) if len(buffer) <= LONGEST else b""
            if more:
                buffer += more
                continue
            problem = _TOO_LONG if len(buffer) > LONGEST else "the file ends before the array does"
            skipped = len(buffer) - len(buffer.lstrip())
            yield RawRecord(number + 1, line + buffer.count(b"\n", 0, skipped), b"", problem)
            return
        position = end + 1
        if mark in (b"[", b"{"):
            depth += 1
        elif depth:
            depth -= 1
        elif mark != b"}":
            piece = buffer[begin:end]
            raw = piece.lstrip()
            if raw:
                number += 1
                yield RawRecord(number, line + piece.count(b"\n", 0, len(piece) - len(raw)), raw.rstrip())
            line += piece.count(b"\n")
            begin = position
            if mark == b"]":
                file.seek(base + position)
                yield from _lines(file, number, line - 1)
                return


__all__ = ["LONGEST", "RawRecord", "decode", "files_in", "raw_records"]
