"""The paired test: against all flips, scipy and McNemar, and what must hold of any differences."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from operator import mul

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test, ttest_1samp

from trajtree.statistics import paired
from trajtree.statistics.layout import Layout
from trajtree.statistics.paired import sign_flips
from trajtree.statistics.practice import mcnemar

differences_ = st.lists(
    st.tuples(st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.1, 1 / 3, 1.0]), st.integers(0, 8)), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(differences_)
def test_against_all_flips_of_situations(drawn: list[tuple[float, int]]) -> None:
    """Of all flips, the share whose sum is farther from zero, and half of those as far; 9 situations have 512."""
    differences = np.array([value for value, _ in drawn])
    layout = Layout.of([str(situation) for _, situation in drawn], ["t"] * len(drawn))
    # As fractions, in which equal sums are equal.
    exact = [(Fraction(value).limit_denominator(30), situation) for value, situation in drawn]
    sums = [sum(value for value, one in exact if one == situation) for situation in {one for _, one in drawn}]
    flipped = [abs(sum(map(mul, signs, sums))) for signs in product((-1, 1), repeat=len(sums))]
    observed = abs(sum(sums))
    expected = np.mean([(one > observed) + (one == observed) / 2 for one in flipped]) if any(sums) else 1.0
    found, name = sign_flips(differences, layout, resamples=512, seed=0)
    assert found == pytest.approx(expected)
    assert name == "sign flips by situation, mid-p, exact"
    assert sign_flips(-differences, layout, resamples=512, seed=0)[0] == pytest.approx(expected)


def test_the_plain_p_value_of_scipy_counts_ties_in_full() -> None:
    """Distinct differences tie with their own mirror image alone: two flips, of which one is counted."""
    differences = np.array([0.11, 0.23, -0.05, 0.41, 0.37, 0.02, 0.13])
    full = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=128).pvalue
    found, _ = sign_flips(differences, Layout.apart(7), resamples=128, seed=0)
    assert found == pytest.approx(full - 1 / 128)


def test_successes_of_tasks_apart_are_mcnemars_mid_p() -> None:
    """7 won, 1 lost: the exact p is 2 * (1 + 8) / 2^8, of which the tied 2 * 8 / 2^8 counts by half."""
    differences = np.array([1.0] * 7 + [-1.0] + [0.0] * 5)
    assert mcnemar(differences) == pytest.approx(18 / 256)
    assert sign_flips(differences, Layout.apart(13), resamples=256, seed=0)[0] == pytest.approx(10 / 256)


def test_one_habit_that_moves_a_situation_is_one_difference() -> None:
    """Thirty tasks won in one situation show nothing, thirty in thirty situations do."""
    differences = np.ones(30)
    assert sign_flips(differences, Layout.of(["s"] * 30, ["t"] * 30), resamples=1000, seed=0)[0] == 0.5
    assert sign_flips(differences, Layout.apart(30), resamples=1000, seed=0)[0] < 0.001


def test_sums_that_differ_by_rounding_are_equal() -> None:
    """Of the flips of .1, 1, -.5, -.5, -.1 none is nearer to zero than what was observed; 10 of 32 are as near."""
    differences = np.array([0.1, 1.0, -0.5, -0.5, -0.1])
    sums = [round(float(np.dot(signs, differences)), 9) for signs in product((-1, 1), repeat=5)]
    expected = 1 - sum(one == 0 for one in sums) / 2 / 32
    assert sign_flips(differences, Layout.apart(5), resamples=512, seed=0)[0] == expected


def test_nothing_that_differs() -> None:
    assert sign_flips(np.zeros(4), Layout.apart(4), resamples=100, seed=0)[0] == 1.0
    # Won and lost within one situation.
    assert sign_flips(np.array([1.0, -1.0]), Layout.of(["s", "s"], ["t", "t"]), resamples=100, seed=0)[0] == 1.0


def test_many_situations_are_drawn() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, size=40)
    found, name = sign_flips(differences, Layout.apart(40), resamples=2000, seed=0)
    assert name == "sign flips by situation, mid-p, 2,000 draws"
    assert found == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.02)
    assert found == sign_flips(differences, Layout.apart(40), resamples=2000, seed=0)[0]
    assert sign_flips(np.full(40, 0.5), Layout.apart(40), resamples=2000, seed=0)[0] == pytest.approx(0.5 / 2001)


def test_thousands_of_situations_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs are drawn in parts, which say the same as drawn at once."""
    differences = np.random.default_rng(0).normal(0.2, 1, size=60)
    at_once, _ = sign_flips(differences, Layout.apart(60), resamples=1000, seed=0)
    monkeypatch.setattr(paired, "_CELLS", 60 * 64)
    assert sign_flips(differences, Layout.apart(60), resamples=1000, seed=0)[0] == pytest.approx(at_once, abs=0.03)


def test_the_mid_p_value_is_not_exact() -> None:
    """Its size is largest for 16 equal situations, of all numbers up to 30; on average over these it is below 5%."""
    sizes = {}
    for n in range(5, 31):
        farther = [binom.sf(wins, n, 0.5) * 2 + binom.pmf(wins, n, 0.5) for wins in range(n // 2 + 1, n + 1)]
        wins = n // 2 + 1 + next(index for index, p in enumerate(farther) if p <= 0.05)
        sizes[n] = 2 * binom.sf(wins - 1, n, 0.5)
        if n <= 16:
            # The test rejects from so many wins on.
            p = [
                sign_flips(np.repeat([1.0, -1.0], [won, n - won]), Layout.apart(n), resamples=2**16, seed=0)[0]
                for won in (wins - 1, wins)
            ]
            assert p[0] > 0.05 >= p[1]
    assert max(sizes, key=sizes.__getitem__) == 16
    assert sizes[16] == pytest.approx(0.077, abs=0.0005)
    assert 0.04 < np.mean(list(sizes.values())) < 0.05
