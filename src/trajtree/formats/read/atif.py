"""Runs as ATIF documents (Agent Trajectory Interchange Format, v1.0 to v1.8)."""

from __future__ import annotations

from trajtree.chat import arguments_text, text_of
from trajtree.errors import DataError
from trajtree.formats.read.fields import Record, at, leading, objects, outcome_at, score_at, task_at, text_at, tools_at
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, ToolCall

_SCORES = ("extra.score", "extra.reward", "final_metrics.extra.score", "final_metrics.extra.reward")
_TASKS = ("extra.task", "extra.task_id", "extra.instance_id")


def recognises(record: Record) -> bool:
    """Whether a record says that it is ATIF, of whichever version."""
    return str(record.get("schema_version")).startswith("ATIF")


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one document.

    The agent's steps are its replies, with their observations as messages behind them. Leading steps that were copied
    from another run, or made without a model, are context.

    Args:
        record: the document.
        score: dotted path of the score; without one, the usual places are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: naming the field that is wrong, or what cannot be kept: images and sound, subagents, a run that
            goes on in another document.
    """
    version = record.get("schema_version")
    if not isinstance(version, str) or not version.startswith("ATIF-v1."):
        raise DataError(f"schema_version: {str(version)[:80]!r}; ATIF-v1.0 to ATIF-v1.8 are read")
    for name in ("subagent_trajectories", "continued_trajectory_ref"):
        if record.get(name):
            raise DataError(f"{name}: a run that is spread over several trajectories cannot be imported")
    messages: list[Message] = []
    context: list[bool] = []
    known: set[str] = set()
    steps = objects(record.get("steps"), "steps")
    for index, step in enumerate(steps):
        where = f"steps.{index}"
        said = _said(step, where)
        known.update(call.id for call in said.tool_calls)
        heard = _heard(step, where, said, known)
        # A system step may be nothing but an event that is told in its observation.
        if said.role == "assistant" or said.content or not heard:
            messages.append(said)
        messages += heard
        if said.role == "assistant":
            context.append(step.get("is_copied_context") is True or step.get("llm_call_count") == 0)
    models = (text_at(step, "model_name") for step in steps if step.get("source") == "agent")
    return Imported(
        messages=tuple(messages),
        context_turns=leading(context, "was copied or made without a model"),
        score=score_at(record, score, _SCORES),
        task=task_at(record, task, _TASKS),
        policy=text_at(record, "agent.model_name") or next(models, None) or text_at(record, "agent.name"),
        tools=tools_at(record, "agent.tool_definitions"),
        outcome=outcome_at(record.get("extra")),
    )


def _said(step: Record, where: str) -> Message:
    """What the step itself says."""
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
    raise DataError(f"{where}.source: {str(source)[:80]!r} is none of system, user, agent")


def _calls(step: Record, where: str) -> tuple[ToolCall, ...]:
    made = []
    for index, call in enumerate(objects(step.get("tool_calls") or [], f"{where}.tool_calls")):
        here = f"{where}.tool_calls.{index}"
        name, id_ = call.get("function_name"), call.get("tool_call_id")
        if not isinstance(name, str) or not isinstance(id_, str):
            raise DataError(f"{here}: a call has a tool_call_id and a function_name")
        made.append(ToolCall(id_, name, arguments_text(call.get("arguments", {}), f"{here}.arguments")))
    return tuple(made)


def _heard(step: Record, where: str, said: Message, known: set[str]) -> list[Message]:
    """The results in the step's observation: a tool's where they belong to a call, else a user's."""
    if step.get("observation") is None:
        return []
    results = objects(at(step, "observation.results"), f"{where}.observation.results")
    heard = []
    for index, result in enumerate(results):
        here = f"{where}.observation.results.{index}"
        if result.get("subagent_trajectory_ref"):
            raise DataError(f"{here}.subagent_trajectory_ref: runs with subagents cannot be imported")
        content, call = text_of(result.get("content"), f"{here}.content"), result.get("source_call_id")
        if call is None and len(said.tool_calls) == len(results) == 1:
            call = said.tool_calls[0].id
        if call is not None and (not isinstance(call, str) or call not in known):
            raise DataError(f"{here}.source_call_id: {str(call)[:80]!r} is no call of the agent's")
        heard.append(Message("user", content) if call is None else Message("tool", content, tool_call_id=call))
    return heard


__all__ = ["read", "recognises"]
