"""What benchmarks/branching.py counts as an informative fork, where it cuts stores, and the table in the docs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.branching import fieller, in_rounds, informative, over, ratio_of, repeated, table, until
from scipy.stats import t
from tests.builders import trajectory

from trajtree.statistics.clustered import covariances
from trajtree.statistics.layout import Layout
from trajtree.trajectory import Message, Origin, Trajectory
from trajtree.trees.merge import build_tree

ROOT = Path(__file__).parents[2]
EQUAL = Layout.of([f"s{index // 4}" for index in range(48)], ["t"] * 48)


def stored(name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return figures


@pytest.mark.parametrize(
    ("name", "expected", "more_steps"),
    [
        ("branching", {0: (21, 20), 1: (32, 30), 2: (21, 23)}, 32),
        ("branching-textworldexpress", {0: (5, 6), 1: (18, 19), 2: (2, 5)}, 40),
    ],
)
def test_forks_after_as_many_steps(name: str, expected: dict[int, tuple[int, int]], more_steps: int) -> None:
    """The figures of docs/results-dev.md on what branching gives per step played."""
    steps: dict[int, tuple[int, int]] = {}
    forks: dict[int, tuple[int, int]] = {}
    for seed in stored(name)["seeds"]:
        alone, branched = seed["independent"]["curve"], seed["branching"]["curve"]
        at = alone[-1]["steps"]
        curve = [[one[key] for one in branched] for key in ("steps", "forks")]
        steps[seed["seed"]] = (at, branched[-1]["steps"])
        forks[seed["seed"]] = (alone[-1]["forks"], round(float(np.interp(at, *curve))))
    assert forks == expected
    fewer, more = (sum(each) for each in zip(*steps.values(), strict=True))
    assert round(100 * (more / fewer - 1)) == more_steps


def test_on_textworldexpress_every_tuned_model_is_at_the_ceiling() -> None:
    """The figures of docs/results-dev.md, "What is learned from each"."""
    rows = {row["name"]: row["success_rate"] for row in stored("branching-textworldexpress-dev-seed0")["rows"]}
    shown = {name: [round(100 * rate[end], 1) for end in ("value", "low", "high")] for name, rate in rows.items()}
    assert shown.pop("weak") == [91.7, 79.9, 96.8]
    tuned = ("w2sg_exact", "exact_branching", "w2sg_anchored", "anchored_branching")
    assert shown == {name: [100.0, 92.2, 100.0] for name in tuned}


def test_the_difference_of_forks_for_these_three_models() -> None:
    """The same page's ratio over situations alone, and the difference over situations and seeds."""
    figures = stored("branching-textworldexpress")
    layout = Layout.of(list(figures["situations"].values()), ["simonsays"] * len(figures["situations"]))
    ours, theirs = (
        np.array([[seed[side]["tasks"][task]["forks"] for task in figures["situations"]] for seed in figures["seeds"]])
        for side in ("branching", "independent")
    )
    assert (ours.sum(), theirs.sum()) == (50, 25)
    alone = ratio_of((ours.mean(0), theirs.mean(0)), layout, (ours.mean(1)[:1], theirs.mean(1)[:1]))
    assert alone is not None and [round(end, 1) for end in alone] == [1.4, 3.1]
    assert figures["over"]["forks"]["difference"][1] < 0


def runs(*tries: tuple[str, float]) -> list[Trajectory]:
    return [trajectory(list(actions), score, sample=i) for i, (actions, score) in enumerate(tries)]


def forks(tries: Sequence[Trajectory]) -> int:
    return informative(build_tree(tries), gap=0.2, runs=2)


def test_a_fork_counts_with_two_runs_on_each_side_and_means_apart() -> None:
    assert forks(runs(("ac", 0.0), ("bc", 1.0))) == 0, "one run each"
    assert forks(runs(("ac", 0.0), ("ac", 0.0), ("bc", 1.0))) == 0
    assert forks(runs(("ac", 0.0), ("ac", 0.0), ("bc", 1.0), ("bc", 0.0))) == 1
    assert forks(runs(("ac", 0.5), ("ac", 0.5), ("bc", 0.6), ("bc", 0.7))) == 0, "means .15 apart"
    assert forks(runs(("ac", 0.5), ("ac", 0.5), ("bc", 0.7), ("bc", 0.7))) == 1, "means .2 apart"
    assert forks(runs(("ac", 0.5), ("ac", 0.5), ("bc", 0.5), ("bc", 0.5), ("dc", 1.0))) == 0, "the third has one run"


def test_runs_that_began_below_an_option_do_not_count_for_it() -> None:
    first = runs(("abcd", 0.0), ("xbcd", 1.0), ("xbcd", 1.0))
    below = replace(trajectory(list("abce"), 0.0, sample=3), origin=Origin(0, 3))
    at_it = replace(trajectory(list("abce"), 0.0, sample=3))
    assert forks([*first, below]) == 0
    assert forks([*first, at_it]) == 1


