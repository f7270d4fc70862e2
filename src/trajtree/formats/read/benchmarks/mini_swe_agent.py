"""Runs of mini-swe-agent (`.traj.json`, 1.x and 2.x)."""

from __future__ import annotations

from trajtree.chat import FIELDS, message_from_dict, unread
from trajtree.errors import DataError
from trajtree.formats.read.aside import fields_aside
from trajtree.formats.read.benchmarks.ended import ended
from trajtree.formats.read.benchmarks.reports import (
    SCORES_OF_FILES,
    TASKS_OF_FILES,
    benchmark_score,
    runs_named_after_tasks,
)
from trajtree.formats.read.fields import (
    Record,
    at,
    objects,
    other_scores,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Outcome

TASKS = TASKS_OF_FILES
runs = runs_named_after_tasks
_OWN = frozenset(("extra",))
"""What mini-swe-agent adds to a message: the parsed action, the engine's whole answer, cost and time."""

_EXIT = frozenset(("role", "content", "extra"))
"""The fields of the message that repeats `info`."""

_ENDS = {
    "Submitted": Outcome.COMPLETED,
    "submitted": Outcome.COMPLETED,
    "LimitsExceeded": Outcome.TRUNCATED,
    "TimeExceeded": Outcome.TRUNCATED,
    "ContextWindowExceededError": Outcome.TRUNCATED,
    "RepeatedFormatError": Outcome.AGENT_ERROR,
}


def recognises(record: Record) -> bool:
    """Whether a record says that it is mini-swe-agent's, or has its messages and how the run was exited."""
    if str(record.get("trajectory_format")).startswith("mini-swe-agent"):
        return True
    info = record.get("info")
    return isinstance(record.get("messages"), list) and isinstance(info, dict) and "exit_status" in info


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run; its last message, of role `exit`, is not a message but repeats `info`.

    Args:
        record: `messages` and `info`, with `beside` from `runs`.
        score: dotted path of the score; without one, the usual names and the benchmark's report.
        task: dotted path of the task; without one, `instance_id` or the file's name.

    Raises:
        DataError: a field is wrong, or the run was ended by something other than the agent.
    """
    turns = objects(record.get("messages"), "messages")
    aside: dict[str, object] = {}
    if turns and turns[-1].get("role") == "exit":
        *turns, exited = turns
        if left := unread(exited, _EXIT):
            aside = {f"messages.{len(turns)}": left}
    bare = [{name: value for name, value in turn.items() if name not in _OWN} for turn in turns]
    for index, turn in enumerate(bare):
        if "role" not in turn and turn.get("object") == "response":
            raise DataError(f"messages.{index}: is an answer of OpenAI's Responses API, which is not read here")
    taken = benchmark_score(record, score, SCORES_OF_FILES)
    return Imported(
        messages=tuple([message_from_dict(turn, f"messages.{index}") for index, turn in enumerate(bare)]),
        context_turns=0,
        score=taken,
        task=task_at(record, task, TASKS),
        policy=text_at(record, "info.config.model.model_name", "model", "model_name"),
        tools=tools_at(record, "tools"),
        outcome=_outcome(record),
        metadata=fields_aside([("messages", bare)], FIELDS, aside),
        other_scores=other_scores(record, taken[0], SCORES_OF_FILES),
    )


def _outcome(record: Record) -> Outcome:
    """An empty status is that of a run that never exited, because mini-swe-agent writes its file after every step."""
    status = at(record, "info.exit_status")
    return Outcome.TRUNCATED if status in (None, "") else ended(status, "info.exit_status", _ENDS)


__all__ = ["TASKS", "read", "recognises", "runs"]
