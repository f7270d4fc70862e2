"""Spans of OpenTelemetry with GenAI attributes: the calls of one trace, each with its history, are one run.

A file holds one span per record, or OTLP's `resourceSpans`. Source: OpenTelemetry's semantic conventions for generative
AI, 1.37 and later (`gen_ai.input.messages`, `gen_ai.output.messages`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from trajtree.chat import FIELDS, arguments_text, message_from_dict
from trajtree.errors import DataError
from trajtree.formats.read import fields
from trajtree.formats.read.aside import OPENAI, Known
from trajtree.formats.read.fields import (
    SCORES,
    Record,
    at,
    objects,
    other_scores,
    score_at,
    task_at,
    text_at,
    tools_at,
)
from trajtree.formats.read.records import RawRecord, decode
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors.talk import UNFINISHED, Metadata, Talk
from trajtree.trajectory import Message, Outcome, ToolCall

TASKS = (*fields.TASKS, *(f"attributes.{name}" for name in fields.TASKS))
"""Fields in which a run may name its task."""

_INPUT, _OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
_SYSTEM = ("gen_ai.system_instructions", "gen_ai.system.instructions")
"""Where instructions stand: by the conventions, and as some libraries spell it."""

_EVALUATION = "gen_ai.evaluation"
_AGENTS = ("invoke_agent", "invoke_workflow", "create_agent")
"""Operations whose spans hold the calls to models; their messages are a summary of those in the calls."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_CUT_SHORT = ("length", "max_tokens")
_STOOD_AT = "_provider_metadata._known_fields.messageIndex"
"""Where Latitude says at which message an instruction stood."""

_MESSAGE = Known(
    frozenset(("role", "parts", "finish_reason")),
    {"parts": Known(frozenset(("type", "content", "id", "name", "arguments", "response", "result")))},
)
_OPENAI = Known(FIELDS | {"finish_reason"}, OPENAI)
"""What is read of a message in either form, or irrelevant to what was said."""


def recognises(record: Record) -> bool:
    """Whether a record is a span, or OTLP's list of them."""
    return isinstance(record.get("resourceSpans"), list) or (
        _trace(record) is not None and isinstance(record.get("attributes"), dict | list)
    )


@dataclass(slots=True)
class _Trace:
    """What is kept of a trace's spans while the file is read."""

    line: int
    calls: list[dict[str, Any]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[str, Any] = field(default_factory=dict)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """One record for each conversation of a trace: the call whose history holds the others' messages.

    The spans of a trace may stand anywhere in the file, so its calls to models are held in memory until the end.
    """
    traces: dict[str, _Trace] = {}
    number = 0
    for raw in records:
        try:
            for span in _spans(decode(raw)):
                trace = traces.setdefault(str(_trace(span)), _Trace(raw.line))
                _add(trace, span)
        except DataError as error:
            number += 1
            yield RawRecord(number, raw.line, raw.data, str(error))
    for name, trace in traces.items():
        for index, call in enumerate(_conversations(trace.calls)):
            number += 1
            run = {
                "session_id": f"{name}/{index}" if index else name,
                **call,
                "attributes": {**call["attributes"], **trace.attributes},
                "evaluations": trace.evaluations,
            }
            yield RawRecord(number, trace.line, json.dumps(run).encode())
    if traces and not number:
        line = next(iter(traces.values())).line
        yield RawRecord(1, line, b"", "none of the file's spans is a call to a model (gen_ai.input.messages)")


def _trace(span: Record) -> str | None:
    return text_at(span, "trace_id", "traceId", "context.trace_id")


def _spans(record: Record) -> Iterator[Record]:
    """The spans of a record."""
    if "resourceSpans" not in record:
        yield record
        return
    for i, resource in enumerate(objects(record["resourceSpans"], "resourceSpans")):
        where = f"resourceSpans.{i}.scopeSpans"
        for j, scope in enumerate(objects(resource.get("scopeSpans") or [], where)):
            yield from objects(scope.get("spans") or [], f"{where}.{j}.spans")


def _add(trace: _Trace, span: Record) -> None:
    attributes = _attributes(span.get("attributes"))
    for event in objects(span.get("events") or [], "events"):
        found = _attributes(event.get("attributes"))
        if f"{_EVALUATION}.score.value" in found:
            trace.evaluations[str(found.get(f"{_EVALUATION}.name", "score"))] = found[f"{_EVALUATION}.score.value"]
        elif _INPUT in found or _OUTPUT in found:
            attributes = {**attributes, **found}
    if _INPUT in attributes and _OUTPUT in attributes:
        system, unread = _instructions(attributes)
        call: dict[str, Any] = {
            "input": attributes.pop(_INPUT),
            "output": attributes.pop(_OUTPUT),
            "system": system,
            "tools": attributes.pop("gen_ai.tool.definitions", None),
            "operation": attributes.get("gen_ai.operation.name"),
            "model": attributes.get("gen_ai.response.model", attributes.get("gen_ai.request.model")),
            "started": _time(span, "start_time", "startTimeUnixNano"),
            "ended": _time(span, "end_time", "endTimeUnixNano"),
            "unread": unread,
            "attributes": attributes,
        }
        trace.calls.append(call)
    elif text_at(span, "parent_id", "parentSpanId", "parent_span_id", "context.parent_id") is None:
        trace.attributes |= attributes


def _instructions(attributes: dict[str, Any]) -> tuple[Any, list[str]]:
    """A call's instructions, which are taken out, and the names of attributes that may hold others."""
    given = {name: value for name in _SYSTEM if (value := attributes.pop(name, None))}
    system = next(iter(given.values()), None)
    others = {name: value for name, value in attributes.items() if name.startswith("gen_ai.") and "instruction" in name}
    return system, [name for name, value in {**given, **others}.items() if value and value != system]


def _time(span: Record, *names: str) -> str | None:
    found = next((span[name] for name in names if span.get(name) is not None), None)
    return None if found is None else str(found)


def _attributes(value: object) -> dict[str, Any]:
    """Attributes as one object; OTLP writes them as a list of keys and typed values."""
    if isinstance(value, list):
        return {str(item.get("key")): _value(item.get("value")) for item in objects(value, "attributes")}
    return dict(value) if isinstance(value, dict) else {}


def _value(value: object) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_value(item) for item in at(inner, "values") or []]
    if kind == "kvlistValue":
        return _attributes(at(inner, "values") or [])
    return int(inner) if kind == "intValue" and isinstance(inner, str) and inner.lstrip("-").isdecimal() else inner


