"""The report of an import: what was imported and how it was interpreted, what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MANY = 10_000
"""Up to which number the values of a field are counted."""

KEPT = 1000
"""Number of left-out records that a report names; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record that was not imported: number `number` of its file, starting at `line`; 0 stands for the whole file."""

    file: Path
    line: int
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class OtherScore:
    """A field with a score that was not used: in how many runs it occurs, and in how many it differs."""

    present: int
    differs: int


@dataclass(frozen=True, slots=True)
class OtherTask:
    """A field with a task that was not used: in how many runs it occurs, and how many tasks it names (at most MANY)."""

    present: int
    values: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How scores are spread: lowest, mean and highest; tasks with several scored runs, and in how many they differ."""

    low: float
    mean: float
    high: float
    several: int
    differing: int


@dataclass(frozen=True, slots=True)
class SheetUse:
    """How a file of scores was used: its rows, those that fit no run, and runs that no row fits, each with a number."""

    name: str
    rows: int
    unmatched: tuple[str, ...]
    unmatched_count: int
    without: tuple[str, ...]
    without_count: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        added: trajectories that were appended.
        skipped: records that were already in the store.
        left_out: the first KEPT records that are not trajectories, and why.
        left_out_count: total number of left-out records.
        kinds: how many were left out per kind of reason: the reason without its numbers and values.
        others: number of files in folders and archives that are not logs, by suffix or by what they are.
        reports: number of benchmarks' reports among those, by the folder that they lie in.
        no_format: number of those in no known format, which are left out.
        formats: number of trajectories appended, by format.
        scores: number of trajectories by the field that their score comes from.
        other_scores: other usual fields for scores that also occurred.
        task_fields: number of trajectories by where their task comes from: a field, or `the prompt`.
        other_tasks: other usual fields for tasks that also occurred.
        prompts_differ: number of tasks with several new trajectories, none of which begins with the first one's prompt,
            by where the tasks come from.
        sheet: how the file of scores was used, if there was one.
        outcomes: number of trajectories by outcome.
        tasks: number of tasks in the whole store.
        runs_per_task: fewest, median and most trajectories per task in the whole store.
        spread: how the scores of the appended trajectories are spread; None if there are none.
        steps: number of steps of the appended trajectories.
        shared_steps: how many of them repeat the beginning of another trajectory appended not too long before.
        held: records contained in another record of the same run, as its beginning.
        resumed: session files whose own run was not read because the file of the resumed session contains it.
        joined: records that were joined to a later part of the same run.
        undecided: records whose fields say that they belong to one run, but whose messages do not fit; each is a run.
        disagreeing: those whose messages do fit, but whose scores or models differ; each is a run.
        beginnings: trajectories that are the beginning of another one, as records of single model calls are, among
            those not too far apart.
        redacted: number of private texts that were replaced, by kind.
        with_keys: trajectories that were not redacted and hold what looks like a key.
        errors: number of trajectories whose row says that something failed, by the field that says so.
        repeated: trajectories that equal one from a file with the same name in another folder.
        example_turns: number of leading replies up to which all trajectories are the same although their tasks differ,
            if that is more than their context.
    """

    added: int
    skipped: int
    left_out: tuple[LeftOut, ...]
    left_out_count: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    reports: Mapping[Path, int] = field(default_factory=dict)
    no_format: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, int] = field(default_factory=dict)
    other_scores: Mapping[str, OtherScore] = field(default_factory=dict)
    task_fields: Mapping[str, int] = field(default_factory=dict)
    other_tasks: Mapping[str, OtherTask] = field(default_factory=dict)
    prompts_differ: Mapping[str, int] = field(default_factory=dict)
    sheet: SheetUse | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    tasks: int = 0
    runs_per_task: tuple[int, float, int] = (0, 0, 0)
    spread: Spread | None = None
    steps: int = 0
    shared_steps: int = 0
    held: int = 0
    resumed: int = 0
    joined: int = 0
    undecided: int = 0
    disagreeing: int = 0
    beginnings: int = 0
    redacted: Mapping[str, int] = field(default_factory=dict)
    with_keys: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0
    example_turns: int = 0


__all__ = ["KEPT", "MANY", "ImportReport", "LeftOut", "OtherScore", "OtherTask", "SheetUse", "Spread"]
