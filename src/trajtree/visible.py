"""Text for terminals, pages and plots, with nothing invisible in it; and how wide our output is."""

from __future__ import annotations

import re

WIDTH = 120
"""Width in columns that fits all our tables; also the width of output to a pipe or log file."""

# Control characters, bidirectional marks, lone surrogates, soft hyphens, fillers, spaces without width, tags: all
# invisible, and some reorder or hide the text around them, or hold text that a model reads and nobody sees. U+200C
# and U+200D stay: ordinary words of some scripts need them, and so do emoji.
_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return the text with invisible characters made visible, as in `<U+202E>`.

    Only the joiners U+200C and U+200D stay as they are, because ordinary text in some scripts and emoji has them.
    """
    return _UNSEEN.sub(lambda match: f"<U+{ord(match.group()):04X}>", text.replace("\r\n", "\n"))


__all__ = ["WIDTH", "visible"]
