"""Text for terminals, pages and plots, with nothing invisible in it; and how wide our output is."""

from __future__ import annotations

import re

WIDTH = 120
"""Width in columns that fits all our tables; also the width of output to a pipe or log file."""

# Control characters, bidirectional marks, lone surrogates: invisible, and some reorder or hide the text around them.
_UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    """Return the text with all invisible characters made visible, as in `<U+202E>`."""
    return _UNSEEN.sub(lambda match: f"<U+{ord(match.group()):04X}>", text.replace("\r\n", "\n"))


__all__ = ["WIDTH", "visible"]
