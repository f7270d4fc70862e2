"""What was measured, as plain data: metrics per row, comparisons between rows, and the performance gap recovered.

Scores and rates are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["success", "score"]
METRICS: tuple[Metric, ...] = ("success", "score")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over tasks and its 95% confidence interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """One task of a row: means over its `episodes`, without those lost to faults."""

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
    """Metrics of one row.

    `n` counts the tasks with at least one usable episode. Success and completion are different things: `success_rate`
    counts episodes completed with the full score, `completion_rate` those that the environment ended, whatever their
    score. `outcomes` counts all episodes; `faults` those that say nothing about the policy (env_error, engine_error);
    `lost` names the tasks that have no other episodes.
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

    `weak` and `ceiling` are the means of those two rows over these tasks, `gap` is the denominator. `value` may be
    below 0 or above 1; it is None when there is no gap to recover, and `reason` then says why.
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
    """Everything measured. `weak`, `ceiling` and `primary` name rows; the verdict is about the primary one."""

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
        """The rows that every row is compared with: the weak one, and the ceiling if there is one."""
        return tuple(dict.fromkeys(name for name in (self.weak, self.ceiling) if name is not None))

    def row(self, name: str) -> RowMetrics:
        """Return the row of that name; KeyError when there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def compared(self, row: str, against: str | None, metric: Metric) -> Comparison | None:
        """Return that comparison; None when there is none, for example of a row with itself."""
        wanted = (row, against, metric)
        return next((c for c in self.comparisons if (c.row, c.against, c.metric) == wanted), None)

    def recovered(self, row: str, metric: Metric) -> Pgr | None:
        """Return the gap recovered by the row, or None when there is no ceiling row."""
        return next((p for p in self.pgr if (p.row, p.metric) == (row, metric)), None)


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
]
