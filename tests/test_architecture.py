"""Every example of docs/architecture.md does what it says, with one table entry and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from tests.builders import trajectory
from tests.toy import TASKS, Toy

from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import load_recipe
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import STRATEGIES, ExploreSettings, independent
from trajtree.formats.importing import import_files
from trajtree.formats.read.detect import FORMATS
from trajtree.models.weights import ModelRef
from trajtree.policies.opening import SCHEMES, Opening
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.train.settings import METHODS, LossSettings
from trajtree.trajectory import Sampling
from trajtree.trees.merge import build_tree
from trajtree.trees.search import SEARCHES, PathSettings, search_of

DOCS = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()


@pytest.fixture(autouse=True)
def tables_as_they_were() -> Iterator[None]:
    with ExitStack() as stack:
        for table in (FORMATS, SEARCHES, STRATEGIES, SCHEMES, METHODS):
            stack.enter_context(patch.dict(table))
        yield


def example(title: str, language: str = "python") -> str:
    section = DOCS.split(f"### {title}\n", 1)[1].split("\n###", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def run(title: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(example(title), scope)
    return scope


def test_a_log_format(tmp_path: Path) -> None:
    run("A log format")
    row = {"transcript": [["them", "Fetch it."], ["us", "run"]], "mark": 1, "quest": "fetch"}
    (tmp_path / "log.json").write_text(json.dumps(row))
    assert import_files(tmp_path / "log.json", tmp_path / "store.jsonl").added == 1
    (found,) = TrajectoryStore(tmp_path / "store.jsonl")
    assert (found.task, found.score, found.steps[0].action, found.env) == ("fetch", 1.0, "run", "transcript")


def test_a_search() -> None:
    run("A search")
    tree = build_tree([trajectory(["a"], 0.0, sample=0), trajectory(["b"], 1.0, sample=1)])
    assert search_of(PathSettings(search="first-half"))(tree).value == 0.0


def test_a_strategy(tmp_path: Path) -> None:
    run("A strategy of exploration")
    settings = ExploreSettings(3, [Sampling(0.5), Sampling(1.0)])
    passes = STRATEGIES["until-solved"].passes(["a", "b"], settings, build_tree)
    assert [spec.key for spec in next(passes)] == [("a", 0), ("b", 0)]
    played = [replace(trajectory(["x"], score), task=task) for task, score in (("a", 1.0), ("b", 0.0))]
    assert [(spec.key, spec.sampling.temperature) for spec in passes.send(played)] == [(("b", 1), 1.0), (("b", 2), 0.5)]
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ntasks: {types: [toy]}\nexplore: {strategy: until-solved}\n")
    assert load_recipe(path).explore.strategy == "until-solved"


def test_a_policy(tmp_path: Path) -> None:
    run("A policy")
    policy = Opening(ref=ModelRef("echo:x"), max_new_tokens=8, one_line=True, dtype="auto", name="parrot").open()
    store = TrajectoryStore(tmp_path / "store.jsonl", create=True)
    rollout(independent(TASKS[:2], 1, [Sampling()]), policy, Toy, store, seed=0)
    assert {(t.policy, t.steps[0].action) for t in store} == {("parrot", "Task")}


def test_rows_in_a_recipe(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "recipe.yaml"
    rows = "evaluate: {rows: [weak, strong_sft, w2sg_exact, wide_forks, kto, taught]}\n"
    more = example("A row", "yaml").replace(
        "explorations:", "  taught: {like: w2sg_exact, explored_by: tuned}\nexplorations:"
    )
    model = "strong: {model: some/model}\nweak: {tokenizer: some/model}\n"
    path.write_text(f"name: x\nenv: {{name: tests.toy:DOMAIN}}\ntasks: {{types: [toy]}}\n{model}{rows}{more}")
    recipe = load_recipe(path)
    names = [stage.name for stage in stages_of(recipe)]
    assert {"train-wide_forks", "evaluate-kto", "explore-tuned", "paths-tuned-exact", "unseen"} <= set(names)
    assert names.index("train-w2sg_exact") < names.index("explore-tuned") < names.index("train-taught")


def test_a_loss() -> None:
    losses = pytest.importorskip("trajtree.train.losses")
    run("A loss")
    try:
        assert losses.objective_of(METHODS["hinge"], LossSettings(beta=0.5)).name == "hinge"
    finally:
        del losses.hinge
