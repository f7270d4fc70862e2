"""The rows of the table: each can be planned, and states what it starts from and learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from tests.tiny import characters, save_model

from trajtree.errors import RecipeError
from trajtree.experiment.guarantee import is_about, reference_of
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.experiment.rows import CEILINGS, ROWS, default_comparisons
from trajtree.experiment.stage import Stage


def recipe_of(folder: Path, model: Path, *changes: str, weak: Path | None = None) -> Recipe:
    sections: dict[str, Any] = {
        "name": "toy",
        "env": {"name": "tests.toy:DOMAIN"},
        "tasks": {"types": ["toy"]},
        "strong": {"model": str(model)},
        "weak": {"tokenizer": str(weak or model)},
        "play": {"dtype": "float32"},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(sections))
    return load_recipe(folder / "r.yaml", changes)


def planned(recipe: Recipe) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages_of(recipe)}


def of_row(folder: Path, model: Path, name: str) -> dict[str, Stage]:
    rows = ", ".join(dict.fromkeys(("weak", "strong_sft", "w2sg_exact", name)))
    published = [f"weak.model={model}"] if name == "weak_untouched" else []
    return planned(recipe_of(folder, model, f"evaluate.rows=[{rows}]", *published))


@pytest.mark.parametrize("name", ROWS)
def test_every_row_can_be_planned(tmp_path: Path, tiny_words: Path, name: str) -> None:
    stages = of_row(tmp_path, tiny_words, name)
    assert f"evaluate-{name}" in stages
    assert (f"train-{name}" in stages) == (ROWS[name].trained and name != "weak")


def test_rows_have_labels_of_their_own() -> None:
    labels = [row.label for row in ROWS.values()]
    assert len(set(labels)) == len(labels) and set(CEILINGS) <= set(ROWS)


def test_the_published_loss_is_held_to_the_weak_model(tmp_path: Path, tiny_words: Path) -> None:
    starts = {"treedpo_untouched": 0, "treedpo_paths": 1, "treedpo_sft": 1}
    for name, below in starts.items():
        stage = of_row(tmp_path, tiny_words, name)[f"train-{name}"]
        assert stage.inputs["reference model 0"] == "weak" and stage.settings["method"] == "tree-dpo"
        assert sum(role.startswith("model ") for role in stage.inputs) == below
        assert is_about(ROWS[name]) and reference_of(ROWS[name]) == "weak"


def test_a_weak_model_with_another_vocabulary_cannot_be_the_reference(tmp_path: Path, tiny_words: Path) -> None:
    other = save_model(tmp_path / "other", characters())
    rows = "evaluate.rows=[weak, strong_sft, w2sg_exact, treedpo_sft]"
    with pytest.raises(RecipeError, match=r"rows\.treedpo_sft\.reference: weak has the vocabulary of .*other, which"):
        planned(recipe_of(tmp_path, tiny_words, rows, weak=other))
    held = planned(recipe_of(tmp_path, tiny_words, rows, "rows={treedpo_sft: {reference: start}}", weak=other))
    assert "reference model 0" not in held["train-treedpo_sft"].inputs


def test_searches_of_different_length_are_different_stages(tmp_path: Path, tiny_words: Path) -> None:
    names = ("w2sg_mcts", "w2sg_mcts_100", "w2sg_published", "w2sg_published_100")
    rows = ("weak", "strong_sft", "w2sg_exact", *names)
    stages = planned(recipe_of(tmp_path, tiny_words, f"evaluate.rows=[{', '.join(rows)}]"))
    paths = [stages[stages[f"train-{name}"].inputs["paths"]] for name in names]
    assert [stage.settings for stage in paths] == [
        {"search": "mcts"},
        {"search": "mcts", "iterations": 100},
        {"search": "mcts-published"},
        {"search": "mcts-published", "iterations": 100},
    ]
    assert len({stage.name for stage in paths}) == 4


def test_stitched_paths_have_no_thoughts(tmp_path: Path, tiny_words: Path) -> None:
    rows = "evaluate.rows=[weak, strong_sft, w2sg_exact, w2sg_stitched]"
    with pytest.raises(RecipeError, match=r"rows\.w2sg_stitched\.learns_from: stitched paths hold no thoughts"):
        recipe_of(tmp_path, tiny_words, rows, "env.thoughts=true")
    assert recipe_of(tmp_path, tiny_words, "env.thoughts=true").env.thoughts, "the other rows do not mind"


def test_weighted_pairs_are_not_cut(tmp_path: Path, tiny_words: Path) -> None:
    stages = of_row(tmp_path, tiny_words, "w2sg_weighted")
    assert stages["train-w2sg_weighted"].settings["train"] == {"weigh": "gap-visits"}
    pairs = stages[stages["train-w2sg_weighted"].inputs["pairs"]].settings
    assert pairs["min_gap"] == 0.0 and pairs["per_tree"] > 1000


def test_forms_are_compared_from_one_start_in_one_section() -> None:
    forms = (
        "w2sg_dpo",
        "w2sg_anchored",
        "w2sg_step",
        "w2sg_run_anchored",
        "w2sg_anchored_1",
        "w2sg_ipo",
        "w2sg_solved_anchored",
    )
    forms += ("w2sg_bounded", "w2sg_weighted", "w2sg_node_kto", "random_dpo", "random_treedpo", "random_anchored")
    assert {(ROWS[name].starts_from, ROWS[name].settings_in) for name in forms} == {("w2sg_exact", "preference")}


def test_the_default_comparisons() -> None:
    assert default_comparisons([*ROWS], "w2sg_exact", "strong_sft") == (
        ("w2sg_anchored", "chosen_sft"),
        ("w2sg_anchored", "chosen_runs_sft"),
        ("w2sg_anchored", "chosen_solved_sft"),
        ("w2sg_anchored", "w2sg_exact"),
        ("w2sg_anchored", "strong_sft"),
        ("w2sg_anchored", "random_anchored"),
    )
    assert default_comparisons(["weak", "x"], "x", "strong_sft") == (("x", "weak"),)
    assert default_comparisons(["weak"], "weak", "weak") == ()


def test_all_tasks_are_the_demonstrated_and_the_unseen_ones(tmp_path: Path, tiny_words: Path) -> None:
    def read(tasks: str) -> set[str]:
        return set(planned(recipe_of(tmp_path, tiny_words, f"explore.tasks={tasks}"))["explore-weak"].inputs)

    assert read("all") == read("demonstrated") | read("unseen")
    assert read("demonstrated") - read("unseen") == {"demonstrations"} and "unseen" in read("unseen")
