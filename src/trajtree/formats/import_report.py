"""The report of an import: what was imported and how it was interpreted, what was left out and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from trajtree.formats.read.scores import differs
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import SCORE_TOLERANCE, Message, Trajectory

MANY = 10_000
"""Up to which number the values of a field are counted."""

KEPT = 1000
"""Number of left-out records that a report names; further ones are only counted."""

THE_PROMPT = "the prompt"
NO_SCORE = "no score, kept without"
_KINDS = 100
_OTHER = "other reasons"
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


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
        resumed: files of sessions that another session goes on from and contains.
        joined: records that were joined to a later part of the same run.
        undecided: records whose fields say that they belong to one run, but whose messages do not fit; each is a run.
        disagreeing: those whose messages do fit, but whose scores or models differ; each is a run.
        beginnings: trajectories that are the beginning of another one, as records of single model calls are, among
            those not too far apart.
        redacted: number of private texts that were replaced, by kind.
        with_keys: trajectories stored as they are that hold what looks like a key.
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
    repeated: int = 0
    example_turns: int = 0


class Tally:
    """The counts kept during an import."""

    def __init__(self) -> None:
        self.skipped = self.held = self.joined = self.undecided = self.disagreeing = self.repeated = 0
        self.tasks: Counter[str] = Counter()
        """Number of trajectories per task of the store."""
        self.with_keys = 0
        self.redacted: Counter[str] = Counter()
        self.sheet: SheetUse | None = None
        self.others: Counter[str] = Counter()
        """Number of files that are not logs, by suffix."""
        self.no_format = self.resumed = 0
        """Numbers of files in no known format, and of sessions that another one contains."""
        self._left_out: list[LeftOut] = []
        self._kinds: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        self._scores: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self._differs: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._beginnings = _Beginnings()
        self._example = _Example()
        self._spread = _Spread()
        self._steps = 0
        self._tasks_from = _TasksFrom()

    def leave_out(self, record: LeftOut) -> None:
        """Count a record that is not a trajectory."""
        kind = _NUMBER.sub("N", _QUOTED.sub("'...'", record.reason.partition(";")[0]))[:120]
        self._kinds[kind if kind in self._kinds or len(self._kinds) < _KINDS else _OTHER] += 1
        if len(self._left_out) < KEPT:
            self._left_out.append(record)

    def add(
        self, found: Imported, made: Trajectory, named: Sequence[tuple[str, str]], score_range: tuple[float, float]
    ) -> None:
        """Count a trajectory made from what a reader found; `named` has the fields that name a task."""
        self.tasks[made.task] += 1
        self._formats[made.env] += 1
        self._scores[NO_SCORE if made.unscored else found.score[0]] += 1
        self._outcomes[made.outcome] += 1
        for name, value in found.other_scores:
            self._present[name] += 1
            self._differs[name] += made.unscored or differs(value, made.score, *score_range)
        self._tasks_from.add(found, made, named)
        self._steps += len(made.steps)
        if not made.unscored:
            self._spread.add(made)
        self._beginnings.add(made)
        self._example.add(made)

    def report(self) -> ImportReport:
        """The report of all counts."""
        runs = self.tasks.values()
        return ImportReport(
            added=self._formats.total(),
            skipped=self.skipped,
            left_out=tuple(self._left_out),
            left_out_count=self._kinds.total(),
            kinds=dict(self._kinds.most_common()),
            others=dict(self.others.most_common()),
            no_format=self.no_format,
            formats=dict(self._formats),
            scores=dict(self._scores),
            other_scores={name: OtherScore(n, self._differs[name]) for name, n in self._present.items()},
            task_fields=dict(self._tasks_from.fields),
            other_tasks=self._tasks_from.others(),
            prompts_differ=self._tasks_from.prompts_differ(),
            sheet=self.sheet,
            outcomes=dict(self._outcomes),
            tasks=len(runs),
            runs_per_task=(min(runs), median(runs), max(runs)) if runs else (0, 0, 0),
            spread=self._spread.result(),
            steps=self._steps,
            shared_steps=self._beginnings.shared,
            held=self.held,
            resumed=self.resumed,
            joined=self.joined,
            undecided=self.undecided,
            disagreeing=self.disagreeing,
            beginnings=self._beginnings.count,
            redacted=dict(self.redacted),
            with_keys=self.with_keys,
            repeated=self.repeated,
            example_turns=self._example.turns,
        )


class _TasksFrom:
    """Where tasks come from, and whether the runs of a task begin alike."""

    def __init__(self) -> None:
        self.fields: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self._values: dict[str, set[int]] = {}
        self._prompts: dict[str, int] = {}
        self._several: set[str] = set()
        self._alike: set[str] = set()
        self._origin: dict[str, str] = {}

    def add(self, found: Imported, made: Trajectory, named: Sequence[tuple[str, str]]) -> None:
        used = next((name for name, value in named if value == found.task), None)
        origin = used or _elsewhere(found)
        self.fields[origin] += 1
        self._origin.setdefault(made.task, origin)
        for name, value in named:
            if name != used:
                self._present[name] += 1
                values = self._values.setdefault(name, set())
                if len(values) < MANY:
                    values.add(hash(value))
        first = made.replies[0]
        prompt = hash(tuple([message.content for message in made.messages[:first]]))
        if made.task not in self._prompts:
            self._prompts[made.task] = prompt
            return
        self._several.add(made.task)
        if self._prompts[made.task] == prompt:
            self._alike.add(made.task)

    def others(self) -> dict[str, OtherTask]:
        return {name: OtherTask(number, len(self._values[name])) for name, number in self._present.items()}

    def prompts_differ(self) -> dict[str, int]:
        return dict(Counter(self._origin[task] for task in self._several - self._alike).most_common())


def _elsewhere(found: Imported) -> str:
    """Where a task comes from that no field names as it is."""
    if found.task is None:
        return THE_PROMPT
    return "the file's name" if found.named_by_file else found.task_from or "the log"


class _Spread:
    """Collects scores, of each task only the lowest and the highest."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._runs = 0
        self._ranges: dict[str, tuple[float, float, bool]] = {}

    def add(self, made: Trajectory) -> None:
        score = made.score
        self._sum += score
        self._runs += 1
        low, high, _ = self._ranges.get(made.task, (score, score, False))
        self._ranges[made.task] = min(low, score), max(high, score), made.task in self._ranges

    def result(self) -> Spread | None:
        if not self._runs:
            return None
        ranges = self._ranges.values()
        return Spread(
            low=min(low for low, _, _ in ranges),
            mean=self._sum / self._runs,
            high=max(high for _, high, _ in ranges),
            several=sum(several for _, _, several in ranges),
            differing=sum(high - low > SCORE_TOLERANCE for low, high, _ in ranges),
        )


