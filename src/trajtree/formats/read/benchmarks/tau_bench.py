"""Results of tau-bench: an array of runs, each with `traj`, `reward`, `task_id` and `trial`."""

from __future__ import annotations

from trajtree.chat import FIELDS, message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.aside import fields_aside
from trajtree.formats.read.fields import (
    Record,
    at,
    objects,
    score_at,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Outcome

_TASKS = ("task_id",)
_SCORES = ("reward",)


def recognises(record: Record) -> bool:
    """Whether a record has a conversation under tau-bench's name, and the number of its task."""
    return isinstance(record.get("traj"), list) and "task_id" in record


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Tasks are numbered from 0 in every domain, so their names hold the simulated user's id too.

    Args:
        record: `traj` (OpenAI's messages), `reward`, `task_id`, `info`.
        score: dotted path of the score; without one, `reward`.
        task: dotted path of the task; without one, `task_id` and `info.task.user_id`.

    Raises:
        DataError: a field is wrong, or an exception ended the run, which tau-bench stores with a reward of 0.
    """
    error = at(record, "info.error")
    if error is not None:
        raise DataError(f"info.error: {str(error)[:200]}; the run failed and was not scored")
    turns = objects(record.get("traj"), "traj")
    name, user = task_at(record, task, _TASKS), text_at(record, "info.task.user_id")
    return Imported(
        messages=tuple([message_from_dict(turn, f"traj.{index}") for index, turn in enumerate(turns)]),
        context_turns=0,
        score=score_at(record, score, _SCORES),
        task=f"{name}/{user}" if name and user and task is None else name,
        task_from="tau-bench's task_id and user_id",
        policy=text_at(record, "model", "info.model"),
        tools=tools_at(record, "tools"),
        outcome=_outcome(record),
        metadata=fields_aside([("traj", turns)], FIELDS),
    )


def _outcome(record: Record) -> Outcome:
    """The environment computes `reward_info` when the conversation ends; at the limit of steps it never does."""
    info = record.get("info")
    unended = isinstance(info, dict) and "reward_info" in info and info["reward_info"] is None
    return Outcome.TRUNCATED if unended else Outcome.COMPLETED


__all__ = ["read", "recognises"]
