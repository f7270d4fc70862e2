"""Cluster-robust standard errors, their degrees of freedom and intervals: against definitions and other programs.

The closed forms are compared with the definitions in matrices, and these with statsmodels, which has CR0 and CR1.
"""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.coverage import measure_spread
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import f_oneway, t, ttest_ind

from trajtree.statistics.clustered import (
    correlation,
    degrees_of_freedom,
    ends,
    estimate,
    interval,
)
from trajtree.statistics.layout import Layout
from trajtree.statistics.practice import wilson

RATE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
VALUES = np.array([0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 0.5, 0, 1, 0, 0, 1, 1, 0.25])
GROUPS = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5])
SIZES = np.bincount(GROUPS).astype(float)
POOLED = Layout(GROUPS, np.zeros(6, dtype=np.intp), SIZES)
STRATA = Layout(GROUPS, np.array([0, 0, 1, 1, 1, 1]), SIZES)
EQUAL = Layout.of([f"s{index // 4}" for index in range(48)], ["t"] * 48)

Floats = NDArray[np.float64]


def matrices(layout: Layout) -> tuple[Floats, Floats]:
    """The design of a regression on strata, and the contrast that is the mean over tasks."""
    task_stratum = layout.stratum[layout.situation]
    design = (task_stratum[:, None] == np.arange(layout.stratum.max() + 1)).astype(float)
    return design, design.mean(0)


def by_definition(values: Floats, layout: Layout, power: float, icc: float = 0.0) -> tuple[float, float]:
    """Variance of the mean by sum over clusters of X' A e e' A X, A = (I - H)^-power, and Satterthwaite's df."""
    design, contrast = matrices(layout)
    bread = np.linalg.inv(design.T @ design)
    hat = np.eye(len(values)) - design @ bread @ design.T
    same = layout.situation[:, None] == layout.situation
    working = np.eye(len(values)) * (1 - icc) + same * icc
    # [tasks, situations] what each situation's adjusted score is of the errors.
    scores = []
    for situation in range(len(layout.sizes)):
        inside = layout.situation == situation
        root, vectors = np.linalg.eigh(hat[np.ix_(inside, inside)])
        adjusted = vectors @ np.diag(root**-power) @ vectors.T
        scores.append(hat[:, inside] @ adjusted @ design[inside] @ bread @ contrast)
    made = np.array(scores).T
    crossed = made.T @ working @ made
    return float(((made.T @ values) ** 2).sum()), float(crossed.trace() ** 2 / (crossed**2).sum())


def test_the_definition_is_that_of_statsmodels() -> None:
    """statsmodels 0.15.0: OLS(values, design).fit(cov_type="cluster", cov_kwds={"groups": ..., "use_correction": ...}).

    With one column of ones, the variance of the constant without and with correction, CR0 and CR1; with a column per
    stratum, that of the mean over tasks, contrast @ cov_params() @ contrast.
    """
    cr0, _ = by_definition(VALUES, POOLED, 0)
    assert cr0 == pytest.approx(0.01079175, abs=1e-8)
    # CR1 multiplies by G/(G-1) * (N-1)/(N-K); for a mean alone that is G/(G-1).
    assert cr0 * 6 / 5 == pytest.approx(0.0129501, abs=1e-7)
    assert by_definition(VALUES, STRATA, 0)[0] == pytest.approx(0.006541138, abs=1e-9)


@pytest.mark.parametrize("layout", [POOLED, STRATA])
@pytest.mark.parametrize("icc", [0.0, 0.3, 1.0])
def test_closed_forms_are_cr2_and_its_degrees_of_freedom(layout: Layout, icc: float) -> None:
    variance, df = by_definition(VALUES, layout, 0.5, icc)
    assert estimate(VALUES, layout).variance == pytest.approx(variance)
    assert degrees_of_freedom(layout, icc) == pytest.approx(df)


def test_equal_situations_are_a_t_test_of_their_means() -> None:
    """With equal sizes CR2 is the variance of the situations' means over their number, with that less 1 as df."""
    values = np.random.default_rng(0).uniform(size=48)
    means, found = values.reshape(12, 4).mean(1), estimate(values, EQUAL)
    assert found.variance == pytest.approx(means.var(ddof=1) / 12)
    assert found.df == pytest.approx(11)


