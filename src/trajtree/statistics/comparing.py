"""What several runs say together: the rows over their seeds, and the comparisons that were named beforehand.

The named comparisons are one family: their p-values are corrected for their number. Everything else is description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import TrajtreeError
from trajtree.statistics import differences
from trajtree.statistics.analysis import paired
from trajtree.statistics.clustered import estimate, interval, with_seeds
from trajtree.statistics.layout import Layout
from trajtree.statistics.ratio import ratio_interval
from trajtree.statistics.results import Interval, Metric, Results, Situations, TaskMetrics, TypeMetrics
from trajtree.statistics.seeds import OverSeeds, over_seeds

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RowOverSeeds:
    """A row over its `seeds`, on the `n` tasks that it has with all of them; intervals are over situations and seeds.

    `reward` is the mean best score so far, which papers call the average reward; `completed` counts the episodes that
    the environment ended, which they call success. `success_by_seed` is in the order of `seeds`.
    """

    row: str
    seeds: tuple[int, ...]
    n: int
    situations: Situations
    success: Interval
    reward: Interval
    score: Interval
    completed: Interval
    success_by_seed: tuple[float, ...]
    by_task_type: dict[str, TypeMetrics]


@dataclass(frozen=True, slots=True)
class TypeDifference:
    """`row` and `against` in success on the `n` tasks of one type, in this many `situations`, over their seeds."""

    n: int
    situations: int
    row: float
    against: float


@dataclass(frozen=True, slots=True)
class Named:
    """A comparison that was named beforehand, over the `seeds` that have both rows.

    `success` is what is tested; `holm` is its p-value, corrected for the number of comparisons in the family. `reward`
    and `completed` describe the same rows, and their p-values are not corrected.
    """

    seeds: tuple[int, ...]
    success: OverSeeds
    holm: float
    reward: OverSeeds
    completed: OverSeeds
    by_task_type: dict[str, TypeDifference]


@dataclass(frozen=True, slots=True)
class Recovered:
    """Gap recovered by a row over the `seeds` that have all three rows: (row - weak) / (ceiling - weak) in success.

    `gap` is the denominator, from `weak` to `ceiling`. There is no `value` where its interval holds 0. `low` and `high`
    are None where the value has no interval: see `trajtree.statistics.ratio.ratio_interval`.
    """

    row: str
    ceiling_row: str
    seeds: tuple[int, ...]
    n: int
    situations: Situations
    weak: float
    ceiling: float
    gap: Interval
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that runs say together.

    `missing` are the named comparisons of which a row was measured in no run, or no seed has both; they are counted in
    Holm's correction too.
    """

    seeds: tuple[int, ...]
    weak: str
    rows: tuple[RowOverSeeds, ...]
    named: tuple[Named, ...]
    missing: tuple[tuple[str, str], ...]
    recovered: tuple[Recovered, ...]
    by_situation: bool


