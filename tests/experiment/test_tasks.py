"""Choosing tasks: splits share no situation where they need not, and what there is too little of is said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import toy

from trajtree.envs.domain import Domain
from trajtree.errors import DataError, EnvError, RecipeError, UnknownTask
from trajtree.experiment.findings import shared_notes
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.play import maker
from trajtree.experiment.recipe import Env, Recipe, load_recipe
from trajtree.experiment.stage import Done, Work
from trajtree.experiment.tasks import (
    STORE,
    TASKS,
    choose,
    choose_unseen,
    demonstrate,
    domain_of,
    measured_tasks,
    opening,
    read_tasks,
    shared_situations,
)
from trajtree.planning.hardware import HARDWARE
from trajtree.planning.plan import plan_of as planned
from trajtree.store.progress import SILENT
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Trajectory


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


def measured_on(folder: Path, number: int | str, **sizes: int) -> list[str]:
    rows = {"strong": {"tasks": number}}
    asked = Recipe.model_validate({**recipe("GROUPED", **sizes).model_dump(), "rows": rows})
    return measured_tasks(asked, "strong", folder)


def test_a_row_on_fewer_tasks_has_as_many_situations_as_these_can_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn = chosen(monkeypatch, tmp_path, lambda task: f"s{number(task) % 11}", dev=4, test=20)
    whole = drawn["test"]["toy"]
    assert measured_on(tmp_path, "all", test=20) == measured_tasks(recipe("GROUPED"), "weak", tmp_path) == whole
    for size in range(1, 21):
        some = measured_on(tmp_path, size, test=20)
        assert some == whole[:size]
        assert len({drawn["situations"][task] for task in some}) == min(size, len({*drawn["situations"].values()}))


@pytest.mark.parametrize("asked", [1, "all", 2])
def test_where_all_tasks_are_taken_it_is_known_beforehand_whether_they_suffice(
    tmp_path: Path, tiny_words: Path, asked: int | str
) -> None:
    pytest.importorskip("torch")
    base = own(tmp_path, test="all").model_dump() | {"rows": {"strong": {"tasks": asked}}}
    some = Recipe.model_validate(base | {"strong": {"model": str(tiny_words)}, "weak": {"tokenizer": str(tiny_words)}})
    stages_of(some, checked=False)
    said = "rows.strong.tasks: 2 asked of 1 test task; ask for fewer, or for all"
    with pytest.raises(RecipeError, match=f"^{re.escape(said)}$") if asked == 2 else nullcontext():
        stages_of(some)


def test_every_task_is_a_situation_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn = chosen(monkeypatch, tmp_path, None, dev=3, test=3)
    assert all(task == situation for task, situation in drawn["situations"].items())
    assert shared_situations(drawn, "dev", drawn["train"]["toy"]) == []


def test_more_than_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "tasks.dev: 31 asked for, but in the dev split toy has 30 tasks (3 situations)"
    with pytest.raises(RecipeError, match=f"^{re.escape(said)}$"):
        chosen(monkeypatch, tmp_path, lambda task: toy.COLOURS[number(task) % 3], dev=31, test=2)


def test_each_type_has_its_own_numbers(tmp_path: Path) -> None:
    base: dict[str, Any] = {"name": "toy", "env": {"name": "tests.toy:BY_PARITY"}}
    sizes: dict[str, Any] = {
        "demonstrations": {"odd": 2, "even": 1},
        "unseen": {"odd": 0, "even": 3},
        "dev": 1,
        "test": {"odd": 5, "even": 2},
    }
    asked = Recipe.model_validate({**base, "tasks": {"types": ["odd", "even"], **sizes}})
    folders = {name: tmp_path / name for name in ("tasks", "demonstrations", "unseen")}
    for name, stage in zip(folders, (choose, demonstrate, choose_unseen), strict=True):
        folders[name].mkdir()
        stage(asked, Work(folders[name], folders, SILENT))
    drawn = read_tasks(folders["tasks"])
    assert {split: {kind: len(tasks) for kind, tasks in drawn[split].items()} for split in ("dev", "test")} == {
        "dev": {"odd": 1, "even": 1},
        "test": {"odd": 5, "even": 2},
    }
    assert asked.held_out == 7 == len(measured_tasks(asked, "weak", folders["tasks"]))
    shown = [number(t.task) % 2 for t in TrajectoryStore(folders["demonstrations"] / STORE)]
    assert shown == [1, 1, 0]
    assert [number(task) % 2 for task in read_tasks(folders["unseen"])] == [0, 0, 0]
    too_many = Recipe.model_validate({**base, "tasks": {"types": ["odd", "even"], "test": {"odd": 26, "even": 1}}})
    with pytest.raises(
        RecipeError, match="^" + re.escape("tasks.test: 26 asked for, but in the test split odd has 25 tasks")
    ):
        choose(too_many, Work(folders["tasks"], {}, SILENT))
    some = asked.tasks.model_copy(update={"test": {"odd": 1, "even": "all"}})
    assert asked.model_copy(update={"tasks": some}).held_out == "all"


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


# --- splits and demonstrations of one's own ---


def own(folder: Path, **tasks: Any) -> Recipe:
    splits = folder / "splits.json"
    if not splits.exists():
        splits.write_text(json.dumps({"train": ["toy/190", "toy/1", "toy/2"], "test": ["toy/0"]}))
    given = {"types": ["toy"], "dev": 0, "test": "all", "demonstrations": "all", "splits": str(splits), **tasks}
    return Recipe.model_validate({"name": "toy", "env": {"name": "tests.toy:DOMAIN"}, "tasks": given})


def demonstrated(recipe: Recipe, folder: Path) -> list[Trajectory]:
    for stage in ("tasks", "demonstrations"):
        (folder / stage).mkdir(parents=True)
    choose(recipe, Work(folder / "tasks", {}, SILENT))
    demonstrate(recipe, Work(folder / "demonstrations", {"tasks": folder / "tasks"}, SILENT))
    return list(TrajectoryStore(folder / "demonstrations" / STORE))


def test_all_tasks_of_a_split_of_ones_own(tmp_path: Path) -> None:
    recipe = own(tmp_path)
    assert {t.task for t in demonstrated(recipe, tmp_path / "run")} == {"toy/190", "toy/1", "toy/2"}
    assert read_tasks(tmp_path / "run" / "tasks")["test"] == {"toy": ["toy/0"]}
    limited = recipe.model_copy(update={"env": Env(name="tests.toy:DOMAIN", max_steps={"toy": 3})})
    assert maker(limited, "train").max_steps == dict.fromkeys(["toy/190", "toy/1", "toy/2"], 3)


def test_a_split_without_tasks_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["toy/1", "toy/2"], "test": []}))
    recipe = own(tmp_path)
    said = "tasks.test: the test split has no task of these types to measure"
    with pytest.raises(RecipeError, match=f"^{re.escape(said)}$"):
        demonstrated(recipe, tmp_path / "run")
    assert said in planned(recipe, HARDWARE["CPU"]).missing


def test_rows_are_not_measured_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\ntasks: {types: [toy], dev: 0}\nevaluate: {split: dev}\n")
    with pytest.raises(RecipeError, match=r"tasks\.dev: 0, but rows are measured on dev"):
        load_recipe(path)


def test_all_tasks_that_were_not_demonstrated(tmp_path: Path) -> None:
    recipe = own(tmp_path, demonstrations=1, unseen="all")
    (shown,) = demonstrated(recipe, tmp_path / "run")
    (tmp_path / "run" / "unseen").mkdir()
    choose_unseen(
        recipe,
        Work(
            tmp_path / "run" / "unseen",
            {"tasks": tmp_path / "run" / "tasks", "demonstrations": tmp_path / "run" / "demonstrations"},
            SILENT,
        ),
    )
    assert {shown.task, *read_tasks(tmp_path / "run" / "unseen")} == {"toy/190", "toy/1", "toy/2"}


def test_demonstrations_from_a_store(tmp_path: Path) -> None:
    shown = [toy.demonstrate(toy.Toy(), task) for task in ("toy/1", "toy/2")]
    TrajectoryStore(tmp_path / "expert.jsonl").append(t for t in shown if isinstance(t, Trajectory))
    recipe = own(tmp_path, expert=str(tmp_path / "expert.jsonl"))
    assert {t.task for t in demonstrated(recipe, tmp_path / "run")} == {"toy/1", "toy/2"}
    (rejected,) = json.loads((tmp_path / "run" / "demonstrations" / "rejected.json").read_text())
    assert rejected["task"] == "toy/190" and "has no run of it" in rejected["reason"]
    assert opening(recipe) == (Message("system", toy.Toy.instruction),)


@pytest.mark.parametrize("limit", [3, {"toy": 4}])
def test_demonstrations_from_a_store_have_the_time_limit_of_playing(tmp_path: Path, limit: Any) -> None:
    """In a worker they are what they are here; without one there is no limit."""
    shown = [toy.demonstrate(toy.Toy(), task) for task in ("toy/1", "toy/2", "toy/190")]
    TrajectoryStore(tmp_path / "expert.jsonl").append(t for t in shown if isinstance(t, Trajectory))
    made = own(tmp_path, expert=str(tmp_path / "expert.jsonl")).model_dump(exclude_unset=True)

    def run(env: str, workers: int, seconds: float) -> bytes:
        how = {"env": {"name": env, "max_steps": limit}, "play": {"workers": workers, "seconds": seconds}}
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        demonstrated(Recipe.model_validate({**made, **how}), folder)
        return (folder / "demonstrations" / STORE).read_bytes()

    assert run("tests.toy:DOMAIN", 0, 9.0) == run("tests.toy:DOMAIN", 2, 60.0)
    with pytest.raises(EnvError, match=r"toy/\d+: its run in .*expert\.jsonl .* again: no answer within 1 seconds"):
        run("tests.experiment.test_tasks:HANGING", 1, 1.0)


class Hanging(toy.Toy):
    """Never begins."""

    def reset(self, task: str) -> str:
        time.sleep(60)
        return super().reset(task)


HANGING = replace(toy.DOMAIN, environment=Hanging, make=lambda limit: Hanging())


def test_types_in_processes_of_their_own_are_demonstrated_alike(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        play = {"play": {"workers": workers}}
        made = own(tmp_path, types=["odd", "even"], demonstrations=5, test=1, splits=None).model_dump(
            exclude_unset=True
        )
        recipe = Recipe.model_validate({**made, "env": {"name": "tests.toy:BY_PARITY"}, **play})
        run = tmp_path / f"{workers}"
        demonstrated(recipe, run)
        folder = run / "demonstrations"
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        found.append(before)
        # Broken off in the second type: only what is missing is played again.
        store = folder / STORE
        store.write_bytes(b"".join(store.read_bytes().splitlines(keepends=True)[:-2]))
        demonstrate(recipe, Work(folder, {"tasks": run / "tasks"}, SILENT))
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert found[0] == found[1]


def test_what_happens_in_a_process_of_a_type_is_said_as_here(tmp_path: Path) -> None:
    made = own(tmp_path, types=["odd", "even"], demonstrations=5, test=1, splits=None).model_dump(exclude_unset=True)
    recipe = Recipe.model_validate({**made, "env": {"name": "tests.toy:HOPELESS_BY_PARITY"}})
    with pytest.raises(DataError, match=r"^odd: not enough successful .* train tasks \(toy/\d+: nobody knows how; "):
        demonstrated(recipe, tmp_path / "run")


def test_no_demonstration_at_all_is_refused(tmp_path: Path) -> None:
    recipe = own(tmp_path).model_copy(update={"env": Env(name="tests.toy:HOPELESS")})
    with pytest.raises(DataError, match="toy: not enough successful demonstrations among its train tasks"):
        demonstrated(recipe, tmp_path / "run")


def test_what_is_brought_and_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"tasks\.splits: there is no file .*eto\.json; record ETO's: trajtree data"):
        domain_of(own(tmp_path, splits="eto"))
    with pytest.raises(RecipeError, match=r"tasks\.expert: there is no file .*none\.jsonl; import the expert's runs"):
        opening(own(tmp_path, expert=str(tmp_path / "none.jsonl")))
    (tmp_path / "splits.json").write_text('{"train": ["toy/0", "toy/1000"]}')
    coloured = own(tmp_path).model_copy(update={"env": Env(name="tests.toy:COLOURED")})
    with pytest.raises(
        RecipeError, match=r"tasks\.splits: tests\.toy:COLOURED has no task 'toy/1000', which .*json names"
    ):
        domain_of(coloured)
    with pytest.raises(
        RecipeError, match=r"tests\.toy:DOMAIN has no task 'toy/1000' of the recipe's types, toy, which .*json names"
    ):
        domain_of(own(tmp_path))
    with pytest.raises(RecipeError, match=r"^tasks\.types: tests\.toy:DOMAIN has no task type 'toi'"):
        domain_of(own(tmp_path, types=["toi"]))
    (tmp_path / "splits.json").write_text("{")
    with pytest.raises(RecipeError, match=r"tasks\.splits: .*splits\.json: Invalid JSON"):
        domain_of(own(tmp_path))


def test_what_is_brought_is_part_of_the_keys(tmp_path: Path, tiny_words: Path) -> None:
    pytest.importorskip("torch")
    shown = toy.demonstrate(toy.Toy(), "toy/1")
    assert isinstance(shown, Trajectory)
    TrajectoryStore(tmp_path / "expert.jsonl").append([shown])

    def settings(**tasks: Any) -> dict[str, Any]:
        models = {"strong": {"model": str(tiny_words)}, "weak": {"tokenizer": str(tiny_words)}}
        recipe = Recipe.model_validate({**own(tmp_path, **tasks).model_dump(exclude_unset=True), **models})
        return {stage.name: stage.settings for stage in stages_of(recipe)}

    plain, recorded = settings(splits=None), settings(expert=str(tmp_path / "expert.jsonl"))
    assert "splits" not in plain["tasks"] and "expert" not in plain["demonstrations"]
    assert recorded["tasks"]["splits"] and recorded["demonstrations"]["expert"]
    assert recorded["evaluate-weak"]["play"]["opening"] == [["system", toy.Toy.instruction]]
    before = recorded["tasks"]["splits"]
    (tmp_path / "splits.json").write_text('{"train": ["toy/3"]}')
    assert settings()["tasks"]["splits"] != before
