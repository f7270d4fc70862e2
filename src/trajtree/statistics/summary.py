"""From trajectories to results: metrics of every row, paired comparisons and the performance gap recovered.

A row is one policy's trajectories on the evaluation tasks. The task is the unit of every figure: the episodes of one
task are averaged first, and intervals and tests resample tasks, so more samples of the same task never make a result
look more certain. An episode lost to a fault of the environment or the engine says nothing about the policy: it is
counted, reported and left out of every metric.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import TrajtreeError
from trajtree.statistics.intervals import is_binary, mcnemar, mean_interval, sign_flips
from trajtree.statistics.results import (
    METRICS,
    Comparison,
    Interval,
    Metric,
    Pgr,
    Results,
    RowMetrics,
    TaskMetrics,
    TypeMetrics,
)
from trajtree.trajectory import SCORE_TOLERANCE, Outcome, Trajectory


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
        rows: each row's name and its trajectories, any number of samples per task.
        weak: the row of the weak teacher, at which the PGR is 0.
        ceiling: the row at which the PGR is 1, trained on expert data; None when there is none.
        primary: the row that the experiment is about.
        resamples: resamples per bootstrap and per permutation test.
        seed: of the resampling. The same seed gives the same figures in any order of rows and tasks.

    Raises:
        TrajtreeError: a named row is missing, a row has no usable trajectory, or rows to compare share no task.
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
    """Return the type of the trajectory's task: metadata `task_type`, or else the part of the task before a slash."""
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
        lost = f"all trajectories ({len(trajectories)}) were lost to faults of the environment or the engine"
        why = lost if trajectories else "it has no trajectories"
        raise TrajtreeError(f"row {name!r} has nothing to measure: {why}")
    tasks = tuple(_measure_task(usable[task]) for task in sorted(usable))
    outcomes = Counter(trajectory.outcome.value for trajectory in trajectories)

    def interval(values: Iterable[float]) -> Interval:
        return mean_interval(np.array(list(values)), (0.0, 1.0), resamples=resamples, seed=seed)

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

    Successes of one sample per task are tested with McNemar's exact test, everything else with sign flips.
    """
    ours, theirs = _paired(metric, row, against)
    differences = ours - theirs
    if metric == "success" and is_binary(ours) and is_binary(theirs):
        p_value, test = mcnemar(differences), "McNemar, exact"
    else:
        p_value, test = sign_flips(differences, resamples=resamples, seed=seed), "paired sign flips"
    interval = mean_interval(differences, (-1.0, 1.0), resamples=resamples, seed=seed)
    return Comparison(row.name, against.name, metric, len(differences), interval, p_value, test)


def _recovered(
    row: RowMetrics, weak: RowMetrics, ceiling: RowMetrics, metric: Metric, resamples: int, seed: int
) -> Pgr:
    ours, low, high = _paired(metric, row, weak, ceiling)
    gap = mean_interval(high - low, (-1.0, 1.0), resamples=resamples, seed=seed)
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


def _paired(metric: Metric, *rows: RowMetrics) -> list[NDArray[np.float64]]:
    """For each row, [tasks] its values on the tasks that all rows have, in the same order."""
    get: Callable[[TaskMetrics], float] = (lambda t: t.success) if metric == "success" else (lambda t: t.score)
    values = [{task.task: get(task) for task in row.tasks} for row in rows]
    common = sorted(set(values[0]).intersection(*values[1:]))
    if not common:
        names = ", ".join(repr(row.name) for row in rows)
        raise TrajtreeError(f"rows {names} share no task that has usable episodes in all of them: nothing to compare")
    return [np.array([value[task] for task in common]) for value in values]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


__all__ = ["summarise", "task_type"]
