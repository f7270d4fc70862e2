"""Comparisons over seeds: situations and seeds are crossed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t, ttest_1samp
from tests.statistics.test_summary import block, row

from trajtree.errors import TrajtreeError
from trajtree.statistics.clustered import ends, estimate, with_seeds
from trajtree.statistics.layout import Layout
from trajtree.statistics.results import Results
from trajtree.statistics.seeds import over_seeds
from trajtree.statistics.summary import summarise


def results(ours: NDArray[np.float64], weak: NDArray[np.float64], seed: int = 0) -> Results:
    rows = {"ours": row(*ours), "weak": row(*weak)}
    return summarise(rows, weak="weak", ceiling=None, primary="ours", situation=block, resamples=4096, seed=seed)


def drawn(seeds: int) -> list[Results]:
    rng = np.random.default_rng(1)
    common = np.repeat(rng.uniform(0, 0.3, 12), 5)
    return [
        results(0.4 + common + rng.uniform(0, 0.3) * np.ones(60), 0.3 * rng.uniform(size=60), s) for s in range(seeds)
    ]


def test_one_seed_is_the_comparison_of_that_seed() -> None:
    (one,) = drawn(1)
    alone, found = one.compared("ours", "weak", "score"), over_seeds([one], "ours", "weak", "score")
    assert alone is not None
    assert (found.difference, found.these_models) == (alone.difference, alone.difference)
    assert (found.p_value, found.these_models_p) == (alone.p_value, alone.p_value)
    assert found.dependence == alone.dependence
    assert found.practice.p_value is None
    assert found.by_seed == pytest.approx([alone.difference.value])


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_no_difference_could_have_shown_with_fewer_than_three_seeds(seeds: int) -> None:
    found = drawn(seeds)
    assert (over_seeds(found, "ours", "weak", "score").smallest is not None) == (seeds >= 3)
    unknown = [replace(one, by_situation=False) for one in found]
    assert over_seeds(unknown, "ours", "weak", "score").smallest is None


def test_variances_of_situations_and_seeds_add_up() -> None:
    """Equal sizes: of the means of situations with 11 degrees of freedom, and of seeds with 2."""
    three = drawn(3)
    found = over_seeds(three, "ours", "weak", "score")
    differences = np.array(
        [
            [ours.score - weak.score for ours, weak in zip(one.row("ours").tasks, one.row("weak").tasks, strict=True)]
            for one in three
        ]
    )
    order = np.argsort([block(task.task) for task in three[0].row("ours").tasks], kind="stable")
    by_situation = differences.mean(0)[order].reshape(12, 5).mean(1)
    a, b = by_situation.var(ddof=1) / 12, differences.mean(1).var(ddof=1) / 3
    df = (a + b) ** 2 / (a**2 / 11 + b**2 / 2)
    # By Wilson's form the situations reach below the mean by `mean - low`, where low solves the square.
    squared, mean = t.ppf(0.975, df) ** 2, differences.mean()
    share = (mean + 1) / 2
    k = squared * a / 4 / (share * (1 - share))
    low = 2 * min(np.roots([1 + k, -(2 * share + k), share**2])) - 1
    layout = Layout.of([f"{index // 5}" for index in range(60)], ["t"] * 60)
    alone = with_seeds(estimate(differences.mean(0)[order], layout), differences.mean(1))
    assert alone.df == pytest.approx(df)
    expected = mean - np.sqrt((mean - low) ** 2 + squared * b)
    assert ends(alone, t.ppf(0.975, df), (-1.0, 1.0), unseen=0)[0] == pytest.approx(expected)
    # Nothing is lost anywhere, so what was not seen reaches further.
    assert found.difference.low < expected
    assert found.by_seed == pytest.approx(differences.mean(1))
    assert found.practice.p_value == pytest.approx(ttest_1samp(differences.mean(1), 0).pvalue)
    assert found.these_models.low > found.difference.low
    assert (found.n, found.situations.count) == (60, 12)


def test_seeds_that_agree_leave_what_situations_say() -> None:
    one = drawn(1)[0]
    found = over_seeds([one, one], "ours", "weak", "score")
    assert found.difference == found.these_models
    assert found.practice.difference.low == found.practice.difference.high


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_p_is_below_five_percent_exactly_where_the_interval_excludes_zero(shift: float) -> None:
    rng = np.random.default_rng(2)
    common = np.repeat(rng.uniform(-0.4, 0.4, 12), 5)
    three = [results(np.clip(0.5 + shift / 2 + common + rng.normal(0, 0.05), 0, 1), np.full(60, 0.5)) for _ in range(3)]
    found = over_seeds(three, "ours", "weak", "score")
    assert (found.p_value < 0.05) == (not found.difference.low <= 0 <= found.difference.high)


def test_a_row_that_wins_everything_is_better() -> None:
    """Twelve situations without a variance: the unseen share q^2 / (12 + q^2) is two thirds at q^2 = 24."""
    found = over_seeds([results(np.ones(60), np.zeros(60), s) for s in range(3)], "ours", "weak", "success")
    assert found.difference.low > 0
    assert found.p_value == pytest.approx(2 * t.sf(np.sqrt(24), 11))


def test_seeds_do_not_make_up_for_situations() -> None:
    """Five seeds that play a single situation say nothing of others, whether or not the seeds differ."""
    five = [results(np.array([1.0] * wins + [0.0] * (5 - wins)), np.zeros(5)) for wins in (5, 4, 5, 4, 5)]
    found = over_seeds(five, "ours", "weak", "success")
    assert found.situations.count == 1
    assert found.difference.low < 0
    assert found.p_value == 1.0


def test_degrees_of_freedom_where_situations_do_not_differ() -> None:
    """With each seed all situations are alike, in half or in two fifths of their tasks: the seeds' 2 or theirs, 11."""
    seeds = [0.5, 0.4, 0.5]
    found = estimate(np.full(60, np.mean(seeds)), Layout.of([f"s{i // 5}" for i in range(60)], ["t"] * 60))
    assert with_seeds(found, np.array(seeds)).df == 2
    alone = estimate(np.full(5, np.mean(seeds)), Layout.of(["s"] * 5, ["t"] * 5))
    assert with_seeds(alone, np.array(seeds)).df == 1


