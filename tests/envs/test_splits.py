"""Splits of one's own: their file, what is refused, and ETO's as `trajtree data` records them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import invoke
from tests.toy import COLOURED, DOMAIN

from trajtree.envs.scienceworld.import_splits import import_data
from trajtree.envs.splits import Splits, read_splits, split_file, unknown_tasks, with_splits
from trajtree.errors import DataError


def written(folder: Path, content: Any) -> Path:
    path = folder / "splits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_tasks_of_a_type_are_those_of_the_file(tmp_path: Path) -> None:
    splits = read_splits(written(tmp_path, {"train": ["toy/199", "toy/0"], "test": ["toy/1"]}))
    domain = with_splits(DOMAIN, splits)
    assert [list(domain.tasks("toy", split)) for split in ("train", "dev", "test")] == [
        ["toy/199", "toy/0"],
        [],
        ["toy/1"],
    ]
    with pytest.raises(KeyError, match="no task type"):
        domain.tasks("other", "train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Invalid JSON"),
        ([], "Input should be an object"),
        ({"valid": []}, "valid: Extra inputs are not permitted"),
        ({"train": "toy/0"}, "train: Input should be a valid"),
        ({"train": [1]}, "train.0: Input should be a valid string"),
        ({"train": ["a"], "test": ["a"]}, "a is named twice"),
        ({"train": ["a", "a"]}, "a is named twice"),
    ],
)
def test_what_is_no_file_of_splits(tmp_path: Path, content: Any, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as error:
        read_splits(path)
    assert str(error.value).startswith(f"{path}: {said}") and "\n" not in str(error.value)


def test_tasks_that_do_not_exist_are_found() -> None:
    splits = Splits(train=("toy/0", "toy/999"))
    assert unknown_tasks(COLOURED, splits, []) == ["toy/999"]
    assert unknown_tasks(DOMAIN, splits, ["toy"]) == ["toy/999"], "a domain that lists no types is asked for these"


def eto(folder: Path) -> Path:
    """A checkout of ETO with a few tasks."""
    inside = folder / "ETO" / "eval_agent" / "data" / "sciworld"
    inside.mkdir(parents=True)
    for split, tasks in {
        "train": [["task-3-find-animal", 0], ["task-6-lifespan-(longest-lived)", 3]],
        "dev": [["task-3-find-animal", 193]],
        "test": [["task-1-boil", 21]],
    }.items():
        (inside / f"{split}_indices.json").write_text(json.dumps(tasks))
    numbers = {"task-3-find-animal": 8, "task-6-lifespan-(longest-lived)": 17, "task-1-boil": 0}
    (inside / "taskname2id.json").write_text(json.dumps(numbers))
    return inside


def test_eto_splits_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path / "data"))
    eto(tmp_path)
    done = invoke("data", "scienceworld", "--from", tmp_path / "ETO")
    assert done.exit_code == 0, done.output
    assert "2 train, 1 dev, 1 test tasks" in done.output and "splits: eto" in done.output
    splits = read_splits(split_file("eto", "scienceworld"))
    assert splits.train == ("find-animal/0", "lifespan-longest-lived/3")
    assert splits.names["17_3"] == "lifespan-longest-lived/3" and splits.names["0_21"] == "boil/21"


def test_eto_folders_that_are_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"one folder with train_indices\.json was expected, found none"):
        import_data(tmp_path)
    folder = eto(tmp_path)
    (folder / "taskname2id.json").write_text("[1]")
    with pytest.raises(DataError, match=r"taskname2id.json: must be an object of task names and numbers"):
        import_data(tmp_path)
    (folder / "taskname2id.json").unlink()
    assert "unknown (no taskname2id.json there)" in import_data(tmp_path).lines[0]
    (folder / "dev_indices.json").unlink()
    with pytest.raises(DataError, match=r"dev_indices.json: cannot be read"):
        import_data(tmp_path)


def test_a_bare_name_is_a_recorded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert split_file("eto", "toy") == tmp_path / "toy" / "eto.json"
    assert split_file("eto.json", "toy") == Path("eto.json")
    (tmp_path / "mine").touch()
    assert split_file("mine", "toy") == Path("mine")
    (tmp_path / "eto").mkdir()
    assert split_file("eto", "toy") == tmp_path / "toy" / "eto.json", "a folder is no file of splits"
