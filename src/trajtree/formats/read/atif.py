"""Runs as ATIF documents (Agent Trajectory Interchange Format, v1.0 to v1.8)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trajtree.chat import arguments_text, text_of
from trajtree.errors import DataError
from trajtree.formats.read.fields import (
    Record,
    at,
    fields_aside,
    leading,
    objects,
    other_scores,
    outcome_at,
    score_at,
    system_beside,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, ToolCall

_SCORES = ("extra.score", "extra.reward", "final_metrics.extra.score", "final_metrics.extra.reward")
_FIELDS = frozenset(
    (
        *("step_id", "timestamp", "source", "model_name", "reasoning_effort", "message", "reasoning_content"),
        *("tool_calls", "observation", "metrics", "is_copied_context", "llm_call_count"),
    )
)
_INSTRUCTIONS = ("agent.extra.system_prompt", "agent.extra.instructions", "agent.system_prompt", "extra.system_prompt")
_CONTINUATION = re.compile(r"-cont-\d+$")
"""Suffix of the session_id that Harbor gives to a document continuing another one."""

TASKS = ("extra.task", "extra.task_id", "extra.instance_id")


def recognises(record: Record) -> bool:
    """Whether a record says that it is ATIF, in any version."""
    return str(record.get("schema_version")).startswith("ATIF")


def goes_on_in(record: Record) -> str | None:
    """The file in which a document's run continues, as named in the document."""
    return text_at(record, "continued_trajectory_ref")


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one document.

    The agent's steps are its replies, followed by their observations as messages; a step with only an observation is
    not a reply. A result that names no call answers the first open call of the last reply. Leading steps that were
    copied from another run, or made without a model, are context.

    Args:
        record: the document.
        score: dotted path of the score; without one, the usual places are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: a field is wrong, or something cannot be kept: images and sound, subagents, a run that continues in
            another document, or comes from one.
    """
    version = record.get("schema_version")
    if not isinstance(version, str) or not version.startswith("ATIF-v1."):
        raise DataError(f"schema_version: {str(version)[:80]!r}; ATIF-v1.0 to ATIF-v1.8 are read")
    for name in ("subagent_trajectories", "continued_trajectory_ref"):
        if record.get(name):
            raise DataError(f"{name}: a run that is spread over several trajectories cannot be imported")
    if _CONTINUATION.search(text_at(record, "session_id") or ""):
        raise DataError("session_id: this is the later part of a run that began in another document")
    messages: list[Message] = []
    context: list[bool] = []
    known: set[str] = set()
    unanswered: list[str] = []
    steps = objects(record.get("steps"), "steps")
    aside = fields_aside([("steps", steps)], _FIELDS)
    for index, step in enumerate(steps):
        where = f"steps.{index}"
        said = _said(step, where)
        results = _results(step, where)
        silent = not (said.content or said.tool_calls or said.reasoning)
        # A step may consist only of an observation, after a call or in a system event.
        if not silent or not results:
            messages.append(said)
            if said.role == "assistant":
                context.append(step.get("is_copied_context") is True or step.get("llm_call_count") == 0)
                unanswered = [call.id for call in said.tool_calls]
                known.update(unanswered)
        messages += _heard(results, where, unanswered if said.role == "assistant" else [], known)
    messages[:0] = system_beside(record, messages, _INSTRUCTIONS)
    taken = score_at(record, score, _SCORES)
    models = (text_at(step, "model_name") for step in steps if step.get("source") == "agent")
    return Imported(
        messages=tuple(messages),
        context_turns=leading(context, "was copied or made without a model"),
        score=taken,
        task=task_at(record, task, TASKS),
        policy=text_at(record, "agent.model_name") or next(models, None) or text_at(record, "agent.name"),
        tools=tools_at(record, "agent.tool_definitions"),
        outcome=outcome_at(record.get("extra")),
        metadata=aside,
        other_scores=other_scores(record, taken[0], _SCORES),
    )


def _said(step: Record, where: str) -> Message:
    """The step's own message."""
    source, content = step.get("source"), text_of(step.get("message"), f"{where}.message")
    if source == "agent":
        reasoning = step.get("reasoning_content") or None
        if reasoning is not None and not isinstance(reasoning, str):
            raise DataError(f"{where}.reasoning_content: must be text, got {type(reasoning).__name__}")
        return Message("assistant", content, reasoning, _calls(step, where))
    if step.get("tool_calls") or step.get("reasoning_content"):
        raise DataError(f"{where}: only an agent's step has tool calls and reasoning, source is {str(source)[:80]!r}")
    if source == "user":
        return Message("user", content)
    if source == "system":
        return Message("system", content)
    raise DataError(f"{where}.source: {str(source)[:80]!r} is not one of system, user, agent")


def _calls(step: Record, where: str) -> tuple[ToolCall, ...]:
    made = []
    for index, call in enumerate(objects(step.get("tool_calls") or [], f"{where}.tool_calls")):
        here = f"{where}.tool_calls.{index}"
        name, id_ = call.get("function_name"), call.get("tool_call_id")
        if not isinstance(name, str) or not isinstance(id_, str):
            raise DataError(f"{here}: a call needs a tool_call_id and a function_name")
        made.append(ToolCall(id_, name, arguments_text(call.get("arguments", {}), f"{here}.arguments")))
    return tuple(made)


def _results(step: Record, where: str) -> Sequence[Record]:
    if step.get("observation") is None:
        return ()
    return objects(at(step, "observation.results"), f"{where}.observation.results")


def _heard(results: Sequence[Record], where: str, unanswered: list[str], known: set[str]) -> list[Message]:
    """The results of an observation: a tool's where they belong to a call, else a user's.

    Args:
        results: the results.
        where: the step, for errors.
        unanswered: unanswered calls of the last reply, in order; those answered here are removed.
        known: all calls so far.
    """
    named = {call for result in results if isinstance(call := result.get("source_call_id"), str)}
    heard = []
    for index, result in enumerate(results):
        here = f"{where}.observation.results.{index}"
        if result.get("subagent_trajectory_ref"):
            raise DataError(f"{here}.subagent_trajectory_ref: runs with subagents cannot be imported")
        content, call = text_of(result.get("content"), f"{here}.content"), result.get("source_call_id")
        if call is None:
            call = next((id_ for id_ in unanswered if id_ not in named), None)
        elif not isinstance(call, str) or call not in known:
            raise DataError(f"{here}.source_call_id: {str(call)[:80]!r} is not a call of the agent's")
        if call in unanswered:
            unanswered.remove(call)
        heard.append(Message("user", content) if call is None else Message("tool", content, tool_call_id=call))
    return heard


__all__ = ["TASKS", "goes_on_in", "read", "recognises"]
