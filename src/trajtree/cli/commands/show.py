"""The command `trajtree show`: what trees have to teach, as figures or as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from trajtree.cli.options.outputs import check_output, out_option
from trajtree.cli.options.tree_files import TreesArgument, trees_in
from trajtree.cli.terminal import console
from trajtree.store.files import is_stream, write_whole
from trajtree.store.tree_store import read_trees
from trajtree.trees.quality import TreeQuality, quality


def show(
    trees: TreesArgument,
    html: Annotated[Path | None, out_option("--html", help="Write an HTML page that shows the trees.")] = None,
    json_: Annotated[Path | None, out_option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """Show how much the trees have to teach, as a table, as JSON, or as an HTML page to explore them."""
    from trajtree.report.tree_table import print_quality  # only this command needs reports

    check_output(html, trees)
    check_output(json_, trees, *([html] if html else []))
    figures = [quality(tree) for tree in trees_in(trees)]
    terminal = console(next((out for out in (html, json_) if out is not None and is_stream(out)), None))
    print_quality(figures, terminal)
    if json_ is not None:
        write_whole(json_, _figures_json(figures))
        terminal.print(f"figures: {json_}", soft_wrap=True)
    if html is not None:
        from trajtree.report.viewer import write_viewer

        write_viewer(read_trees(trees), html, title=trees.name)
        terminal.print(f"page: {html}", soft_wrap=True)


def _figures_json(figures: Sequence[TreeQuality]) -> Iterator[str]:
    """`{"total": ..., "trees": [...]}`, tree by tree."""
    from trajtree.report.tree_table import totals

    yield f'{{\n "total": {indent(json.dumps(totals(figures), indent=1), " ").lstrip()},\n "trees": [\n'
    for number, found in enumerate(figures, start=1):
        yield indent(json.dumps(asdict(found), indent=1), "  ") + (",\n" if number < len(figures) else "\n")
    yield " ]\n}\n"


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(show)


__all__ = ["add_to"]
