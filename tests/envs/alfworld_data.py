"""Where the tests find ALFWorld's games: a dozen in the repository, all of them where the user has them."""

from __future__ import annotations

import json
import lzma
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "alfworld"
SHARED = Path(__file__).parents[3] / "shared" / "data"


def all_games() -> Path | None:
    """Folder that holds `alfworld/` with the real files, if there is one."""
    for root in (os.environ.get("TRAJTREE_DATA"), SHARED):
        if root and (Path(root) / "alfworld" / "valid_seen.jsonl.xz").exists():
            return Path(root)
    return None


needs_all_games = pytest.mark.skipif(all_games() is None, reason="needs ALFWorld's games: set TRAJTREE_DATA")


@cache
def packed(split: str) -> dict[str, dict[str, Any]]:
    """The games of a golden file, by id."""
    text = lzma.decompress((GOLDEN / f"{split}.jsonl.xz").read_bytes()).decode()
    return {game["id"]: game for game in map(json.loads, text.splitlines())}


def task(game: dict[str, Any]) -> str:
    return f"{game['task_type']}/{game['id'].rsplit('/', 1)[1]}"


@cache
def transcripts() -> tuple[dict[str, Any], ...]:
    """What textworld said in the golden games."""
    text = lzma.decompress((GOLDEN / "transcripts.jsonl.xz").read_bytes()).decode()
    return tuple(map(json.loads, text.splitlines()))