def _conversations(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls that no other call's history holds, with the number of replies that were there before the first."""
    calls = [call for call in calls if call["operation"] not in _AGENTS] or calls
    read = [_hashes(call) for call in calls]
    holder: dict[int, int] = {}
    for index, hashes in enumerate(read):
        for end in set(hashes[:-1]):
            if end not in holder or len(hashes) > len(read[holder[end]]):
                holder[end] = index
    before: dict[int, int] = {}
    aside: dict[int, dict[str, object]] = defaultdict(dict)
    for index, hashes in enumerate(read):
        last = holder.get(hashes[-1], index) if hashes else index
        replies = calls[index].get("replies_before", 0)
        before[last] = min(before.get(last, replies), replies)
        if last != index:
            # The history in a later call need not repeat all the fields of an earlier call's own messages.
            aside[last] |= {f"calls.{index}.{place}": left for place, left in calls[index].get("aside", {}).items()}
    return [{**calls[index], "replies_before": before[index], "aside": aside[index]} for index in sorted(before)]


def _hashes(call: dict[str, Any]) -> list[int]:
    """[messages] hash of everything said up to each message; [] if the call cannot be read (reported later)."""
    try:
        given, said = _talk(call)
    except DataError:
        return []
    before, after = given.finished()[0], said.finished()[0]
    call["replies_before"] = sum(message.role == "assistant" for message in before)
    call["aside"] = said.aside
    hashes, here = [], 0
    for message in (*before, *after):
        here = hash((here, message))
        hashes.append(here)
    return hashes


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one conversation.

    Replies in the history of its first call are context: they were made before the trace.

    Args:
        record: `input`, `output`, and if recorded `system`, `tools`, `model`, `attributes`, `evaluations`.
        score: dotted path of the score; without one, the only evaluation of the trace, or the usual names.
        task: dotted path of the task, likewise.

    Raises:
        DataError: a part is of an unknown type or not text, a field of it is wrong, or there are several choices.
    """
    given, said = _talk(record)
    earlier = record.get("aside")
    given.aside |= said.aside | (earlier if isinstance(earlier, dict) else {})
    (before, metadata), (after, later) = given.finished(), said.finished()
    if unfinished := sum(int(found.get(UNFINISHED, 0)) for found in (metadata, later)):
        metadata[UNFINISHED] = unfinished
    evaluations = record.get("evaluations")
    alone = [f"evaluations.{name}" for name in evaluations] if isinstance(evaluations, dict) else []
    alone = alone if len(alone) == 1 else []
    usual = (*alone, *SCORES, *(f"attributes.{name}" for name in SCORES))
    taken = score_at(record, score, usual)
    replies = record.get("replies_before", 0)
    return Imported(
        messages=(*before, *after),
        context_turns=replies if isinstance(replies, int) else 0,
        score=taken,
        task=task_at(record, task, TASKS),
        policy=text_at(record, "model"),
        tools=tools_at(record, "tools"),
        outcome=_outcome(record),
        metadata={**metadata, **_described(record)},
        other_scores=other_scores(record, taken[0], usual),
    )


def _talk(record: Record) -> tuple[Talk, Talk]:
    """What a call was given, and what it said."""
    given, said = Talk(), Talk()
    for name in record.get("unread") or ():
        raise DataError(f"{name}: may hold instructions that {' and '.join(_SYSTEM)}, which are read, do not have")
    system = _parsed(record.get("system"), "system")
    if system:
        for index, part in enumerate(system if isinstance(system, list) else ()):
            if at(part, _STOOD_AT):
                raise DataError(f"system.{index}: stood further on in the conversation, where it cannot be put back")
        given.keep_aside("system", {"parts": system}, _MESSAGE)
        given.hear(Message("system", _text(system, "system")))
    for name, talk in (("input", given), ("output", said)):
        messages = objects(_parsed(record.get(name), name), name)
        if name == "output" and len(messages) > 1 and record.get("operation") not in _AGENTS:
            raise DataError(f"output: has {len(messages)} choices, and it is not known which one the run went on with")
        for index, message in enumerate(messages):
            _add_message(talk, message, f"{name}.{index}")
    return given, said


def _parsed(value: object, where: str) -> object:
    """A structured attribute, which many exporters write as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError:
        raise DataError(f"{where}: not JSON: {value[:80]!r}") from None


def _text(parts: object, where: str) -> str:
    if isinstance(parts, str):
        return parts
    texts = []
    for index, part in enumerate(objects(parts, where)):
        text = part.get("content")
        if part.get("type") != "text" or not isinstance(text, str):
            raise DataError(f"{where}.{index}: a part of type {str(part.get('type'))[:80]!r}; only text can be kept")
        texts.append(text)
    return "".join(texts)


def _add_message(talk: Talk, message: Record, where: str) -> None:
    talk.keep_aside(where, message, _MESSAGE if "parts" in message else _OPENAI)
    if "parts" not in message:
        talk.hear(message_from_dict(message, where))  # as OpenAI's API has it, which some libraries record
        return
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise DataError(f"{where}.role: {str(message.get('role'))[:80]!r} is not one of {', '.join(_ROLES)}")
    parts = objects(message.get("parts"), f"{where}.parts")
    texts: list[str] = []
    for index, part in enumerate(parts):
        here, kind = f"{where}.parts.{index}", part.get("type")
        if kind == "tool_call_response" and role != "assistant":
            talk.hear(_response(part, here))
        elif kind == "tool_call" and role == "assistant":
            talk.reply(Message("assistant", "", tool_calls=(_call(part, here),)), where)
        elif kind == "reasoning" and role == "assistant":
            talk.reply(Message("assistant", "", _text([{**part, "type": "text"}], here) or None), where)
        elif kind != "text" or not isinstance(part.get("content"), str):
            raise DataError(f"{here}: a part of type {str(kind)[:80]!r} in a message of role {role} cannot be kept")
        elif role == "assistant":
            talk.reply(Message("assistant", part["content"]), where)
        else:
            texts.append(part["content"])
    if texts and role != "assistant":
        talk.hear(Message("tool" if role == "tool" else "system" if role == "system" else "user", "".join(texts)))


def _call(part: Record, where: str) -> ToolCall:
    if not isinstance(part.get("name"), str):
        raise DataError(f"{where}.name: a call needs a name")
    arguments = part.get("arguments")
    return ToolCall(
        str(part.get("id") or ""),
        part["name"],
        arguments_text({} if arguments is None else arguments, f"{where}.arguments"),
    )


def _response(part: Record, where: str) -> Message:
    response = part.get("response", part.get("result"))
    if response is None:
        raise DataError(f"{where}.response: is missing")
    content = response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
    return Message("tool", content, tool_call_id=text_at(part, "id"))


def _outcome(record: Record) -> Outcome:
    output = _parsed(record.get("output"), "output")
    reason = at(output, "0.finish_reason")
    return Outcome.TRUNCATED if reason in _CUT_SHORT else Outcome.COMPLETED


def _described(record: Mapping[str, Any]) -> Metadata:
    found: Metadata = {}
    for name, kept in (("session_id", "session"), ("started", "started"), ("ended", "ended")):
        if (value := text_at(record, name)) is not None:
            found[kept] = value
    return found


__all__ = ["TASKS", "read", "recognises", "runs"]
