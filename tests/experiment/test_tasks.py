"""Choosing tasks: splits share no situation where they need not, and what there is too little of is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import toy

from trajtree.envs.domain import Domain
from trajtree.errors import EnvError, RecipeError, UnknownTask
from trajtree.experiment.findings import shared_notes
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Done, Work
from trajtree.experiment.tasks import TASKS, choose, read_tasks, shared_situations
from trajtree.store.progress import SILENT


def number(task: str) -> int:
    return int(task.removeprefix("toy/"))


def recipe(domain: str, **sizes: int) -> Recipe:
    return Recipe.model_validate(
        {"name": "toy", "env": {"name": f"tests.toy:{domain}"}, "tasks": {"types": ["toy"], **sizes}}
    )


def chosen(
    monkeypatch: pytest.MonkeyPatch, folder: Path, situation: Callable[[str], Any] | None, **sizes: int
) -> dict[str, Any]:
    domain: Domain = toy.DOMAIN if situation is None else replace(toy.DOMAIN, situation=situation)
    monkeypatch.setattr(toy, "GROUPED", domain, raising=False)
    choose(recipe("GROUPED", **sizes), Work(folder, {}, SILENT))
    found: dict[str, Any] = read_tasks(folder)
    return found


def test_splits_share_no_situation_where_they_need_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Train is 0 to 119, dev 120 to 149, test 150 to 199: with 11 situations, each split has all of them.
    drawn = chosen(monkeypatch, tmp_path, lambda task: f"s{number(task) % 11}", dev=4, test=5)
    situations = drawn["situations"]
    test, dev, train = ([situations[t] for t in drawn[split]["toy"]] for split in ("test", "dev", "train"))
    assert len(set(test)) == 5 and len(set(dev)) == 4, "as many situations as tasks"
    assert not set(test) & set(dev)
    apart = [s for s in train if s not in {*test, *dev}]
    assert len(set(apart)) == 2 and train[: len(apart)] == apart, "what is shared comes last"
    assert len(train) == 120
    trained = drawn["train"]["toy"][: len(apart)]
    assert shared_situations(drawn, "test", trained) == []


def test_where_a_domain_has_too_few_situations_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn = chosen(monkeypatch, tmp_path, lambda task: toy.COLOURS[number(task) % 3], dev=6, test=6)
    assert shared_situations(drawn, "test", drawn["train"]["toy"][:9]) == [
        "Test tasks share situations with the training tasks: 6 of 6 in toy.",
        "Test tasks share situations with the dev tasks: 6 of 6 in toy.",
    ]
    counts = {split: [drawn["situations"][t] for t in drawn[split]["toy"]] for split in ("dev", "test")}
    assert all(found.count(colour) == 2 for found in counts.values() for colour in toy.COLOURS)


def test_the_report_says_what_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("tasks", "unseen")}
    for folder in folders.values():
        folder.mkdir()
    drawn = chosen(monkeypatch, folders["tasks"], lambda task: toy.COLOURS[number(task) % 3], dev=1, test=1)
    (folders["unseen"] / TASKS).write_text(json.dumps(drawn["train"]["toy"]))
    done = {name: Done(folder, "", 0.0, False) for name, folder in folders.items()}
    assert shared_notes(recipe("GROUPED"), done) == [
        "Test tasks share situations with the training tasks: 1 of 1 in toy."
    ]


def test_a_split_begins_with_what_only_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # One block of situation "both" is halved between dev and test.
    drawn = chosen(
        monkeypatch, tmp_path, lambda t: "both" if 140 <= number(t) < 160 else f"s{number(t)}", dev=20, test=9
    )
    assert "both" not in {drawn["situations"][t] for split in ("dev", "test") for t in drawn[split]["toy"]}


def test_every_task_is_a_situation_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn = chosen(monkeypatch, tmp_path, None, dev=3, test=3)
    assert all(task == situation for task, situation in drawn["situations"].items())
    assert shared_situations(drawn, "dev", drawn["train"]["toy"]) == []


def test_more_than_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "tasks.dev: 31 asked; in the dev split toy has 30 tasks (3 situations)"
    with pytest.raises(RecipeError, match=f"^{re.escape(said)}$"):
        chosen(monkeypatch, tmp_path, lambda task: toy.COLOURS[number(task) % 3], dev=31, test=2)


def broken(task: str) -> str:
    return toy.COLOURS[number(task)]


@pytest.mark.parametrize(
    ("situation", "error", "said"),
    [
        (broken, EnvError, ": situation('toy/3') raised IndexError: tuple index out of range (test_tasks.py, line "),
        (lambda task: {"toy/0": "a"}[task], UnknownTask, " has no task 'toy/1' (toy/1)"),
        (lambda task: ["red"], EnvError, ": situation('toy/0') returned ['red'], not a non-empty string"),
        (lambda task: "", EnvError, ": situation('toy/0') returned '', not a non-empty string"),
    ],
)
def test_a_situation_that_cannot_be_had_names_the_task(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    situation: Callable[[str], Any],
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'tests.toy:GROUPED{said}')}"):
        chosen(monkeypatch, tmp_path, situation)
