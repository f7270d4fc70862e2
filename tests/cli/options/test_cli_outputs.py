"""No command overwrites what would be lost, and what cannot be written is named before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.commands import done, invoke

import trajtree
from trajtree.errors import DataError, RunError


@pytest.mark.parametrize(
    ("command", "output"),
    [("build", "--out"), ("pairs", "--out"), ("paths", "--out"), ("show", "--html"), ("show", "--json")],
)
def test_no_command_overwrites_what_it_reads(tmp_path: Path, trees: Path, command: str, output: str) -> None:
    read = tmp_path / "runs.jsonl" if command == "build" else trees
    before = read.read_bytes()
    with pytest.raises(DataError, match="is an input of this command"):
        invoke(command, read, output, read)
    assert read.read_bytes() == before


def test_outputs_that_cannot_be_written_are_named_before_any_work(tmp_path: Path, trees: Path) -> None:
    for arguments in (("pairs", trees, "--out", tmp_path), ("show", trees, "--json", tmp_path)):
        with pytest.raises(RunError, match="it is a folder"):
            invoke(*arguments)
    with pytest.raises(RunError, match="cannot write"):
        invoke("pairs", trees, "--out", trees / "inside" / "pairs.jsonl")
    done("pairs", trees, "--out", tmp_path / "new" / "folder" / "pairs.jsonl")


def test_nothing_to_build_from_leaves_the_trees_alone(tmp_path: Path, trees: Path) -> None:
    before = trees.read_bytes()
    (tmp_path / "empty.jsonl").write_bytes((tmp_path / "runs.jsonl").read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match="contains no runs"):
        invoke("build", tmp_path / "empty.jsonl", "--out", trees)
    assert trees.read_bytes() == before


def test_raw_logs_are_not_built_over(tmp_path: Path, files: list[str], trees: Path) -> None:
    before = Path(files[0]).read_bytes()
    with pytest.raises(RunError, match=r"does not contain trajtree\.trees"):
        invoke("build", tmp_path / "runs.jsonl", "--out", files[0])
    assert Path(files[0]).read_bytes() == before


def test_paths_are_written_over_paths_but_nothing_is_added_to_them(
    tmp_path: Path, files: list[str], trees: Path
) -> None:
    out = tmp_path / "best.jsonl"
    assert "2 paths" in done("paths", trees, "--out", out)
    assert "2 paths" in done("paths", trees, "--out", out, "--min-score", "0.9")
    for command in (("import", *files), ("pairs", trees)):
        with pytest.raises(RunError, match="trajtree paths rewrites it each time"):
            invoke(*command, "--out", out)
    assert len(list(trajtree.TrajectoryStore(out))) == 2


def test_no_command_overwrites_another_kind_of_ours(tmp_path: Path, files: list[str], trees: Path) -> None:
    store = tmp_path / "precious.jsonl"
    done("import", *files, "--out", store)
    before = store.read_bytes()
    for command in (["pairs", trees], ["paths", trees], ["paths", trees, "--to", "atif"]):
        with pytest.raises(RunError, match=r"contains trajtree\.trajectories, which would be lost"):
            done(*command, "--out", store)
    with pytest.raises(DataError, match="have not been played yet"):
        done("paths", trees, "--search", "stitch", "--to", "trl", "--out", tmp_path / "stitched.jsonl")
    assert store.read_bytes() == before
