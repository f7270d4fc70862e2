"""The content of a record as text that does not depend on how the record was written; stores identify records by it.

It is what `json.dumps(record, sort_keys=True)` gives, and must never change. msgspec makes the same text several times
as fast, except for texts that are not ASCII, which are escaped here, and a few floats, whose records are left to json.
"""

from __future__ import annotations

import json
import re

import msgspec

_by_json = json.JSONEncoder(sort_keys=True).encode
"""Created once, as json.dumps would create one at each call."""

_sorted = msgspec.json.Encoder(order="sorted").encode
_BEYOND = re.compile(rb"\\U([0-9a-f]{8})")
"""A character beyond 16 bits as Python escapes it; JSON escapes its two halves."""


def compact_text(value: object) -> bytes | None:
    """JSON with sorted keys and no white space; None if msgspec cannot write the value: a number has over 64 bits."""
    try:
        return _sorted(value)
    except (OverflowError, ValueError, RecursionError):
        return None


def canonical_text(value: object, compact: bytes | None) -> bytes:
    """The text of a value.

    Args:
        value: anything that JSON can hold.
        compact: its `compact_text`; None if that is not to be used, as with floats that `Floats` calls odd.

    Raises:
        RecursionError: it is nested too deeply.
    """
    if compact is None:
        return _by_json(value).encode()
    text = msgspec.json.format(compact, indent=0)
    if not text.isascii():
        text = _escaped(text)
    return text.replace(b"\x7f", b"\\u007f")


class Floats:
    """Reads the floats of one record, and notes whether msgspec writes any of them in another way than Python."""

    __slots__ = ("odd",)

    def __init__(self) -> None:
        self.odd = False

    def __call__(self, text: str) -> float:
        """The number that a text says."""
        number = float(text)
        if number and not 1e-4 <= abs(number) < 1e16:
            self.odd = True  # 1e16 here, 1e+16 there
        return number


def _escaped(text: bytes) -> bytes:
    """JSON text in which all characters that are not ASCII are escaped."""
    # Pairs of backslashes are put out of the way: then all escapes with x or U are those that Python makes here. JSON
    # text has no zero bytes of its own.
    escaped = text.replace(rb"\\", b"\0").decode().encode("ascii", "backslashreplace").replace(rb"\x", rb"\u00")
    if rb"\U" in escaped:
        escaped = _BEYOND.sub(_halves, escaped)
    return escaped.replace(b"\0", rb"\\")


def _halves(found: re.Match[bytes]) -> bytes:
    high, low = divmod(int(found[1], 16) - 0x10000, 0x400)
    return b"\\u%04x\\u%04x" % (0xD800 + high, 0xDC00 + low)


__all__ = ["Floats", "canonical_text", "compact_text"]
