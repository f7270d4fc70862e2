"""The interval of the gap recovered: against Fieller's definition and against trying values one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t

from trajtree.statistics.clustered import covariances, estimate, with_seeds
from trajtree.statistics.differences import Rows
from trajtree.statistics.layout import Layout
from trajtree.statistics.ratio import fieller, ratio_interval

EQUAL = Layout.of([f"s{index // 4}" for index in range(48)], ["t"] * 48)
APART = Layout.apart(48)

Floats = NDArray[np.float64]
Three = tuple[Floats, Floats, Floats]


def drawn(rates: tuple[float, float, float], seed: int = 0, layout: Layout = EQUAL) -> Three:
    """Successes of a row, the weak row and the ceiling, which agree within situations."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.15, len(layout.sizes))[layout.situation]
    ours, weak, ceiling = ((rng.random(len(hard)) < rate + hard) * 1.0 for rate in rates)
    return ours, weak, ceiling


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


def allowed(share: float, rows: Rows, limit: float) -> bool:
    """Whether the rows' intervals reach a mean of 0 of row - weak - share (ceiling - weak)."""
    weights = np.array([1.0, share - 1, -share])
    mean = weights @ [row.mean for row in rows.means]
    below, above = rows.reaches(limit)
    reach = weights * np.where((weights > 0) == (mean > 0), below, above)
    return bool(mean**2 <= reach @ rows.correlations @ reach)


@pytest.mark.parametrize(
    "rates", [(0.4, 0.1, 0.6), (0.1, 0.1, 0.7), (0.9, 0.2, 0.6), (0.1, 0.4, 0.9), (0.3, 0.0, 0.6), (0.5, 0.2, 1.5)]
)
@pytest.mark.parametrize("seeds", [False, True])
def test_the_union_is_what_trying_every_value_gives(rates: tuple[float, float, float], *, seeds: bool) -> None:
    rows = drawn(rates)
    by_seed = None
    if seeds:
        ours, weak, ceiling = (row.mean() for row in rows)
        by_seed = ours + np.array([0.03, 0, -0.03]), weak + np.array([0, 0.02, -0.02]), ceiling + np.zeros(3)
    gained, gap = rows[0] - rows[1], rows[2] - rows[1]
    share = gained.mean() / gap.mean()
    apart, whole = estimate(gained - share * gap, EQUAL), None
    if by_seed is not None:
        whole = by_seed[0] - by_seed[1], by_seed[2] - by_seed[1]
        apart = with_seeds(apart, whole[0] - share * whole[1])
    limit = float(t.ppf(0.975, apart.df))
    alone = fieller(gained, gap, EQUAL, limit, whole)
    tried = share + np.arange(-6, 6, 0.001)
    means = Rows.of(rows, EQUAL, by_seed)
    held = [one for one in tried if allowed(one, means, limit)]
    found = ratio_interval(rows, EQUAL, by_seed)
    assert found is not None
    assert found == pytest.approx((min(alone[0], *held), max(alone[1], *held)), abs=0.0011)
    assert found[0] < share < found[1]


def test_no_interval_where_the_gap_may_be_zero() -> None:
    assert ratio_interval(drawn((0.5, 0.4, 0.45)), EQUAL) is None
    assert ratio_interval((np.ones(48), np.zeros(48), np.zeros(48)), EQUAL) is None


def test_no_interval_where_the_same_share_is_recovered_everywhere() -> None:
    """No task tells the row from the ceiling or from the weak row, which does not make 1 or 0 certain."""
    _, weak, ceiling = drawn((0.5, 0.1, 0.8))
    assert ratio_interval((ceiling, weak, ceiling), EQUAL) is None
    assert ratio_interval((weak, weak, ceiling), EQUAL) is None


def test_no_end_where_only_the_rows_own_intervals_allow_no_gap() -> None:
    """A weak row that wins nothing: the tasks' differences exclude a gap of 0, half of what was not seen does not."""
    ceiling = np.tile([1.0, 0.0, 0.0, 0.0], 12) * (np.arange(48) < 28)
    ours = np.roll(ceiling, 9)
    assert np.isfinite(fieller(ours, ceiling, EQUAL, t.ppf(0.975, 11))).all()
    assert ratio_interval((ours, np.zeros(48), ceiling), EQUAL) is None


def test_a_gap_that_is_negative_has_an_interval_too() -> None:
    """Nothing but the sign of numerator and denominator changes where successes and failures change places."""
    rows = drawn((0.4, 0.1, 0.7))
    failed = (1 - rows[0], 1 - rows[1], 1 - rows[2])
    assert ratio_interval(failed, EQUAL) == pytest.approx(ratio_interval(rows, EQUAL))


shares = st.sampled_from([0.0, 0.0, 0.1, 1 / 3, 0.5, 1.0, 1.0])
tasks = st.lists(st.tuples(shares, shares, shares, st.integers(0, 13)), min_size=1, max_size=24)


@settings(max_examples=150, deadline=None)
@given(tasks, st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=0, max_size=3))
def test_invariants(drawn: list[tuple[float, ...]], seeds: list[tuple[float, ...]]) -> None:
    """No end, or two that are numbers on either side of the value."""
    ours, weak, ceiling = (np.array([task[row] for task in drawn]) for row in range(3))
    layout = Layout.of([f"s{task[3]:.0f}" for task in drawn], ["t"] * len(drawn))
    by_seed = None
    if seeds:
        means = np.array(seeds)
        by_seed = means[:, 0], means[:, 1], means[:, 2]
    found = ratio_interval((ours, weak, ceiling), layout, by_seed)
    if found is not None:
        gap = ceiling - weak
        assert np.isfinite(found).all()
        assert found[0] - 1e-9 <= (ours - weak).mean() / gap.mean() <= found[1] + 1e-9
        assert found[0] < found[1]


def test_two_ends_of_the_same_gap() -> None:
    """What is recovered of the way from the ceiling down to the weak row is 1 less what is recovered upwards."""
    ours, weak, ceiling = drawn((0.4, 0.1, 0.7), layout=APART)
    up, down = ratio_interval((ours, weak, ceiling), APART), ratio_interval((ours, ceiling, weak), APART)
    assert up is not None and down is not None
    assert down == pytest.approx((1 - up[1], 1 - up[0]))
