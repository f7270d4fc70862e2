"""Rewriting files of earlier versions of trajtree in the current version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trajtree.errors import DataError
from trajtree.store import trajectory_store, tree_store
from trajtree.store.files import open_text
from trajtree.store.lines import format_of, made_by, version_of
from trajtree.store.progress import SILENT, Progress
from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree


def upgrade(path: str | os.PathLike[str], progress: Progress = SILENT) -> bool:
    """Rewrite a store or a file of trees in the current version; returns False if it already is.

    The old file stays until the new one is complete.

    Raises:
        DataError: it is neither, or a line of it is wrong; naming file, line and field.
        RunError: another process is writing the file.
        OSError: the disk is full or not writable; the file is untouched.
    """
    path = Path(path)
    formats = {
        trajectory_store.FORMAT: (trajectory_store.VERSION, _store),
        tree_store.FORMAT: (tree_store.VERSION, _trees),
    }
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open_text(path) as file:
        first = file.readline()
    format = format_of(path)
    if format not in formats:
        raise DataError(f"{path}, line 1: neither a trajectory store nor a file of trees")
    version, rewrite = formats[format]
    if version_of(path, first, format, tuple(range(1, version + 1)), "a file of ours") == version:
        return False
    rewrite(path, progress)
    return True


def _store(path: Path, progress: Progress) -> None:
    def trajectories() -> Iterator[Trajectory]:
        for trajectory in trajectory_store.TrajectoryStore(path):
            yield trajectory
            progress.advance(1)

    trajectory_store.write_store(trajectories(), path, made_by=made_by(path))


def _trees(path: Path, progress: Progress) -> None:
    def trees() -> Iterator[TrajectoryTree]:
        for tree in tree_store.read_trees(path):
            yield tree
            progress.advance(1)

    tree_store.write_trees(trees(), path)


__all__ = ["upgrade"]