@pytest.mark.parametrize(("icc", "df"), [(0.0, 6.71), (1.0, 4.55)])
def test_unequal_sizes_leave_few_degrees_of_freedom(icc: float, df: float) -> None:
    """Twelve situations of one, four and ten tasks; docs/statistics.md quotes both."""
    sizes = [1, 4, 10] * 4
    layout = Layout.of([str(n) for n, size in enumerate(sizes) for _ in range(size)], ["t"] * sum(sizes))
    assert degrees_of_freedom(layout, icc) == pytest.approx(df, abs=0.005)


def test_tasks_apart_are_the_textbook_standard_error() -> None:
    found = estimate(VALUES, Layout.apart(18))
    assert found.variance == pytest.approx(VALUES.var(ddof=1) / 18)
    assert found.df == pytest.approx(17)
    assert found.dependence.icc is None
    assert found.dependence.design_effect == pytest.approx(1)


def test_correlation_from_the_analysis_of_variance() -> None:
    """Equal sizes m: (F - 1) / (F - 1 + m), with F from scipy."""
    values = np.random.default_rng(1).normal(size=48) + np.repeat(np.arange(12), 4) / 6
    statistic = f_oneway(*values.reshape(12, 4)).statistic
    assert correlation(values, EQUAL) == pytest.approx((statistic - 1) / (statistic - 1 + 4))


def test_correlation_by_hand() -> None:
    """Sizes 1 and 2, values 0 | 1, 1: between 2/3, within 0, so all that varies is between."""
    layout = Layout.of(["a", "b", "b"], ["t"] * 3)
    assert correlation(np.array([0.0, 1, 1]), layout) == pytest.approx(1)
    # 0 | 0, 1: between (1/3)^2 + 2 (1/6)^2 = 1/6, within 1/2, size (3 - 5/3) / 1 = 4/3.
    assert correlation(np.array([0.0, 0, 1]), layout) == pytest.approx((1 / 6 - 1 / 2) / (1 / 6 + 1 / 3 * 1 / 2))
    assert correlation(np.ones(3), layout) is None
    assert correlation(np.array([0.0, 1, 1]), Layout.apart(3)) is None


def test_the_estimated_correlation_is_that_of_the_simulation() -> None:
    rng = np.random.default_rng(0)
    layout = Layout.of([f"s{index}" for index in np.repeat(np.arange(400), np.resize([1, 3, 8], 400))], ["t"] * 1597)
    common = rng.normal(size=400)[layout.situation]
    values = np.sqrt(0.3) * common + np.sqrt(0.7) * rng.normal(size=len(layout.situation))
    assert correlation(values, layout) == pytest.approx(0.3, abs=0.05)


def test_design_effect_of_equal_situations() -> None:
    """All tasks of a situation equal: its size, but for the degrees of freedom."""
    values = np.repeat([0.0, 1.0] * 6, 4)
    found = estimate(values, EQUAL).dependence
    assert found.icc == pytest.approx(1)
    assert found.design_effect == pytest.approx(4 * (47 / 48) * (12 / 11))


def test_interval_is_wilsons_for_the_tasks_that_it_is_worth() -> None:
    """20 tasks apart, 7 hits: the variance is p (1 - p) / 19, and the quantile Student's, for Wilson's n and normal."""
    found = interval(estimate(np.array([1.0] * 7 + [0.0] * 13), Layout.apart(20)), RATE)
    squared = t.ppf(0.975, 19) ** 2
    ends = np.array([found.low, found.high])
    assert (ends - 0.35) ** 2 == pytest.approx(squared * ends * (1 - ends) / 19)
    assert (found.low, found.high) == pytest.approx(wilson(7, 20), abs=0.02)


def test_situations_that_do_not_differ_are_no_certainty() -> None:
    """Upper limit of the share of unseen situations, 12 seen: t^2 / (12 + t^2), with 11 degrees of freedom."""
    unseen = t.ppf(0.975, 11) ** 2 / (12 + t.ppf(0.975, 11) ** 2)
    none = interval(estimate(np.zeros(48), EQUAL), RATE)
    assert (none.low, none.value, none.high) == pytest.approx((0, 0, unseen))
    no_difference = interval(estimate(np.zeros(48), EQUAL), DIFFERENCE)
    assert (no_difference.low, no_difference.high) == pytest.approx((-unseen, unseen))
    # Every situation has one task in two, as a situation that is not there would not need to.
    half = interval(estimate(np.tile([0.0, 1.0], 24), EQUAL), RATE)
    assert (half.low, half.value, half.high) == pytest.approx((0.5 - unseen / 2, 0.5, 0.5 + unseen / 2))


