"""Recipes: what is wrong is named with its file and key, and a resolved recipe is the same recipe."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from trajtree.errors import RecipeError
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.experiment.rows import ROWS
from trajtree.explore.strategies import Slot
from trajtree.train.settings import METHODS

MINIMAL = "name: mine\ntasks: {types: [find-plant]}\n"
ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
EXPERIMENTS = sorted((ROOT / "benchmarks" / "recipes").glob("*.yaml"))


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL)
    assert (recipe.name, recipe.tasks.types, recipe.seed) == ("mine", ("find-plant",), 0)
    assert recipe.explore.grid == (Slot(0.8, 0.95),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "explor: {}", "explor: unknown key; did you mean 'explore'?"),
        (MINIMAL + "explore: {rollout: 3}", "explore.rollout: unknown key; did you mean 'rollouts'?"),
        (
            MINIMAL + "sft: {zzz: 1}",
            "sft.zzz: unknown key; known keys are beta, kl, anchor, gamma, label_smoothing, weigh",
        ),
        (
            MINIMAL + "explore: {grid: [{top_p: 1.0}, {temprature: 1.0}]}",
            "explore.grid.1.temprature: unknown key; did you mean 'temperature'?",
        ),
        (MINIMAL + "play: {servers: {weke: openai:x@http://y}}", "play.servers: 'weke' is not one of"),
        (
            MINIMAL + "play: {servers: {weak: some/model}}",
            "play.servers.weak: 'some/model' is not a server; write openai:",
        ),
        (
            MINIMAL + "explore: {grid: [{temperature: 1.0, by: weak_untouched}]}",
            "rows.w2sg_treedpo: needs weak_untouched, but the weak model is trained from scratch",
        ),
        (MINIMAL + "explore: {1: 2}", "explore.1: Keys should be strings"),
        ("name: mine", "tasks: Field required"),
        ("name: mine\ntasks: {}", "tasks.types: Field required"),
        ("name: mine\ntasks: {types: []}", "tasks.types: must not be empty"),
        ("name: mine\ntasks: {types: [a], test: 0}", "tasks.test: must be a number from 1 on, or all"),
        ("name: mine\ntasks: {types: [a], unseen: every}", "tasks.unseen: must be a number from 0 on, or all"),
        ("name: mine\ntasks: {types: [a], dev: true}", "tasks.dev: must be a number from 0 on, or all"),
        ("name: mine\ntasks: {types: [a], demonstrations: 2.5}", "tasks.demonstrations: must be a number from 1 on"),
        (
            "name: mine\ntasks: {types: [a], dev: {a: -1}}",
            "tasks.dev: must be a number from 0 on, or all, or a mapping",
        ),
        ("name: mine\ntasks: {types: [a, b], test: {a: 1}}", "tasks.test: has no number for b"),
        ("name: mine\ntasks: {types: [a], unseen: {b: 1}}", "tasks.unseen: 'b' is not one of a"),
        (MINIMAL + "rows: {strong: {tasks: 0}}", "rows.strong.tasks: must be a number from 1 on, or all"),
        (MINIMAL + "rows: {strong: {tasks: -1}}", "rows.strong.tasks: must be a number from 1 on, or all"),
        (MINIMAL + "rows: {strong: {tasks: some}}", "rows.strong.tasks: must be a number from 1 on, or all"),
        (MINIMAL + "rows: {strong: {tasks: true}}", "rows.strong.tasks: must be a number from 1 on, or all"),
        (MINIMAL + "rows: {strong: {tasks: 16}}", "rows.strong.tasks: 16 asked of 15 test tasks; ask"),
        (
            MINIMAL + "rows: {strong: {tasks: 9}}\nevaluate: {split: dev}",
            "rows.strong.tasks: 9 asked of 8 dev tasks; ask for fewer, or for all",
        ),
        (MINIMAL + "seed: -1", "seed: Input should be greater"),
        (MINIMAL + "seed: many", "seed: Input should be a valid integer"),
        (MINIMAL + "sft: 3", "sft: Input should be a valid dictionary"),
        (MINIMAL + "env: {max_steps: 0}", "env.max_steps: must be a number from 1 on, or a mapping from task types"),
        (MINIMAL + "env: {max_steps: many}", "env.max_steps: must be a number from 1 on, or a mapping from task types"),
        (MINIMAL + "env: {max_steps: {find-plant: 0}}", "env.max_steps: must be a number from 1 on"),
        (MINIMAL + "env: {max_steps: {find-plan: 9}}", "env.max_steps: 'find-plan' is not one of find-plant"),
        (MINIMAL + "explore:", "explore: Input should be a valid dictionary"),
        (MINIMAL + "explore: {tasks: seen}", "explore.tasks: Input should be 'demonstrated', 'unseen' or 'all'"),
        (MINIMAL + "explore: {grid: []}", "explore.grid: must not be empty"),
        (MINIMAL + "explore: {grid: [{temperature: -1.0}]}", "explore.grid.0.temperature: Input should be greater"),
        (MINIMAL + "explore: {grid: [{top_p: 0.0}]}", "explore.grid.0.top_p: Input should be greater than 0"),
        (
            MINIMAL + "evaluate: {rows: [weak, w2sg_exact, strong_sft, w2sg_ecact]}",
            "evaluate.rows: 'w2sg_ecact' is not one of weak, weak_untouched, strong, strong_sft, w2sg_treedpo, ",
        ),
        (MINIMAL + "evaluate: {rows: [weak]}", "evaluate: evaluate.rows must contain 'w2sg_exact'"),
        (MINIMAL + "evaluate: {elsewhere: {w2sg: x.yaml}}", "evaluate.elsewhere: 'w2sg' is not one of weak, weak_un"),
        (MINIMAL + "strong: {lora_layers: 0}", "strong.lora_layers: Input should be greater than or equal to 1"),
        (MINIMAL + "treedpo: {lr: 1.0e-4}", "treedpo: unknown key; it is now called preference"),
        (MINIMAL + "paths: {mcts_gamma: 1}", "paths.mcts_gamma: unknown key; it is now called paths.gamma"),
        (MINIMAL + "play: {dtype: float16}", "play.dtype: 'float16' is not one of auto, bfloat16, float32; did you"),
        (MINIMAL + "preference: {epochs: .inf}", "preference.epochs: Input should be a finite number"),
        ("", "a recipe is a mapping of sections"),
        ("- name", "a recipe is a mapping of sections"),
        ("name: [", "not YAML: "),
        ("name: a\n\tb: c", "not YAML: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(f"{tmp_path / 'recipe.yaml'}: {message}")):
        load(tmp_path, text)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"seed: Input should be .*; weak\.layer: unknown key"):
        load(tmp_path, MINIMAL + "weak: {layer: 2}\nseed: x")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"{tmp_path / 'none.yaml'}: cannot be read (No such file")):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=re.escape(f"{tmp_path}: is a folder")):
        load_recipe(tmp_path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: \xff\xfe\x00")
    with pytest.raises(RecipeError, match=re.escape(f"{path}: not YAML: ") + r"[^\n]+$"):
        load_recipe(path)


def test_overrides(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        MINIMAL + "sft: {epochs: 9}",
        "explore.rollouts=3",
        "sft.lr=1e-3",
        "seed=5",
        "weak.model=a=b",
        "strong.model=org/model",
        "tasks.types=[find-plant, boil]",
        "evaluate.rows=[weak, strong_sft, w2sg_exact]",
        "explore.grid=[{temperature: 1.0}, {temperature: 0.5, top_p: 0.9}]",
        "seed=6",
    )
    assert (recipe.explore.rollouts, recipe.sft.lr, recipe.sft.epochs, recipe.seed) == (3, 1e-3, 9, 6)
    assert (recipe.weak.model, recipe.strong.model) == ("a=b", "org/model")
    assert recipe.tasks.types == ("find-plant", "boil")
    assert recipe.evaluate.rows == ("weak", "strong_sft", "w2sg_exact")
    assert recipe.explore.grid == (Slot(1.0), Slot(0.5, 0.9))
    assert load(tmp_path, MINIMAL, "weak.model=null").weak.model is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set seed: write it as section.key=value"),
        ("=3", "--set =3: write it as section.key=value"),
        ("name.first=a", "--set name.first=a: name is not a section"),
        ("tasks.types.0=a", "--set tasks.types.0=a: types is not a section"),
        ("explore.grid=[", "--set explore.grid=[: '[' is not YAML"),
        ("seed=!!timestamp foo", "'!!timestamp foo' is not YAML: a value is not of the type that its tag"),
        ('seed=!!int ""', "is not YAML: a value is not of the type that its tag or its form says"),
        ("seed=!!bool foo", "is not YAML: a value is not of the type that its tag or its form says"),
        (f"seed={'1:' * 200}1.5", "is not YAML: a value is not of the type that its tag or its form says"),
        ("explore.rollout=3", "explore.rollout: unknown key; did you mean 'rollouts'?"),
        ("expl.rollouts=3", "expl: unknown key; did you mean"),
        ("explore.rollouts=none", "explore.rollouts: Input should be a valid integer"),
        ("explore.rollouts=", "explore.rollouts: Input should be a valid integer"),
    ],
)
def test_bad_overrides_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        load(tmp_path, MINIMAL, override)


def test_resolved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        MINIMAL.replace("mine", "'日本: yes'"),
        "explore.grid=[{temperature: 1.0}, {top_p: 0.9}]",
        "weak.model=org/small",
        "env.max_steps=7",
        "preference.lr=1e-7",
    )
    text = recipe.to_yaml()
    assert load(tmp_path, text) == recipe
    assert load(tmp_path, text).to_yaml() == text
    assert set(yaml.safe_load(text)) == set(Recipe.model_fields)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_come_along(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert load(tmp_path, recipe.to_yaml()) == recipe


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_recipes_of_experiments_can_be_read(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert load(tmp_path, recipe.to_yaml()) == recipe


def test_a_step_limit_per_type(tmp_path: Path) -> None:
    text = "name: mine\ntasks: {types: [find-plant, boil]}\nenv: {max_steps: {boil: 50}}"
    recipe = load(tmp_path, text)
    assert (recipe.env.limit("boil"), recipe.env.limit("find-plant")) == (50, None)
    assert load(tmp_path, text, "env.max_steps=7").env.limit("boil") == 7
    assert load(tmp_path, recipe.to_yaml()) == recipe


# --- rows ---


def test_a_row_of_ones_own(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + """
rows:
  half: {like: w2sg_treedpo, label: Half the gap, pairs: {min_gap: 0.05}, train: {beta: 0.5, epochs: 2}}
  ipo: {like: half, method: ipo}
  strong_sft: {train: {lr: 0.01}}
  kto: {learns_from: trees, method: kto, starts_from: strong_sft, explored_by: own}