class _Beginnings:
    """Counts trajectories that are the beginning of another one, and the steps that trajectories have in common.

    Only hashes are kept, and only a limited number, so that memory does not grow with the runs: the calls of a run are
    close to each other.
    """

    _MOST = 50_000

    def __init__(self) -> None:
        self.count = self.shared = 0
        self._ends: Counter[int] = Counter()
        self._passed: set[int] = set()

    def add(self, made: Trajectory) -> None:
        """Count this trajectory if it is a beginning, and those that are beginnings of it."""
        *inner, end = _after_replies(made.messages)
        passed, ends = self._passed, self._ends
        self.shared += sum(here in passed or here in ends for here in (*inner, end)[made.context_turns :])
        if not self._ends.keys().isdisjoint(inner):
            self.count += sum(self._ends.pop(passed, 0) for passed in inner)
        if end in self._passed:
            self.count += 1
        else:
            self._ends[end] += 1
        self._passed.update(inner)
        for kept in (self._ends, self._passed):
            if len(kept) > self._MOST:
                kept.clear()


def _after_replies(messages: Sequence[Message]) -> list[int]:
    """[replies] hash of everything said up to each reply. The hashes are valid within one process only."""
    hashes, here = [], 0
    for message in messages:
        # Calls without their ids, which every run has of its own.
        calls = tuple([(call.name, call.arguments) for call in message.tool_calls])
        here = hash((here, message.content, calls)) if calls else hash((here, message.content))
        if message.role == "assistant":
            hashes.append(here)
    return hashes


class _Example:
    """The common beginning of all trajectories, before they depend on their tasks."""

    def __init__(self) -> None:
        self._common: tuple[Message, ...] | None = None
        self._replies = 0
        self._tasks: set[str] = set()

    @property
    def turns(self) -> int:
        """Number of replies in it; 0 if all of them already are context, or there are fewer than two tasks."""
        return self._replies if len(self._tasks) > 1 else 0

    def add(self, trajectory: Trajectory) -> None:
        if self._common == ():
            return
        # The last reply is the agent's decision in any case.
        own = trajectory.messages[: trajectory.replies[-1]]
        common = own if self._common is None else self._common[: len(own)]
        same = next((i for i, (a, b) in enumerate(zip(common, own, strict=False)) if a != b), len(common))
        self._replies = sum(m.role == "assistant" for m in common[:same])
        if self._replies <= trajectory.context_turns:
            same = self._replies = 0
        self._common = common[:same]
        if len(self._tasks) < 2:
            self._tasks.add(trajectory.task)


__all__ = ["KEPT", "MANY", "ImportReport", "LeftOut", "OtherScore", "OtherTask", "SheetUse", "Spread", "Tally"]
