"""The guarantee in numbers: its terms, what it says, and where it says nothing."""

from __future__ import annotations

from math import exp, inf, isfinite, log, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from tests.builders import quick

from trajtree.errors import TrajtreeError
from trajtree.statistics.guarantee import Guarantee, divergence_interval, guarantee, least_constant
from trajtree.statistics.layout import Layout

pairs = st.integers(0, 10**7)
divergences = st.floats(0, 50) | st.just(inf)
deltas = st.floats(1e-6, 0.999)
returns = st.floats(0, 1)


def of(**changed: float) -> Guarantee:
    settings = {"pairs": 1000, "kl": 2.0, "constant": 1.0, "delta": 0.05, "best": 0.9, "start": 0.5} | changed
    return guarantee(**settings)  # type: ignore[arg-type]


def test_the_terms_are_those_of_the_theorem() -> None:
    found = of(constant=2.0)
    assert found.root == pytest.approx(2 * sqrt((2 + log(1000 / 0.05)) / 1000))
    assert found.bound == pytest.approx(0.9 - found.root)
    assert found.beats_start and not found.says_nothing
    assert "above the start's 0.500" in found.sentences()[0]


@quick
@given(pairs, divergences, st.floats(0.01, 100), deltas, returns, st.none() | returns)
def test_there_is_always_a_number_and_a_sentence(
    n: int, kl: float, constant: float, delta: float, best: float, start: float | None
) -> None:
    found = guarantee(pairs=n, kl=kl, constant=constant, delta=delta, best=best, start=start)
    assert found.root > 0 and found.bound == best - found.root
    assert isfinite(found.root) == (n > 0 and isfinite(kl))
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in found.sentences())
    assert found.says_nothing == found.sentences()[0].startswith("The guarantee says nothing")


@quick
@given(st.integers(1, 10**6), st.floats(0, 30), deltas)
def test_so_many_more_pairs_halve_the_root_and_one_fewer_does_not(n: int, kl: float, delta: float) -> None:
    found = of(pairs=n, kl=kl, delta=delta)
    assert found.further is not None and found.further > 0
    half = found.root / 2 * (1 + 1e-9)
    assert of(pairs=n + found.further, kl=kl, delta=delta).root <= half
    # With one pair fewer it is above the half, unless rounding decides.
    assert of(pairs=n + found.further - 1, kl=kl, delta=delta).root > half * (1 - 1e-6)


def test_no_pair_says_nothing() -> None:
    found = of(pairs=0)
    assert found.says_nothing and found.bound == -inf and found.further is None
    assert "no informative pair" in found.sentences()[0] and "reference" in found.sentences()[0]


def test_one_pair_says_nothing_but_is_a_number() -> None:
    found = of(pairs=1)
    assert found.says_nothing and found.root == pytest.approx(sqrt(2 + log(20)))
    assert "with 1 informative pair the root term is 2.24" in found.sentences()[0]


def test_what_the_reference_never_does_has_no_guarantee() -> None:
    found = of(kl=inf)
    assert found.says_nothing and "the reference never does" in found.sentences()[0]


def test_a_run_of_51_pairs_is_told_that_it_says_nothing() -> None:
    found = of(pairs=51, kl=20.0, start=0.4)
    assert (
        found.says_nothing
        and "with C = 1 it is not a theorem for a best policy that is 20.0 nats from" in found.sentences()[0]
    )
    found = of(pairs=51, kl=20.0, start=0.4, constant=found.least_constant)
    assert found.says_nothing and "51 informative pairs" in found.sentences()[0]


def test_a_root_that_exceeds_what_there_is_to_gain_does_not_beat_the_start() -> None:
    found = of(start=0.85)
    assert not found.beats_start and not found.says_nothing
    assert "does not show it above the start's 0.850" in found.sentences()[0]


def test_a_start_that_was_not_measured_is_left_out() -> None:
    found = of(start=None)  # type: ignore[arg-type]
    assert not found.beats_start and "start" not in found.sentences()[0]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"delta": nan}, "delta"),
        ({"pairs": -1}, "pairs"),
        ({"kl": -0.1}, "kl"),
        ({"kl": nan}, "kl"),
        ({"constant": 0.0}, "constant"),
        ({"constant": inf}, "constant"),
        ({"best": 1.5}, "best"),
        ({"best": nan}, "best"),
        ({"start": -0.5}, "start"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(TrajtreeError, match=named):
        of(**wrong)


def test_the_least_constant_grows_exponentially_with_half_the_divergence() -> None:
    ten, twenty = least_constant(10, 0.05), least_constant(20, 0.05)
    assert twenty / ten == pytest.approx(exp(5) * sqrt(21.9 / 41.9), rel=0.02)
    assert least_constant(1.0, 0.05) == 0 and least_constant(10, 0.2) == 0 and least_constant(log(3), 0.05) > 0
    assert least_constant(5000, 0.05) == inf
    assert "only from a C that is past counting on" in of(kl=5000.0).sentences()[0]


@quick
@given(st.floats(0, 590), st.floats(0, 10), st.floats(1e-6, 0.124))
def test_a_best_policy_that_is_farther_needs_no_smaller_constant(kl: float, more: float, delta: float) -> None:
    assert least_constant(kl + more, delta) >= least_constant(kl, delta) * (1 - 1e-9)


def test_the_mean_divergence_of_independent_tasks_has_students_interval() -> None:
    nats = np.array([18.0, 25.0, 3.0, 40.0, 11.0])
    found = divergence_interval(nats, Layout.apart(5))
    low, high = ttest_1samp(nats, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((nats.mean(), max(0.0, low), high))


def test_tasks_that_share_a_situation_are_one_piece_of_evidence() -> None:
    nats = np.repeat([18.0, 25.0, 13.0, 20.0], 5)
    together = divergence_interval(nats, Layout.of([str(i // 5) for i in range(20)], ["" for _ in range(20)]))
    apart = divergence_interval(nats, Layout.apart(20))
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


@pytest.mark.parametrize("nats", [[3.0], [3.0, 3.0, 3.0]])
def test_where_nothing_varies_the_interval_has_no_end(nats: list[float]) -> None:
    found = divergence_interval(np.array(nats), Layout.apart(len(nats)))
    assert (found.value, found.low, found.high) == (3.0, 0.0, inf)
