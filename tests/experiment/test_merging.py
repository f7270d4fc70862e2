"""Rows that learn from trees merged in their own way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders import trajectory
from tests.fake_sentences import install

from trajtree.errors import PolicyError
from trajtree.experiment.lessons import TREES, build_trees
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import store_in
from trajtree.store.progress import SILENT
from trajtree.store.tree_store import read_trees
from trajtree.trees.merge import MergeSettings

SEMANTIC = {"merge": "semantic", "similarity": 0.8}


def recipe_with(**sections: Any) -> Recipe:
    rows = {"similar": {"like": "w2sg_exact", "trees": SEMANTIC}, "alike": {"like": "w2sg_treedpo", "trees": SEMANTIC}}
    measured = {"rows": ["weak", "strong_sft", "w2sg_exact", "w2sg_treedpo", "similar", "alike"], "guarantee": False}
    plain = {"name": "toy", "env": {"name": "tests.toy:DOMAIN"}, "tasks": {"types": ["toy"]}}
    return Recipe.model_validate({**plain, "rows": rows, "evaluate": measured, **sections})


def test_rows_share_the_trees_that_are_merged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    stages = {stage.name: stage for stage in stages_of(recipe_with(), checked=False)}
    trees = {name: stage.settings for name, stage in stages.items() if stage.kind == "trees"}
    assert list(trees) == ["trees-weak", "trees-weak-similar"]
    assert "merge" not in trees["trees-weak"], "a setting at its default changes no key"
    assert trees["trees-weak-similar"]["merge"] == {**SEMANTIC, "weights": MergeSettings().model}
    of_rows = {row: stages[f"train-{row}"].inputs for row in ("w2sg_exact", "similar", "w2sg_treedpo", "alike")}
    paths = {row: of_rows[row]["paths"] for row in ("w2sg_exact", "similar")}
    assert [stages[paths[row]].inputs["trees"] for row in ("w2sg_exact", "similar")] == list(trees)
    pairs = {row: of_rows[row]["pairs"] for row in ("w2sg_treedpo", "alike")}
    assert [stages[pairs[row]].inputs["trees"] for row in ("w2sg_treedpo", "alike")] == list(trees)


def test_what_is_seen_alike_is_one_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch)
    recipe, seen = recipe_with(), ("a red lamp is here", "here is a red lamp")
    (tmp_path / "explored").mkdir()
    store_in(tmp_path / "explored").append(
        trajectory(["go", action], sample=n, seen=["start", seen[n]]) for n, action in enumerate(("take", "drop"))
    )
    forks = []
    for how in (MergeSettings(), MergeSettings("semantic", 0.8, str(tmp_path))):
        folder = tmp_path / how.merge
        folder.mkdir()
        build_trees(recipe, how, Work(folder, {"explored": tmp_path / "explored"}, SILENT))
        (tree,) = read_trees(folder / TREES)
        forks.append(len(list(tree.forks())))
        assert tree.merging.similarity == (None if how.merge == "exact" else 0.8)
    assert forks == [0, 1]


def test_what_it_needs_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        return None

    monkeypatch.setattr("trajtree.models.sentences.find_spec", missing)
    with pytest.raises(PolicyError, match=r"trees.merge: semantic needs .*pip install 'trajtree\[semantic\]'"):
        stages_of(recipe_with(trees={"merge": "semantic"}))
