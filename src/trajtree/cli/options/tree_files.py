"""What commands share that read trees: the argument, the trees in it, and what a format cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from trajtree.cli.options.outputs import at_least_one
from trajtree.errors import DataError
from trajtree.store.tree_store import read_scored_trees, read_trees
from trajtree.trees.tree import TrajectoryTree

TreesArgument = Annotated[Path, typer.Argument(help="File of trees, made by: trajtree build", metavar="TREES")]

SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-unwritable", help="Leave out, and count, what the format cannot hold, instead of refusing it."
    ),
]
T = TypeVar("T")


def trees_in(path: Path) -> Iterator[TrajectoryTree]:
    """The trees in a file; raises DataError if there are none."""
    return at_least_one(read_trees(path), _no_trees(path))


def scored_trees_in(path: Path) -> Iterator[TrajectoryTree]:
    """The trees in a file, to learn from; raises DataError if there are none, or one has runs without a score."""
    return at_least_one(read_scored_trees(path), _no_trees(path))


def _no_trees(path: Path) -> str:
    return f"{path}: contains no trees; make it again with: trajtree build"


def why_unwritable(write: Callable[[T], object], what: T) -> DataError | None:
    """Why something cannot be written in a format; None if it can."""
    try:
        write(what)
    except DataError as error:
        return error
    return None


__all__ = ["SkipOption", "TreesArgument", "scored_trees_in", "trees_in", "why_unwritable"]
