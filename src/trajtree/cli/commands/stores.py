"""Commands for stores: pool, upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.options.outputs import check_output
from trajtree.cli.terminal import console, counting
from trajtree.errors import DataError, counted
from trajtree.store.pooling import pool_stores
from trajtree.store.upgrade import upgrade as upgrade_file


def pool(
    stores: Annotated[list[Path], typer.Argument(help="Stores of trajectories.", metavar="STORES")],
    out: Annotated[Path, typer.Option("--out", help="Store to write.")],
) -> None:
    """Merge several stores into one in which every run has its own number.

    Runs of two seeds are both sample 0, 1, ... of their tasks, so `cat` would mix them up. The runs of the first store
    keep their numbers; those of the others follow. The metadata of each says where it came from (`pooled_from`,
    `pooled_sample`). A log row that was imported into several of the stores is kept only once.
    """
    for store in stores:
        if not store.is_file():
            raise DataError(f"{store}: there is no such store")
    check_output(out, *stores, by="pool")
    done = pool_stores(stores, out)
    repeated = f"; {counted(done.repeated, 'run')} also in an earlier store, kept only once" if done.repeated else ""
    kept = f"{counted(done.kept, 'run')} in {out}, {done.renumbered:,} under a new number"
    console(out).print(kept + repeated, soft_wrap=True)


def upgrade(
    files: Annotated[list[Path], typer.Argument(help="Stores or files of trees of an earlier trajtree.")],
) -> None:
    """Rewrite stores and trees of an earlier version in the current one, which takes less than half the space.

    Files of earlier versions can be read unchanged; a store must be upgraded only before something is added to it. The
    old file stays until the new one is complete.
    """
    terminal = console()
    for file in files:
        before = file.stat().st_size if file.is_file() else 0
        with counting(terminal, "upgrade", "lines") as progress:
            done = upgrade_file(file, progress)
        said = f"{before:,} bytes before, {file.stat().st_size:,} now" if done else "already in the current version"
        terminal.print(f"{file}: {said}", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(pool)
    app.command()(upgrade)


__all__ = ["add_to"]
