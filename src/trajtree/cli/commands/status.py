"""The command `trajtree status`: how far another command is, from another shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from trajtree.cli.terminal import console, say
from trajtree.report.status_table import status_view
from trajtree.store.status import read_status, standing


def status(
    run: Annotated[
        Path,
        typer.Argument(
            help="What the command writes: a run directory, a folder of trajtree train, or a store.", metavar="RUN"
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say how far a running command is, or how the last one ended: its stages, figures and estimated time left.

    The commands run, stage, explore, evaluate, train and import record it once a second. A command that was killed, or
    that shows no sign of life, is reported as such.
    """
    found = read_status(run)
    if json_:
        record: dict[str, Any] = {"standing": standing(found), **msgspec.to_builtins(found)}
        say(msgspec.json.format(msgspec.json.encode(record), indent=1).decode())
        return
    console().print(status_view(found))


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(status)


__all__ = ["add_to"]
