"""Logs of inspect_ai (version 2): one object with all samples, or one record per sample as in an `.eval` archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trajtree.chat import FIELDS, message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read.aside import Known, fields_aside
from trajtree.formats.read.benchmarks.split import split
from trajtree.formats.read.fields import (
    Record,
    at,
    leading,
    objects,
    score_at,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.records import RawRecord
from trajtree.formats.read.to_trajectory import Imported
from trajtree.trajectory import Message, Outcome

_OWN = frozenset(("source", "function"))
_WITHIN = {
    "content": Known(
        frozenset(("type", "text", "reasoning", "summary", "signature", "redacted", "refusal", "citations", "internal"))
    ),
    "tool_calls": Known(frozenset(("id", "type", "function", "arguments", "view", "internal"))),
    "error": Known(frozenset(("type", "message"))),
}
_TASKS = ("sample.id",)
_CUT_SHORT = ("max_tokens", "model_length")
_ATTACHMENT = re.compile(r"attachment://([0-9a-f]{32})")


def recognises(record: Record) -> bool:
    """Whether a record is a log with an `eval` and its samples, or a sample of one."""
    if isinstance(record.get("header"), dict) and isinstance(record.get("sample"), dict):
        return True
    return isinstance(record.get("eval"), dict) and ("samples" in record or "plan" in record)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """A record per sample, `{"header": {"eval": ...}, "sample": ..., "tools": [...]}`, without the sample's events.

    The events repeat the same conversation; only the tools that the model was first given are taken from them.
    """
    return split(records, _samples)


def _samples(record: Record) -> list[dict[str, Any]] | None:
    if "sample" in record:
        return None
    header = {"eval": {name: at(record, f"eval.{name}") for name in ("task", "model", "eval_id")}}
    return [
        {
            "header": header,
            "sample": {name: value for name, value in sample.items() if name != "events"},
            "tools": _tools(sample),
        }
        for sample in objects(record.get("samples") or [], "samples")
    ]


def _tools(sample: Record) -> list[Any]:
    events = sample.get("events")
    calls = (event for event in events if at(event, "event") == "model") if isinstance(events, list) else iter(())
    found = at(next(calls, None), "tools")
    return found if isinstance(found, list) else []


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one sample. Its replies that no model wrote, `source: input`, are context.

    Args:
        record: `header` and `sample`.
        score: a scorer or a dotted path; without one, the only scorer, or the one named `reward`.
        task: dotted path of the task; without one, the sample's id after the name of inspect's task.

    Raises:
        DataError: a field is wrong; the sample failed with an error, which says nothing about the agent; or something
            in it is not text.
    """
    error = at(record, "sample.error")
    if error:
        said = text_at(error, "message") or str(error)
        raise DataError(f"sample.error: {said[:200]}; the sample failed, which says nothing about the agent")
    attached = at(record, "sample.attachments")
    attachments = attached if isinstance(attached, dict) else {}
    turns = objects(_resolved(at(record, "sample.messages"), attachments), "sample.messages")
    given = (turn.get("source") == "input" for turn in turns if turn.get("role") == "assistant")
    scores = _scores(at(record, "sample.scores"))
    taken = score_at({**record, "scores": scores or None}, score, ("scores",))
    others = {f"scores.{name}": other for name, other in scores.items()} if score is None else {}
    suite, name = text_at(record, "header.eval.task"), task_at(record, task, _TASKS)
    return Imported(
        messages=tuple([_message(turn, f"sample.messages.{index}") for index, turn in enumerate(turns)]),
        context_turns=leading(given, "was given, not written by the model (source is input)"),
        score=taken,
        task=f"{suite}/{name}" if suite and name and task is None else name,
        task_from="inspect's eval.task and the sample's id",
        policy=text_at(record, "header.eval.model", "sample.output.model"),
        tools=tools_at(record, "tools") or tools_at({"tools": _tools(_sample(record))}, "tools"),
        outcome=_outcome(record),
        metadata=fields_aside([("sample.messages", [_aside(turn) for turn in turns])], FIELDS | _OWN, within=_WITHIN),
        other_scores=tuple([one for one in others.items() if one[0] != taken[0]]),
    )


def _sample(record: Record) -> Record:
    sample = record.get("sample")
    return sample if isinstance(sample, dict) else {}


def _resolved(value: object, attachments: Mapping[str, Any]) -> object:
    """Messages with the long texts that the log keeps apart.

    Raises:
        DataError: one of them is not in the log.
    """
    if isinstance(value, str):
        return _ATTACHMENT.sub(partial(_attachment, attachments), value) if "attachment://" in value else value
    if isinstance(value, list):
        return [_resolved(inner, attachments) for inner in value]
    if isinstance(value, dict):
        return {name: _resolved(inner, attachments) for name, inner in value.items()}
    return value


def _attachment(attachments: Mapping[str, Any], found: re.Match[str]) -> str:
    text = attachments.get(found[1])
    if not isinstance(text, str):
        raise DataError(f"sample.attachments: {found[1]} is not there, but a message refers to it")
    return text


def _message(turn: Record, where: str) -> Message:
    """A message; reasoning is a part of the content, and a call's function its name.

    Of a call that failed, the model is shown the error instead of the content.
    """
    plain: dict[str, Any] = {name: value for name, value in turn.items() if name not in _OWN}
    content = turn.get("content")
    if isinstance(content, list):
        plain["content"] = [part for part in content if at(part, "type") != "reasoning"]
        thoughts = [text_at(part, "summary" if _redacted(part) else "reasoning") for part in content if _thinks(part)]
        if said := "\n".join(thought for thought in thoughts if thought):
            plain["reasoning_content"] = said
    if (failed := text_at(turn, "error.message")) is not None:
        plain["content"] = failed
    if turn.get("tool_calls"):
        calls = objects(turn["tool_calls"], f"{where}.tool_calls")
        plain["tool_calls"] = [
            {"id": c.get("id"), "function": {"name": c.get("function"), "arguments": c.get("arguments")}} for c in calls
        ]
    return message_from_dict(plain, where)


def _aside(turn: Record) -> Record:
    """The fields of a message, with what `_message` leaves out of its content: hidden reasoning, a failed call's."""
    content, left = turn.get("content"), dict(turn)
    if isinstance(content, list) and (hidden := [part for part in content if _thinks(part) and _redacted(part)]):
        left["redacted"] = hidden
    if text_at(turn, "error.message") is not None and content:
        left["result"] = content
    return left


def _thinks(part: object) -> bool:
    return bool(at(part, "type") == "reasoning")


def _redacted(part: object) -> bool:
    return at(part, "redacted") is True


def _scores(scores: object) -> dict[str, Any]:
    """Every scorer's value by its name; those of a value that is an object by `scorer.name`."""
    found: dict[str, Any] = {}
    for name, score in scores.items() if isinstance(scores, dict) else ():
        value = at(score, "value")
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": one for inner, one in value.items()}
        elif value is not None:
            found[name] = value
    return found


def _outcome(record: Record) -> Outcome:
    stopped = at(record, "sample.output.choices.0.stop_reason") in _CUT_SHORT
    return Outcome.TRUNCATED if stopped or at(record, "sample.limit") is not None else Outcome.COMPLETED


__all__ = ["read", "recognises", "runs"]
