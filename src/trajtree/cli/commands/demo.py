"""The command `trajtree demo`: a few runs become trees, pairs and a page, without a model or an environment."""

from __future__ import annotations

import webbrowser
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.commands import build, logs, pairs, show
from trajtree.cli.terminal import console
from trajtree.store.trajectory_store import TrajectoryStore


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("trajtree-demo"),
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
) -> None:
    """Have a quick look: runs that come with the package become trees, preference pairs and a page of trees.

    A clumsy agent made tea, watered a fern and posted a letter, six times each and not always well. No model is
    needed. For the main job on a real environment with real models, see: trajtree run
    """
    terminal = console()
    out.mkdir(parents=True, exist_ok=True)
    runs, built, rows, page = (out / name for name in ("runs.jsonl", "trees.jsonl", "pairs.jsonl", "trees.html"))

    def say(command: str) -> None:
        terminal.print(f"\n$ trajtree {command}", style="bold", soft_wrap=True, highlight=False)

    with as_file(files("trajtree.cli").joinpath("demo_runs.jsonl")) as logged:
        say(f"import {logged.name} --out {runs}")
        logs.import_(files=[logged], out=runs)
    say(f"build {runs} --out {built}")
    build.build(runs, built)
    say(f"pairs {built} --out {rows}")
    pairs.pairs(built, rows)
    say(f"show {built} --html {page}")
    show.show(built, page)
    scores = [trajectory.score for trajectory in TrajectoryStore(runs)]
    terminal.print(
        f"\nThe agent scored {sum(scores) / len(scores):.2f} on average. The pairs show what it did better where two "
        "of its runs parted; the best path of every tree (trajtree paths) is what it would do with hindsight.",
        soft_wrap=True,
    )
    if not open_:
        terminal.print(f"walk through the trees: open {page} in a browser, or: trajtree demo --open", soft_wrap=True)
    elif not webbrowser.open(page.resolve().as_uri()):
        terminal.print(f"no browser found; open {page} in one", soft_wrap=True)
    terminal.print("with your own runs: trajtree import LOGS --out runs.jsonl", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(demo)


__all__ = ["add_to"]
