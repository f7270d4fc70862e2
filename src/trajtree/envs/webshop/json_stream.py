"""Reading a JSON array or object of any length, one item at a time, with memory for the longest item only."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from trajtree.errors import DataError
from trajtree.store.files import open_input

CHUNK = 1 << 20
"""Bytes read at a time."""

LONGEST = 64 << 20
"""Largest length of an item, in characters."""

_DECODE = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"


def array_items(path: Path) -> Iterator[Any]:
    """The items of the array in the file.

    Raises:
        DataError: the file cannot be read, or is not one JSON array; the message names the item's number, from 0.
    """
    with open_input(path) as file:
        text = _Text(path, file)
        text.expect("[", "a JSON array")
        number = 0
        while not text.skip("]"):
            if number:
                text.expect(",", f"',' or ']' after row {number - 1}")
            yield text.value(f"row {number}")
            number += 1


def object_items(path: Path) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of the object in the file.

    Raises:
        DataError: the file cannot be read, or is not one JSON object; the message names the entry.
    """
    with open_input(path) as file:
        text = _Text(path, file)
        text.expect("{", "a JSON object")
        number = 0
        while not text.skip("}"):
            if number:
                text.expect(",", f"',' or '}}' after entry {number - 1}")
            key = text.value(f"the key of entry {number}")
            if not isinstance(key, str):
                raise DataError(f"{path}: the key of entry {number} must be text, got {key!r:.60}")
            text.expect(":", f"':' after {key!r:.60}")
            yield key, text.value(f"entry {key!r:.60}")
            number += 1


class _Text:
    """The file's text from a position that advances; what lies before it is forgotten."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False

    def _more(self) -> bool:
        """Read a chunk; False at the end of the file."""
        if self._ended:
            return False
        chunk = self._file.read(CHUNK)
        self._ended = not chunk
        try:
            self._text = self._text[self._at :] + self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path}: is not UTF-8 text: {error.reason}") from error
        self._at = 0
        return True

    def _next(self) -> str:
        """The next non-space character, which is not consumed; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def skip(self, character: str) -> bool:
        """Whether the next character is this one; if so, it is consumed."""
        if self._next() != character:
            return False
        self._at += 1
        return True

    def expect(self, character: str, what: str) -> None:
        if not self.skip(character):
            found = self._next()
            raise DataError(f"{self._path}: expected {what}, got {repr(found) if found else 'the end of the file'}")

    def value(self, what: str) -> Any:
        """The next JSON value."""
        self._next()
        while True:
            try:
                value, end = _DECODE(self._text, self._at)
            except RecursionError:
                raise DataError(f"{self._path}: {what} is nested too deeply") from None
            except json.JSONDecodeError as error:
                if len(self._text) - self._at < LONGEST and self._more():
                    continue
                ending = "the file ends in the middle" if self._ended else error.msg
                raise DataError(f"{self._path}: {what} is not JSON: {ending}") from error
            # A number at the end of the chunk may continue in the next one.
            if end < len(self._text) or not self._more():
                self._at = end
                return value


__all__ = ["array_items", "object_items"]