preference: {lr: 0.25}
"""
    )
    recipe = load(tmp_path, text)
    half, ipo, kto = (recipe.all_rows[name] for name in ("half", "ipo", "kto"))
    assert (half.label, half.starts_from, half.method, half.learns_from) == (
        "Half the gap",
        "w2sg_exact",
        "tree-dpo",
        ("pairs",),
    )
    assert (recipe.pair_settings(half).min_gap, recipe.pairs.min_gap) == (0.05, 0.1)
    assert (ipo.method, recipe.train_settings(ipo).beta, recipe.train_settings(ipo).lr) == ("ipo", 0.5, 0.25)
    assert recipe.train_settings(recipe.all_rows["strong_sft"]).lr == 0.01
    assert recipe.all_rows["strong_sft"].label == ROWS["strong_sft"].label
    assert (kto.label, kto.settings_in) == ("kto", "preference")
    assert load(tmp_path, recipe.to_yaml()).all_rows == recipe.all_rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("x: {like: w2sg_treedp}", "rows.x.like: 'w2sg_treedp' is not one of "),
        ("x: {learns_from: paths, starts_from: nobody}", "rows.x.starts_from: 'nobody' is not one of "),
        ("x: {learns_from: path}", "rows.x: 'path' is not one of demonstrations, paths, stitched, trees"),
        ("x: {learns_from: paths, method: dpo}", "rows.x.method: dpo cannot learn from paths; it takes trees, pairs"),
        ("x: {learns_from: [paths, pairs]}", "rows.x.learns_from: only sources of trajectories can be pooled, not "),
        ("x: {learns_from: paths, method: spo}", "rows.x.method: 'spo' is not one of tree-dpo, dpo, anchored-dpo, "),
        ("x: {learns_from: paths, explored_by: me}", "rows.x.explored_by: 'me' is not one of weak, own"),
        ("x: {like: eto, pairs: {min_gab: 1}}", "rows.x.pairs.min_gab: unknown key; did you mean 'min_gap'?"),
        ("x: {like: eto, train: {beta: 0}}", "rows.x.train.beta: Input should be greater than 0"),
        ("x: {lable: y}", "rows.x.lable: unknown key; did you mean 'label'?"),
        ("x: {like: eto, reference: y}", "rows.x.reference: 'y' is not one of start, weak, "),
    ],
)
def test_what_is_wrong_with_a_row_is_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"recipe.yaml: {message}")):
        load(tmp_path, MINIMAL + f"rows: {{{rows}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {strong_sft: {train: {beta: 0.2}}}", "rows.strong_sft.train.beta: sft does not use it, only tree-dpo"),
        (
            "rows: {w2sg_dpo: {train: {anchor: 0.1}}}",
            "rows.w2sg_dpo.train.anchor: dpo does not use it, only anchored-dpo",
        ),
        (
            "rows: {chosen_runs_sft: {train: {weigh: gap}}}",
            "rows.chosen_runs_sft.train.weigh: chosen-runs-sft does not",
        ),
        ("rows: {strong: {train: {lr: 0.1}}}", "rows.strong.train.lr: it learns nothing; leave it out"),
        (
            "rows: {w2sg_exact: {pairs: {min_gap: 0.2}}}",
            "rows.w2sg_exact.pairs: changes nothing, since the row learns from",
        ),
        (
            "rows: {w2sg_dpo: {paths: {min_score: 0.2}}}",
            "rows.w2sg_dpo.paths: changes nothing, since the row learns from pairs",
        ),
        ("trees: {similarity: 0.8}", "trees.similarity: changes nothing without merge: semantic"),
        ("rows: {w2sg_exact: {trees: {model: a/b}}}", "rows.w2sg_exact.trees.model: changes nothing without merge"),
        ("rows: {strong_sft: {trees: {merge: semantic}}}", "rows.strong_sft.trees: changes nothing, since the row"),
        ("rows: {w2sg_exact: {reference: weak}}", "rows.w2sg_exact.reference: sft has a reference only with diversity"),
        ("sft: {beta: 0.2}", "sft.beta: no method with its settings in sft uses it, only tree-dpo"),
        ("weak: {weigh: gap}", "weak.weigh: no method with its settings in weak uses it, only tree-dpo"),
        ("sft: {cache_reference: true}", "sft.cache_reference: no method with its settings in sft uses it"),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"recipe.yaml: {message}")):
        load(tmp_path, MINIMAL + text)


def test_a_setting_that_some_method_uses_is_taken(tmp_path: Path) -> None:
    for text in (
        "rows: {x: {like: w2sg_anchored_1, method: dpo}}",  # what it inherits and does not use is not its own
        "rows: {x: {like: w2sg_branches, train: {diversity: 0.01}, reference: weak}}",
        "rows: {x: {learns_from: trees, method: sft, paths: {search: mcts}, starts_from: strong}}",
        "rows: {x: {learns_from: trees, method: node-kto, pairs: {min_gap: 0.2}, starts_from: strong}}",
        "rows: {w2sg_stitched: {paths: {min_score: 0.2}}, eto: {pairs: {per_tree: 2}}}",
        "preference: {gamma: 0.5, diversity: 0.01, cache_reference: true}",
        "sft: {diversity: 0.01}",
        "trees: {model: a/b}\nrows: {w2sg_exact: {trees: {merge: semantic}}}",
    ):
        recipe = load(tmp_path, MINIMAL + text)
        assert load(tmp_path, recipe.to_yaml()).all_rows == recipe.all_rows


def test_a_row_that_needs_itself(tmp_path: Path) -> None:
    text = (
        MINIMAL
        + """
