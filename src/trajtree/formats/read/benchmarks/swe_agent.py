"""Runs of SWE-agent (`.traj`, 0.6 to 1.1)."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json

from trajtree.chat import FIELDS, message_from_dict
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
    leading,
    objects,
    other_scores,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome

TASKS = TASKS_OF_FILES
runs = runs_named_after_tasks
OWN = frozenset(("agent", "message_type", "thought", "action", "is_demo", "tool_call_ids", "tags"))
"""Fields that SWE-agent adds to a message: `thought` and `action` were parsed out of its content."""

_SUBMITTED = re.compile(r"submitted \((.+)\)$")
"""An exit after which SWE-agent submitted what there was."""

_ENDS = {
    "submitted": Outcome.COMPLETED,
    "exit_cost": Outcome.TRUNCATED,
    "exit_context": Outcome.TRUNCATED,
    "exit_total_execution_time": Outcome.TRUNCATED,
    "exit_command_timeout": Outcome.TRUNCATED,
    "exit_format": Outcome.AGENT_ERROR,
    "exit_forfeit": Outcome.AGENT_ERROR,
}


def recognises(record: Record) -> bool:
    """Whether a record has a history of messages beside SWE-agent's own fields."""
    history = record.get("history")
    return isinstance(history, list) and bool(history) and isinstance(at(history, "0.role"), str)


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Demonstrations within the history are context. The messages are those of `history`; `trajectory` repeats them.

    Args:
        record: `history` and `info`, with `beside` from `runs`.
        score: dotted path of the score; without one, the usual names and the benchmark's report.
        task: dotted path of the task; without one, the file's name.

    Raises:
        DataError: a field is wrong, or the run was ended by something other than the agent.
    """
    turns = objects(record.get("history"), "history")
    demos = (turn.get("is_demo") is True for turn in turns if turn.get("role") == "assistant")
    taken = benchmark_score(record, score, SCORES_OF_FILES)
    return Imported(
        messages=tuple([_message(turn, f"history.{index}") for index, turn in enumerate(turns)]),
        context_turns=leading(demos, "is a demonstration"),
        score=taken,
        task=task_at(record, task, TASKS),
        policy=_model(record),
        tools=tools_at(record, "tools"),
        outcome=_outcome(record),
        metadata=fields_aside([("history", turns)], FIELDS | OWN),
        other_scores=other_scores(record, taken[0], SCORES_OF_FILES),
    )


def _message(turn: Record, where: str) -> Message:
    return message_from_dict(plain(turn, where), where)


def plain(turn: Record, where: str) -> dict[str, Any]:
    """A message of a history with OpenAI's fields alone; SWE-agent names the call of a result in `tool_call_ids`."""
    left = {name: value for name, value in turn.items() if name not in OWN}
    calls = turn.get("tool_call_ids")
    if calls and turn.get("role") == "tool":
        if not isinstance(calls, list) or len(calls) != 1:
            raise DataError(f"{where}.tool_call_ids: a message must be the result of one call")
        left["tool_call_id"] = calls[0]
    return left


def _outcome(record: Record) -> Outcome:
    status = at(record, "info.exit_status")
    if status is None:
        return Outcome.COMPLETED if not record.get("info") else Outcome.TRUNCATED
    return exited(status, "info.exit_status")


def exited(status: object, where: str) -> Outcome:
    """How a run ended, by SWE-agent's exit status. Raises DataError like `ended`."""
    within = _SUBMITTED.match(status) if isinstance(status, str) else None
    return ended(within[1] if within else status, where, _ENDS)


def _model(record: Record) -> str | None:
    config = record.get("replay_config")
    if isinstance(config, str):
        try:
            config = from_json(config)
        except ValueError:
            raise DataError("replay_config: not JSON") from None
    return text_at(config, "agent.model.name") or text_at(record, "model", "model_name")


__all__ = ["OWN", "TASKS", "exited", "plain", "read", "recognises", "runs"]
