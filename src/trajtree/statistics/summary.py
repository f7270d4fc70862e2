"""From trajectories to results: metrics of every row, paired comparisons and the performance gap recovered.

A row is one policy's trajectories on the evaluation tasks. The episodes of one task are averaged first, so more samples
of the same task never make a result look more certain; and the tasks of one situation are one piece of evidence, so
more tasks of the same situation hardly do. An episode lost to a fault of the environment or the engine says nothing
about the policy: it is counted, reported and left out of every metric.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trajtree.errors import DataError, TrajtreeError
from trajtree.statistics.analysis import analyse
from trajtree.statistics.results import Played, Results, TaskMetrics
from trajtree.trajectory import Outcome, Trajectory

Situation = Callable[[str], str]
"""From a task to the situation that it shares with other tasks."""


def summarise(
    rows: Mapping[str, Iterable[Trajectory]],
    *,
    weak: str,
    ceiling: str | None,
    primary: str,
    situation: Situation | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Results:
    """Measure every row, compare each with the weak and the ceiling row, and compute the gap recovered.

    Args:
        rows: each row's name and its trajectories, any number of samples per task; each is read once, and five numbers
            of every episode are kept.
        weak: the row of the weak teacher, at which the PGR is 0.
        ceiling: the row at which the PGR is 1, trained on expert data; None if there is none.
        primary: the row that the verdict is about.
        situation: tells which tasks share a situation; None when that is not known, and results then say so.
        resamples: resamples per bootstrap and per permutation test of the field's practice.
        seed: seed of the resampling. The same seed gives the same figures for any order of rows and tasks.

    Raises:
        TrajtreeError: a named row is missing, a row has no usable trajectory, rows to compare share no task, or
            `resamples` is below 1.
        DataError: `situation` fails for a task, or returns something else than text.
    """
    played = [_played(name, trajectories) for name, trajectories in rows.items()]
    if situation is not None:
        played = _placed(played, situation)
    return analyse(
        played,
        weak=weak,
        ceiling=ceiling,
        primary=primary,
        resamples=resamples,
        seed=seed,
        by_situation=situation is not None,
    )


def with_situations(results: Results, situation: Situation) -> Results:
    """The results of the same episodes, with these situations.

    Raises:
        DataError: `situation` fails for a task, or returns something else than text.
    """
    played = [Played(row.name, row.tasks, row.outcomes, row.faults, row.lost) for row in results.rows]
    return analyse(
        _placed(played, situation),
        weak=results.weak,
        ceiling=results.ceiling,
        primary=results.primary,
        resamples=results.resamples,
        seed=results.seed,
        by_situation=True,
    )


def task_type(trajectory: Trajectory) -> str:
    """Return the type of the trajectory's task: metadata `task_type`, else the part of the task before a slash."""
    named = trajectory.metadata.get("task_type")
    if named is not None:
        return str(named)
    kind, slash, _ = trajectory.task.partition("/")
    return kind if slash else "all tasks"


@dataclass(slots=True)
class _Episodes:
    """The episodes of one task, as the figures that are averaged."""

    task_type: str
    score: array[float] = field(default_factory=lambda: array("d"))
    best_score: array[float] = field(default_factory=lambda: array("d"))
    success: array[float] = field(default_factory=lambda: array("d"))
    completed: array[float] = field(default_factory=lambda: array("d"))
    steps: array[float] = field(default_factory=lambda: array("d"))

    def add(self, episode: Trajectory) -> None:
        self.score.append(episode.score)
        self.best_score.append(episode.best_score)
        self.success.append(episode.success)
        self.completed.append(episode.outcome is Outcome.COMPLETED)
        self.steps.append(len(episode.steps))

    def measured(self, task: str) -> TaskMetrics:
        return TaskMetrics(
            task=task,
            task_type=self.task_type,
            episodes=len(self.score),
            score=_mean(self.score),
            best_score=_mean(self.best_score),
            success=_mean(self.success),
            completed=_mean(self.completed),
            steps=_mean(self.steps),
            situation=task,
        )


def _played(name: str, trajectories: Iterable[Trajectory]) -> Played:
    usable: dict[str, _Episodes] = {}
    tasks: set[str] = set()
    outcomes: Counter[Outcome] = Counter()
    for trajectory in trajectories:
        outcomes[trajectory.outcome] += 1
        tasks.add(trajectory.task)
        if trajectory.counts:
            if trajectory.task not in usable:
                usable[trajectory.task] = _Episodes(task_type(trajectory))
            usable[trajectory.task].add(trajectory)
    if not usable:
        lost = (
            f"all trajectories ({outcomes.total()}) were lost to faults of the environment or the engine, or unscored"
        )
        why = lost if tasks else "it has no trajectories"
        raise TrajtreeError(f"row {name!r} has nothing to measure: {why}")
    return Played(
        name=name,
        tasks=tuple(usable[task].measured(task) for task in sorted(usable)),
        outcomes={outcome.value: outcomes[outcome] for outcome in Outcome},
        faults=sum(count for outcome, count in outcomes.items() if outcome.is_fault),
        lost=tuple(sorted(tasks - usable.keys())),
    )


def _placed(rows: Sequence[Played], situation: Situation) -> list[Played]:
    """The rows with their tasks in these situations."""
    known = {task: _situation_of(task, situation) for task in sorted({task.task for row in rows for task in row.tasks})}
    return [replace(row, tasks=tuple(replace(task, situation=known[task.task]) for task in row.tasks)) for row in rows]


def _situation_of(task: str, situation: Situation) -> str:
    try:
        found: object = situation(task)
    except Exception as error:
        raise DataError(f"the situation of task {task!r} is not known: {type(error).__name__}: {error}") from error
    if not isinstance(found, str):
        raise DataError(f"the situation of task {task!r} is a {type(found).__name__}; a situation is text")
    return found


def _mean(values: array[float]) -> float:
    return float(np.mean(values))


__all__ = ["Situation", "summarise", "task_type", "with_situations"]
