"""Files that version 1 wrote are read as they were meant, and rewritten whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from trajtree.errors import DataError
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.store.upgrade import upgrade
from trajtree.trajectory import Outcome, Step, Tokens, ToolCall
from trajtree.trees.merge import build_tree

OLD = Path(__file__).parents[1] / "golden" / "version1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_a_store_is_read() -> None:
    first, second, third = TrajectoryStore(OLD / "trajectories.jsonl")
    assert (
        first.key == ("kitchen/1", 0)
        and first.seed == 7
        and first.tokens == (Tokens((1, 2, 3, 4, 5, 6, 7), ((2, 4), (5, 7))),)
    )
    assert first.steps == (
        Step("You are in a kitchen.\n", "open door", "the door", 0.5),
        Step("The door is open. ", "go out", None, 0.5),
    )
    assert second.outcome is Outcome.TRUNCATED and second.score == 0.25
    assert third.messages[2].tool_calls == (ToolCall("c1", "find", '{"id": 3}'),)
    assert third.metadata["content"] == "fedcba9876543210" and third.metadata["gpu"] == 0.5


def test_heads_of_a_store() -> None:
    heads = list(TrajectoryStore(OLD / "trajectories.jsonl").heads())
    assert [(h.task, h.sample) for h in heads] == [("kitchen/1", 0), ("kitchen/1", 1), ("shop/2", 0)]
    assert heads[2].place == ("runs.jsonl#00000000deadbeef", 1, 1, "0123456789abcdef", "fedcba9876543210")


def test_trees_are_read_as_they_would_be_built_today() -> None:
    built = [build_tree(group) for group in TrajectoryStore(OLD / "trajectories.jsonl").by_task()]
    for read, made in zip(read_trees(OLD / "trees.jsonl"), built, strict=True):
        assert read.trajectories == made.trajectories
        assert (read.observation, read.action) == (made.observation, made.action)
        for name in ("parent", "depth", "decision", "first", "visits", "score_sum", "end", "best", "subtree_end"):
            assert getattr(read, name).tolist() == getattr(made, name).tolist(), name


def test_a_store_is_upgraded(old: Path) -> None:
    path = old / "trajectories.jsonl"
    before = list(TrajectoryStore(path))
    with pytest.raises(DataError, match=r"of version 1; upgrade it first: trajtree upgrade .*trajectories.jsonl"):
        TrajectoryStore(path).append(before)
    assert upgrade(path)
    assert json.loads(path.read_text().splitlines()[0])["version"] == 2
    assert list(TrajectoryStore(path)) == before
    assert not upgrade(path)
    TrajectoryStore(path).append(before)
    assert list(TrajectoryStore(path)) == 2 * before


def test_trees_are_upgraded(old: Path, tmp_path: Path) -> None:
    path = old / "trees.jsonl"
    trees = [build_tree(group) for group in TrajectoryStore(OLD / "trajectories.jsonl").by_task()]
    write_trees(trees, tmp_path / "expected.jsonl")
    upgrade(path)
    assert path.read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_what_is_damaged_stays_as_it_is(old: Path) -> None:
    for name, right, wrong, said in (
        ("trajectories.jsonl", '"score":0.25', '"score":7', "line 3, field score: "),
        ("trees.jsonl", '"depth":[0,1,2,2]', '"depth":[0,1,2]', "line 2, field depth: 3 values, 4 nodes"),
    ):
        path = old / name
        path.write_text(path.read_text().replace(right, wrong))
        before = path.read_bytes()
        with pytest.raises(DataError) as error:
            upgrade(path)
        assert str(error.value).startswith(f"{path}, {said}")
        assert path.read_bytes() == before
        assert sorted(p.name for p in old.iterdir() if p.name.endswith(".tmp")) == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('"parent":[-1,0,1,1]', '"parent":[-1,2,1,1]', "field parent.1: 2 is not an earlier node"),
        ('"parent":[-1,0,1,1]', '"parent":[-1,0,3,2]', "field parent.2: 3 is not an earlier node"),
        ('"parent":[-1,0,1,1]', '"parent":[0,0,1,1]', "field parent: node 0 must be the root"),
        ('"parent":[-1,0,1,1]', '"parent":[-1,0,0,1]', "field depth.2: 2, "),
        ('"end":[2,3]', '"end":[2,9]', "field end.1: 9 is not a node"),
        ('"end":[2,3]', '"end":[2]', "field end: 1 values, 2 trajectories"),
        ('"end":[2,3]', '"end":[2,1]', "field end.1: node 1 is 1 deep, not 2"),
        ('"end":[2,3]', '"end":[2,2]', "field parent: 4 nodes, of which 3 are on a trajectory's path"),
    ],
)
def test_arrays_that_are_no_tree_are_refused(old: Path, right: str, wrong: str, said: str) -> None:
    path = old / "trees.jsonl"
    path.write_text(path.read_text().replace(right, wrong))
    with pytest.raises(DataError) as error:
        list(read_trees(path))
    assert f"{path}, line 2, {said}" in str(error.value)


def test_runs_of_different_contexts_that_were_merged_are_refused(old: Path) -> None:
    """Early versions merged them, and took pairs whose worse side stood behind a prompt it never saw."""
    path = old / "trees.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace('"content":"Act."', '"content":"Act well."', 1)
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=r"line 2, .*different prompts or tools; build it again with trajtree build"):
        list(read_trees(path))
