"""The guarantee's sentences in a report, and the rows that they are about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import toy

pytest.importorskip("torch")

from trajtree.experiment import guarantee
from trajtree.experiment.guarantee import MEASURED, is_about, measure, reference_of, sentences, stage_of
from trajtree.experiment.lessons import PAIRS, TREES
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import Evaluate, Recipe
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Done, Work
from trajtree.experiment.tasks import TASKS
from trajtree.store.progress import SILENT
from trajtree.store.tree_store import write_trees
from trajtree.trajectory import Trajectory
from trajtree.trees.merge import build_tree

RECIPE = Recipe.model_validate({"name": "toy", "env": {"name": "tests.toy:DOMAIN"}, "tasks": {"types": ["toy"]}})
ROW = RECIPE.all_rows["w2sg_treedpo"]


def said(folder: Path, nats: dict[str, float], *, pairs: int) -> str:
    """The note for a row whose trees' best paths are so far from the reference."""
    measured = {"pairs": pairs, "paths": 5, "nats": nats, "scores": {task: 0.8 for task in nats}}
    for name, file, content in (
        ("tasks", TASKS, {"situations": {task: task for task in nats}}),
        ("guarantee", MEASURED, measured),
    ):
        (folder / name).mkdir()
        (folder / name / file).write_text(json.dumps(content))
    done = {"tasks": Done(folder / "tasks", "", 0, False)}
    return sentences(RECIPE, ROW, {**done, "guarantee-w2sg_treedpo": Done(folder / "guarantee", "", 0, False)})


def test_a_run_with_few_pairs_far_from_its_reference_is_told_that_it_says_nothing(tmp_path: Path) -> None:
    note = said(tmp_path, {"a": 18.0, "b": 22.0, "c": 20.0}, pairs=51)
    assert note.startswith("The paper's guarantee for W2SG + TreeDPO. The guarantee says nothing: with C = 1 ")
    assert "51 pairs; on 3 of 5 explored tasks the best path is 20.0 nats [15.0, 25.0] from the reference" in note
    assert "If no path scores more than the best one that was played" in note
    assert "an upper bound on the KL of the nearest best policy" in note and "they may be too low" in note
    assert "The paper does not give C" in note


def test_no_pair_and_no_path_are_said(tmp_path: Path) -> None:
    assert "no informative pair" in said(tmp_path, {"a": 18.0, "b": 22.0}, pairs=0)
    (tmp_path / "other").mkdir()
    assert "no best path fits" in said(tmp_path / "other", {}, pairs=3)


def test_one_task_has_an_interval_without_an_end(tmp_path: Path) -> None:
    assert "3.0 nats [0.0, no end]" in said(tmp_path, {"a": 3.0}, pairs=3)


def test_it_is_about_rows_that_learn_from_pairs_by_dpo() -> None:
    about = {name for name, row in RECIPE.all_rows.items() if is_about(row)}
    assert {"w2sg_treedpo"} <= about and not about & {"weak", "strong", "strong_sft", "w2sg_exact"}
    for method, taken in (("ipo", False), ("anchored-dpo", False), ("step-dpo", False), ("dpo", True)):
        assert is_about(Row(name="x", label="X", learns_from=("pairs",), method=method)) == taken
    held = Row(name="x", label="X", learns_from=("pairs",), method="dpo", starts_from="strong_sft", reference="weak")
    assert (reference_of(held), reference_of(ROW)) == ("weak", ROW.starts_from)


@pytest.mark.parametrize(("context", "fitting"), [(512, 1), (8, 0)])
def test_a_path_that_does_not_fit_the_reference_is_counted_and_left_out(
    tiny_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: int, fitting: int
) -> None:
    sections = {"env": {"name": "tests.toy:DOMAIN"}, "tasks": {"types": ["toy"]}, "play": {"dtype": "float32"}}
    recipe = Recipe.model_validate({"name": "toy", **sections, "strong": {"model": str(tiny_words)}})
    row = Row(name="x", label="X", learns_from=("pairs",), method="dpo", starts_from="strong")
    run = toy.demonstrate(toy.Toy(), "toy/0")
    assert isinstance(run, Trajectory)
    write_trees([build_tree([run])], tmp_path / TREES)
    (tmp_path / PAIRS).write_text("")
    monkeypatch.setattr(guarantee, "context_length", lambda model: context)
    measure(recipe, row, Work(tmp_path, {"trees": tmp_path, "pairs": tmp_path}, SILENT))
    found = json.loads((tmp_path / MEASURED).read_text())
    assert (found["pairs"], found["paths"], len(found["nats"])) == (0, 1, fitting)
    assert all(nats > 0 for nats in found["nats"].values())


def test_a_recipe_can_leave_it_out() -> None:
    rows = {"rows": ["weak", "strong_sft", "w2sg_exact", "w2sg_treedpo"]}
    with_it, without = (
        {stage.name: (stage.kind, stage.inputs, stage.settings) for stage in stages_of(recipe)}
        for recipe in (
            RECIPE.model_copy(update={"evaluate": Evaluate(**rows, guarantee=said)}) for said in (True, False)
        )
    )
    assert stage_of(ROW) in with_it, "or this shows nothing"
    assert without == {name: stage for name, stage in with_it.items() if name != stage_of(ROW)}
