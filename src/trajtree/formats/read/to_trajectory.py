"""Converting a conversation recorded by another tool to a trajectory.

The messages stay exactly as they are. The steps, from which trees are built, are derived from them: everything said
since the last reply is the observation; the reply's tool calls, its `Action:` part or the whole reply is the action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from trajtree.chat import Parsed, action_of
from trajtree.errors import DataError
from trajtree.formats.read.fields import (
    SCORES,
    TASKS,
    Record,
    other_scores,
    outcome_at,
    prompt_task,
    score_at,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.made import made_of
from trajtree.formats.read.scores import is_missing, scaled
from trajtree.trajectory import Made, Message, Outcome, Step, Trajectory

_ACTION = re.compile(r"^[ \t]*Action:", re.MULTILINE)
_END_OF_THINKING = "</think>"


@dataclass(frozen=True, slots=True)
class Imported:
    """One run as its reader found it.

    Attributes:
        messages: the conversation.
        context_turns: leading replies that are not the agent's decisions.
        score: the field with the score, and its value: see `fields.score_at`; None if the format has none.
        task: the task; None derives it from the prompt.
        policy: the policy that played.
        tools: definitions of the agent's tools, each as JSON text.
        outcome: how the run ended.
        metadata: anything else worth keeping.
        other_scores: other fields in which the format may have a score, and their values.
        made: how each reply was made, see `made.made_of`.
        task_from: where the task comes from, if the reader makes its name from several fields.
        named_by_file: whether such runs are stored one per file, with the file named after the task.
    """

    messages: tuple[Message, ...]
    context_turns: int
    score: tuple[str, object]
    task: str | None
    policy: str | None
    tools: tuple[str, ...] = ()
    outcome: Outcome = Outcome.COMPLETED
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    other_scores: tuple[tuple[str, object], ...] = ()
    named_by_file: bool = False
    made: tuple[Made, ...] = ()
    task_from: str = ""


def with_usual_fields(
    record: Record,
    messages: Sequence[Message],
    context_turns: int,
    *,
    score: str | None,
    task: str | None,
    metadata: Mapping[str, str],
    named_by_file: bool = False,
    replies: Sequence[Record] = (),
) -> Imported:
    """A run with score, task, model and tools beside its conversation under their usual names.

    `replies` are the records of its replies, which may say how each was made.

    Raises:
        DataError: a requested field is wrong.
    """
    taken = score_at(record, score, SCORES)
    policy = text_at(record, "model", "model_name", "policy")
    if policy is None and len(models := {text_at(reply, "model", "model_name") for reply in replies}) == 1:
        (policy,) = models
    return Imported(
        messages=tuple(messages),
        context_turns=context_turns,
        score=taken,
        task=task_at(record, task, TASKS),
        policy=policy,
        tools=tools_at(record, "tools"),
        outcome=outcome_at(record),
        metadata=metadata,
        other_scores=other_scores(record, taken[0], SCORES),
        named_by_file=named_by_file,
        made=made_of(replies, policy),
    )


def trajectory_of(
    found: Imported,
    env: str,
    score_range: tuple[float, float],
    *,
    keep_unscored: bool = False,
    place: Mapping[str, str | int] = MappingProxyType({}),
) -> Trajectory:
    """The trajectory of a run, as sample 0 of its task.

    Args:
        found: the run.
        env: the name of its format.
        score_range: the score values that stand for 0 and 1.
        keep_unscored: make a trajectory of a run without a score too.
        place: further metadata, where the run comes from.

    The rewards of its steps are unknown, so the last one gets the whole score.

    Raises:
        DataError: the agent never replies, the run's beginning is missing, or the score is not a number in the range.
    """
    if next((m.role for m in found.messages if m.role != "system"), None) == "tool":
        raise DataError(
            "messages: the first one is a tool's result, so this is the later part of a run; "
            "parts of one run are joined with --run FIELD"
        )
    unscored = keep_unscored and is_missing(found.score[1])
    score = 0.0 if unscored else scaled(*found.score, *score_range)
    steps, first = _steps(found.messages, found.context_turns, score)
    if not steps:
        raise DataError("messages: the agent never replies")
    return Trajectory(
        task=found.task or prompt_task(found.messages[:first]),
        sample=0,
        policy=found.policy or "unknown",
        env=env,
        env_version="",
        seed=None,
        sampling=None,
        messages=found.messages,
        steps=tuple(steps),
        score=score,
        outcome=found.outcome,
        context_turns=found.context_turns,
        tools=found.tools,
        metadata={**found.metadata, **place},
        unscored=unscored,
        made=found.made,
    )


def action_part(text: str) -> Parsed | None:
    """The text after `Action:` at the beginning of a line, and the thought before it; None if there is no action."""
    match = _ACTION.search(text) if "Action:" in text else None
    action = text[match.end() :].strip() if match else ""
    if match is None or not action:
        return None
    return Parsed(text[: match.start()].strip().removeprefix("Thought:").strip() or None, action)


def parted(text: str) -> Parsed:
    """A parsed reply: thinking in tags, then `Thought:` and `Action:`; otherwise the whole reply is the action."""
    thinking, tag, rest = text.partition(_END_OF_THINKING)
    if not tag or not rest.strip():
        return action_part(text) or Parsed(None, text)
    thought = thinking.strip().removeprefix("<think>").strip() or None
    said = action_part(rest) or Parsed(None, rest.strip())
    return Parsed("\n".join(t for t in (thought, said.thought) if t) or None, said.action)


def _decision(message: Message) -> tuple[str | None, str]:
    content = message.content
    if not message.tool_calls:
        thought, action = parted(content)
        return message.reasoning or thought, action
    action = action_of(message)
    try:
        action.encode()
    except UnicodeEncodeError:
        raise DataError("a tool call's arguments contain half a character (a lone surrogate)") from None
    return message.reasoning or content or None, action


def _steps(messages: Sequence[Message], context_turns: int, score: float) -> tuple[list[Step], int]:
    """The steps, and the index of the first step's reply."""
    steps: list[Step] = []
    seen: list[str] = []
    first = turns = 0
    for index, message in enumerate(messages):
        if message.role != "assistant":
            if steps or message.role != "system":
                seen.append(message.content)
            continue
        turns += 1
        if turns > context_turns:
            first = first if steps else index
            thought, action = message.reasoning, message.content
            if message.tool_calls or "Action:" in action or _END_OF_THINKING in action:  # few replies in text
                thought, action = _decision(message)
            steps.append(Step(seen[0] if len(seen) == 1 else "\n".join(seen), action, thought))
        seen.clear()
    if steps:
        last = steps[-1]
        steps[-1] = Step(last.observation, last.action, last.thought, score)
    return steps, first


__all__ = ["Imported", "action_part", "parted", "trajectory_of", "with_usual_fields"]
