"""pool and upgrade, as a user types them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.builders import trajectory
from tests.cli.commands import done, invoke

from trajtree.errors import DataError, RunError
from trajtree.store.trajectory_store import TrajectoryStore

OLD = Path(__file__).parents[1] / "golden" / "version1"


def test_pool(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        TrajectoryStore(tmp_path / name).append([trajectory("ab", sample=n) for n in range(3)])
    both = tmp_path / "both.jsonl"
    for _ in range(2):  # the same command again makes the same file
        said = done("pool", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", both)
        assert said == f"6 runs in {both}, 3 under a new number\n"
        assert len({t.key for t in TrajectoryStore(both)}) == 6
    with pytest.raises(RunError, match="which would be lost"):
        invoke("pool", both, "--out", tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"c.jsonl: there is no such store"):
        invoke("pool", tmp_path / "c.jsonl", "--out", both)


def test_upgrade(tmp_path: Path) -> None:
    files = [Path(shutil.copy(OLD / name, tmp_path)) for name in ("trajectories.jsonl", "trees.jsonl")]
    sizes = [file.stat().st_size for file in files]
    said = done("upgrade", *files)
    for file, before in zip(files, sizes, strict=True):
        assert f"{file}: {before:,} bytes before, {file.stat().st_size:,} now\n" in said
        assert file.stat().st_size < before
    assert done("upgrade", *files) == "".join(f"{file}: already in the current version\n" for file in files)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes.txt, line 1: neither a trajectory store nor a file of trees"):
        invoke("upgrade", tmp_path / "notes.txt")