explorations: {mine: {by: again}}
rows: {again: {learns_from: paths, explored_by: mine}}
evaluate: {rows: [weak, strong_sft, w2sg_exact, again]}
"""
    )
    with pytest.raises(RecipeError, match=r"rows\.again: needs itself: again needs again"):
        load(tmp_path, text)


def test_every_row_of_the_table_is_sound(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL, f"evaluate.rows=[{', '.join(ROWS)}]", "weak.model=org/small")
    assert set(recipe.evaluate.rows) == set(ROWS) and all(row.label for row in recipe.all_rows.values())


def plan_of(tmp_path: Path, text: str, *, checked: bool = True) -> dict[str, Any]:
    path = tmp_path / "rounds.yaml"
    path.write_text("name: x\nenv: {name: 'tests.toy:DOMAIN'}\ntasks: {types: [toy]}\n" + text)
    return {stage.name: stage for stage in stages_of(load_recipe(path), checked=checked)}


def test_in_later_rounds_the_tuned_model_explores_and_learns_from_all(tmp_path: Path) -> None:
    rows = "evaluate: {rows: [weak, strong_sft, w2sg_exact, round2, round3]}\n"
    plan = plan_of(tmp_path, "explore: {rounds: 3, rollouts: 2}\n" + rows)
    assert plan["explore-round2"].inputs["model 0"] == "train-w2sg_exact"
    assert plan["pool-round2"].inputs == {"before": "explore-weak", "added": "explore-round2"}
    assert plan["trees-round2"].inputs == {"explored": "pool-round2"}
    assert plan["explore-round3"].inputs["model 0"] == "train-round2"
    assert plan["pool-round3"].inputs == {"before": "pool-round2", "added": "explore-round3"}
    assert plan["train-round3"].inputs["paths"] == "paths-round3-exact" and "model 0" not in plan["train-round3"].inputs
    one = plan_of(tmp_path, "explore: {rollouts: 2}\nevaluate: {rows: [weak, strong_sft, w2sg_exact]}\n")
    assert one["explore-weak"].settings == plan["explore-weak"].settings, "the first round is what it is without others"


@pytest.mark.parametrize("how", ["tasks: unseen", "grid: [{temperature: 1.1}]", "by: strong_sft"])
def test_explorations_that_add_runs_of_other_kinds(tmp_path: Path, how: str) -> None:
    rows = "rows: {mine: {like: w2sg_exact, explored_by: a}}\nevaluate: {rows: [weak, strong_sft, w2sg_exact, mine]}\n"
    assert "explore-a" in plan_of(tmp_path, f"explorations:\n  a: {{adds_to: weak, {how}}}\n{rows}")


@pytest.mark.parametrize("first", ["long", "far"])
def test_a_name_that_is_taken_is_not_taken_for_the_same_stage(tmp_path: Path, first: str) -> None:
    """Names are joined by hyphens: what row `long` needs would be called as what exploration `weak-long` has."""
    rows = (
        "explorations: {weak-long: {tasks: unseen, rollouts: 9}}\n"
        "rows:\n  far: {like: w2sg_exact, explored_by: weak-long}\n"
        "  long: {like: w2sg_exact, trees: {merge: semantic, similarity: 0.5}}\n"
    )
    second = "far" if first == "long" else "long"
    measured = f"evaluate: {{rows: [weak, strong_sft, w2sg_exact, {first}, {second}]}}\n"
    plan = plan_of(tmp_path, rows + measured, checked=False)

    def explored(row: str) -> tuple[str, bool]:
        paths = plan[plan[f"train-{row}"].inputs["paths"]]
        trees = plan[paths.inputs["trees"]]
        return trees.inputs["explored"], "merge" in trees.settings

    assert explored("far") == ("explore-weak-long", False)
    assert explored("long") == ("explore-weak", True)
    assert explored("w2sg_exact") == ("explore-weak", False)


def test_a_row_called_as_part_of_a_search(tmp_path: Path) -> None:
    rows = "rows: {published: {like: w2sg_mcts, paths: {iterations: 50}}}\n"
    measured = "[weak, strong_sft, w2sg_exact, w2sg_mcts, w2sg_published, published]"
    plan = plan_of(tmp_path, f"{rows}evaluate: {{rows: {measured}}}\n")
    searches = {name: plan[plan[f"train-{name}"].inputs["paths"]].settings for name in ("w2sg_published", "published")}
    assert searches == {
        "w2sg_published": {"search": "mcts-published"},
        "published": {"search": "mcts", "iterations": 50},
    }


@pytest.mark.parametrize(
    ("explorations", "said"),
    [
        ("a: {adds_to: nobody}", "explorations.a.adds_to: 'nobody' is not one of"),
        ("a: {adds_to: b}\n  b: {adds_to: a}", "adds to itself: a adds to b adds to a"),
        ("a: {rounds: 2}", "only `explore` has rounds"),
        ("a: {by: mine}", "needs itself"),
        ("a: {by: weak, adds_to: b}\n  b: {by: mine}", "needs itself"),
        (
            "a: {adds_to: weak, grid: [{temperature: 1.1}, {temperature: 0.8, top_p: 0.95}]}",
            "sample 1 of a task would be",
        ),
        (
            "a: {adds_to: b, rollouts: 2}\n  b: {by: strong_sft, adds_to: weak}",
            "explorations.a.adds_to: sample 0 of a ",
        ),
        ("a: {adds_to: weak, tasks: all}", "the same run as in weak"),
    ],
)
def test_explorations_that_cannot_be(tmp_path: Path, explorations: str, said: str) -> None:
    rows = "rows: {mine: {like: w2sg_exact, explored_by: a}}\nevaluate: {rows: [weak, strong_sft, w2sg_exact, mine]}\n"
    with pytest.raises(RecipeError, match=re.escape(said)):
        plan_of(tmp_path, f"explorations:\n  {explorations}\n{rows}")


@pytest.mark.parametrize(
    "name", ["..", ".", "", " ", "a/b", "../b", "/a", "a\\b", "a\0b", "a\x1b[31m", "\ud800", "x" * 101]
)
def test_no_name_leaves_the_runs_folder(tmp_path: Path, name: str) -> None:
    quoted = json.dumps(name)
    for text in (
        f"name: {quoted}\ntasks: {{types: [find-plant]}}\n",
        MINIMAL + f"rows: {{{quoted}: {{like: strong}}}}\n",
        MINIMAL + f"explorations: {{{quoted}: {{}}}}\n",
    ):
        with pytest.raises(RecipeError, match="folder"):
            load(tmp_path, text)
    with pytest.raises(RecipeError, match="folder"):
        load(tmp_path, MINIMAL, f"name={quoted}")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 100_000, "nested more than 20 deep"),
        ("a: " * 30 + "1", "mapping values are not allowed here, line 1"),
        (MINIMAL + "a: &x [*x]\n", "nested more than 20 deep"),
        ("".join(f"{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else 'y'] * 9)}]\n" for n in range(9)), "100,000 things"),
        (MINIMAL + "seed: 2001-99-99\n", "month must be in 1..12"),
        (MINIMAL + "seed: 0x_\n", "invalid literal"),
        ("\0", "unacceptable character"),
    ],
)
def test_yaml_that_nobody_writes_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: not YAML: ") as caught:
        load(tmp_path, text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_seed_is_one_that_every_generator_takes(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "seed: 4294967295").seed == 2**32 - 1
    with pytest.raises(RecipeError, match="seed"):
        load(tmp_path, MINIMAL + "seed: 4294967296")


@pytest.mark.timeout(20)
def test_a_recipe_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path, Path("/dev/zero")):
        with pytest.raises(RecipeError, match=r"is a (pipe|folder|device)"):
            load_recipe(path)


def test_a_model_from_scratch_has_nothing_to_differ_from(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"weak.diversity: a model from scratch has no earlier checkpoint.*diverse: "):
        load(tmp_path, MINIMAL + "weak: {diversity: 0.1}")
    load(tmp_path, MINIMAL + "weak: {diversity: 0.1, model: some/model}")
    rows = "rows: {diverse: {starts_from: weak, learns_from: demonstrations, train: {diversity: 0.01}}}"
    recipe = load(tmp_path, f"{MINIMAL}{rows}\nexplore: {{by: diverse}}")
    assert recipe.train_settings(recipe.all_rows["diverse"]).diversity == 0.01
    assert recipe.train_settings(recipe.all_rows["strong_sft"]).diversity == 0


def test_a_row_may_be_measured_on_fewer_tasks(tmp_path: Path) -> None:
    rows = (
        "rows: {strong_sft: {tasks: 15}, mine: {like: strong_sft}, other: {like: mine, tasks: all}, eto: {tasks: 99}}"
    )
    recipe = load(tmp_path, f"{MINIMAL}{rows}")
    found = {name: recipe.all_rows[name].tasks for name in ("weak", "strong_sft", "mine", "other")}
    assert found == {"weak": "all", "strong_sft": 15, "mine": 15, "other": "all"}
    assert load(tmp_path, recipe.to_yaml()) == recipe
    assert (
        load(tmp_path, f"{MINIMAL}{rows}", "tasks.types=[a, b]", "rows.strong_sft.tasks=30").all_rows["mine"].tasks
        == 30
    )
    assert "eto" not in recipe.evaluate.rows, "what is not measured lacks nothing"


def test_a_recipe_without_a_number_of_tasks_is_written_as_before_there_was_one(tmp_path: Path) -> None:
    """Report folders are named after the hash of it, and `compare` compares it with those of earlier versions."""
    written = yaml.safe_load(load(tmp_path, MINIMAL + "rows: {strong: {label: S}}").to_yaml())["rows"]["strong"]
    names = ["like", "label", "learns_from", "explored_by", "method", "section", "trees", "pairs", "paths", "train"]
    assert list(written) == [*names, "starts_from", "reference"]
    fewer = load(tmp_path, MINIMAL + "rows: {strong: {label: S, tasks: 5}}").to_yaml()
    assert yaml.safe_load(fewer)["rows"]["strong"] == {**written, "tasks": 5}


def test_what_the_demo_leaves_out_another_recipe_measures() -> None:
    demo = load_recipe(ROOT / "recipes" / "demo.yaml")
    assert {"w2sg_mcts", "w2sg_treedpo"} <= demo.evaluate.elsewhere.keys()
    for row, other in demo.evaluate.elsewhere.items():
        assert row not in demo.evaluate.rows
        assert row in load_recipe(ROOT / other).evaluate.rows


def test_the_demo_measures_learning_from_failures_beside_its_control() -> None:
    demo = load_recipe(ROOT / "recipes" / "demo.yaml")
    assert {"weak", "strong", "strong_sft", "w2sg_exact"} < set(demo.evaluate.rows)
    preferred = [name for name in demo.evaluate.rows if demo.all_rows[name].settings_in == "preference"]
    (named,) = [both for both in demo.evaluate.comparisons if set(both) == set(preferred)]
    learning, control = (METHODS[demo.all_rows[name].method].loss for name in named)
    assert (learning, control) == ("dpo", "sft")
    assert demo.tasks.test * len(demo.tasks.types) == 60
    assert {name: demo.all_rows[name].tasks for name in demo.evaluate.rows} == {
        name: 20 if name == "strong" else "all" for name in demo.evaluate.rows
    }
