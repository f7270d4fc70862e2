"""Results of OpenHands' evaluations (`output.jsonl`): a row per run, whose history is a list of events.

Version 0 writes actions and observations; the events of version 1, which have a `kind`, are read in `openhands_sdk`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from trajtree.chat import FIELDS, message_from_dict, text_of
from trajtree.errors import DataError
from trajtree.formats.read.aside import OPENAI, Known, left_over, left_within
from trajtree.formats.read.benchmarks import openhands_sdk
from trajtree.formats.read.benchmarks.reports import RESOLVED, benchmark_score, has_reports, verdict, with_beside
from trajtree.formats.read.fields import (
    SCORES,
    Record,
    at,
    objects,
    other_scores,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.records import RawRecord, decode
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome

TASKS = ("instance_id",)
_SCORES = ("report.resolved", "test_result.report.resolved", "test_result.resolved", RESOLVED, *SCORES)

_UNSAID = frozenset(
    (
        *("change_agent_state", "agent_state_changed", "null", "recall", "pause", "resume", "start", "stop"),
        *("condensation_request", "loop_recovery", "loop_detection"),
    )
)
"""Actions and observations between OpenHands' parts. What `recall` adds to the prompt is not logged as it was shown."""

_CONDENSED = frozenset(("condensation", "condense"))
_ACTIONS = frozenset(
    (
        *("read", "write", "edit", "run", "run_ipython", "browse", "browse_interactive", "call_tool_mcp", "think"),
        *("finish", "reject", "task_tracking", "push", "send_pr"),
    )
)
_OBSERVATIONS = frozenset(
    (
        *("read", "write", "edit", "run", "run_ipython", "browse", "mcp", "think", "error", "success"),
        *("task_tracking", "user_rejected", "download"),
    )
)
_EVENT = Known(
    frozenset(
        (
            *("id", "timestamp", "source", "message", "cause", "timeout", "action", "observation", "args", "content"),
            *("extras", "tool_call_metadata", "llm_metrics", "success", "tool_result"),
        )
    ),
    {
        "tool_call_metadata": Known(
            frozenset(("tool_call_id", "function_name", "model_response", "total_calls_in_response"))
        )
    },
)
_ARGS = Known(
    frozenset(
        (
            *("content", "tools", "agent_class", "openhands_version"),
            *("image_urls", "file_urls", "wait_for_response", "security_risk"),
        )
    )
)
_REPLY = Known(FIELDS, OPENAI)
"""What is read of an event, of its arguments and of the engine's reply, or irrelevant to what was said."""

_KINDS = ("action", "observation", "kind")
_LIMITS = ("maximum iteration", "maximum budget", "max iteration", "MaxIterationsReached", "context window")


def recognises(record: Record) -> bool:
    """Whether a record has a history of OpenHands' events, of any version."""
    events = _flat(record.get("history"))
    first = events[0] if events else None
    return isinstance(first, dict) and any(isinstance(first.get(name), str) for name in _KINDS)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """Every row is a run; the benchmark's report may lie beside the file."""
    reported = has_reports(path)
    for raw in records:
        yield _reported(path, raw) if reported else raw


