"""Runs put together: Holm's correction, rows with fewer seeds, and the gap recovered over seeds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.statistics.test_summary import block, row

from trajtree.errors import TrajtreeError
from trajtree.statistics.comparing import compare, holm
from trajtree.statistics.results import Results
from trajtree.statistics.seeds import over_seeds
from trajtree.statistics.summary import summarise

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def by_closure(p_values: list[float]) -> list[float]:
    """Holm's method by its other definition: a null falls where Bonferroni's test rejects all families that hold it."""
    numbers = range(len(p_values))
    families = [family for size in numbers for family in combinations(numbers, size + 1)]
    bonferroni = {family: len(family) * min(p_values[i] for i in family) for family in families}
    return [min(1.0, max(p for family, p in bonferroni.items() if i in family)) for i in numbers]


@settings(deadline=None)
@given(probabilities)
def test_holm_is_the_closed_test_by_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(by_closure(p_values))


def test_holm_known_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def results(seed: int, *, without: str = "", shift: float = 0.0) -> Results:
    """Twelve situations of five tasks; rows are better by tenths, noise differs with the seed."""
    rng = np.random.default_rng(100 + seed)
    hard = np.repeat(np.random.default_rng(7).uniform(-0.2, 0.2, 12), 5)
    rates = {"weak": 0.2, "ours": 0.5 + shift, "other": 0.45, "expert": 0.8}
    rows = {
        name: row(*(rng.uniform(size=60) < rate + hard + rng.normal(0, 0.03)).astype(float))
        for name, rate in rates.items()
    }
    kept = {name: played for name, played in rows.items() if name != without}
    return summarise(kept, weak="weak", ceiling=None, primary="weak", situation=block, resamples=500, seed=seed)


FAMILY = [("ours", "weak"), ("ours", "other"), ("ours", "expert")]


def test_the_family_is_corrected_together_and_in_its_order() -> None:
    three = [results(seed) for seed in range(3)]
    found = compare(three, weak="weak", family=FAMILY, ceilings=["expert"])
    tests = [over_seeds(three, *rows, "success") for rows in FAMILY]
    assert [named.success for named in found.named] == tests
    assert [named.holm for named in found.named] == holm([test.p_value for test in tests])
    assert found.named[0].reward == over_seeds(three, "ours", "weak", "best_score")
    assert found.named[0].completed.difference.value == 0, "every episode is completed"
    assert {kind: one.n for kind, one in found.named[0].by_task_type.items()} == {"t": 60}


def test_comparisons_that_were_not_measured_still_count() -> None:
    three = [results(seed) for seed in range(3)]
    found = compare(three, weak="weak", family=[("ours", "weak"), ("none", "weak")], ceilings=["none"])
    assert found.missing == (("none", "weak"),)
    assert found.named[0].holm == pytest.approx(min(1.0, 2 * found.named[0].success.p_value))
    assert found.recovered == ()


def test_a_row_may_have_fewer_seeds() -> None:
    runs = [results(0), results(1), results(2, without="other")]
    found = compare(runs, weak="weak", family=FAMILY, ceilings=[])
    assert [named.seeds for named in found.named] == [(0, 1, 2), (0, 1), (0, 1, 2)]
    by_name = {row.row: row for row in found.rows}
    assert by_name["other"].seeds == (0, 1) and by_name["ours"].seeds == (0, 1, 2)
    assert by_name["other"].success.value == pytest.approx(np.mean(by_name["other"].success_by_seed))
    assert by_name["other"].by_task_type["t"].success == pytest.approx(by_name["other"].success.value)


def test_what_cannot_be_compared() -> None:
    one = results(0)
    for runs, family, why in (
        ([], FAMILY, "different seeds"),
        ([one, one], FAMILY, r"different seeds are compared; these have the seeds \[0, 0\]"),
        ([one], [], "no comparison is named"),
        ([one], [FAMILY[0], FAMILY[0]], "named twice"),
    ):
        with pytest.raises(TrajtreeError, match=why):
            compare(runs, weak="weak", family=family, ceilings=[])


def test_the_gap_recovered_over_seeds() -> None:
    three = [results(seed) for seed in range(3)]
    found = compare(three, weak="weak", family=FAMILY, ceilings=["expert"])
    assert {one.row for one in found.recovered} == {"ours", "other"}
    ours = next(one for one in found.recovered if one.row == "ours")
    means = {one.row: one.success.value for one in found.rows}
    assert ours.gap.value == pytest.approx(means["expert"] - means["weak"])
    assert ours.value == pytest.approx((means["ours"] - means["weak"]) / ours.gap.value)
    assert ours.low is not None and ours.high is not None and ours.low < ours.value < ours.high


def test_no_gap_is_recovered_where_there_may_be_none() -> None:
    """The ceiling is the other row, which is hardly above ours."""
    three = [results(seed, shift=-0.05) for seed in range(3)]
    found = compare(three, weak="ours", family=FAMILY, ceilings=["other"])
    assert found.recovered and all(
        one.gap.low <= 0 and one.value is None and one.low is None for one in found.recovered
    )