def compare(
    results: Sequence[Results], *, weak: str, family: Sequence[tuple[str, str]], ceilings: Sequence[str]
) -> Compared:
    """Compare rows over results that differ in their seed; a seed need not have every row.

    Args:
        results: one for each seed.
        weak: the row of the weak teacher.
        family: the comparisons named beforehand, as (row, row that it is compared with).
        ceilings: the rows at which the gap recovered is 1; those that were not measured are left out.

    Raises:
        TrajtreeError: there are no results, a seed occurs twice, no comparison is named, one is named twice, or rows to
            compare share no task.
    """
    seeds = [one.seed for one in results]
    if not seeds or len(set(seeds)) < len(seeds):
        raise TrajtreeError(f"results of different seeds are compared; these have the seeds {seeds}")
    if not family or len(set(family)) < len(family):
        raise TrajtreeError("no comparison is named beforehand, or one is named twice: nothing can be corrected for")
    names = list(dict.fromkeys(row.name for one in results for row in one.rows))
    measured = [(row, against) for row, against in family if _with(results, row, against)]
    tests = [over_seeds(_with(results, *rows), *rows, "success") for rows in measured]
    # Comparisons that are missing could have been the ones that show something, so they count.
    unknown = [1.0] * (len(family) - len(tests))
    corrected = holm([*(test.p_value for test in tests), *unknown])
    return Compared(
        seeds=tuple(seeds),
        weak=weak,
        rows=tuple(_row(_with(results, name), name) for name in names),
        named=tuple(_named(_with(results, t.row, t.against), t, p) for t, p in zip(tests, corrected, strict=False)),
        missing=tuple(rows for rows in family if rows not in measured),
        recovered=tuple(
            _recovered(found, name, weak, ceiling)
            for ceiling in ceilings
            for name in names
            if name not in (weak, ceiling) and (found := _with(results, name, weak, ceiling))
        ),
        by_situation=all(one.by_situation for one in results),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for their number by Holm's method, in the same order.

    Each is compared with 5% as it is: the chance that any true null of the family is rejected is then at most 5%,
    however they depend on one another. Source: Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979).
    """
    values = np.array(p_values, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in corrected]


def _with(results: Sequence[Results], *names: str) -> list[Results]:
    """Those that have all these rows."""
    return [one for one in results if set(names) <= {row.name for row in one.rows}]


def _tasks(results: Sequence[Results], name: str) -> list[Sequence[TaskMetrics]]:
    return [one.row(name).tasks for one in results]


def _averaged(results: Sequence[Results], metric: Metric, *names: str) -> tuple[list[_Floats], Layout]:
    """For each row, [seeds, tasks] its values on the tasks that all rows have with every seed; and their layout."""
    values, layout = paired(metric, *(tasks for name in names for tasks in _tasks(results, name)))
    if not len(values[0]):
        rows = ", ".join(map(repr, names))
        raise TrajtreeError(f"rows {rows} share no task that has usable episodes with every seed: nothing to compare")
    each = len(results)
    return [np.array(values[start : start + each]) for start in range(0, len(values), each)], layout


def _row(results: Sequence[Results], name: str) -> RowOverSeeds:
    def mean(metric: Metric) -> Interval:
        (values,), layout = _averaged(results, metric, name)
        return interval(with_seeds(estimate(values.mean(0), layout), values.mean(1)), (0.0, 1.0))

    (success,), layout = _averaged(results, "success", name)
    (score,), _ = _averaged(results, "score", name)
    tasks = _shared_tasks(results, name)
    return RowOverSeeds(
        row=name,
        seeds=tuple(one.seed for one in results),
        n=len(tasks),
        situations=layout.situations,
        success=mean("success"),
        reward=mean("best_score"),
        score=mean("score"),
        completed=mean("completed"),
        success_by_seed=tuple(map(float, success.mean(1))),
        by_task_type={
            kind: TypeMetrics(len(here), float(score[:, here].mean()), float(success[:, here].mean()), situations)
            for kind, (here, situations) in _by_type(tasks).items()
        },
    )


def _named(results: Sequence[Results], success: OverSeeds, corrected: float) -> Named:
    names = success.row, success.against
    (ours, theirs), _ = _averaged(results, "success", *names)
    types = _by_type(_shared_tasks(results, *names))
    return Named(
        seeds=tuple(one.seed for one in results),
        success=success,
        holm=corrected,
        reward=over_seeds(results, *names, "best_score"),
        completed=over_seeds(results, *names, "completed"),
        by_task_type={
            kind: TypeDifference(len(here), situations, float(ours[:, here].mean()), float(theirs[:, here].mean()))
            for kind, (here, situations) in types.items()
        },
    )


def _shared_tasks(results: Sequence[Results], *names: str) -> list[TaskMetrics]:
    """The tasks that all rows have with every seed, in the order of `paired`."""
    by_task = [{task.task: task for task in tasks} for name in names for tasks in _tasks(results, name)]
    return [by_task[0][task] for task in sorted(set(by_task[0]).intersection(*by_task[1:]))]


def _by_type(tasks: Sequence[TaskMetrics]) -> dict[str, tuple[list[int], int]]:
    """Each type's indices among the tasks, and how many situations they are."""
    found: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        found.setdefault(task.task_type, []).append(index)
    return {kind: (here, len({tasks[index].situation for index in here})) for kind, here in sorted(found.items())}


def _recovered(results: Sequence[Results], name: str, weak: str, ceiling: str) -> Recovered:
    (ours, low, high), layout = _averaged(results, "success", name, weak, ceiling)
    by_seed = ours.mean(1), low.mean(1), high.mean(1)
    gap = differences.interval(differences.estimate(high.mean(0), low.mean(0), layout, (by_seed[2], by_seed[1])))
    value, ends = None, None
    if gap.low > 0:
        value = float((ours - low).mean() / (high - low).mean())
        ends = ratio_interval((ours.mean(0), low.mean(0), high.mean(0)), layout, by_seed)
    return Recovered(
        row=name,
        ceiling_row=ceiling,
        seeds=tuple(one.seed for one in results),
        n=ours.shape[1],
        situations=layout.situations,
        weak=float(low.mean()),
        ceiling=float(high.mean()),
        gap=gap,
        value=value,
        low=None if ends is None else ends[0],
        high=None if ends is None else ends[1],
    )


__all__ = ["Compared", "Named", "Recovered", "RowOverSeeds", "TypeDifference", "compare", "holm"]
