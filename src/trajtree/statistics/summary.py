"""Metrics of evaluated rows: rates, paired comparisons and the performance gap recovered.

A row is one policy's trajectories on the evaluation tasks. The task is the unit of every figure: the episodes
of one task are averaged first, and intervals and tests resample tasks, so more samples of the same task never
make a result look more certain. An episode lost to a
fault of the environment or the engine says nothing about the policy: it is counted, reported and
left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import TrajtreeError
from trajtree.trajectory import SCORE_TOLERANCE, Outcome, Trajectory

Metric = Literal["success", "score"]
METRICS: tuple[Metric, ...] = ("success", "score")

_Array = NDArray[np.float64]
_CELLS = 4_000_000  # resampled values held in memory at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over tasks and its 95% confidence interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """One task of a row: means over its `episodes`, those lost to faults not among them."""

    task: str
    task_type: str
    episodes: int
    score: float
    best_score: float
    success: float
    completed: float
    steps: float


@dataclass(frozen=True, slots=True)
class TypeMetrics:
    """Means over the `n` tasks of one type."""

    n: int
    score: float
    success: float


@dataclass(frozen=True, slots=True)
class RowMetrics:
    """What one row did.

    `n` counts tasks with at least one usable episode. `success_rate` (completed with the full score) and
    `completion_rate` (the environment said that the episode ended) are different figures. `outcomes` counts
    all episodes, `faults` those that say nothing about the policy (env_error, engine_error); `lost` names the tasks
    that have nothing else.
    """

    name: str
    n: int
    score: Interval
    best_score: Interval
    success_rate: Interval
    completion_rate: float
    outcomes: dict[str, int]
    faults: int
    steps_mean: float
    by_task_type: dict[str, TypeMetrics]
    tasks: tuple[TaskMetrics, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`row` minus `against`, paired over the `n` tasks that both have.

    `p_value` is two-sided and not corrected for the number of comparisons; `test` names the test.
    """

    row: str
    against: str
    metric: Metric
    n: int
    difference: Interval
    p_value: float
    test: str


@dataclass(frozen=True, slots=True)
class Pgr:
    """Performance gap recovered, (row - weak) / (ceiling - weak), over the `n` tasks that all three have.

    `weak` and `ceiling` are the means of those two rows, `gap` is the denominator. `value` is None when there
    is no gap to recover, and `reason` then says so. It may be below 0 or above 1.
    """

    row: str
    metric: Metric
    weak: float
    ceiling: float
    ceiling_row: str
    value: float | None
    reason: str | None
    gap: Interval
    n: int


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured. `weak`, `ceiling` and `primary` name rows; the primary one gets the verdict."""

    rows: tuple[RowMetrics, ...]
    comparisons: tuple[Comparison, ...]
    pgr: tuple[Pgr, ...]
    weak: str
    ceiling: str | None
    primary: str
    resamples: int
    seed: int

    @property
    def baselines(self) -> tuple[str, ...]:
        """The rows that all others are compared with: the weak one and, if there is one, the ceiling."""
        return tuple(dict.fromkeys(name for name in (self.weak, self.ceiling) if name is not None))

    def row(self, name: str) -> RowMetrics:
        """Return the row of that name; KeyError when there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def compared(self, row: str, against: str | None, metric: Metric) -> Comparison | None:
        """Return that comparison, or None: a row is not compared with itself."""
        wanted = (row, against, metric)
        return next((c for c in self.comparisons if (c.row, c.against, c.metric) == wanted), None)

    def recovered(self, row: str, metric: Metric) -> Pgr | None:
        """Return the gap recovered by the row, or None when there is no ceiling row."""
        return next((p for p in self.pgr if (p.row, p.metric) == (row, metric)), None)


