"""Tables for the terminal, all of one look."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from trajtree.visible import visible


def table_of(first: str, *headers: str, min_width: int | None = None, fold: bool = False) -> Table:
    """An empty table: a column of names, which wrap, then columns aligned to the right.

    Those wrap too if `fold`; otherwise they are cut where the terminal is too narrow. `min_width` is that of the names.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold", min_width=min_width)
    for header in headers:
        if fold:
            table.add_column(header, justify="right", overflow="fold")
        else:
            table.add_column(header, justify="right", no_wrap=True)
    return table


def plain(text: str) -> Text:
    """Text that is not treated as markup, with invisible characters made visible."""
    return Text(visible(text))


__all__ = ["plain", "table_of"]