def test_stores_are_cut_at_the_budget_in_rounds() -> None:
    def run(task: str, sample: int) -> Trajectory:
        said = Message("assistant", "four")  # a token
        return replace(trajectory(["a"], task=task, sample=sample), messages=(said,))

    stored = [run(task, sample) for task in ("s", "t") for sample in range(3)] + [run("s", 4), run("s", 3)]
    order = in_rounds(stored, 3)
    assert [(t.task, t.sample) for t in order] == [
        *[(task, sample) for sample in range(3) for task in ("s", "t")],
        *[("s", 4), ("s", 3)],
    ]
    assert len(until(order, 4)) == 4 and len(until(order, 4.5)) == 5


def test_episodes_of_a_point_are_counted_where_they_repeat_themselves() -> None:
    first = runs(("ac", 0.0), ("bc", 0.5))

    def branches(*tries: tuple[str, float], pass_of: int) -> list[Trajectory]:
        return [
            replace(trajectory(list(actions), score, sample=2 + 2 * pass_of + i), origin=Origin(0, 1))
            for i, (actions, score) in enumerate(tries)
        ]

    alike, solving = branches(("ac", 0.0), ("acd", 0.0), pass_of=0), branches(("ad", 0.0), ("ae", 1.0), pass_of=1)
    again = branches(("ad", 1.0), ("ad", 0.5), pass_of=2)
    found = repeated([*first, *alike, *solving, *again], first=2, branches=2)
    assert found == {
        "points": 3,
        "one first action": 2,
        "one score": 1,
        "first solution": 1,
        "tasks solved by every first episode": 0,
    }


def test_how_often_branches_repeated_themselves_on_textworldexpress() -> None:
    found = [seed["branching"]["repeated"] for seed in stored("branching-textworldexpress")["seeds"]]
    sums = {key: sum(one[key] for one in found) for key in ("points", "one first action", "one score")}
    assert sums == {"points": 217, "one first action": 51, "one score": 54}
    assert [one["first solution"] for one in found] == [0, 2, 0]


def test_differences_are_per_task_and_over_situations() -> None:
    def side(more: int) -> dict[str, dict[str, dict[str, int]]]:
        return {
            "tasks": {
                f"find/{i}": {"solved": i % 2, "best": 1, "pairs": 1, "forks": i % 2 + more * (i % 3)}
                for i in range(12)
            }
        }

    sides = {"independent": side(0), "branching": side(1)}
    figures = {"seeds": [{"seed": 0, **sides}], "situations": {f"find/{i}": str(i) for i in range(12)}}
    found = over(figures)["forks"]
    value, low, high = found["difference"]
    assert (found["independent"], found["branching"], found["ratio"]) == pytest.approx((0.5, 1.5, 3.0))
    assert low < value < high and value == pytest.approx(1.0) and found["ratio interval"][0] < 3
    # Student's interval of twelve differences, four each of 0, 1 and 2.
    assert (high - low) / 2 == pytest.approx(2.201 * (8 / 11 / 12) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["branching", "branching-textworldexpress"])
def test_the_table_in_the_docs_is_what_the_benchmark_prints(name: str) -> None:
    page = (ROOT / "docs" / "results-dev.md").read_text()
    assert f"<!-- {name}:begin -->\n{table(stored(name))}\n<!-- {name}:end -->" in page


def test_fieller_holds_where_the_mean_may_be_zero() -> None:
    """R is inside exactly where the mean of `gained - R * gap` is within its standard errors of zero."""
    rng = np.random.default_rng(0)
    gap = rng.normal(0.5, 0.3, size=48)
    gained = 0.7 * gap + rng.normal(0, 0.2, size=48)
    limit = t.ppf(0.975, 11)
    found = fieller(gained, gap, EQUAL, limit)
    assert found[0] < gained.mean() / gap.mean() < found[1]
    for end in found:
        left = gained - end * gap
        assert abs(left.mean()) == pytest.approx(limit * np.sqrt(covariances([left], EQUAL)[0, 0]))


def test_fieller_over_seeds_by_its_definition() -> None:
    rng = np.random.default_rng(3)
    gained, gap = rng.normal(0.3, 0.2, (3, 48)), rng.normal(0.6, 0.2, (3, 48))
    gained += np.array([[0.05], [0.0], [-0.04]])
    means, seeds, limit = (gained.mean(0), gap.mean(0)), (gained.mean(1), gap.mean(1)), 2.5
    ends = fieller(*means, EQUAL, limit, seeds)
    for end in ends:
        apart, by_seed = means[0] - end * means[1], seeds[0] - end * seeds[1]
        error = np.sqrt(covariances([apart], EQUAL)[0, 0] + by_seed.var(ddof=1) / 3)
        assert abs(apart.mean()) / error == pytest.approx(limit)
    alone = fieller(*means, EQUAL, limit)
    assert ends[0] < alone[0] < alone[1] < ends[1], "seeds that differ make it wider"
