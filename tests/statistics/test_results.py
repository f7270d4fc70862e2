"""Looking figures up in results."""

from __future__ import annotations

import pytest

from trajtree.statistics.results import (
    METRICS,
    Comparison,
    Dependence,
    Interval,
    Pgr,
    Practice,
    Results,
    RowMetrics,
    Situations,
)

HALF = Interval(0.5, 0.4, 0.6)
ONE = Situations(1, 1.0)
NOTHING = Dependence(None, None)


def row(name: str) -> RowMetrics:
    return RowMetrics(name, 1, ONE, HALF, HALF, HALF, {}, {}, 1.0, {}, 0, 2.0, {}, (), ())


def results(ceiling: str | None) -> Results:
    practice = Practice(HALF, 0.5, "a test")
    compared = tuple(
        Comparison("ours", "weak", metric, 1, ONE, HALF, 0.5, "a test", NOTHING, None, practice) for metric in METRICS
    )
    gaps = tuple(
        Pgr("ours", metric, 0.1, 0.9, ceiling, 0.5, 0.4, 0.6, None, HALF, 1, ONE) for metric in METRICS if ceiling
    )
    return Results((row("weak"), row("ours")), compared, gaps, "weak", ceiling, "ours", 10, 0, True)


def test_rows_are_found_by_name() -> None:
    assert results(None).row("ours").name == "ours"
    with pytest.raises(KeyError, match="theirs"):
        results(None).row("theirs")


def test_comparisons_are_found_or_none() -> None:
    found = results(None).compared("ours", "weak", "score")
    assert found is not None
    assert found.metric == "score"
    assert results(None).compared("weak", "weak", "score") is None
    assert results(None).compared("ours", None, "score") is None


def test_the_gap_recovered_is_found_or_none() -> None:
    found = results("best").recovered("ours", "success")
    assert found is not None
    assert found.metric == "success"
    assert results(None).recovered("ours", "success") is None


@pytest.mark.parametrize(("ceiling", "baselines"), [(None, ("weak",)), ("best", ("weak", "best")), ("weak", ("weak",))])
def test_baselines(ceiling: str | None, baselines: tuple[str, ...]) -> None:
    assert results(ceiling).baselines == baselines


@pytest.mark.parametrize(("count", "few"), [(9, True), (10, False), (60, False)])
def test_too_few_situations(count: int, few: bool) -> None:
    assert Situations(count, 3.0).few is few
