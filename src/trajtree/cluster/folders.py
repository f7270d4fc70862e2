"""Folders as objects of the cluster: what a worker reads, and what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ray

from trajtree.store.manifest import files_below

Packed = dict[str, Any]
"""The bytes of each file by its path below the folder: in the cluster's object store, or at hand."""


def packed(folder: Path) -> Packed:
    """The files of a folder, put into the object store one by one; locks and unfinished files stay behind."""
    return {name: ray.put(_bytes_of(path)) for name, path in files_below(folder).items()}


def at_hand(folder: Path) -> Packed:
    """The files of a folder, as part of what a task returns."""
    return {name: np.fromfile(path, np.uint8) for name, path in files_below(folder).items()}


def unpacked(packed: Packed, folder: Path) -> None:
    """Write a packed folder. Raises OSError where the disk is full."""
    for name, content in packed.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(memoryview(ray.get(content) if isinstance(content, ray.ObjectRef) else content))


def _bytes_of(path: Path) -> Any:
    """[bytes of the file] read only when they are sent: a model may be larger than the memory that is free."""
    return np.memmap(path, np.uint8, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, np.uint8)


__all__ = ["Packed", "at_hand", "packed", "unpacked"]