@pytest.mark.parametrize("last", [True, False])
def test_results_must_agree_on_situations(last: bool) -> None:
    """Those of one that does not know them are its tasks."""
    known = drawn(2)
    rows = {"ours": row(*np.ones(60)), "weak": row(*np.zeros(60))}
    unknown = summarise(rows, weak="weak", ceiling=None, primary="ours", resamples=10)
    with pytest.raises(
        TrajtreeError, match=r"^task '.*' is in situation '.*' with seed 0 and in '.*' with seed [01]: "
    ):
        over_seeds([*known, unknown] if last else [unknown, *known], "ours", "weak", "success")


def test_only_tasks_that_every_seed_has() -> None:
    one, two = drawn(2)
    fewer = results(np.ones(10), np.zeros(10))
    found = over_seeds([one, two, fewer], "ours", "weak", "score")
    assert (found.n, found.situations.count) == (10, 2)


def test_nothing_to_compare() -> None:
    one = drawn(1)[0]
    with pytest.raises(TrajtreeError, match="row 'theirs' is not in the results of every seed"):
        over_seeds([one], "ours", "theirs", "score")
    with pytest.raises(TrajtreeError, match="row 'ours' is not in the results of every seed"):
        over_seeds([], "ours", "weak", "score")
    rows = {"ours": row(1, 0), "weak": row(0, 0)}
    renamed = {name: [replace(one, task=f"x/{one.task}") for one in played] for name, played in rows.items()}
    other = summarise(renamed, weak="weak", ceiling=None, primary="ours")
    with pytest.raises(TrajtreeError, match="share no task that has usable episodes with every seed"):
        over_seeds([one, other], "ours", "weak", "score")
