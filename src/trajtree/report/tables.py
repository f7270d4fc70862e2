"""Tables for the terminal, all of one look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trajtree.visible import visible

_NAMES = 12
"""Smallest width of the column of names."""


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


def print_fitting(table: Table, console: Console, telling: Sequence[int], rest: str) -> None:
    """Print a table with as many columns as the terminal is wide, and say which ones it has no room for.

    Args:
        table: what `table_of` made, with text in its cells.
        console: where to.
        telling: numbers of the columns after the names, the most telling first; the first one is always shown.
        rest: where the others are.
    """
    names, *columns = table.columns
    cells = [[str(cell) for cell in column.cells] for column in columns]
    # A column takes two more characters than its widest cell.
    widths = [2 + max(map(cell_len, [str(column.header), *own])) for column, own in zip(columns, cells, strict=True)]
    left = console.width - 2 - max(names.min_width or 0, _NAMES)
    shown: set[int] = set()
    for number in telling:
        left -= widths[number]
        if left < 0 and shown:
            break
        shown.add(number)
    kept = [number for number in range(len(columns)) if number in shown]
    fitting = table_of(str(names.header), *(str(columns[n].header) for n in kept), min_width=names.min_width)
    for name, row, *own in zip(names.cells, table.rows, *cells, strict=True):
        fitting.add_row(name, *(plain(own[n]) for n in kept), style=row.style or "")
    console.print(fitting)
    lacking = [str(columns[n].header) for n in telling if n not in shown and columns[n].header]
    if lacking:
        console.print(plain(f"No room for {', '.join(lacking)}: {rest}."), style="dim")


def plain(text: str) -> Text:
    """Text that is not treated as markup, with invisible characters made visible."""
    return Text(visible(text))


__all__ = ["plain", "print_fitting", "table_of"]
