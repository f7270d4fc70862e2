"""The content of a record as text that does not depend on how the record was written; stores identify records by it.

It is what `json.dumps(record, sort_keys=True)` gives, and must never change. msgspec makes the same text several times
as fast, except that it does not escape non-ASCII characters and writes some floats differently. Python escapes most of
those characters as json does, and fast; the others, and those floats, are left to json.
"""

from __future__ import annotations

import json

import msgspec

from trajtree.formats.read.searching import searcher

_by_json = json.JSONEncoder(sort_keys=True).encode
"""Created once, as json.dumps would create one at each call."""

_sorted = msgspec.json.Encoder(order="sorted").encode

_may_have_x, _may_have_u = searcher(r"\\x"), searcher(r"\\U")
r"""Whether text may have \xe9 or \U0001f600, for json's \u00e9 and \ud83d\ude00; json's own \\xe9 looks like it too."""


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
    spaced = msgspec.json.format(compact, indent=0)
    if not spaced.isascii():
        spaced = spaced.decode().encode("ascii", "backslashreplace")
        if _may_have_x(spaced) or _may_have_u(spaced):
            return _by_json(value).encode()
    return spaced.replace(b"\x7f", rb"\u007f")


class Floats:
    """Reads the floats of one record, and notes whether msgspec writes any of them in another way than Python."""

    __slots__ = ("odd",)

    def __init__(self) -> None:
        self.odd = False

    def __call__(self, text: str) -> float:
        """The number that a text stands for."""
        number = float(text)
        if number and not 1e-4 <= abs(number) < 1e16:
            self.odd = True  # 1e16 here, 1e+16 there
        return number


__all__ = ["Floats", "canonical_text", "compact_text"]