def summarise(
    rows: Mapping[str, Sequence[Trajectory]],
    *,
    weak: str,
    ceiling: str | None,
    primary: str,
    resamples: int = 10_000,
    seed: int = 0,
) -> Results:
    """Measure every row, compare each with the weak and the ceiling row, and compute the gap recovered.

    Args:
        rows: name -> the row's trajectories, any number of samples a task.
        weak: the row that did the teaching.
        ceiling: the row trained on expert data, the denominator of the PGR; None when there is none.
        primary: the row that the experiment is about.
        resamples: resamples of each bootstrap and of each permutation test.
        seed: seed of the resampling; the same seed gives the same figures whatever the order of the rows.

    Raises:
        TrajtreeError: a named row is missing, a row has no usable trajectory, or two rows share no task.
    """
    for name in (weak, primary, *([] if ceiling is None else [ceiling])):
        if name not in rows:
            raise TrajtreeError(f"there is no row {name!r}; the rows are: {', '.join(rows) or 'none'}")
    measured = {name: _measure(name, trajectories, resamples, seed) for name, trajectories in rows.items()}
    baselines = dict.fromkeys([weak] if ceiling is None else [weak, ceiling])
    return Results(
        rows=tuple(measured.values()),
        comparisons=tuple(
            _compare(row, measured[against], metric, resamples, seed)
            for against in baselines
            for row in measured.values()
            if row.name != against
            for metric in METRICS
        ),
        pgr=()
        if ceiling is None
        else tuple(
            _recovered(row, measured[weak], measured[ceiling], metric, resamples, seed)
            for row in measured.values()
            for metric in METRICS
        ),
        weak=weak,
        ceiling=ceiling,
        primary=primary,
        resamples=resamples,
        seed=seed,
    )


def task_type(trajectory: Trajectory) -> str:
    """Return the kind of task: metadata `task_type`, else what stands before the first slash of the task."""
    named = trajectory.metadata.get("task_type")
    if named is not None:
        return str(named)
    kind, slash, _ = trajectory.task.partition("/")
    return kind if slash else "all tasks"


def _measure(name: str, trajectories: Sequence[Trajectory], resamples: int, seed: int) -> RowMetrics:
    usable: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        if not trajectory.outcome.is_fault:
            usable[trajectory.task].append(trajectory)
    if not usable:
        raise TrajtreeError(
            f"row {name!r} has nothing to measure: {len(trajectories)} trajectories, "
            "none of which ended without an environment error"
        )
    tasks = tuple(_measure_task(usable[task]) for task in sorted(usable))
    outcomes = Counter(trajectory.outcome.value for trajectory in trajectories)

    def interval(values: Iterable[float]) -> Interval:
        return _mean_interval(np.array(list(values)), (0.0, 1.0), resamples, seed)

    return RowMetrics(
        name=name,
        n=len(tasks),
        score=interval(task.score for task in tasks),
        best_score=interval(task.best_score for task in tasks),
        success_rate=interval(task.success for task in tasks),
        completion_rate=_mean(task.completed for task in tasks),
        outcomes={outcome.value: outcomes[outcome.value] for outcome in Outcome},
        faults=sum(trajectory.outcome.is_fault for trajectory in trajectories),
        steps_mean=_mean(task.steps for task in tasks),
        by_task_type=_by_type(tasks),
        tasks=tasks,
        lost=tuple(sorted({trajectory.task for trajectory in trajectories} - usable.keys())),
    )


def _measure_task(episodes: Sequence[Trajectory]) -> TaskMetrics:
    return TaskMetrics(
        task=episodes[0].task,
        task_type=task_type(episodes[0]),
        episodes=len(episodes),
        score=_mean(episode.score for episode in episodes),
        best_score=_mean(episode.best_score for episode in episodes),
        success=_mean(episode.success for episode in episodes),
        completed=_mean(episode.outcome is Outcome.COMPLETED for episode in episodes),
        steps=_mean(len(episode.steps) for episode in episodes),
    )


def _by_type(tasks: Sequence[TaskMetrics]) -> dict[str, TypeMetrics]:
    groups: defaultdict[str, list[TaskMetrics]] = defaultdict(list)
    for task in tasks:
        groups[task.task_type].append(task)
    return {
        kind: TypeMetrics(len(group), _mean(t.score for t in group), _mean(t.success for t in group))
        for kind, group in sorted(groups.items())
    }


