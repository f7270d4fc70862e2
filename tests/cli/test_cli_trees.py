"""Commands for trees: pairs in every mode, paths by every search, stitching."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.cli.commands import done, invoke, shop_run

import trajtree
from trajtree.errors import DataError
from trajtree.trees.forks import MODES
from trajtree.trees.search import SEARCHES


@pytest.mark.parametrize(
    "arguments",
    [
        ("pairs", "--step-only", "--mode", "whole"),
        ("pairs", "--gamma", "0.9"),
        ("paths", "--env", "scienceworld"),
        ("paths", "--max-steps", "3"),
        ("build", "--similarity", "0.5"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(
    tmp_path: Path, trees: Path, arguments: tuple[str, ...]
) -> None:
    command, *options = arguments
    read = tmp_path / "runs.jsonl" if command == "build" else trees
    with pytest.raises(DataError, match=options[0]):
        invoke(command, read, "--out", tmp_path / "out.jsonl", *options)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_makes_pairs(tmp_path: Path, trees: Path, mode: str) -> None:
    done("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--mode", mode, "--value", "discounted")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) >= 2


def test_a_trainer_that_cannot_hold_the_pairs_is_refused_but_gets_single_steps(tmp_path: Path, trees: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    with pytest.raises(DataError, match="axolotl"):
        invoke("pairs", trees, "--out", out, "--to", "axolotl")
    assert not out.exists()


@pytest.mark.parametrize("search", SEARCHES)
def test_paths_are_the_best_runs(tmp_path: Path, trees: Path, search: str) -> None:
    out = tmp_path / "paths.jsonl"
    assert "2 paths" in done("paths", trees, "--out", out, "--search", search)
    assert [t.score for t in trajtree.TrajectoryStore(out)] == [1.0, 1.0]
    out = tmp_path / "trl.jsonl"
    done("paths", trees, "--out", out, "--search", search, "--to", "trl")
    assert {json.loads(line)["messages"][0]["role"] for line in out.read_text().splitlines()} <= {"system", "user"}


def test_stitching_without_an_environment_writes_proposals(tmp_path: Path) -> None:
    """The detour over another search is left out, but nobody has played that."""
    runs = tmp_path / "runs.json"
    detour = shop_run(["lamp", "red lamp"], "lamp A", 1.0)
    detour["conversations"][2]["value"] = detour["conversations"][0]["value"]
    runs.write_text(json.dumps([detour]))
    done("import", runs, "--out", tmp_path / "store.jsonl")
    done("build", tmp_path / "store.jsonl", "--out", tmp_path / "trees.jsonl")
    output = done("paths", tmp_path / "trees.jsonl", "--search", "stitch", "--out", tmp_path / "proposals.jsonl")
    assert "their scores are unknown until they are played" in output
    (proposal,) = [json.loads(line) for line in (tmp_path / "proposals.jsonl").read_text().splitlines()]
    assert proposal["played"] is False
    assert proposal["actions"] == ["search[red lamp]", "click[lamp A]"]


def test_stitching_in_an_environment_counts_what_is_played(tmp_path: Path) -> None:
    from tests.trees.test_stitching import sampled

    trajtree.write_trees([sampled("rtllll", "rrrt")], tmp_path / "trees.jsonl")
    (tmp_path / "corridors.py").write_text(
        "from tests.trees.test_stitching import Corridor\nfrom trajtree.envs.domain import Domain\n"
        "DOMAIN = Domain(Corridor, lambda limit: Corridor(), lambda kind, split: [], lambda env, task: None)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        out = tmp_path / "paths.jsonl"
        done("paths", tmp_path / "trees.jsonl", "--search", "stitch", "--env", "corridors:DOMAIN", "--out", out)
    finally:
        sys.path.remove(str(tmp_path))
    (path,) = trajtree.TrajectoryStore(out)
    assert (path.score, path.policy, len(path.steps)) == (1.0, "stitched", 5)


def test_no_pair_is_an_error_that_says_what_to_do(tmp_path: Path, trees: Path) -> None:
    with pytest.raises(DataError, match="--min-gap"):
        invoke("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--min-gap", "1", "--value", "discounted")
    assert not (tmp_path / "pairs.jsonl").exists()
