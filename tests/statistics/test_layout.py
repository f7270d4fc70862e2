"""Which tasks share situations and strata."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajtree.statistics.layout import ENOUGH, Layout


def strata(**situations: int) -> list[set[str]]:
    """The types in each stratum, of types with so many situations of two tasks."""
    tasks = [(f"{kind}-{index}", kind) for kind, count in situations.items() for index in range(count)] * 2
    layout = Layout.of([situation for situation, _ in tasks], [kind for _, kind in tasks])
    found: list[set[str]] = [set() for _ in range(layout.stratum.max() + 1)]
    for index, (_, kind) in zip(layout.situation, tasks, strict=True):
        found[layout.stratum[index]].add(kind)
    return found


def test_types_with_enough_situations_are_strata() -> None:
    assert strata(a=ENOUGH, b=ENOUGH + 3) == [{"a"}, {"b"}]


def test_types_with_few_are_one_stratum_together() -> None:
    assert strata(a=3, b=3, c=3, d=3) == [{"a", "b", "c", "d"}]
    assert strata(a=3, b=20, c=2) == [{"a", "c"}, {"b"}]
    # Too few together: they take in the next smallest.
    assert strata(a=3, b=20, c=9) == [{"a", "c"}, {"b"}]
    assert strata(a=3, b=20) == [{"a", "b"}]
    assert strata(a=1) == [{"a"}]


def test_no_strata_where_a_situation_holds_several_types() -> None:
    situations = [f"s{index}" for index in range(10)] * 2
    assert Layout.of(situations, ["a"] * 10 + ["b"] * 10).stratum.max() == 0
    assert Layout.of(situations, (["a"] * 5 + ["b"] * 5) * 2).stratum.max() == 1


def test_worth_of_unequal_situations() -> None:
    equal = Layout.of(list("aabbcc"), ["t"] * 6).situations
    assert (equal.count, equal.effective) == (3, pytest.approx(3))
    unequal = Layout.of(list("aaaab"), ["t"] * 5).situations
    assert (unequal.count, unequal.effective) == (2, pytest.approx(25 / 17))


def test_tasks_apart() -> None:
    apart, named = Layout.apart(4), Layout.of(list("abcd"), ["t"] * 4)
    for found, expected in zip((apart.situation, apart.sizes), (named.situation, named.sizes), strict=True):
        assert np.array_equal(found, expected)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=40))
def test_every_stratum_has_enough_situations_or_is_the_only_one(drawn: list[tuple[int, int]]) -> None:
    layout = Layout.of([f"{situation}/{kind}" for situation, kind in drawn], [str(kind) for _, kind in drawn])
    counts = np.bincount(layout.stratum)
    assert counts.min() >= ENOUGH or len(counts) == 1
    assert layout.sizes.sum() == len(drawn)
    assert np.bincount(layout.stratum, layout.shares) == pytest.approx(1)
