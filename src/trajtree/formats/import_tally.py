"""The counts kept during an import, from which its report is made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from trajtree.formats.import_report import KEPT, MANY, ImportReport, LeftOut, OtherScore, OtherTask, SheetUse, Spread
from trajtree.formats.read.scores import differs
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import SCORE_TOLERANCE, Message, Outcome, Trajectory

THE_PROMPT = "the prompt"
NO_SCORE = "nowhere, kept unscored"
_KINDS = 100
_OTHER = "other reasons"
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Facts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a report needs to know of a trajectory.

    The hashes are those of Python, which are the same only within a process and those forked from it.

    Attributes:
        format: the format of its log.
        score_from: the field that its score comes from, or NO_SCORE.
        other_scores: the usual fields for scores that also occur, and whether each differs.
        task_from: where its task comes from.
        other_tasks: the usual fields for tasks that also occur, and their values.
        outcome: how it ended.
        score: its score; None if it is unscored.
        steps: its number of steps.
        context_turns: its number of leading replies that are context.
        prompt: hash of what was said before the first of its own replies.
        replies: [assistant's messages] hash of everything said up to each.
        redacted: number of private texts that were replaced, by kind.
        with_key: whether it was not redacted and holds what looks like a key.
        error: the field that says that something failed, in formats that leave open what; None without.
    """

    format: str
    score_from: str
    other_scores: tuple[tuple[str, bool], ...]
    task_from: str
    other_tasks: tuple[tuple[str, str], ...]
    outcome: Outcome
    score: float | None
    steps: int
    context_turns: int
    prompt: int
    replies: list[int]
    redacted: Mapping[str, int]
    with_key: bool
    error: str | None


def facts_of(
    found: Imported,
    made: Trajectory,
    named: Sequence[tuple[str, str]],
    score_range: tuple[float, float],
    *,
    redacted: Mapping[str, int],
    with_key: bool,
    error: str | None,
) -> Facts:
    """The facts of a trajectory made from what a reader found; `named` has the fields that name a task."""
    low, high = score_range
    used = next((name for name, value in named if value == found.task), None)
    prompt, replies = _said(made.messages, made.context_turns)
    return Facts(
        format=made.env,
        score_from=NO_SCORE if made.unscored else found.score[0],
        other_scores=tuple(
            [(name, made.unscored or differs(value, made.score, low, high)) for name, value in found.other_scores]
        ),
        task_from=used or _elsewhere(found),
        other_tasks=tuple([one for one in named if one[0] != used]),
        outcome=made.outcome,
        score=None if made.unscored else made.score,
        steps=len(made.steps),
        context_turns=made.context_turns,
        prompt=prompt,
        replies=replies,
        redacted=redacted,
        with_key=with_key,
        error=error,
    )


def _said(messages: Sequence[Message], context_turns: int) -> tuple[int, list[int]]:
    """Hash of what was said before the first own reply, and [assistant's messages] of everything up to each."""
    hashes: list[int] = []
    said: list[object] = [0]  # the hash of everything up to the last reply, and what was said since
    prompt = 0
    for message in messages:
        if message.role != "assistant":
            said.append(message.content)
            continue
        if len(hashes) == context_turns:
            prompt = hash(tuple(said))
        said.append(message.content)
        # Calls without their ids, which differ from run to run.
        said.extend([(call.name, call.arguments) for call in message.tool_calls])
        here = hash(tuple(said))
        hashes.append(here)
        said = [here]
    return prompt, hashes


