"""Of a key that occurs twice in an object, the last counts in our own files; in those of others it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.builders import trajectory

from trajtree.errors import DataError
from trajtree.experiment.recipe import load_recipe
from trajtree.formats.importing import import_files
from trajtree.formats.pairs import read_pairs
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trees.merge import build_tree

VERSION_1 = Path(__file__).parents[1] / "golden" / "version1"


def with_key(path: Path, line: int, key: str, first: object) -> Path:
    """The file, with the object of one line beginning with the key a first time."""
    lines = path.read_text().splitlines(keepends=True)
    assert lines[line].startswith("{") and f'"{key}"' in lines[line]
    lines[line] = f"{{{json.dumps(key)}: {json.dumps(first)}, {lines[line].removeprefix('{')}"
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("line", [0, 1])
def test_stores(tmp_path: Path, line: int) -> None:
    path = tmp_path / "runs.jsonl"
    write_store([trajectory("a", 0.5)], path)
    before = list(TrajectoryStore(path)), list(TrajectoryStore(path).heads())
    with_key(path, line, "version" if line == 0 else "task", 1 if line == 0 else "other")
    assert (list(TrajectoryStore(path)), list(TrajectoryStore(path).heads())) == before


def test_trees(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write_trees([build_tree([trajectory("a", 0.5)])], path)
    with_key(path, 1, "task", "other")
    assert [tree.task for tree in read_trees(path)] == ["toy/0"]


@pytest.mark.parametrize("name", ["trajectories.jsonl", "trees.jsonl"])
def test_version_1(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((VERSION_1 / name).read_bytes())
    with_key(path, 1, "task", "other")
    read = TrajectoryStore(path) if name == "trajectories.jsonl" else read_trees(path)
    assert next(iter(read)).task == "kitchen/1"
    if name == "trajectories.jsonl":
        assert next(TrajectoryStore(path).heads()).task == "kitchen/1"


def test_logs_and_pairs(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    log, store = tmp_path / "log.jsonl", tmp_path / "runs.jsonl"
    log.write_text(json.dumps({"task": "t", "score": 1, "messages": said}) + "\n")
    with pytest.raises(DataError, match="'score' occurs twice in one object"):
        import_files([with_key(log, 0, "score", 0)], store)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": said[:1], "chosen": said[1:], "rejected": said[1:]}) + "\n")
    with pytest.raises(DataError, match="'prompt' occurs twice in one object"):
        list(read_pairs(with_key(pairs, 0, "prompt", [])))


def test_recipes(tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "recipes" / "demo.yaml"
    path = tmp_path / "recipe.yaml"
    path.write_text(demo.read_text() + "\nname: last\n")
    assert load_recipe(path).name == "last"