@pytest.mark.parametrize(("tasks", "won"), [(5, 1), (5, 4), (20, 5)])
def test_a_few_single_wins_do_not_rule_out_whole_situations(tasks: int, won: int) -> None:
    """With up to five, twelve situations may have missed as large a share of others as with none."""
    values = np.zeros(12 * tasks)
    values[: won * tasks : tasks] = 1.0
    layout = Layout.of([f"s{index // tasks}" for index in range(12 * tasks)], ["t"] * 12 * tasks)
    found, unseen = estimate(values, layout), t.ppf(0.975, 11) ** 2 / (12 + t.ppf(0.975, 11) ** 2)
    shown, back = interval(found, RATE), interval(estimate(1 - values, layout), RATE)
    assert shown.high == pytest.approx(found.mean + unseen * (1 - found.mean), abs=0.004)
    assert (back.low, back.high) == pytest.approx((1 - shown.high, 1 - shown.low))


@pytest.mark.parametrize("tasks", [3, 5, 20])
def test_another_single_win_never_moves_the_end_far(tasks: int) -> None:
    """Also not the last, after which all situations are alike again."""
    layout = Layout.of([f"s{index // tasks}" for index in range(12 * tasks)], ["t"] * 12 * tasks)
    values = np.zeros(12 * tasks)
    highs = [interval(estimate(values, layout), RATE).high]
    for won in range(12):
        values[won * tasks] = 1.0
        highs.append(interval(estimate(values, layout), RATE).high)
    assert np.abs(np.diff(highs)).max() < 0.08


def test_many_single_wins_count_as_what_they_are() -> None:
    """Of 30 situations of five, with 30 wins in 20 of them: they differ as independent tasks would."""
    values = np.zeros((30, 5))
    values[:14, 0] = values[:10, 1] = values[:6, 2] = 1.0
    found = estimate(values.ravel(), Layout.of([f"s{index // 5}" for index in range(150)], ["t"] * 150))
    limit = t.ppf(0.975, found.df)
    assert found.whole.apart == 1
    assert ends(found, limit, RATE) == pytest.approx(ends(found, limit, RATE, unseen=0))


@settings(max_examples=80, deadline=None)
@given(st.integers(10, 30), st.integers(2, 8), st.lists(st.integers(0, 239), unique=True, max_size=40))
def test_one_more_success_narrows_by_little(situations: int, size: int, order: list[int]) -> None:
    """The upper end rises with every success up to the fifth, and then falls by steps, if at all."""
    values, layout = (
        np.zeros(situations * size),
        Layout.of([f"s{n // size}" for n in range(situations * size)], ["t"] * situations * size),
    )
    unseen = t.ppf(0.975, situations - 1) ** 2 / (situations + t.ppf(0.975, situations - 1) ** 2)
    last = interval(estimate(values, layout), RATE)
    for count, task in enumerate(dict.fromkeys(task % len(values) for task in order), 1):
        values[task] = 1.0
        found = interval(estimate(values, layout), RATE)
        if count <= 5:
            assert found.high > last.high
        assert found.high > last.high - unseen / 3
        last = found


def test_types_that_all_succeed_rarely_are_not_known_better_than_their_total() -> None:
    """Eight types of five situations, one of seven won: the lower end is Wilson's of 40, with the quantile of all."""
    values = np.zeros(40)
    values[[0, 5, 10, 15, 20, 25, 30]] = 1.0
    found = estimate(values, Layout.of([f"s{index}" for index in range(40)], [f"t{index // 5}" for index in range(40)]))
    p, k = values.mean(), t.ppf(0.975, found.df) ** 2 * found.variance
    k /= p * (1 - p)
    low, _ = sorted(np.roots([1 + k, -(2 * p + k), p**2]).real)
    assert interval(found, RATE).low == pytest.approx(low)


def test_intervals_grow_with_their_level() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.02, 0.1, 0.5):
        for _ in range(20):
            found = estimate((rng.random(48) < rate) * 1.0, EQUAL)
            low, high = np.array([ends(found, quantile, RATE) for quantile in np.linspace(0.1, 8, 40)]).T
            assert (np.diff(low) <= 1e-12).all() and (np.diff(high) >= -1e-12).all()


def test_a_single_situation_says_next_to_nothing() -> None:
    layout = Layout.of(["s"] * 30, ["t"] * 30)
    found = estimate(np.array([1.0] * 20 + [0.0] * 10), layout)
    alone = interval(found, RATE)
    assert alone.low < 0.01
    assert alone.high > 0.99


