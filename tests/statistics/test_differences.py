"""Differences of two rows: the union of what their tasks' differences allow, and what is gained and lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from benchmarks.coverage import (
    measure_apart,
    measure_lead,
    measure_mixed,
    measure_power,
    measure_shared,
    measure_unlike,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, multinomial, nct, t

from trajtree.statistics.differences import between_tasks, estimate, gained_and_lost, interval, p_value, smallest_shown
from trajtree.statistics.layout import Layout
from trajtree.statistics.results import FEW, Interval

EQUAL = Layout.of([f"s{index // 4}" for index in range(48)], ["t"] * 48)

Floats = NDArray[np.float64]


def wilson(mean: float, variance: float, squared: float) -> tuple[float, float]:
    """The ends x of (mean - x)^2 = squared * variance * x (1 - x) / (mean (1 - mean))."""
    k = squared * variance / (mean * (1 - mean))
    low, high = sorted(np.roots([1 + k, -(2 * mean + k), mean**2]).real)
    return float(low), float(high)


def test_gains_and_losses_are_combined_as_zou_and_donner_do() -> None:
    """Tasks apart: 16 are won by the first row alone and 12 by the other; both in 9, neither in 23.

    The correlation of the means of gains and losses is that of a multinomial.
    """
    counts = (9, 16, 12, 23)
    ours, theirs = np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)
    gained, lost, squared = 16 / 60, 12 / 60, t.ppf(0.975, 59) ** 2
    rho = -gained * lost / np.sqrt(gained * (1 - gained) * lost * (1 - lost))
    (l1, u1), (l2, u2) = (wilson(p, p * (1 - p) / 59, squared) for p in (gained, lost))
    low = gained - lost - np.sqrt((gained - l1) ** 2 - 2 * rho * (gained - l1) * (u2 - lost) + (u2 - lost) ** 2)
    high = gained - lost + np.sqrt((u1 - gained) ** 2 - 2 * rho * (u1 - gained) * (lost - l2) + (lost - l2) ** 2)
    layout = Layout.apart(60)
    found = estimate(ours, theirs, layout)
    assert found.correlation == pytest.approx(rho)
    assert gained_and_lost(found, t.ppf(0.975, 59)) == pytest.approx((low, high))
    apart, union = between_tasks(found, t.ppf(0.975, 59)), interval(found)
    assert (union.low, union.high) == pytest.approx((min(low, apart[0]), max(high, apart[1])))


def test_what_both_rows_win_says_nothing_of_their_difference() -> None:
    """Situations that both win are as good as situations that neither wins."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((2, 48)) < 0.3) * 1.0
    both = np.repeat(rng.random(12) < 0.5, 4)
    ours, theirs = np.where(both, 0.0, ours), np.where(both, 0.0, theirs)
    alike = np.where(both, 1.0, ours), np.where(both, 1.0, theirs)
    assert interval(estimate(*alike, EQUAL)) == interval(estimate(ours, theirs, EQUAL))


def test_what_was_not_seen_is_a_question_of_gains_and_losses_alone() -> None:
    """Of 12 situations seven are won and five lost as a whole: so few that either allows for what was not seen."""
    found = estimate(np.repeat([1.0, 0.0], [28, 20]), np.repeat([0.0, 1.0], [28, 20]), EQUAL)
    mean, limit = found.paired.mean, t.ppf(0.975, 11)
    low, high = wilson((mean + 1) / 2, found.paired.variance / 4, limit**2)
    assert between_tasks(found, limit) == pytest.approx((2 * low - 1, 2 * high - 1))


def test_a_row_that_wins_nothing_may_win_half_of_what_was_not_seen() -> None:
    """Of 12 situations none is won, so a share t^2 / (12 + t^2) may be unseen; the other row wins one task in seven."""
    ours = np.tile([1.0, 0.0, 0.0, 0.0], 12) * (np.arange(48) < 28)
    found = estimate(ours, np.zeros(48), EQUAL)
    squared = t.ppf(0.975, found.paired.df) ** 2
    below = ours.mean() - wilson(ours.mean(), found.paired.variance, squared)[0]
    unseen = squared / (12 + squared) / 2
    assert interval(found).low == pytest.approx(ours.mean() - np.hypot(below, unseen))
    assert interval(found).low < 0 < between_tasks(found, t.ppf(0.975, found.paired.df))[0]


