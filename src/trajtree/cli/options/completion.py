"""What a shell offers when Tab is pressed: typer has the commands and the options, here are the values.

Where nothing is offered, the shell offers files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from textwrap import shorten

Offered = list[tuple[str, str]]
"""Values, each with its description, which may be empty."""

_WIDTH = 72
"""Columns of a description."""


def offering(names: Collection[str]) -> Callable[[str], Offered]:
    """Offers those of `names` that begin with what was typed; the entries of a table with their descriptions."""
    entries: Mapping[str, object] = names if isinstance(names, Mapping) else dict.fromkeys(names)

    def offered(incomplete: str) -> Offered:
        return [(name, _about(entry)) for name, entry in entries.items() if name.startswith(incomplete)]

    return offered


def plain(help: str) -> str:
    """The beginning of a help text, without markup, for a shell to show on one line beside what it describes."""
    # typer doubles straight apostrophes for zsh, which then shows none; and it wraps what is longer than 80 columns.
    return shorten(help.replace("**", "").replace("`", "").replace("'", "’"), _WIDTH, placeholder=" ...")


def _about(entry: object) -> str:
    about = getattr(entry, "about", "")
    return plain(about) if isinstance(about, str) else ""


__all__ = ["Offered", "offering", "plain"]