def test_strata_add_up_in_squares() -> None:
    """Two types of six situations; each reaches out from its mean as it would alone, or both as if they were one.

    The quantile is that of both in either case.

    The degrees of freedom are Welch's, of two samples of six.
    """
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 0.4, 24), rng.uniform(0.5, 1, 24)])
    layout = Layout.of([f"s{index // 4}" for index in range(48)], ["a"] * 24 + ["b"] * 24)
    found = estimate(values, layout)
    halves = [half.reshape(6, 4).mean(1) for half in (values[:24], values[24:])]
    assert found.df == pytest.approx(ttest_ind(*halves, equal_var=False).df)
    variances = [half.var(ddof=1) / 6 for half in halves]

    def reach(p: float, variance: float) -> float:
        """(p - x)^2 = t^2 V x (1 - x) / p (1 - p), solved for the lower end."""
        k = t.ppf(0.975, found.df) ** 2 * variance / (p * (1 - p))
        return p - float(min(np.roots([1 + k, -(2 * p + k), p**2])))

    apart = np.hypot(*[reach(half.mean(), variance) / 2 for half, variance in zip(halves, variances, strict=True)])
    together = reach(values.mean(), sum(variances) / 4)
    assert ends(found, t.ppf(0.975, found.df), RATE, unseen=0)[0] == pytest.approx(values.mean() - max(apart, together))


def test_a_stratum_that_varies_alone_lends_its_degrees_of_freedom() -> None:
    """Of eight types of five situations seven vary by rounding alone, so four degrees of freedom and not 32."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(size=5), 0.5 + 1e-5 * rng.uniform(size=35)])
    layout = Layout.of([f"s{index}" for index in range(40)], [f"t{index // 5}" for index in range(40)])
    assert estimate(values, layout).df == pytest.approx(4)


def test_intervals_of_strata_of_unlike_spread_hold_the_truth() -> None:
    """Eight types of five lopsided situations, of which one varies: 82% before each stratum had its own variance."""
    found = measure_spread(8, 5, 400, seed=1)
    assert found["mean"] > 0.91


def test_design_effect_of_strata_is_against_strata() -> None:
    """Two types of six situations, tasks apart: what types differ in is no dependence."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 0.1, 6), rng.uniform(0.9, 1, 6)])
    layout = Layout.of([f"s{index}" for index in range(12)], ["a"] * 6 + ["b"] * 6)
    assert estimate(values, layout).dependence.design_effect == pytest.approx(1)


def test_strata_that_agree_with_one_another_are_one() -> None:
    """Where nothing differs, twelve situations of two types say as much as twelve of one."""
    layout = Layout.of([f"s{index // 4}" for index in range(48)], ["a"] * 24 + ["b"] * 24)
    assert interval(estimate(np.ones(48), layout), RATE) == interval(estimate(np.ones(48), EQUAL), RATE)


def test_strata_that_agree_with_themselves_are_no_certainty() -> None:
    """One type always succeeds and one never, in six situations each: the mean is not known to be a half exactly."""
    values = np.repeat([1.0, 0.0], 24)
    layout = Layout.of([f"s{index // 4}" for index in range(48)], ["a"] * 24 + ["b"] * 24)
    found = interval(estimate(values, layout), RATE)
    unseen = t.ppf(0.975, 10) ** 2 / (6 + t.ppf(0.975, 10) ** 2)
    assert (found.low, found.high) == pytest.approx((0.5 - unseen / 2, 0.5 + unseen / 2))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.1, 1 / 3, 1.0]), st.integers(0, 5), st.integers(0, 1)),
        min_size=1,
        max_size=24,
    )
)
def test_invariants(drawn: list[tuple[float, int, int]]) -> None:
    values = np.array([value for value, _, _ in drawn])
    layout = Layout.of([f"s{situation}" for _, situation, _ in drawn], [f"t{kind}" for _, _, kind in drawn])
    found = estimate(values, layout)
    assert found.variance >= 0
    assert 1 <= found.df <= max(1, len(layout.sizes) - 1) + 1e-9
    ends = interval(found, DIFFERENCE)
    assert -1 <= ends.low <= ends.value <= ends.high <= 1
    assert ends.low < ends.high
    back = interval(estimate(-values, layout), DIFFERENCE)
    assert (back.low, back.high) == pytest.approx((-ends.high, -ends.low))
    # The order of tasks and the names of situations say nothing.
    again = Layout.of([f"x{9 - situation}" for _, situation, _ in drawn][::-1], [f"t{k}" for _, _, k in drawn][::-1])
    assert estimate(values[::-1], again).variance == pytest.approx(found.variance)