def test_a_row_that_wins_nothing_is_beaten_by_one_that_wins_enough() -> None:
    ours = np.tile([1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 8)
    found = estimate(ours, np.zeros(48), EQUAL)
    assert interval(found).low > 0
    assert p_value(found) < 0.05


def test_one_win_after_another_of_a_row_that_won_nothing() -> None:
    """The other row wins one task in each of 12 situations of five. The first win does not narrow the interval."""
    ours = np.tile([1.0, 0.0, 0.0, 0.0, 0.0], 12)
    layout, theirs, found = Layout.of([f"s{index // 5}" for index in range(60)], ["t"] * 60), np.zeros(60), []
    for situation in range(11):
        found.append(estimate(ours, theirs, layout))
        theirs[5 * situation + 1] = 1.0
    lows, p = [interval(one).low for one in found], [p_value(one) for one in found]
    assert all(after < before for before, after in pairwise(lows[:6]))
    assert all(after > before for before, after in pairwise(p[:6]))
    # As more situations are seen to hold single wins, they count as what they are, step by step.
    assert max(after - before for before, after in pairwise(lows)) < 0.01
    assert min(after / before for before, after in pairwise(p)) > 0.85


def test_rows_that_do_not_differ_are_no_certainty() -> None:
    """Identical rows: situations that were not seen may differ by half of their tasks, either way."""
    values = np.random.default_rng(0).integers(0, 2, 48) * 1.0
    unseen = t.ppf(0.975, 11) ** 2 / (12 + t.ppf(0.975, 11) ** 2)
    for ours, theirs in ((values, values), (np.zeros(48), np.zeros(48)), (np.ones(48), np.ones(48))):
        found = estimate(ours, theirs, EQUAL)
        shown = interval(found)
        assert (shown.low, shown.value, shown.high) == pytest.approx((-unseen / 2, 0, unseen / 2))
        assert p_value(found) == 1.0


def test_rows_that_differ_everywhere_may_differ_the_other_way_round_where_it_was_not_seen() -> None:
    """In half of the tasks: from 1 to -0.5."""
    unseen = t.ppf(0.975, 11) ** 2 / (12 + t.ppf(0.975, 11) ** 2)
    everything = interval(estimate(np.ones(48), np.zeros(48), EQUAL))
    assert (everything.low, everything.high) == pytest.approx((1 - 1.5 * unseen, 1))


@pytest.mark.parametrize("situations", [10, 12, 20])
def test_winning_everything_shows_more_than_losing_one(situations: int) -> None:
    ours, layout = np.ones(situations), Layout.apart(situations)
    everything = estimate(ours, np.zeros(situations), layout)
    ours[0] = 0
    but_one = estimate(ours, np.zeros(situations), layout)
    if situations < 20:
        assert p_value(everything) < p_value(but_one)
        assert interval(everything).low > interval(but_one).low
    assert max(p_value(everything), p_value(but_one)) < 0.004


def test_p_value_is_the_score_test_where_that_says_less() -> None:
    """At a difference of 0, the share of Wilson's form is a half, so its variance is V * 0.25 / share (1 - share)."""
    rng = np.random.default_rng(0)
    theirs = rng.uniform(0.3, 0.6, size=48)
    found = estimate(np.clip(theirs + rng.uniform(-0.45, 0.55, size=48), 0, 1), theirs, EQUAL)
    share = (found.paired.mean + 1) / 2
    score = found.paired.mean / np.sqrt(found.paired.variance * 0.25 / (share * (1 - share)))
    assert p_value(found) >= 2 * t.sf(abs(score), 11) - 1e-12
    quantile = t.isf(p_value(found) / 2, 11)
    low, _ = between_tasks(found, quantile)
    assert min(low, gained_and_lost(found, quantile)[0]) == pytest.approx(0, abs=1e-9)


def test_p_value_where_situations_do_not_differ() -> None:
    """Every one of 12 situations is won: the unseen share q^2 / (12 + q^2) reaches 0 at two thirds, where q^2 = 24."""
    assert p_value(estimate(np.ones(48), np.zeros(48), EQUAL)) == pytest.approx(2 * t.sf(np.sqrt(24), 11))


def test_a_single_situation_says_nothing_of_others() -> None:
    layout = Layout.of(["s"] * 30, ["t"] * 30)
    for ours, theirs in ((np.ones(30), np.zeros(30)), (np.repeat([1.0, 0.0], [20, 10]), np.zeros(30))):
        found = estimate(ours, theirs, layout)
        assert p_value(found) == 1.0
        assert interval(found).low <= 0 <= interval(found).high
    one = estimate(np.ones(1), np.zeros(1), Layout.apart(1))
    assert p_value(one) == 1.0
    assert interval(one).low < 0


def test_seeds_widen_both() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.uniform(0.2, 0.9, (3, 48)), rng.uniform(0.1, 0.6, (3, 48))
    moved = np.array([[0.1], [0.0], [-0.1]])
    ours, theirs = ours + moved, theirs + moved
    by_seed = ours.mean(1), theirs.mean(1)
    means = ours.mean(0), theirs.mean(0)
    single, several = estimate(*means, EQUAL), estimate(*means, EQUAL, by_seed)
    variance = np.var(by_seed[0] - by_seed[1], ddof=1) / 3
    reaches = [np.abs(np.array(gained_and_lost(one, 2.5)) - one.paired.mean) for one in (single, several)]
    assert reaches[1] ** 2 == pytest.approx(reaches[0] ** 2 + 2.5**2 * variance)
    apart = np.array([by_seed[0], by_seed[1][::-1]])
    alone = interval(estimate(*means, EQUAL))
    seeds = interval(estimate(*means, EQUAL, (apart[0], apart[1])))
    assert seeds.low < alone.low < alone.high < seeds.high
    same = np.full(3, ours.mean()), np.full(3, theirs.mean())
    assert interval(estimate(*means, EQUAL, same)) == alone
    one = np.array([ours.mean()]), np.array([theirs.mean()])
    assert interval(estimate(*means, EQUAL, one)) == alone


shares = st.sampled_from([0.0, 0.0, 0.0, 0.1, 1 / 3, 0.5, 1.0, 1.0])
tasks = st.lists(st.tuples(shares, shares, st.integers(0, 11), st.integers(0, 1)), min_size=1, max_size=24)


@settings(max_examples=150, deadline=None)
@given(tasks, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=0, max_size=3))
def test_invariants(drawn: list[tuple[float, float, int, int]], seeds: list[tuple[float, float]]) -> None:
    ours, theirs = (np.array([task[row] for task in drawn]) for row in (0, 1))
    layout = Layout.of([f"s{task[2]}" for task in drawn], [f"t{task[3]}" for task in drawn])
    by_seed = (np.array([one for one, _ in seeds]), np.array([other for _, other in seeds])) if seeds else None
    found = estimate(ours, theirs, layout, by_seed)
    ends, p = interval(found), p_value(found)
    assert -1 <= ends.low <= ends.value <= ends.high <= 1
    assert ends.low < ends.high
    for alone in (between_tasks, gained_and_lost):
        low, high = alone(found, t.ppf(0.975, found.paired.df))
        assert ends.low <= max(-1, low) + 1e-9 and min(1, high) - 1e-9 <= ends.high, "the union of both"
    # The p-value and the interval say the same.
    assert 0 < p <= 1
    assert (p < 0.05) == (not ends.low <= 0 <= ends.high)
    # Neither which row comes first nor whether successes or failures are counted matters.
    swapped = None if by_seed is None else (by_seed[1], by_seed[0])
    failed = None if by_seed is None else (1 - by_seed[1], 1 - by_seed[0])
    for other, sign in (
        (estimate(theirs, ours, layout, swapped), -1),
        (estimate(1 - theirs, 1 - ours, layout, failed), 1),
    ):
        back = interval(other)
        assert sorted((sign * back.low, sign * back.high)) == pytest.approx([ends.low, ends.high], abs=1e-9)
        assert p_value(other) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("situations", [10, 12])
