"""The interval of the gap recovered: against trying values one by one, and against the intervals of differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t

from trajtree.statistics import clustered
from trajtree.statistics.differences import between_tasks, interval
from trajtree.statistics.differences import estimate as difference
from trajtree.statistics.layout import Layout
from trajtree.statistics.ratio import ratio_interval

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


@pytest.mark.parametrize(
    "rates", [(0.4, 0.1, 0.6), (0.1, 0.1, 0.7), (0.9, 0.2, 0.6), (0.1, 0.4, 0.9), (0.3, 0.0, 0.6), (0.5, 0.2, 1.5)]
)
@pytest.mark.parametrize("seeds", [False, True])
def test_the_ends_are_what_trying_every_value_gives(rates: tuple[float, float, float], *, seeds: bool) -> None:
    """R is inside where the interval of row - weak - R (ceiling - weak), as a difference within [-1, 1], holds 0."""
    rows = drawn(rates)
    by_seed = None
    if seeds:
        ours, weak, ceiling = (row.mean() for row in rows)
        by_seed = ours + np.array([0.03, 0, -0.03]), weak + np.array([0, 0.02, -0.02]), ceiling + np.zeros(3)
    found = ratio_interval(rows, EQUAL, by_seed)
    assert found is not None
    assert found[0] < (rows[0] - rows[1]).mean() / (rows[2] - rows[1]).mean() < found[1]

    def holds(share: float) -> bool:
        weights = np.array([1.0, share - 1, -share])
        weights /= np.maximum(weights, 0).sum()
        sides = [(w, np.maximum(w, 0)) for w in (weights, -weights)]
        ours, theirs = (sum(one * row for one, row in zip(positive, rows, strict=True)) for _, positive in sides)
        seeds = by_seed and tuple(sum(o * r for o, r in zip(positive, by_seed, strict=True)) for _, positive in sides)
        ends = interval(difference(ours, theirs, EQUAL, seeds))
        return ends.low <= 0 <= ends.high

    for end, outwards in zip(found, (-1, 1), strict=True):
        assert holds(end - outwards * 1e-4) and not holds(end + outwards * 1e-4)


def test_no_interval_where_the_gap_may_be_zero() -> None:
    assert ratio_interval(drawn((0.5, 0.4, 0.45)), EQUAL) is None
    assert ratio_interval((np.ones(48), np.zeros(48), np.zeros(48)), EQUAL) is None


def test_no_interval_where_the_same_share_is_recovered_everywhere() -> None:
    """No task tells the row from the ceiling or from the weak row, which does not make 1 or 0 certain."""
    _, weak, ceiling = drawn((0.5, 0.1, 0.8))
    assert ratio_interval((ceiling, weak, ceiling), EQUAL) is None
    assert ratio_interval((weak, weak, ceiling), EQUAL) is None


def test_no_end_where_only_what_was_not_seen_allows_no_gap() -> None:
    """A weak row that wins nothing: the tasks' differences exclude a gap of 0, half of what was not seen does not."""
    ceiling = np.tile([1.0, 0.0, 0.0, 0.0], 12) * (np.arange(48) < 28)
    found = difference(ceiling, np.zeros(48), EQUAL)
    assert between_tasks(found, t.ppf(0.975, found.paired.df))[0] > 0
    assert ratio_interval((np.roll(ceiling, 9), np.zeros(48), ceiling), EQUAL) is None


def test_a_ceiling_below_the_weak_row_has_no_gap_to_recover() -> None:
    ours, weak, ceiling = drawn((0.4, 0.1, 0.7))
    assert ratio_interval((ours, weak, ceiling), EQUAL) is not None
    assert ratio_interval((ours, ceiling, weak), EQUAL) is None


def test_successes_and_failures_change_places() -> None:
    """What failures recover of the way down from the ceiling is 1 less what successes do of the way up to it."""
    ours, weak, ceiling = drawn((0.4, 0.1, 0.7), layout=APART)
    up, down = ratio_interval((ours, weak, ceiling), APART), ratio_interval((1 - ours, 1 - ceiling, 1 - weak), APART)
    assert up is not None and down is not None
    assert down == pytest.approx((1 - up[1], 1 - up[0]), abs=1e-5)


shares = st.sampled_from([0.0, 0.0, 0.1, 1 / 3, 0.5, 1.0, 1.0])
tasks = st.lists(st.tuples(shares, shares, shares, st.integers(0, 13), st.integers(0, 1)), min_size=1, max_size=24)


@settings(max_examples=60, deadline=None)
@given(
    drawn=tasks,
    seeds=st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=0, max_size=3),
    spread=st.sampled_from([1, 0.3]),
)
def test_ends_say_what_the_differences_say(
    drawn: list[tuple[float, ...]], seeds: list[tuple[float, ...]], spread: float
) -> None:
    """There are ends exactly where the gap's interval is above 0; 0 and 1 are inside where those differences hold 0."""
    ours, weak, ceiling = (np.array([task[row] for task in drawn]) for row in range(3))
    # With little spread most gaps are shown, else few.
    weak, ceiling = weak * spread, 1 - spread * (1 - ceiling)
    layout = Layout.of([f"s{task[3]:.0f}" for task in drawn], [f"t{task[4]:.0f}" for task in drawn])
    by_seed = None
    if seeds:
        means = np.array(seeds) * 0.05
        by_seed = means[:, 0], means[:, 1], means[:, 2]
    found = ratio_interval((ours, weak, ceiling), layout, by_seed)
    several = (lambda a, b: (by_seed[a], by_seed[b])) if by_seed is not None else (lambda a, b: None)
    gap = interval(difference(ceiling, weak, layout, several(2, 1)))
    if gap.low <= 0:
        assert found is None
        return
    value = (ours - weak).mean() / (ceiling - weak).mean()
    if found is None:
        assert clustered.estimate(ours - weak - value * (ceiling - weak), layout).variance == 0
        return
    assert np.isfinite(found).all()
    assert found[0] - 1e-9 <= value <= found[1] + 1e-9
    assert found[0] < found[1]
    for place, shown in (
        (0, interval(difference(ours, weak, layout, several(0, 1)))),
        (1, interval(difference(ours, ceiling, layout, several(0, 2)))),
    ):
        if min(abs(shown.low), abs(shown.high)) > 1e-5:
            assert (found[0] - 1e-5 <= place <= found[1] + 1e-5) == (shown.low <= 0 <= shown.high)
