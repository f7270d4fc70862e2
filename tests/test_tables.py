"""One table per choice: each entry can be chosen, is told to whoever chooses wrongly, and stands nowhere else."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tests.builders import trajectory
from typer.testing import CliRunner

import trajtree
from trajtree.cli.main import COMMANDS, app
from trajtree.envs.domain import BUILT_IN, DATA_IMPORTERS, SPLITS, Domain, load_domain
from trajtree.errors import DataError, RecipeError, one_of
from trajtree.experiment.recipe import load_recipe
from trajtree.experiment.rows import ROWS, SOURCES
from trajtree.experiment.stage import KINDS
from trajtree.explore.strategies import STRATEGIES
from trajtree.formats.read.detect import FORMATS, beginning_of, format_named
from trajtree.formats.write import PAIR_TARGETS, TRAJECTORY_TARGETS
from trajtree.models.weights import DTYPES
from trajtree.policies.opening import SCHEMES
from trajtree.train.settings import METHODS, OPTIMISERS, SCHEDULES, WEIGHTS, LossSettings
from trajtree.trees.forks import AGGREGATES, MODES, PairSettings, pairs_of
from trajtree.trees.merge import build_tree
from trajtree.trees.pair import PASTS
from trajtree.trees.sameness import ACTIONS, IGNORABLE
from trajtree.trees.search import SEARCHES, PathSettings, search_of

DESCRIBED: dict[str, Mapping[str, Any]] = {
    "formats": FORMATS,
    "pair targets": PAIR_TARGETS,
    "trajectory targets": TRAJECTORY_TARGETS,
    "modes": MODES,
    "aggregates": AGGREGATES,
    "pasts": PASTS,
    "ignorables": IGNORABLE,
    "actions": ACTIONS,
    "searches": SEARCHES,
    "methods": METHODS,
    "sources": SOURCES,
    "policies": SCHEMES,
    "stages": KINDS,
}
TABLES: dict[str, Collection[str]] = {**DESCRIBED, "environments": BUILT_IN, "weights": WEIGHTS, "rows": ROWS}

PAIRS = ("pairs", "trees.jsonl", "--out", "out.jsonl")
TRAIN = ("train", "trees.jsonl", "--model", "m")
EXPLORE = ("explore", "--env", "e", "--policy", "p", "--tasks", "t", "--out", "out.jsonl")
PATHS = ("paths", "trees.jsonl", "--out", "out.jsonl")
RUNS = ((["a", "b"], 1.0), (["a", "c"], 0.0), (["d"], 0.5))
TREE = build_tree(trajectory(actions, score, sample=n) for n, (actions, score) in enumerate(RUNS))


def said(*arguments: str) -> str:
    """What a command prints that fails before it begins, on one line."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "2000"})
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("choices", "arguments"),
    [
        (FORMATS, ("import", "x.json", "--out", "out.jsonl", "--from")),
        (PAIR_TARGETS, (*PAIRS, "--to")),
        (MODES, (*PAIRS, "--mode")),
        (AGGREGATES, (*PAIRS, "--value")),
        (PASTS, (*PAIRS, "--past")),
        ([*SEARCHES, "stitch"], (*PATHS, "--search")),
        (["trajtree", *TRAJECTORY_TARGETS], (*PATHS, "--to")),
        (TRAJECTORY_TARGETS, ("convert", "a", "b", "--to")),
        (AGGREGATES, ("rewards", "trees.jsonl", "--out", "out.jsonl", "--value")),
        (DATA_IMPORTERS, ("data",)),
        (METHODS, (*TRAIN, "--method")),
        (WEIGHTS, (*TRAIN, "--weigh")),
        (SCHEDULES, (*TRAIN, "--schedule")),
        (DTYPES, (*TRAIN, "--dtype")),
        (STRATEGIES, (*EXPLORE, "--strategy")),
        (SPLITS, (*EXPLORE, "--split")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_command_offers_the_entries_of_its_table(choices: Collection[str], arguments: tuple[str, ...]) -> None:
    told = re.search(r"'nonsense' is not one of ([\w, -]+)", said(*arguments, "nonsense"))
    assert told is not None and re.findall(r"[\w-]+", told[1]) == [*choices]


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("evaluate.rows", ROWS),
        ("explore.strategy", STRATEGIES),
        ("pairs.mode", MODES),
        ("pairs.aggregate", AGGREGATES),
        ("paths.search", SEARCHES),
        ("play.dtype", DTYPES),
        ("preference.weigh", WEIGHTS),
        ("sft.schedule", SCHEDULES),
        ("sft.optimiser", OPTIMISERS),
        ("rows.mine.method", METHODS),
        ("rows.mine.learns_from", SOURCES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recipe_offers_the_entries_of_its_table(key: str, choices: Collection[str], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ntasks: {types: [toy]}\nrows: {mine: {like: strong_sft}}\n")
    value = "[weak, strong_sft, w2sg_exact, nonsense]" if key == "evaluate.rows" else "nonsense"
    with pytest.raises(RecipeError, match=r"'nonsense' is not one of ([\w, -]+)") as refused:
        load_recipe(path, [f"{key}={value}"])
    told = re.search(r"is not one of ([\w, -]+)", str(refused.value))
    assert told is not None and set(re.findall(r"[\w-]+", told[1])) >= set(choices)


def test_every_method_has_its_loss_its_examples_and_its_section() -> None:
    losses = pytest.importorskip("trajtree.train.losses")
    material = pytest.importorskip("trajtree.train.material")
    for name, method in METHODS.items():
        assert losses.objective_of(method, LossSettings()).name, name
        assert method.takes in material.TAKES and method.section in ("sft", "preference")
    assert {method.takes for method in METHODS.values()} == set(material.TAKES)


@pytest.mark.parametrize("command", ["import", "build", "pairs", "paths", "convert", "rewards"])
def test_the_help_of_a_command_says_what_its_choices_are(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "2000"})
    tables: dict[str, list[Mapping[str, Any]]] = {
        "import": [FORMATS],
        "build": [IGNORABLE, ACTIONS],
        "pairs": [PAIR_TARGETS, MODES, AGGREGATES, PASTS],
        "paths": [SEARCHES, TRAJECTORY_TARGETS],
        "convert": [TRAJECTORY_TARGETS],
        "rewards": [AGGREGATES],
    }
    shown = " ".join(result.output.split())
    for table in tables[command]:
        assert all(f"{name} ({entry.about})" in shown for name, entry in table.items())


@pytest.mark.parametrize("table", DESCRIBED)
def test_entries_say_what_they_are(table: str) -> None:
    abouts = [entry.about for entry in DESCRIBED[table].values()]
    assert all(about.strip() == about != "" for about in abouts)
    assert len(set(abouts)) == len(abouts)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_settings_name_every_mode_and_aggregate(mode: str, aggregate: str) -> None:
    found = pairs_of(TREE, PairSettings(mode, aggregate))
    assert found and all(pair.gap >= 0.1 for pair in found)
    assert any(pair.depth for pair in found) == MODES[mode].at_forks


def test_gamma_matters_where_the_aggregate_discounts() -> None:
    for name, entry in AGGREGATES.items():
        patient, hasty = (pairs_of(TREE, PairSettings(aggregate=name, gamma=gamma)) for gamma in (1.0, 0.5))
        assert (patient != hasty) == entry.discounts


@pytest.mark.parametrize("search", SEARCHES)
def test_settings_name_every_search(search: str) -> None:
    assert search_of(PathSettings(search))(TREE).trajectory.sample == 0


def test_settings_reach_the_searches() -> None:
    assert search_of(PathSettings("mcts", iterations=7))(TREE).visits[0] == 7
    assert search_of(PathSettings("best-of-n", n=1))(TREE).value == 1.0


@pytest.mark.parametrize(
    ("settings", "wrong", "message"),
    [
        (PairSettings, {"mode": "extreme"}, f"'extreme' is not one of {', '.join(MODES)}; did you mean 'extremes'?"),
        (PairSettings, {"aggregate": "x"}, f"'x' is not one of {', '.join(AGGREGATES)}"),
        (PathSettings, {"search": "exakt"}, f"'exakt' is not one of {', '.join(SEARCHES)}; did you mean 'exact'?"),
        (PairSettings, {"per_tree": 0}, "greater than or equal to 1"),
        (PairSettings, {"gamme": 1}, "gamme"),
    ],
)
def test_settings_that_are_read_are_checked(settings: type, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        TypeAdapter(settings).validate_python(wrong)


def test_a_name_that_is_none_is_told_from_python_too() -> None:
    with pytest.raises(ValueError, match=r"not one of every, extremes, .* did you mean 'every'"):
        pairs_of(TREE, PairSettings(mode="evry"))
    with pytest.raises(ValueError, match=r"not one of mean, best, discounted$"):
        pairs_of(TREE, PairSettings(aggregate="x"))
    with pytest.raises(ValueError, match="did you mean 'mcts'"):
        search_of(PathSettings(search="mtcs"))
    assert one_of(DTYPES)("auto") == "auto"


def test_every_format_is_named_to_whoever_has_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"other": 1}')
    for fail in (lambda: beginning_of(tmp_path / "x.json").format, lambda: format_named("parquet")):
        with pytest.raises(DataError) as error:
            fail()
        assert all(f"{name} ({format.about})" in str(error.value) for name, format in FORMATS.items())


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_environment_has_a_domain_and_says_what_it_needs(name: str) -> None:
    assert isinstance(load_domain(name), Domain) and load_domain(name).types
    entry = BUILT_IN[name]
    assert entry.install.startswith("trajtree") and entry.data and entry.licence
    assert (f"trajtree data {name}" in entry.data) == (name in DATA_IMPORTERS)


def test_every_environment_is_named_to_whoever_has_none() -> None:
    with pytest.raises(RecipeError) as error:
        load_domain("nonsense")
    assert all(name in str(error.value) for name in BUILT_IN)


def displays(tree: ast.AST) -> Iterator[list[str]]:
    """The texts that stand side by side in a list, tuple, set, dict or Literal."""
    for node in ast.walk(tree):
        inside = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        yield [e.value for e in inside if isinstance(e, ast.Constant) and isinstance(e.value, str)]


COMMAND_LINE = sorted((Path(__file__).parents[1] / "src" / "trajtree" / "cli").glob("*.py"))


@pytest.mark.parametrize("path", COMMAND_LINE, ids=lambda path: path.stem)
def test_no_command_repeats_a_table(path: Path) -> None:
    for side_by_side in displays(ast.parse(path.read_text())):
        if side_by_side == [*COMMANDS]:
            continue  # the table of the commands themselves, some of which are named after what they write
        for table in TABLES.values():
            assert len(set(side_by_side) & set(table)) < 2, side_by_side


def test_every_public_name_is_what_a_type_checker_sees() -> None:
    """`trajtree` imports its names when they are first used; the imports for type checkers must say the same."""
    tree = ast.parse(Path(str(trajtree.__file__)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(seen) == trajtree.__all__
    for name, module in seen.items():
        assert getattr(trajtree, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        trajtree.nothing  # noqa: B018
