"""Episodes of rLLM: one or more trajectories, whose steps are calls of the model with everything that came before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from trajtree.chat import FIELDS, message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.aside import fields_aside
from trajtree.formats.read.benchmarks.ended import ended
from trajtree.formats.read.benchmarks.split import split
from trajtree.formats.read.fields import (
    Record,
    at,
    objects,
    other_scores,
    score_at,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.records import RawRecord
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome

TASKS = ("task_id",)
_SCORES = ("trajectory.reward", "episode.is_correct")
_ENDS = {
    "env_done": Outcome.COMPLETED,
    "unknown": Outcome.COMPLETED,
    "max_turns_exceeded": Outcome.TRUNCATED,
    "max_prompt_length_exceeded": Outcome.TRUNCATED,
    "max_response_length_exceeded": Outcome.TRUNCATED,
    "timeout": Outcome.TRUNCATED,
}


def recognises(record: Record) -> bool:
    """Whether a record has trajectories of steps with chat messages, or is one that `runs` made."""
    found = record.get("trajectories")
    several = list(found.values()) if isinstance(found, dict) else found
    first = several[0] if isinstance(several, list) and several else record.get("trajectory")
    return isinstance(at(first, "steps"), list) and ("id" in record or "episode" in record)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """A record per trajectory, `{"task_id": ..., "episode": ..., "trajectory": ...}`.

    The task is the episode's id without the number of its rollout; several agents of one episode have tasks of their
    own, named after them.
    """
    return split(records, _trajectories)


def _trajectories(record: Record) -> list[dict[str, Any]] | None:
    if "trajectories" not in record:
        return None
    found = record["trajectories"]
    if isinstance(found, dict):
        found = [{"name": name, **one} if isinstance(one, dict) else one for name, one in found.items()]
    several = objects(found, "trajectories")
    episode = {name: value for name, value in record.items() if name != "trajectories"}
    whole = str(record.get("id") or "")
    task, colon, number = whole.rpartition(":")
    task = task if colon and number.isdecimal() else whole
    distinct = len({str(one.get("name")) for one in several}) > 1
    return [
        {
            "task_id": f"{task}/{one.get('name')}" if task and distinct else task,
            "episode": episode,
            "trajectory": one,
        }
        for one in several
    ]


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one trajectory: the messages of its last step, of which every earlier step is a beginning.

    Replies before the first step's own are context.

    Args:
        record: `task_id`, `episode` and `trajectory`, as `runs` makes them.
        score: dotted path of the score; without one, the trajectory's `reward`, or the episode's `is_correct`.
        task: dotted path of the task; without one, `task_id`.

    Raises:
        DataError: a field is wrong; a step is not a beginning of the next, so the model was shown something else; or an
            error ended the episode.
    """
    steps = objects(at(record, "trajectory.steps"), "trajectory.steps")
    if not steps:
        raise DataError("trajectory.steps: there is none, so the agent never replies")
    conversations = [_messages(step, f"trajectory.steps.{index}.chat_completions") for index, step in enumerate(steps)]
    reason = at(record, "episode.termination_reason")
    taken = score_at(record, score, _SCORES)
    turns = objects(steps[-1]["chat_completions"], "chat_completions")
    return Imported(
        messages=conversations[-1],
        context_turns=_context_turns(conversations),
        score=taken,
        task=task_at(record, task, TASKS),
        policy=text_at(record, "episode.model", "trajectory.model"),
        tools=tools_at(record, "trajectory.tools"),
        outcome=Outcome.COMPLETED if reason is None else ended(reason, "episode.termination_reason", _ENDS),
        metadata=fields_aside([("chat_completions", turns)], FIELDS),
        other_scores=other_scores(record, taken[0], _SCORES),
    )


def _messages(step: Record, where: str) -> tuple[Message, ...]:
    turns = objects(step.get("chat_completions"), where)
    return tuple([message_from_dict(turn, f"{where}.{index}") for index, turn in enumerate(turns)])


def _context_turns(conversations: Sequence[tuple[Message, ...]]) -> int:
    """How many replies come before the first step's own."""
    replies = [sum(message.role == "assistant" for message in messages) for messages in conversations]
    for index, (before, after) in enumerate(pairwise(conversations)):
        if after[: len(before)] != before or replies[index + 1] != replies[index] + 1:
            raise DataError(
                f"trajectory.steps.{index + 1}.chat_completions: does not go on from the step before with one reply, "
                "so the steps are not one conversation"
            )
    return max(0, replies[0] - 1)


__all__ = ["TASKS", "read", "recognises", "runs"]
