"""`trajtree compare`: seeds and blocks are put together, and runs that measure different things are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.statistics.test_summary import block, row
from typer.testing import CliRunner

from trajtree.cli.main import app
from trajtree.errors import DataError, RecipeError, RunError, TrajtreeError
from trajtree.experiment.comparing import compare_runs
from trajtree.experiment.recipe import load_recipe
from trajtree.report import ReportData, write_results_json
from trajtree.report.compared import cautions, gap_of, is_shown, verdict_of
from trajtree.report.text import NO_SITUATIONS, smallest
from trajtree.statistics.results import Interval
from trajtree.statistics.summary import summarise

ROWS = ("weak", "strong_sft", "w2sg_exact")
RATES = {"weak": 0.2, "strong_sft": 0.7, "w2sg_exact": 0.55, "chosen_sft": 0.5, "w2sg_anchored": 0.6}


def recipe_of(folder: Path, rows: Sequence[str], seed: int, changes: Sequence[str]) -> str:
    (folder / "r.yaml").write_text("name: x\ntasks: {types: [toy]}\n")
    overrides = [f"evaluate.rows=[{', '.join(rows)}]", f"seed={seed}", *changes]
    return load_recipe(folder / "r.yaml", overrides).to_yaml()


def run(
    folder: Path,
    seed: int = 0,
    *changes: str,
    rows: Sequence[str] = ROWS,
    tasks: int = 60,
    recipe: Callable[[dict[str, Any]], object] = lambda recipe: None,
    situations: bool = True,
    primary: str = "w2sg_exact",
    **provenance: str,
) -> Path:
    """A results.json; what a row did depends on its name and the seed alone."""
    hard = np.repeat(np.random.default_rng(7).uniform(-0.1, 0.1, tasks // 5), 5)
    played = {}
    for name in rows:
        rng = np.random.default_rng([seed, *name.encode()])
        played[name] = row(*(rng.uniform(size=tasks) < RATES[name] + hard).astype(float))
    results = summarise(
        played,
        weak="weak",
        ceiling="strong_sft",
        primary=primary,
        situation=block if situations else None,
        resamples=20,
        seed=seed,
    )
    settings = yaml.safe_load(recipe_of(folder, rows, seed, changes))
    recipe(settings)
    data = ReportData("x", results, yaml.safe_dump(settings), labels={"weak": "Teacher"}, provenance=dict(provenance))
    path = folder / f"results-{len(list(folder.glob('results-*')))}.json"
    write_results_json(data, path)
    return path


def test_seeds_stand_side_by_side(tmp_path: Path) -> None:
    found = compare_runs([run(tmp_path, seed) for seed in (2, 0, 1)])
    assert found.compared.seeds == (0, 1, 2)
    assert [(n.success.row, n.success.against) for n in found.compared.named] == [
        ("w2sg_exact", "weak"),
        ("w2sg_exact", "strong_sft"),
    ]
    assert [one.row for one in found.compared.recovered] == ["w2sg_exact"]
    assert (found.label("weak"), found.split, found.notes) == ("Teacher", "test", ())


def test_blocks_of_one_seed_are_joined(tmp_path: Path) -> None:
    named = "evaluate.comparisons=[[w2sg_anchored, chosen_sft]]"
    more = (*ROWS, "w2sg_anchored", "chosen_sft")
    blocks = [run(tmp_path, seed, named, rows=rows) for seed in range(3) for rows in (ROWS, more)]
    found = compare_runs(blocks)
    assert {row.row: row.seeds for row in found.compared.rows} == dict.fromkeys(more, (0, 1, 2))
    assert found.compared == compare_runs([run(tmp_path, seed, named, rows=more) for seed in range(3)]).compared


def test_blocks_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path, tasks=55)
    with pytest.raises(DataError, match=r"have seed 0 and measured row 'weak' with different results"):
        compare_runs([first, second])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sft.lr=0.1", "sft.lr: none and 0.1"),
        ("pairs.min_gap=0.3", "pairs.min_gap: 0.1 and 0.3"),
        ("evaluate.split=dev", "evaluate.split: test and dev"),
        ("rows={w2sg_exact: {train: {lr: 0.1}}}", "rows.w2sg_exact: none and "),
        ("rows={w2sg_exact: {tasks: 10}}", "rows.w2sg_exact: none and "),
        ("explorations={own: {rollouts: 9}}", "explorations.own: none and "),
        ("tasks.test={toy: 20}", r"tasks.test: 15 and \{'toy': 20\}"),
        ("tasks.types=[a, b]", r"tasks.types: \['toy'\] and \['a', 'b'\]"),
        ("evaluate.primary=strong_sft", "evaluate.primary: w2sg_exact and strong_sft"),
    ],
)
def test_runs_that_measure_different_things_are_refused(tmp_path: Path, change: str, says: str) -> None:
    comparisons = "evaluate.comparisons=[[w2sg_exact, weak]]"
    paths = [run(tmp_path, 0, comparisons), run(tmp_path, 1, comparisons, change)]
    with pytest.raises(RecipeError, match=f"{paths[1]} cannot be compared: their recipes differ in {says}"):
        compare_runs(paths)


@pytest.mark.parametrize(
    ("change", "measured"),
    [
        ("rows={w2sg_exact: {train: {lr: 0.1}}}", "w2sg_anchored"),  # which starts from w2sg_exact
        ("explorations={round2: {rollouts: 9}}", "w2sg_anchored"),
    ],
)
def test_blocks_with_a_row_made_with_another_model_are_refused(tmp_path: Path, change: str, measured: str) -> None:
    """The changed row or exploration is not among what both measure, but what they measure is made with it."""
    same = ("evaluate.primary=strong_sft", "evaluate.comparisons=[[strong_sft, weak]]", "explore.rounds=2")
    first = run(tmp_path, 0, *same, primary="strong_sft")
    second = run(tmp_path, 0, *same, change, rows=("weak", "strong_sft", measured), primary="strong_sft")
    with pytest.raises(RecipeError, match="their recipes differ in " + change.partition("=")[0]):
        compare_runs([first, second])


def test_a_row_that_nothing_measured_is_made_with_may_differ(tmp_path: Path) -> None:
    same = ("evaluate.primary=strong_sft", "evaluate.comparisons=[[strong_sft, weak]]")
    first = run(tmp_path, 0, *same, primary="strong_sft")
    change = "rows={w2sg_exact: {train: {lr: 0.1}}}"
    second = run(tmp_path, 1, *same, change, rows=("weak", "strong_sft"), primary="strong_sft")
    assert compare_runs([first, second]).notes == ()


def test_seeds_with_other_tasks_are_a_caveat(tmp_path: Path) -> None:
    found = compare_runs([run(tmp_path, 0), run(tmp_path, 1, tasks=55)])
    (note,) = found.notes
    assert "only those that all have count: weak (55 of 60), " in note


def test_runs_that_named_different_comparisons_are_refused(tmp_path: Path) -> None:
    paths = [run(tmp_path, 0), run(tmp_path, 1, "evaluate.comparisons=[[w2sg_exact, weak]]")]
    with pytest.raises(RecipeError, match="against weak, w2sg_exact against strong_sft and w2sg_exact again"):
        compare_runs(paths)


@pytest.mark.parametrize(
    "change",
    [
        "name=y",
        "play.workers=1",
        "play.seconds=9",
        "evaluate.guarantee=false",
        "pairs.past=similar",
        "sft.checkpoint_steps=3",
        "rows={mine: {like: strong_sft}}",
        "rows={strong: {tasks: 5}}",
        "explorations={mine: {}}",
    ],
)
def test_runs_may_differ_in_what_changes_no_row(tmp_path: Path, change: str) -> None:
    assert compare_runs([run(tmp_path, 0), run(tmp_path, 1, change)]).compared.seeds == (0, 1)


def test_settings_that_an_earlier_version_did_not_have_are_at_their_defaults(tmp_path: Path) -> None:
    def older(recipe: dict[str, Any]) -> None:
        del recipe["evaluate"]["comparisons"], recipe["pairs"]["past"], recipe["explorations"]
        for slot in recipe["explore"]["grid"]:
            del slot["by"]

    paths = [run(tmp_path, 0), run(tmp_path, 1, recipe=older)]
    assert compare_runs(paths).compared.named == compare_runs([paths[0], run(tmp_path, 1)]).compared.named
    other = run(tmp_path, 2, "pairs.past=equal")
    with pytest.raises(RecipeError, match=r"pairs\.past: ignored and equal"):
        compare_runs([paths[1], other])


def test_other_versions_are_a_caveat(tmp_path: Path) -> None:
    paths = [run(tmp_path, 0, arithmetic="float32"), run(tmp_path, 1, arithmetic="bfloat16")]
    assert compare_runs(paths).notes == ("The runs differ in arithmetic: float32; bfloat16.",)


def test_other_splits_under_the_same_name_are_a_caveat(tmp_path: Path) -> None:
    paths = [run(tmp_path, seed, **{"task splits": f"s.json ({seed})"}) for seed in (0, 1)]
    assert compare_runs(paths).notes == ("The runs differ in task splits: s.json (0); s.json (1).",)


def test_a_recipe_that_is_none(tmp_path: Path) -> None:
    path = run(tmp_path)
    document = json.loads(path.read_text()) | {"recipe": "- a list"}
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"{path}: its recipe is not YAML with sections"):
        compare_runs([path])


@pytest.mark.parametrize("edited", [3, "weak", ["weak"], [["weak"]], {"weak": "strong"}])
def test_comparisons_that_are_no_pairs(tmp_path: Path, edited: object) -> None:
    path = run(tmp_path, recipe=lambda recipe: recipe["evaluate"].update(comparisons=edited))
    with pytest.raises(DataError, match=f"{path}: evaluate.comparisons of its recipe is not a list of pairs of rows"):
        compare_runs([path])


def said(arguments: Sequence[str]) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_command_prints_writes_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [str(run(tmp_path, seed)) for seed in range(3)]
    figures, plot = tmp_path / "c.json", tmp_path / "c.svg"
    printed = said(["compare", *paths, "--json", str(figures), "--plot", str(plot)])
    assert "W2sg" not in printed and "w2sg_exact beats Teacher: " in printed and "Holm" in printed
    assert "Types: 1 t (60 tasks, 12 situations)." in printed and "Fewer than" not in printed
    document = json.loads(figures.read_text())
    assert (document["format"], document["seeds"], document["shown"][0]) == ("trajtree.comparison", [0, 1, 2], True)
    assert document["named"][0]["holm"] >= document["named"][0]["success"]["p_value"]
    assert plot.read_text().startswith("<svg") and plot.read_text().count("<style>") == 1


@pytest.mark.parametrize(
    ("seeds", "tasks", "says"),
    [
        ((0, 1), 60, "Fewer than 3 seeds: nothing can be claimed of a method."),
        ((0, 1, 2), 45, "Fewer than 10 situations: no interval can be trusted."),
    ],
)
def test_too_little_is_said_plainly(tmp_path: Path, seeds: Sequence[int], tasks: int, says: str) -> None:
    runs = compare_runs([run(tmp_path, seed, tasks=tasks) for seed in seeds])
    for named in runs.compared.named:
        assert says in verdict_of(named, runs) and not is_shown(named, runs)
    assert says in said(["compare", *map(str, sorted(tmp_path.glob("results-*.json")))])


def test_results_without_situations_say_so(tmp_path: Path) -> None:
    """Their environment is asked; it does not know these tasks."""
    printed = said(["compare", *(str(run(tmp_path, seed, situations=False)) for seed in range(3))])
    assert "The situations of the tasks are not known" in printed
    assert "These results were stored without situations, and " in printed
    runs = compare_runs(sorted(tmp_path.glob("results-*.json")))
    for named in runs.compared.named:
        assert verdict_of(named, runs).endswith(NO_SITUATIONS) and not is_shown(named, runs)
        assert smallest(named.success, by_situation=False) == "n/a"
    assert "beats" not in printed


def test_run_directories_are_read_with_all_their_reports(tmp_path: Path) -> None:
    """Two seeds in one directory; a report folder stands for itself."""
    for seed in (0, 1):
        folder = tmp_path / "run" / "reports" / f"x-{seed}"
        folder.mkdir(parents=True)
        run(tmp_path, seed).rename(folder / "results.json")
    both = compare_runs([tmp_path / "run"])
    assert both.compared.seeds == (0, 1)
    assert compare_runs([tmp_path / "run" / "reports" / "x-1"]).compared.seeds == (1,)
    with pytest.raises(RunError, match="contains no report"):
        compare_runs([tmp_path])


def test_a_gap_that_may_be_none_is_told_once(tmp_path: Path) -> None:
    """The ceiling is as good as the weak row."""
    rows = ("weak", "strong_sft", "w2sg_exact", "chosen_sft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RATES, "strong_sft", RATES["weak"])
        printed = said(["compare", *(str(run(tmp_path, seed, rows=rows)) for seed in range(3))])
    assert "every row 3 none: the gap may be 0 strong_sft" in printed


def test_a_row_with_fewer_seeds_than_the_rest_is_marked(tmp_path: Path) -> None:
    """Three seeds in all, but the gap of one row is known from one of them, and no named comparison has it."""
    more = (*ROWS, "chosen_sft")
    named = "evaluate.comparisons=[[w2sg_exact, weak]]"
    paths = [run(tmp_path, seed, named, rows=more if seed == 0 else ROWS) for seed in range(3)]
    runs = compare_runs(paths)
    gaps = {found.row: gap_of(found) for found in runs.compared.recovered}
    assert gaps["chosen_sft"].endswith(" [1 seed]") and "seed" not in gaps["w2sg_exact"]
    assert "Fewer than 3 seeds: nothing can be claimed of a method." in cautions(runs)
    assert f"chosen_sft 1 {gaps['chosen_sft']} strong_sft" in said(["compare", *map(str, paths)])


def test_a_named_comparison_in_few_situations_is_a_caution(tmp_path: Path) -> None:
    """The tasks that both rows have may be fewer than those of either."""
    runs = compare_runs([run(tmp_path, seed) for seed in range(3)])
    named = runs.compared.named[0]
    few = replace(named.success.situations, count=9)
    changed = replace(named, success=replace(named.success, situations=few))
    gap = replace(runs.compared.recovered[0], situations=few)
    assert "Fewer than 10 situations: no interval can be trusted." not in cautions(runs)
    for compared in (replace(runs.compared, named=(changed,)), replace(runs.compared, recovered=(gap,))):
        said_of = cautions(replace(runs, compared=compared))
        assert "Fewer than 10 situations: no interval can be trusted." in said_of


def test_a_ceiling_that_is_below_the_weak_row_is_named(tmp_path: Path) -> None:
    found = compare_runs([run(tmp_path, seed) for seed in range(3)]).compared.recovered[0]
    below = replace(found, value=None, low=None, high=None, gap=Interval(-0.3, -0.5, -0.1))
    assert gap_of(below) == "none: the ceiling is below the weak row"
    assert gap_of(replace(below, gap=Interval(-0.3, -0.5, 0.1))) == "none: the gap may be 0"


def test_the_legend_names_all_that_a_difference_needs(tmp_path: Path) -> None:
    printed = said(["compare", *(str(run(tmp_path, seed)) for seed in range(3))])
    needs = "Holm's p is below 0.05, the interval excludes 0, and there are at least 10 situations and 3 seeds"
    assert needs in printed and "only it decides" not in printed


def test_holm_decides_what_is_shown(tmp_path: Path) -> None:
    runs = compare_runs([run(tmp_path, seed) for seed in range(3)])
    named = runs.compared.named[0]
    assert is_shown(named, runs) and not is_shown(replace(named, holm=0.06), runs)
    assert verdict_of(replace(named, holm=0.06), runs).startswith(
        "No difference shown between w2sg_exact and Teacher: "
    )


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    path = str(run(tmp_path))
    with pytest.raises(TrajtreeError, match="is an input of this command"):
        CliRunner().invoke(app, ["compare", path, "--json", path], catch_exceptions=False)