def _compare(row: RowMetrics, against: RowMetrics, metric: Metric, resamples: int, seed: int) -> Comparison:
    """Compare two rows on the tasks that both have.

    Single-sample successes are tested with McNemar's exact test, everything else by flipping the signs of the
    tasks' differences (all flips when there are no more than `resamples`).
    """
    ours, theirs = _paired(metric, row, against)
    difference = ours - theirs
    if metric == "success" and _is_binary(ours) and _is_binary(theirs):
        p_value, test = _mcnemar(difference), "McNemar, exact"
    else:
        p_value, test = _sign_flip(difference, resamples, seed), "paired sign flips"
    interval = _mean_interval(difference, (-1.0, 1.0), resamples, seed)
    return Comparison(row.name, against.name, metric, len(difference), interval, p_value, test)


def _recovered(
    row: RowMetrics, weak: RowMetrics, ceiling: RowMetrics, metric: Metric, resamples: int, seed: int
) -> Pgr:
    ours, low, high = _paired(metric, row, weak, ceiling)
    gap = _mean_interval(high - low, (-1.0, 1.0), resamples, seed)
    value, reason = None, None
    if gap.value > SCORE_TOLERANCE:
        value = float((ours - low).mean() / (high - low).mean())
    else:
        reason = (
            f"no gap to recover: the ceiling row {ceiling.name!r} ({100 * high.mean():.1f}) is not above "
            f"the weak row {weak.name!r} ({100 * low.mean():.1f}) in {metric}"
        )
    return Pgr(
        row=row.name,
        metric=metric,
        weak=float(low.mean()),
        ceiling=float(high.mean()),
        ceiling_row=ceiling.name,
        value=value,
        reason=reason,
        gap=gap,
        n=len(ours),
    )


def _paired(metric: Metric, *rows: RowMetrics) -> list[_Array]:
    """Values of the rows on the tasks that all of them have, in one order."""
    get: Callable[[TaskMetrics], float] = (lambda t: t.success) if metric == "success" else (lambda t: t.score)
    values = [{task.task: get(task) for task in row.tasks} for row in rows]
    common = sorted(set(values[0]).intersection(*values[1:]))
    if not common:
        names = ", ".join(repr(row.name) for row in rows)
        raise TrajtreeError(f"rows {names} have no task in common without an environment error: nothing to pair")
    return [np.array([value[task] for task in common]) for value in values]


def _mean_interval(values: _Array, bounds: tuple[float, float], resamples: int, seed: int) -> Interval:
    """95% interval of the mean of values that lie within `bounds`, tasks being the sample.

    Zeros and ones are a binomial rate: Wilson's interval. Equal values cannot be resampled, yet n equal tasks
    are no certainty: Wilson's limit for 0 of n bounds the share of unseen tasks that differ, and these are
    taken to differ as much as the bounds allow. Everything else: percentile bootstrap.
    """
    value, n = float(values.mean()), len(values)
    if bounds == (0.0, 1.0) and _is_binary(values):
        low, high = _wilson(round(value * n), n)
    elif np.ptp(values) < SCORE_TOLERANCE:
        _, unseen = _wilson(0, n)
        low, high = value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    else:
        from scipy.stats import bootstrap  # here and below: it takes longer to import than all of trajtree

        low, high = bootstrap(
            (values,),
            np.mean,
            n_resamples=resamples,
            batch=max(1, _CELLS // n),
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _wilson(hits: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _mcnemar(difference: _Array) -> float:
    from scipy.stats import binomtest

    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _sign_flip(difference: _Array, resamples: int, seed: int) -> float:
    # Tasks without a difference are the same either way round, and one task cannot be surprising.
    moved = difference[np.abs(difference) > SCORE_TOLERANCE]
    if len(moved) < 2:
        return 1.0
    from scipy.stats import permutation_test

    test = permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _CELLS // len(moved)),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _is_binary(values: _Array) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


__all__ = [
    "METRICS",
    "Comparison",
    "Interval",
    "Metric",
    "Pgr",
    "Results",
    "RowMetrics",
    "TaskMetrics",
    "TypeMetrics",
    "summarise",
    "task_type",
]