def test_rows_that_are_interchangeable_are_told_apart_in_5_percent_at_most(situations: int) -> None:
    """Computed exactly, over all outcomes of situations that a row wins or loses as a whole; docs/statistics.md."""
    # [outcomes, 4] situations that the first row wins, that the other wins, that both win, and that neither does.
    counts = [one for one in np.ndindex(*[situations + 1] * 4) if sum(one) == situations]
    found = np.zeros(len(counts), dtype=bool)
    for index, (first, second, both, _) in enumerate(counts):
        ours, theirs = np.zeros((2, situations))
        ours[: first + both], theirs[first : first + both + second] = 1.0, 1.0
        ends = interval(estimate(ours, theirs, Layout.apart(situations)))
        found[index] = ends.low > 0 or ends.high < 0
    rejected = {}
    for differ in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        for agreed in (0.0, 0.25, 0.5, 0.75):
            chances = [differ / 2, differ / 2, (1 - differ) * agreed, (1 - differ) * (1 - agreed)]
            rejected[differ, agreed] = multinomial(situations, chances).pmf(counts)[found].sum()
    assert max(rejected.values()) < {10: 0.03, 12: 0.052}[situations]


def test_rows_of_unlike_habit_hold_the_truth() -> None:
    """One wins single tasks, the other whole situations, both at a rate of .1."""
    found = measure_unlike(12, "singly", 0.1, 300, seed=1)
    assert found["difference"] > 0.95
    assert found["paired alone"] < 0.88
    assert found["flips"] > 0.1


