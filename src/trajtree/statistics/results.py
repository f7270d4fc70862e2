"""The results as plain data: metrics per row, comparisons between rows, and the performance gap recovered.

Scores and rates are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["success", "score", "best_score", "completed"]
"""Fields of `TaskMetrics`."""
METRICS: tuple[Metric, ...] = ("success", "score")
"""Those in which the rows of one run are compared."""

FEW = 10
"""With fewer situations than this, no interval can be trusted."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over tasks and its 95% confidence interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Situations:
    """How many situations some tasks are.

    `effective` is how many of equal size would weigh the same, (sum of sizes)^2 / (sum of squared sizes): `count` where
    all have as many tasks, and less where a few hold most of them.
    """

    count: int
    effective: float

    @property
    def few(self) -> bool:
        """Whether they are too few for any interval to be trusted."""
        return self.count < FEW


@dataclass(frozen=True, slots=True)
class Dependence:
    """How far tasks of one situation agree, as found in the data.

    Attributes:
        icc: intra-class correlation: about 0 when tasks of a situation agree no more than others, 1 when they are
            equal. None where every task has a situation of its own, or no two values differ.
        design_effect: variance of the mean by situations, as a multiple of what it would be if all tasks were
            independent, with the same strata. None where no two values of a stratum differ.
    """

    icc: float | None
    design_effect: float | None


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """One task of a row: means over its `episodes`, without those lost to faults.

    Tasks of one `situation` are decided by the same things; by default a task is a situation of its own.
    """

    task: str
    task_type: str
    episodes: int
    score: float
    best_score: float
    success: float
    completed: float
    steps: float
    situation: str

    def value(self, metric: Metric) -> float:
        """Return the task's value in that metric."""
        return float(getattr(self, metric))


@dataclass(frozen=True, slots=True)
class TypeMetrics:
    """Means over the `n` tasks of one type, in this many `situations`."""

    n: int
    score: float
    success: float
    situations: int


@dataclass(frozen=True, slots=True)
class Played:
    """What a row's episodes came to, before any statistics.

    `outcomes` counts all episodes; `faults` those that say nothing about the policy (env_error, engine_error); `lost`
    names the tasks whose only scored episodes are such.
    """

    name: str
    tasks: tuple[TaskMetrics, ...]
    outcomes: dict[str, int]
    faults: int
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowMetrics:
    """Metrics of one row, as in Played, and intervals that take the situation as the unit.

    `n` counts the tasks with at least one usable episode. Success and completion are different things: `success_rate`
    counts episodes completed with the full score, `completion_rate` those that the environment ended, whatever their
    score. `practice` are the intervals over tasks that papers print.
    """

    name: str
    n: int
    situations: Situations
    score: Interval
    best_score: Interval
    success_rate: Interval
    dependence: dict[Metric, Dependence]
    practice: dict[Metric, Interval]
    completion_rate: float
    outcomes: dict[str, int]
    faults: int
    steps_mean: float
    by_task_type: dict[str, TypeMetrics]
    tasks: tuple[TaskMetrics, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Practice:
    """A difference as the field prints it: interval and test over tasks, or over seeds. No `p_value` from one seed."""

    difference: Interval
    p_value: float | None
    test: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`row` minus `against`, paired over the `n` tasks that both have, with the situation as the unit.

    `p_value` is two-sided and not corrected for the number of comparisons; `test` says what it is, see
    `trajtree.statistics.differences`. `smallest` is the smallest difference that could have been shown, see
    `trajtree.statistics.differences.smallest_shown`; None where nothing could have been.
    """

    row: str
    against: str
    metric: Metric
    n: int
    situations: Situations
    difference: Interval
    p_value: float
    test: str
    dependence: Dependence
    smallest: float | None
    practice: Practice


@dataclass(frozen=True, slots=True)
class Pgr:
    """Performance gap recovered, (row - weak) / (ceiling - weak), over the `n` tasks that all three have.

    `weak` and `ceiling` are the means of those two rows over these tasks, `gap` is the denominator. `value` may be
    below 0 or above 1; it is None if there is no gap to recover, and `reason` then says why. `low` and `high` are its
    95% interval. It has no end, and both are None, where the gap itself may be 0 or where the row recovers the same
    share of the gap in every situation, which leaves nothing to judge its spread by. It is the value alone for the weak
    and the ceiling row, which are 0 and 1 by definition.
    """

    row: str
    metric: Metric
    weak: float
    ceiling: float
    ceiling_row: str
    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    gap: Interval
    n: int
    situations: Situations


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured. `weak`, `ceiling` and `primary` name rows; the verdict is about the primary one.

    `by_situation` is False where the situations of the tasks are not known. Every task then counts as a situation, as
    it does in the field's practice, and intervals are too narrow if tasks share situations.
    """

    rows: tuple[RowMetrics, ...]
    comparisons: tuple[Comparison, ...]
    pgr: tuple[Pgr, ...]
    weak: str
    ceiling: str | None
    primary: str
    resamples: int
    seed: int
    by_situation: bool

    @property
    def baselines(self) -> tuple[str, ...]:
        """The rows that every row is compared with: the weak one, and the ceiling if there is one."""
        return tuple(dict.fromkeys(name for name in (self.weak, self.ceiling) if name is not None))

    def row(self, name: str) -> RowMetrics:
        """Return the row with that name; KeyError if there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def compared(self, row: str, against: str | None, metric: Metric) -> Comparison | None:
        """Return that comparison; None if there is none, for example for a row with itself."""
        wanted = (row, against, metric)
        return next((c for c in self.comparisons if (c.row, c.against, c.metric) == wanted), None)

    def recovered(self, row: str, metric: Metric) -> Pgr | None:
        """Return the gap recovered by the row, or None if there is no ceiling row."""
        return next((p for p in self.pgr if (p.row, p.metric) == (row, metric)), None)


__all__ = [
    "FEW",
    "METRICS",
    "Comparison",
    "Dependence",
    "Interval",
    "Metric",
    "Pgr",
    "Played",
    "Practice",
    "Results",
    "RowMetrics",
    "Situations",
    "TaskMetrics",
    "TypeMetrics",
]
