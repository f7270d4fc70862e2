"""The records of a file, one at a time, each with its position.

JSON Lines, an array and a single object are read alike, compressed or not; the rows of a table are made JSON. Records
are cut out of the file as bytes, without parsing them and without holding the whole file in memory, so records that are
already known cost next to nothing; a broken record does not hide those after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from pydantic_core import from_json

from trajtree.errors import DataError
from trajtree.formats.containers.archives import is_zip, samples_in
from trajtree.formats.containers.streams import LONGEST_MAGIC, opened
from trajtree.formats.containers.tables import is_table, rows_in
from trajtree.formats.read.canonical import Floats, canonical_text, compact_text
from trajtree.formats.read.searching import count, searcher
from trajtree.store.files import open_input

LONGEST = 1 << 28
"""Largest length of a record in bytes; an unclosed quote or bracket must not fill the memory."""

_CHUNK = 1 << 16
_LINES = frozenset((".jsonl", ".ndjson"))
"""Suffixes of files in which no record is spread over several lines."""

_BOM = b"\xef\xbb\xbf"
_TOO_LONG = f"the row is longer than {LONGEST >> 20} MiB, the limit for one run"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_WITHIN = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
"""Everything up to the next bracket, or up to an unclosed string."""

_BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
"""The same, but a comma stops it too."""

_COLON = ord(":")
_has_disguised_colon = searcher(r"\\u003[aA]")


class RawRecord(NamedTuple):
    """One record as written in its file.

    `number` counts the records from 1, skipping blank lines; `line` is where the record begins. `problem` says why
    `data` could not be cut out.
    """

    number: int
    line: int
    data: bytes
    problem: str | None = None


def raw_records(path: Path) -> Iterator[RawRecord]:
    """The records of a file: the lines of JSON Lines, the elements of an array, a single object, the rows of a table.

    The file may be compressed. An inspect log (`.eval`) has a record for each sample: `{"header": ..., "sample": ...}`.

    Raises:
        DataError: the file cannot be read, or needs a package that is not installed.
    """
    with open_input(path) as plain:
        magic = plain.peek(LONGEST_MAGIC)[:LONGEST_MAGIC]
    if is_table(path, magic):
        yield from _made(path, rows_in(path))
    elif is_zip(magic):
        yield from _made(path, samples_in(path))
    else:
        with opened(path) as (file, unpacked):
            number = 0
            in_lines = not _LINES.isdisjoint(suffix.lower() for suffix in path.suffixes)
            for raw in _records(file, may_spread=not in_lines):
                number = raw.number
                yield raw
            if unpacked is not None and unpacked.problem:
                yield RawRecord(number + 1, 0, b"", unpacked.problem)


def _made(path: Path, rows: Iterator[bytes]) -> Iterator[RawRecord]:
    """Records that are not lines of a file; damage becomes one last record with the problem."""
    number = 0
    try:
        for number, data in enumerate(rows, start=1):
            yield RawRecord(number, number, data, _TOO_LONG if len(data) > LONGEST else None)
    except DataError as error:
        if not number:
            raise
        yield RawRecord(number + 1, number + 1, b"", str(error).removeprefix(f"{path}: "))


def _records(file: BinaryIO, may_spread: bool) -> Iterator[RawRecord]:
    ahead = file.read(len(_BOM))
    ahead = b"" if ahead == _BOM else ahead
    line = 1
    while (ahead or (ahead := file.read(1))) and (skipped := len(ahead) - len(ahead.lstrip())):
        line += ahead[:skipped].count(b"\n")
        ahead = ahead[skipped:]
    if ahead.startswith(b"["):
        yield from _elements(file, ahead[1:], line)
        return
    ahead += file.readline(LONGEST + 1) if not ahead.endswith(b"\n") else b""
    if may_spread and ahead.startswith(b"{") and _is_partial(ahead):
        second = file.readline(LONGEST + 1)
        # An object in which every message has its line, or a torn line before a whole one?
        whole = not second.lstrip().startswith(b"{") or not _is_json(second)
        ahead += second
        if len(ahead) <= LONGEST:
            ahead += file.read(LONGEST + 1 - len(ahead))
        if whole or _is_json(ahead):
            yield RawRecord(1, line, ahead.strip(), _TOO_LONG if len(ahead) > LONGEST else None)
            return
    yield from _lines(file, ahead, 0, line - 1)


def decode(raw: RawRecord) -> dict[str, Any]:
    """The object in a record.

    Raises:
        DataError: without naming the position: it is not an object, or one of its objects has a key twice, of which
            one value would be lost.
    """
    return _decoded(raw)[0]


def decode_with_content(raw: RawRecord) -> tuple[dict[str, Any], bytes]:
    """The object in a record, and its content as text, see `canonical`. Raises DataError like `decode`."""
    value, compact = _decoded(raw)
    return value, canonical_text(value, compact)


def _decoded(raw: RawRecord) -> tuple[dict[str, Any], bytes | None]:
    """The object in a record, and its compact text; None if its content cannot be derived from that."""
    if raw.problem is not None:
        raise DataError(raw.problem)
    floats = Floats()
    try:
        value = msgspec.json.Decoder(float_hook=floats).decode(raw.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        try:
            value = from_json(raw.data)  # reads NaN too, and says better what is wrong
        except ValueError as error:
            raise DataError(f"not JSON: {error}") from None
        floats.odd = True
    if not isinstance(value, dict):
        raise DataError(f"a run is a JSON object, got {type(value).__name__}")
    compact = compact_text(value)
    if _may_repeat_a_key(raw.data, compact):
        _refuse_repeated_keys(raw.data)
    return value, None if floats.odd else compact


def _may_repeat_a_key(data: bytes, compact: bytes | None) -> bool:
    """Whether data has more colons than what was read of it, or they cannot be counted."""
    if compact is None or _has_disguised_colon(data):
        return True
    return count(compact, _COLON) != count(data, _COLON)


def _refuse_repeated_keys(data: bytes) -> None:
    def pairs(found: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in found]
        if len(set(names)) < len(names):
            name = next(name for index, name in enumerate(names) if name in names[:index])
            raise DataError(f"{name[:80]!r} occurs twice in one object, and only one value could be kept")

    # A number of thousands of digits is an error of Python's, and of no interest here.
    try:
        json.loads(data, object_pairs_hook=pairs, parse_int=len)
    except RecursionError:
        raise DataError("nested too deeply") from None


def _is_json(text: bytes) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def _is_partial(text: bytes) -> bool:
    """Whether a text is the beginning of JSON, and no JSON itself."""
    if _is_json(text):
        return False
    try:
        from_json(text, allow_partial=True)
    except ValueError:
        return False
    return True


def _lines(file: BinaryIO, ahead: bytes, number: int, line: int) -> Iterator[RawRecord]:
    """The lines of what was read ahead and of the rest, after `number` records and `line` lines."""
    *whole, ahead = ahead.split(b"\n")
    for text in whole:
        line += 1
        if stripped := text.strip():
            number += 1
            yield RawRecord(number, line, b"", _TOO_LONG) if len(text) > LONGEST else RawRecord(number, line, stripped)
    while raw := ahead + file.readline(max(0, LONGEST + 1 - len(ahead))):
        ahead = b""
        line += 1
        too_long = len(raw) > LONGEST
        while len(raw) > LONGEST:
            raw = file.readline(LONGEST + 1)
        stripped = raw.strip()
        if stripped or too_long:
            number += 1
            yield RawRecord(number, line, b"", _TOO_LONG) if too_long else RawRecord(number, line, stripped)


def _elements(file: BinaryIO, buffer: bytes, line: int) -> Iterator[RawRecord]:
    """The elements of the array that was just opened, then the lines after it; `buffer` was read ahead."""
    number = begin = position = depth = 0
    while True:
        match = (_WITHIN if depth else _BETWEEN).match(buffer, position)
        end = position if match is None else match.end()
        mark = buffer[end : end + 1]
        if mark in (b"", b'"'):
            # The element, or a string in it, continues beyond the buffer; doubling the amount read each time keeps the
            # work linear.
            position = end - begin
            buffer, begin = buffer[begin:], 0
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
                yield from _lines(file, buffer[position:], number, line - 1)
                return


__all__ = ["LONGEST", "RawRecord", "decode", "decode_with_content", "raw_records"]
