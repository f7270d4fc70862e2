"""The options of commands that can write a data set card beside their rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trajtree.cli.options.outputs import check_output
from trajtree.errors import DataError
from trajtree.formats.write.card import UNKNOWN, Provenance, card, check_card
from trajtree.formats.write.parquet import SUFFIX
from trajtree.store.files import write_whole

ROWS = f"File to write: JSON Lines, or Parquet if its name ends in {SUFFIX}."
"""Help of --out for rows."""

CardOption = Annotated[
    Path | None, typer.Option("--card", help="Write a data set card too, for example README.md beside the rows.")
]
LicenseOption = Annotated[
    str | None, typer.Option("--license", help="Licence that the card names, as the hub spells it: cc-by-4.0")
]


def check_card_options(path: Path | None, license: str | None, *others: Path) -> None:
    """Refuse a card that cannot be written, and a licence without one.

    Raises:
        DataError: there is a licence and no card, or the card is another file of the command.
        RunError: it cannot be written, or something else is there.
    """
    if path is None:
        if license is not None:
            raise DataError("--license: is a field of the card; add --card README.md, or leave it out")
        return
    check_output(path, *others)
    check_card(path)


def write_card(
    terminal: Console,
    path: Path | None,
    license: str | None,
    out: Path,
    rows: int,
    provenance: Provenance,
    made: Mapping[str, object],
) -> None:
    """Write the card, if there is to be one."""
    if path is not None:
        write_whole(path, card(out, path, rows, provenance, made=made, license=license or UNKNOWN))
        terminal.print(f"card: {path}", soft_wrap=True)


__all__ = ["ROWS", "CardOption", "LicenseOption", "check_card_options", "write_card"]