class Tally:
    """The counts kept during an import."""

    def __init__(self) -> None:
        self.skipped = self.held = self.joined = self.undecided = self.disagreeing = self.repeated = 0
        self.tasks: Counter[str] = Counter()
        """Number of trajectories per task of the store."""
        self.sheet: SheetUse | None = None
        self.others: Counter[str] = Counter()
        """Number of files that are not logs, by suffix."""
        self.reports: Counter[Path] = Counter()
        """Number of benchmarks' reports that were not named, by the folder that they lie in."""
        self.no_format = self.resumed = 0
        """Numbers of files in no known format, and of session files that another one contains."""
        self._with_keys = 0
        self._redacted: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
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

    def add(self, task: str, facts: Facts) -> None:
        """Count a trajectory of a task."""
        self.tasks[task] += 1
        self._formats[facts.format] += 1
        self._scores[facts.score_from] += 1
        self._outcomes[facts.outcome] += 1
        for name, other in facts.other_scores:
            self._present[name] += 1
            self._differs[name] += other
        self._tasks_from.add(task, facts)
        self._steps += facts.steps
        if facts.score is not None:
            self._spread.add(task, facts.score)
        self._beginnings.add(facts)
        self._example.add(task, facts)
        if facts.redacted:
            self._redacted.update(facts.redacted)
        self._with_keys += facts.with_key
        if facts.error is not None:
            self._errors[facts.error] += 1

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
            reports=dict(self.reports.most_common()),
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
            redacted=dict(self._redacted),
            with_keys=self._with_keys,
            errors=dict(self._errors.most_common()),
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

    def add(self, task: str, facts: Facts) -> None:
        self.fields[facts.task_from] += 1
        self._origin.setdefault(task, facts.task_from)
        for name, value in facts.other_tasks:
            self._present[name] += 1
            values = self._values.setdefault(name, set())
            if len(values) < MANY:
                values.add(hash(value))
        if task not in self._prompts:
            self._prompts[task] = facts.prompt
            return
        self._several.add(task)
        if self._prompts[task] == facts.prompt:
            self._alike.add(task)

    def others(self) -> dict[str, OtherTask]:
        return {name: OtherTask(number, len(self._values[name])) for name, number in self._present.items()}

    def prompts_differ(self) -> dict[str, int]:
        return dict(Counter(self._origin[task] for task in self._several - self._alike).most_common())


def _elsewhere(found: Imported) -> str:
    """Where a task comes from if no field holds its name as it is."""
    if found.task is None:
        return THE_PROMPT
    return "the file's name" if found.named_by_file else found.task_from or "the log"


class _Spread:
    """Collects scores, of each task only the lowest and the highest."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._runs = 0
        self._ranges: dict[str, tuple[float, float, bool]] = {}

    def add(self, task: str, score: float) -> None:
        self._sum += score
        self._runs += 1
        before = self._ranges.get(task)
        low, high, _ = before or (score, score, False)
        self._ranges[task] = min(low, score), max(high, score), before is not None

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

    def add(self, facts: Facts) -> None:
        """Count this trajectory if it is a beginning, and those that are beginnings of it."""
        *inner, end = facts.replies
        passed, ends = self._passed, self._ends
        for here in facts.replies[facts.context_turns :]:
            if here not in passed and here not in ends:
                break  # then nothing that follows is shared either
            self.shared += 1
        if not ends.keys().isdisjoint(inner):
            self.count += sum(ends.pop(here, 0) for here in inner)
        if end in passed:
            self.count += 1
        else:
            ends[end] += 1
        passed.update(inner)
        for kept in (ends, passed):
            if len(kept) > self._MOST:
                kept.clear()


class _Example:
    """The common beginning of all trajectories, before they depend on their tasks."""

    def __init__(self) -> None:
        self._common: list[int] | None = None
        self._task: str | None = None
        self._several = False

    @property
    def turns(self) -> int:
        """Number of replies in it; 0 if all of them already are context, or there are fewer than two tasks."""
        return len(self._common or ()) if self._several else 0

    def add(self, task: str, facts: Facts) -> None:
        if self._common == []:
            return
        # The last reply is the agent's decision in any case.
        own = facts.replies[: facts.context_turns + facts.steps - 1]
        common = own if self._common is None else self._common[: len(own)]
        same = next((n for n, (a, b) in enumerate(zip(common, own, strict=False)) if a != b), len(common))
        self._common = common[: same if same > facts.context_turns else 0]
        self._several = self._several or self._task not in (None, task)
        self._task = task


__all__ = ["NO_SCORE", "THE_PROMPT", "Facts", "Tally", "facts_of"]
