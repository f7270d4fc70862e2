"""All statistics of measured rows, with the situation as the unit and the field's practice beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import TrajtreeError
from trajtree.statistics import clustered, differences, practice
from trajtree.statistics.layout import Layout
from trajtree.statistics.paired import sign_flips
from trajtree.statistics.ratio import ratio_interval
from trajtree.statistics.results import (
    METRICS,
    Comparison,
    Metric,
    Pgr,
    Played,
    Practice,
    Results,
    RowMetrics,
    TaskMetrics,
    TypeMetrics,
)
from trajtree.trajectory import SCORE_TOLERANCE


def analyse(
    rows: Sequence[Played],
    *,
    weak: str,
    ceiling: str | None,
    primary: str,
    resamples: int,
    seed: int,
    by_situation: bool,
) -> Results:
    """All statistics of the rows; the arguments are as in `summarise` and `Results`.

    Raises:
        TrajtreeError: a named row is missing, a row has no tasks, rows to compare share no task, or `resamples` is
            below 1.
    """
    if resamples < 1:
        raise TrajtreeError(f"resamples is {resamples}; tests and bootstraps need at least 1")
    names = [row.name for row in rows]
    for name in (weak, primary, *([] if ceiling is None else [ceiling])):
        if name not in names:
            raise TrajtreeError(f"there is no row {name!r}; the rows are: {', '.join(names) or 'none'}")
    for row in rows:
        if not row.tasks:
            raise TrajtreeError(f"row {row.name!r} has nothing to measure: it has no tasks")
    measured = {row.name: _row(row, resamples, seed) for row in rows}
    baselines = dict.fromkeys([weak] if ceiling is None else [weak, ceiling])
    return Results(
        rows=tuple(measured.values()),
        comparisons=tuple(
            _compare(row, measured[against], metric, resamples, seed, by_situation)
            for against in baselines
            for row in measured.values()
            if row.name != against
            for metric in METRICS
        ),
        pgr=()
        if ceiling is None
        else tuple(
            _recovered(row, measured[weak], measured[ceiling], metric)
            for row in measured.values()
            for metric in METRICS
        ),
        weak=weak,
        ceiling=ceiling,
        primary=primary,
        resamples=resamples,
        seed=seed,
        by_situation=by_situation,
    )


def paired(metric: Metric, *rows: Sequence[TaskMetrics]) -> tuple[list[NDArray[np.float64]], Layout]:
    """For each row, [tasks] its values on the tasks that all rows have, in the same order; and those tasks' layout.

    Returns no tasks where the rows share none.
    """
    by_task = [{task.task: task for task in row} for row in rows]
    common = sorted(set(by_task[0]).intersection(*by_task[1:]))
    shared = [by_task[0][task] for task in common]
    layout = Layout.of([task.situation for task in shared], [task.task_type for task in shared])
    return [np.array([row[task].value(metric) for task in common]) for row in by_task], layout


def _row(played: Played, resamples: int, seed: int) -> RowMetrics:
    tasks = played.tasks
    layout = Layout.of([task.situation for task in tasks], [task.task_type for task in tasks])
    values = {metric: np.array([task.value(metric) for task in tasks]) for metric in METRICS}
    found = {metric: clustered.estimate(values[metric], layout) for metric in METRICS}
    best = clustered.estimate(np.array([task.best_score for task in tasks]), layout)
    return RowMetrics(
        name=played.name,
        n=len(tasks),
        situations=layout.situations,
        score=clustered.interval(found["score"], (0.0, 1.0)),
        best_score=clustered.interval(best, (0.0, 1.0)),
        success_rate=clustered.interval(found["success"], (0.0, 1.0)),
        dependence={metric: found[metric].dependence for metric in METRICS},
        practice={
            metric: practice.mean_interval(values[metric], (0.0, 1.0), resamples=resamples, seed=seed)
            for metric in METRICS
        },
        completion_rate=_mean(task.completed for task in tasks),
        outcomes=played.outcomes,
        faults=played.faults,
        steps_mean=_mean(task.steps for task in tasks),
        by_task_type=_by_type(tasks),
        tasks=tasks,
        lost=played.lost,
    )


def _by_type(tasks: Sequence[TaskMetrics]) -> dict[str, TypeMetrics]:
    groups: defaultdict[str, list[TaskMetrics]] = defaultdict(list)
    for task in tasks:
        groups[task.task_type].append(task)
    return {
        kind: TypeMetrics(
            n=len(group),
            score=_mean(task.score for task in group),
            success=_mean(task.success for task in group),
            situations=len({task.situation for task in group}),
        )
        for kind, group in sorted(groups.items())
    }


def _compare(
    row: RowMetrics, against: RowMetrics, metric: Metric, resamples: int, seed: int, by_situation: bool
) -> Comparison:
    """Compare two rows on the tasks that both have."""
    (ours, theirs), layout = _shared(metric, row, against)
    found = differences.estimate(ours, theirs, layout)
    shown = differences.interval(found)
    return Comparison(
        row=row.name,
        against=against.name,
        metric=metric,
        n=len(ours),
        situations=layout.situations,
        difference=shown,
        p_value=differences.p_value(found),
        test=differences.TEST,
        dependence=found.paired.dependence,
        smallest=differences.smallest_shown(found, shown) if by_situation else None,
        practice=_practice(ours, theirs, resamples, seed),
    )


def _practice(ours: NDArray[np.float64], theirs: NDArray[np.float64], resamples: int, seed: int) -> Practice:
    """As papers print it: bootstrap over tasks, and McNemar's exact test where all values are successes or failures."""
    apart = ours - theirs
    if practice.is_binary(ours) and practice.is_binary(theirs):
        p_value, test = practice.mcnemar(apart), "McNemar over tasks, exact"
    else:
        p_value, _ = sign_flips(apart, Layout.apart(len(apart)), resamples=resamples, seed=seed)
        test = "sign flips by task, mid-p"
    interval = practice.mean_interval(apart, (-1.0, 1.0), resamples=resamples, seed=seed)
    return Practice(interval, p_value, test)


def _recovered(row: RowMetrics, weak: RowMetrics, ceiling: RowMetrics, metric: Metric) -> Pgr:
    (ours, low, high), layout = _shared(metric, row, weak, ceiling)
    gap = differences.interval(differences.estimate(high, low, layout))
    value, ends, reason = None, None, None
    if gap.value > SCORE_TOLERANCE:
        value = float((ours - low).mean() / (high - low).mean())
        by_definition = row.name in (weak.name, ceiling.name)
        ends = (value, value) if by_definition else ratio_interval((ours, low, high), layout)
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
        low=None if ends is None else ends[0],
        high=None if ends is None else ends[1],
        reason=reason,
        gap=gap,
        n=len(ours),
        situations=layout.situations,
    )


def _shared(metric: Metric, *rows: RowMetrics) -> tuple[list[NDArray[np.float64]], Layout]:
    """As `paired`; TrajtreeError where the rows share no task."""
    values, layout = paired(metric, *(row.tasks for row in rows))
    if not len(values[0]):
        names = ", ".join(repr(row.name) for row in rows)
        raise TrajtreeError(f"rows {names} share no task that has usable episodes in all of them: nothing to compare")
    return values, layout


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


__all__ = ["analyse", "paired"]