def test_rows_of_mixed_habit_hold_the_truth() -> None:
    """Single tasks, and now and then a whole situation: with single tasks alone seen, 11 to 20% were missed."""
    found = measure_mixed(30, 0.05, 0.02, 300, seed=1)
    assert found["mean"] > 0.94 and found["middle"] < 0.02
    assert found["difference"] > 0.92


def test_what_rows_have_in_common_hides_nothing() -> None:
    found = measure_shared(60, 0.05, 300, seed=1)
    assert found["difference"] > 0.92
    assert found["paired alone"] < 0.85


def test_a_row_that_never_loses_is_held_better_than_by_the_differences() -> None:
    found = measure_apart(60, "equal", "never worse", 0.05, 300, seed=1)
    assert found["difference"] > 0.96
    assert found["paired alone"] < 0.92


def test_rows_that_are_alike_lose_no_power() -> None:
    found = measure_power(20, 0.3, 0.2, 0.3, 300, seed=1)
    assert found["difference"] > 0.93
    assert found["difference shown"] > found["paired alone shown"] - 0.02


def test_two_equal_rows_are_about_as_certain_as_two_that_are_nearly_equal() -> None:
    layout, theirs = Layout.apart(12), np.full(12, 0.5)
    ours = theirs.copy()
    same = interval(estimate(ours, theirs, layout))
    ours[0] += 0.01
    nearly = interval(estimate(ours, theirs, layout))
    assert [round(100 * end, 1) for end in (same.low, same.high)] == [-14.4, 14.4]
    assert (nearly.low, nearly.high) == pytest.approx((same.low, same.high), abs=0.005)


@pytest.mark.parametrize("situations", [12, 20, 60])
@pytest.mark.parametrize("rare", [0.05, 0.2])
def test_scores_that_differ_a_little_everywhere_are_not_certain(situations: int, rare: float) -> None:
    """What was not seen may be far apart: with it counted by what was seen, up to 61% of true nulls were rejected."""
    found = measure_lead(situations, rare, 0.6, 200, seed=1)
    assert found["test"] <= 0.1
    assert found["difference"] >= 0.93


def scattered(situations: int, each: int) -> tuple[NDArray[np.float64], NDArray[np.float64], Layout]:
    """Scores that vary by .3 between tasks, of a row that is ahead by .1 on average."""
    values = np.random.default_rng(1).normal(0.1, 0.3, size=situations * each)
    layout = Layout.of([str(n) for n in range(situations)] * each, ["t"] * situations * each)
    return 0.5 + values, np.full(len(values), 0.5), layout


def test_smallest_difference() -> None:
    """More than what a t-test finds in 80% of samples, which noncentral t gives: the standard error grows with it."""
    found = estimate(*scattered(12, 4))
    low, high = between_tasks(found, t.ppf(0.975, found.paired.df))
    smallest = smallest_shown(found, Interval(found.paired.mean, low, high))
    assert smallest is not None
    limit, df = t.ppf(0.975, found.paired.df), found.paired.df

    def power(noncentral: float) -> float:
        return float(nct.sf(limit, df, noncentral) + nct.cdf(-limit, df, noncentral))

    absolute = np.abs(scattered(12, 4)[0] - 0.5).mean() - found.paired.mean**2
    larger = found.paired.variance * (1 + (smallest - smallest**2) / absolute / 2)
    assert power(smallest / np.sqrt(found.paired.variance)) > 0.85
    assert power(smallest / np.sqrt(larger)) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("situations", [1, 9, 10])
def test_nothing_that_cannot_be_shown_has_a_smallest_difference(situations: int) -> None:
    found = estimate(*scattered(situations, 2))
    assert (smallest_shown(found, interval(found)) is None) == (situations < FEW)


@pytest.mark.parametrize("situations", [10, 12, 20, 36, 48, 60, 120])
def test_the_smallest_difference_over_a_row_that_wins_nothing(situations: int) -> None:
    """It takes four situations, or five of ten, so the power is known exactly."""
    layout, nothing = Layout.apart(situations), np.zeros(situations)

    def shown(wins: int) -> bool:
        return p_value(estimate((np.arange(situations) < wins).astype(float), nothing, layout)) < 0.05

    fewest = 4 if situations > 10 else 5
    assert [wins for wins in range(situations + 1) if shown(wins)] == list(range(fewest, situations + 1))
    found = estimate(nothing, nothing, layout)
    least = smallest_shown(found, interval(found))
    assert least is not None
    assert 0.73 < binom.sf(fewest - 1, situations, least) < 0.97
