"""Where data that users bring is kept."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder(name: str) -> Path:
    """The folder of an environment's data: below `$TRAJTREE_DATA`, else below `trajtree` in the user's data folder.

    The latter is `$XDG_DATA_HOME`, else `~/.local/share`.
    """
    if root := os.environ.get("TRAJTREE_DATA"):
        return Path(root) / name
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "trajtree" / name


__all__ = ["data_folder"]