def _reported(path: Path, raw: RawRecord) -> RawRecord:
    try:
        return with_beside(raw, verdict(path, text_at(decode(raw), "instance_id") or ""))
    except DataError as error:
        return raw._replace(data=b"", problem=str(error))


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Args:
        record: `history` and `instance_id`, with `beside` from `runs`.
        score: dotted path of the score; without one, the report in the row, or the benchmark's beside the file.
        task: dotted path of the task; without one, `instance_id`.

    Raises:
        DataError: a field is wrong; an event's kind is not known; the model's reply to an action is not in the log;
            the run delegated to another agent; or something other than the agent ended it.
    """
    history = record.get("history")
    events = objects(_flat(history) if isinstance(history, list) else history, "history")
    told = openhands_sdk.told(events) if events and "kind" in events[0] else _told(events)
    taken = benchmark_score(record, score, _SCORES)
    return Imported(
        messages=tuple(told.messages),
        context_turns=0,
        score=taken,
        task=task_at(record, task, TASKS),
        policy=text_at(record, "metadata.llm_config.model", "metadata.llm.model"),
        tools=tools_at({"tools": told.tools}, "tools"),
        outcome=_outcome(record.get("error"), told.cut_short),
        metadata={
            **({"message_fields": json.dumps(told.aside)} if told.aside else {}),
            **({"condensations": told.condensations} if told.condensations else {}),
        },
        other_scores=other_scores(record, taken[0], _SCORES),
    )


def _flat(history: object) -> list[object]:
    """The events; early versions pair each action with its observation."""
    found = history if isinstance(history, list) else []
    return [event for entry in found for event in (entry if isinstance(entry, list) else (entry,))]


def _told(events: Sequence[Record]) -> openhands_sdk.Told:
    """What the model was told and replied, in the events of version 0."""
    told = openhands_sdk.Told()
    said: set[str] = set()
    for index, event in enumerate(events):
        where = f"history.{index}"
        action, observation = (str(event.get(name) or "") for name in ("action", "observation"))
        if action in _UNSAID or observation in _UNSAID:
            continue
        told.aside.update(left_over(event, _EVENT, where))
        if action in _CONDENSED or observation in _CONDENSED:
            told.condensations += action in _CONDENSED
        elif action == "system":
            told.aside.update(left_within(event, {"args": _ARGS}, where))
            told.messages.append(Message("system", text_of(at(event, "args.content"), f"{where}.args.content")))
            told.tools = at(event, "args.tools") or []
        elif action == "message":
            told.aside.update(left_within(event, {"args": _ARGS}, where))
            told.messages.append(_message(event, where))
        elif action in _ACTIONS:
            reply = at(event, "tool_call_metadata.model_response")
            if reply is None:
                raise DataError(f"{where}: the reply that led to action {action!r} is not in the log")
            # Several calls of one reply are several events, each with the whole reply.
            if (id_ := str(at(reply, "id") or index)) not in said:
                said.add(id_)
                there = f"{where}.tool_call_metadata.model_response"
                told.messages.append(_reply(reply, there))
                told.aside.update(left_over(at(reply, "choices.0.message"), _REPLY, f"{there}.choices.0.message"))
        elif observation in _OBSERVATIONS:
            told.messages.append(_result(event, where))
        else:
            kind = f"action {action[:80]!r}" if action else f"observation {observation[:80]!r}"
            raise DataError(f"{where}: {kind} cannot be read")
    return told


def _message(event: Record, where: str) -> Message:
    if at(event, "args.image_urls"):
        raise DataError(f"{where}.args.image_urls: only text can be kept; runs with images or sound cannot be imported")
    role = "assistant" if event.get("source") == "agent" else "user"
    return message_from_dict({"role": role, "content": at(event, "args.content")}, where)


def _reply(response: Record, where: str) -> Message:
    said = message_from_dict(at(response, "choices.0.message"), f"{where}.choices.0.message")
    if said.role != "assistant":
        raise DataError(f"{where}.choices.0.message.role: {said.role!r} is not the model's")
    return said


def _result(event: Record, where: str) -> Message:
    """The result of a call; an observation without one, such as that the reply was not a valid call, is the user's."""
    around = [text_at(event, f"extras.metadata.{side}") or "" for side in ("prefix", "suffix")]
    content = around[0] + text_of(event.get("content"), f"{where}.content") + around[1]
    call = text_at(event, "tool_call_metadata.tool_call_id")
    return Message("user", content) if call is None else Message("tool", content, tool_call_id=call)


def _outcome(error: object, cut_short: bool) -> Outcome:
    """How a run ended, by the row's error, a text that begins with an exception's name."""
    if not error:
        return Outcome.TRUNCATED if cut_short else Outcome.COMPLETED
    said = str(error)
    if any(limit in said for limit in _LIMITS):
        return Outcome.TRUNCATED
    if "AgentStuckInLoop" in said:
        return Outcome.AGENT_ERROR
    raise DataError(f"error: {said[:200]}; the run failed, which says nothing about the agent")


__all__ = ["TASKS", "read", "recognises", "runs"]
