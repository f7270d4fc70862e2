"""The field's intervals and tests: values known from elsewhere, and what must hold of any values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajtree.statistics.practice import is_binary, mcnemar, mean_interval, t_test, wilson
from trajtree.statistics.results import Interval

RATE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)

differences_ = st.lists(st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.1, 1 / 3, 1.0]), min_size=1, max_size=9)


def test_rates_have_wilsons_interval() -> None:
    half = mean_interval(np.array([1.0, 0.0] * 5), RATE, resamples=10, seed=0)
    assert (half.low, half.value, half.high) == pytest.approx((0.2366, 0.5, 0.7634), abs=1e-4)
    none = mean_interval(np.zeros(10), RATE, resamples=10, seed=0)
    assert (none.low, none.value, none.high) == pytest.approx((0.0, 0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == (half.low, half.high)


def test_equal_values_are_no_certainty() -> None:
    equal = mean_interval(np.zeros(10), DIFFERENCE, resamples=10, seed=0)
    assert (equal.low, equal.value, equal.high) == pytest.approx((-0.2775, 0.0, 0.2775), abs=1e-4)
    shifted = mean_interval(np.full(10, 0.5), DIFFERENCE, resamples=10, seed=0)
    assert (shifted.low, shifted.high) == pytest.approx((0.5 - 1.5 * 0.2775, 0.5 + 0.5 * 0.2775), abs=1e-4)


def test_the_bootstrap_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).uniform(size=400)
    found = mean_interval(values, RATE, resamples=4000, seed=0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(differences_, st.integers(0, 3))
def test_an_interval_holds_its_value_and_keeps_its_bounds(values: list[float], seed: int) -> None:
    found = mean_interval(np.array(values), DIFFERENCE, resamples=200, seed=seed)
    assert -1 - 1e-12 <= found.low <= found.value <= found.high <= 1 + 1e-12
    assert found.low < found.high
    assert found == mean_interval(np.array(values), DIFFERENCE, resamples=200, seed=seed)


def test_intervals_of_paired_successes_cover_the_truth() -> None:
    """Successes of 40 tasks whose paired difference is 0.25 in truth: about 95% of the intervals hold it."""
    rng = np.random.default_rng(0)
    held, trials = 0, 150
    for _ in range(trials):
        kinds = rng.choice(4, size=40, p=[0.35, 0.1, 0.3, 0.25])  # only one row, only the other, both, neither
        differences = np.isin(kinds, (0, 2)) * 1.0 - np.isin(kinds, (1, 2))
        found = mean_interval(differences, DIFFERENCE, resamples=300, seed=0)
        held += found.low <= 0.25 <= found.high
    assert 0.89 <= held / trials <= 0.99


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    [
        (0, 0, 1.0),
        (2, 0, 2 * 0.5**2),
        (0, 6, 2 * 0.5**6),
        (4, 1, 2 * (5 + 1) * 0.5**5),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand(wins: int, losses: int, expected: float) -> None:
    differences = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 3)
    assert mcnemar(differences) == pytest.approx(expected)


def test_t_test_over_seeds_by_hand() -> None:
    """Mean .2, standard deviation .1, three seeds; with 2 degrees of freedom the quantile is 4.3027."""
    found, p_value = t_test(np.array([0.1, 0.2, 0.3]))
    half = 4.3027 * 0.1 / np.sqrt(3)
    assert (found.low, found.value, found.high) == pytest.approx((0.2 - half, 0.2, 0.2 + half), abs=1e-4)
    assert p_value == pytest.approx(0.0742, abs=1e-4)


def test_seeds_that_agree_and_a_single_seed() -> None:
    assert t_test(np.array([0.3, 0.3])) == (Interval(0.3, 0.3, 0.3), 0.0)
    assert t_test(np.zeros(3)) == (Interval(0.0, 0.0, 0.0), 1.0)
    assert t_test(np.array([0.3])) == (Interval(0.3, -1.0, 1.0), None)


def test_is_binary() -> None:
    assert is_binary(np.array([0.0, 1.0]))
    assert not is_binary(np.array([0.0, 0.5]))
