"""From trajectories to results: figures known by hand, and what must hold of any figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from trajtree.errors import DataError, TrajtreeError
from trajtree.statistics.results import METRICS, Results
from trajtree.statistics.summary import summarise, task_type, with_situations
from trajtree.trajectory import Outcome, Sampling, Step, Trajectory


def episode(
    task: str, score: float, outcome: Outcome = Outcome.COMPLETED, sample: int = 0, **metadata: str
) -> Trajectory:
    steps = (Step("o", "a", reward=score), Step("o", "b"))
    return Trajectory(
        task, sample, "policy", "env", "1", 0, Sampling(), (), steps, score, outcome, metadata=dict(metadata)
    )


def row(*scores: float) -> list[Trajectory]:
    return [episode(f"t/{index}", score) for index, score in enumerate(scores)]


def two(ours: Sequence[Trajectory], weak: Sequence[Trajectory], **options: int) -> Results:
    return summarise({"ours": ours, "weak": weak}, weak="weak", ceiling=None, primary="ours", **options)


def three(
    ours: Sequence[Trajectory], weak: Sequence[Trajectory], expert: Sequence[Trajectory], resamples: int = 200
) -> Results:
    rows = {"ours": ours, "weak": weak, "expert": expert}
    return summarise(rows, weak="weak", ceiling="expert", primary="ours", resamples=resamples)


def test_known_by_hand() -> None:
    results = three(row(1, 1, 0.5, 1), row(1, 0, 0.5, 0), row(1, 1, 0.5, 0.5))
    ours = results.row("ours")
    assert (ours.n, ours.score.value, ours.success_rate.value, ours.completion_rate) == (4, 0.875, 0.75, 1.0)
    assert ours.steps_mean == 2
    success = results.compared("ours", "weak", "success")
    assert success is not None
    # Two tasks of four won, none lost. Between -1 and 1 the mean is three quarters of the way and its variance 1/12; at
    # a difference of 0 that is 1/12 * (1/4) / (3/16) = 1/9 in Wilson's form. McNemar's exact p is 2 * (1/2)^2.
    assert (success.difference.value, success.n) == (0.5, 4)
    assert success.p_value == pytest.approx(2 * t.sf(1.5, 3))
    assert (success.practice.p_value, success.practice.test) == (0.5, "McNemar over tasks, exact")
    score = results.compared("ours", "weak", "score")
    assert score is not None
    assert (score.difference.value, score.p_value) == (0.5, pytest.approx(2 * t.sf(1.5, 3)))
    recovered = results.recovered("ours", "score")
    assert recovered is not None
    assert recovered.value == pytest.approx(0.5 / 0.375)
    assert (recovered.weak, recovered.ceiling, recovered.gap.value) == (0.375, 0.75, 0.375)


def test_success_is_not_completion() -> None:
    trajectories = [episode("a", 0.3), episode("b", 1.0), episode("c", 1.0, Outcome.TRUNCATED)]
    ours = two(trajectories, trajectories).row("ours")
    assert ours.completion_rate == pytest.approx(2 / 3)
    assert ours.success_rate.value == pytest.approx(1 / 3)


def test_best_score_counts_what_was_lost_again() -> None:
    steps = (Step("o", "a", reward=0.8), Step("o", "b", reward=-0.5))
    lost = Trajectory("t", 0, "p", "e", "1", 0, Sampling(), (), steps, 0.3, Outcome.COMPLETED)
    ours = two([lost], [lost]).row("ours")
    assert (ours.score.value, ours.best_score.value) == pytest.approx((0.3, 0.8))


def test_env_errors_are_counted_and_never_measured() -> None:
    broken = [episode("t/0", 0.0, Outcome.ENV_ERROR, sample=1), episode("t/9", 0.0, Outcome.ENV_ERROR)]
    clean, dirty = two(row(1, 0), row(0, 0)), two(row(1, 0) + broken, row(0, 0))
    ours = dirty.row("ours")
    assert (ours.faults, ours.lost, ours.outcomes["env_error"], ours.n) == (2, ("t/9",), 2, 2)
    assert ours.tasks == clean.row("ours").tasks
    assert dirty.comparisons == clean.comparisons


def test_pairs_only_tasks_that_both_rows_have() -> None:
    weak = [*row(0, 0), episode("elsewhere", 1.0)]
    compared = two(row(1, 1, 0.2), weak).compared("ours", "weak", "success")
    assert compared is not None
    assert (compared.n, compared.difference.value) == (2, 1.0)


def test_samples_of_a_task_count_as_one_task() -> None:
    many = [episode("t/0", 1.0, sample=sample) for sample in range(50)] + row(0, 0)[1:]
    few = two(row(1, 0), row(0, 0))
    more = two(many, row(0, 0))
    assert more.row("ours").success_rate == few.row("ours").success_rate
    assert more.comparisons == few.comparisons


def test_mixed_samples_average_within_the_task() -> None:
    ours = [episode("t/0", float(sample), sample=sample) for sample in (0, 1)] + row(1, 1, 1)[1:]
    compared = two(ours, row(0, 0, 0)).compared("ours", "weak", "success")
    assert compared is not None
    assert compared.difference.value == pytest.approx(2.5 / 3)
    assert compared.practice.test == "sign flips by task, mid-p"


def test_types_come_from_metadata_or_the_task() -> None:
    assert task_type(episode("boil/3", 0)) == "boil"
    assert task_type(episode("boil/3", 0, task_type="heat")) == "heat"
    assert task_type(episode("17", 0)) == "all tasks"
    by_type = two([episode("a/0", 1), episode("a/1", 0.5), episode("b/0", 0)], [*row(1), episode("a/0", 0)])
    assert {kind: (m.n, m.score) for kind, m in by_type.row("ours").by_task_type.items()} == {
        "a": (2, 0.75),
        "b": (1, 0.0),
    }


def test_no_gap_has_a_reason_instead_of_a_value() -> None:
    recovered = three(row(1, 1), row(1, 0), row(0, 1)).recovered("ours", "success")
    assert recovered is not None
    assert recovered.value is None
    assert recovered.reason is not None
    assert "'expert' (50.0) is not above the weak row 'weak' (50.0)" in recovered.reason


def test_same_seed_same_figures_in_any_order() -> None:
    ours, weak = row(0.1, 0.9, 0.4, 0.4, 1.0), row(0.3, 0.2, 0.0, 0.9, 0.1)
    assert two(ours, weak, seed=3) == two(ours[::-1], weak, seed=3)


@pytest.mark.parametrize(
    ("ours", "weak", "says"),
    [
        ([], row(1), "row 'ours' has nothing to measure: it has no trajectories"),
        (
            [episode("t", 0, Outcome.ENV_ERROR)],
            row(1),
            r"row 'ours' has nothing to measure: all trajectories \(1\)",
        ),
        ([episode("x", 0)], row(1), "rows 'ours', 'weak' share no task"),
    ],
)
def test_nothing_to_measure(ours: list[Trajectory], weak: list[Trajectory], says: str) -> None:
    with pytest.raises(TrajtreeError, match=says):
        two(ours, weak)


def test_missing_row_is_named() -> None:
    with pytest.raises(TrajtreeError, match="there is no row 'expert'; the rows are: a"):
        summarise({"a": row(1)}, weak="a", ceiling="expert", primary="a")


def block(task: str) -> str:
    """Situations of five tasks."""
    return f"block {int(task.rpartition('/')[2]) // 5}"


def test_tasks_of_a_situation_are_one_piece_of_evidence() -> None:
    """Twelve situations of five tasks, of which each is won or lost as a whole: as with one task of each."""
    ours, weak = [1.0] * 7 + [0.0] * 5, [0.0] * 10 + [1.0] * 2
    many = summarise(
        {"ours": row(*np.repeat(ours, 5)), "weak": row(*np.repeat(weak, 5))},
        weak="weak",
        ceiling="ours",
        primary="ours",
        situation=block,
    )
    few = summarise({"ours": row(*ours), "weak": row(*weak)}, weak="weak", ceiling="ours", primary="ours")
    assert (many.by_situation, few.by_situation) == (True, False)
    assert (many.row("ours").n, many.row("ours").situations.count) == (60, 12)
    for metric in METRICS:
        found, alone = many.compared("ours", "weak", metric), few.compared("ours", "weak", metric)
        assert found is not None
        assert alone is not None
        assert found.p_value == pytest.approx(alone.p_value)
        assert found.dependence.icc == pytest.approx(1)
        for one, other in ((found.difference, alone.difference), (many.row("ours").score, few.row("ours").score)):
            assert (one.low, one.value, one.high) == pytest.approx((other.low, other.value, other.high))
        assert found.practice.difference.low > found.difference.low
        assert found.practice.p_value is not None
        assert found.practice.p_value < found.p_value
        # 60 tasks, 12 situations: 5, but for the degrees of freedom.
        assert found.dependence.design_effect == pytest.approx(5 * (59 / 60) * (12 / 11))


def test_situations_can_be_told_later() -> None:
    rows = {"ours": row(*[0.0, 1.0, 0.5] * 10), "weak": row(*[0.0, 0.2] * 15), "expert": row(*[1.0, 0.9] * 15)}
    told = summarise(rows, weak="weak", ceiling="expert", primary="ours", situation=block, resamples=200)
    later = summarise(rows, weak="weak", ceiling="expert", primary="ours", resamples=200)
    assert with_situations(later, block) == told
    assert later.row("ours").by_task_type["t"].situations == 30
    assert told.row("ours").by_task_type["t"].situations == 6
    assert {task.situation for task in later.row("ours").tasks} == {f"t/{index}" for index in range(30)}


def test_a_situation_that_is_the_task_is_known() -> None:
    own = summarise({"ours": row(1, 0), "weak": row(0, 0)}, weak="weak", ceiling=None, primary="ours", situation=str)
    assert own.by_situation
    assert own.comparisons == two(row(1, 0), row(0, 0)).comparisons


def test_gap_recovered_has_an_interval_or_none() -> None:
    rows = [row(*values) for values in ([0.6, 0.4, 0.8] * 5, [0.1, 0.0, 0.3] * 5, [1.0, 0.9, 0.7] * 5)]
    found = three(*rows).recovered("ours", "score")
    assert found is not None
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    # Two tasks cannot tell whether there is a gap at all.
    open_ended = three(row(0.5, 0.6), row(0, 0.4), row(1, 0.5)).recovered("ours", "score")
    assert open_ended is not None
    assert (open_ended.low, open_ended.high) == (None, None)
    assert open_ended.value is not None


@pytest.mark.parametrize(
    ("situation", "says"),
    [
        (lambda task: 1 / 0 if task == "t/1" else "s", "the situation of task 't/1' is not known: ZeroDivisionError"),
        (lambda task: {"t/0": "s"}[task], "the situation of task 't/1' is not known: KeyError: 't/1'"),
        (lambda task: ["s"], "the situation of task 't/0' is a list; a situation is text"),
        (lambda task: None, "the situation of task 't/0' is a NoneType; a situation is text"),
    ],
)
def test_situations_that_fail_name_the_task(situation: Callable[[str], str], says: str) -> None:
    rows = {"ours": row(1, 0), "weak": row(0, 0)}
    with pytest.raises(DataError, match=says):
        summarise(rows, weak="weak", ceiling=None, primary="ours", situation=situation)
    with pytest.raises(DataError, match=says):
        with_situations(two(*rows.values()), situation)


@st.composite
def three_rows(draw: st.DrawFn) -> tuple[list[float], list[float], list[float]]:
    size = draw(st.integers(1, 10))
    values = st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.7, 1.0]), min_size=size, max_size=size)
    return draw(values), draw(values), draw(values)


@settings(max_examples=60, deadline=None)
@given(three_rows())
def test_invariants(drawn: tuple[list[float], list[float], list[float]]) -> None:
    results = three(*(row(*scores) for scores in drawn))
    for one in results.rows:
        assert one.success_rate.value <= one.completion_rate
        assert one.score.value <= one.best_score.value + 1e-12
        for interval in (one.score, one.best_score, one.success_rate):
            assert 0 <= interval.low <= interval.value <= interval.high <= 1
            assert interval.low < interval.high
    for compared in results.comparisons:
        difference = compared.difference
        assert -1 - 1e-12 <= difference.low <= difference.value <= difference.high <= 1 + 1e-12
        assert difference.low < difference.high
        assert 0 < compared.p_value <= 1
    for metric in METRICS:
        there, back = results.compared("weak", "expert", metric), results.compared("expert", "weak", metric)
        assert there is not None
        assert back is not None
        assert there.p_value == pytest.approx(back.p_value)
        assert (there.difference.value, there.difference.low, there.difference.high) == pytest.approx(
            (-back.difference.value, -back.difference.high, -back.difference.low), abs=1e-9
        )
        weak, expert = results.recovered("weak", metric), results.recovered("expert", metric)
        assert weak is not None
        assert expert is not None
        assert (weak.value is None) == (expert.value is None) == (weak.gap.value <= 1e-9)
        if weak.value is not None:
            assert (weak.value, weak.low, weak.high) == (0.0, 0.0, 0.0)
            assert (expert.value, expert.low, expert.high) == (1.0, 1.0, 1.0)
        ours = results.recovered("ours", metric)
        assert ours is not None
        if ours.low is not None:
            assert ours.value is not None
            assert ours.high is not None
            assert ours.low <= ours.value <= ours.high


@pytest.mark.parametrize("resamples", [0, -1])
def test_no_resamples(resamples: int) -> None:
    rows = {"ours": row(1, 0), "weak": row(0, 0)}
    with pytest.raises(TrajtreeError, match=f"^resamples is {resamples}; tests and bootstraps need at least 1$"):
        summarise(rows, weak="weak", ceiling=None, primary="ours", resamples=resamples)
