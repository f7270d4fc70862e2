"""Gemini: contents of `role` and `parts`, as its API has them, and sessions of its command line.

A file of contents (a checkpoint of the command line) is one run; so is a record with `contents` or `history`, and a
session with `messages` of type `user` and `gemini`. Source: the API's reference, and files of Gemini CLI 0.1 to 0.30.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from trajtree.chat import arguments_text
from trajtree.errors import DataError
from trajtree.formats.read.aside import Known
from trajtree.formats.read.fields import (
    SCORES,
    TASKS,
    Record,
    at,
    objects,
    other_scores,
    outcome_at,
    score_at,
    task_at,
    text_at,
)
from trajtree.formats.read.records import RawRecord, decode
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors.events import joined
from trajtree.formats.read.vendors.talk import Talk
from trajtree.trajectory import Message, ToolCall

_CALL = Known(frozenset(("id", "name", "args")))
_RESULT = Known(frozenset(("id", "name", "response", "parts")))
_PART = Known(
    frozenset(("text", "thought", "thoughtSignature", "functionCall", "functionResponse")),
    {"functionCall": _CALL, "functionResponse": _RESULT},
)
_CONTENT = Known(frozenset(("role", "parts")), {"parts": _PART})
_MESSAGE = Known(
    frozenset(("id", "timestamp", "type", "content", "model", "tokens", "thoughts", "toolCalls")),
    {
        "content": _PART,
        "thoughts": Known(frozenset(("subject", "description", "timestamp"))),
        "toolCalls": Known(
            frozenset(
                (
                    *("id", "name", "args", "result", "status", "timestamp", "displayName", "description"),
                    *("resultDisplay", "renderOutputAsMarkdown"),
                )
            ),
            {"result": _PART},
        ),
    },
)
"""What is read of contents and of a session's messages, or irrelevant to what was said."""

_NOTES = ("info", "error", "warning")
"""Messages of a session that are shown to the user and never sent."""

_CONTENTS = ("contents", "history")


def recognises(record: Record) -> bool:
    """Whether a record is a content, has contents, or is a session or its first line."""
    return _is_content(record) or _contents(record) is not None or {"sessionId", "projectHash"} <= record.keys()


def _is_content(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("parts"), list) and "role" in record


def _contents(record: Record) -> str | None:
    """The field with a record's contents."""
    found = ((name, record.get(name)) for name in _CONTENTS)
    return next((name for name, value in found if isinstance(value, list) and value and _is_content(value[0])), None)


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """Records with contents are runs; contents, or lines of a session, are together one run."""
    first = next(records, None)
    if first is None:
        return
    records = chain([first], records)
    yield from joined(records) if _is_part(first) else records


def _is_part(raw: RawRecord) -> bool:
    """Whether a file's first record is a part of a run."""
    try:
        record = decode(raw)
    except DataError:
        return False
    return _is_content(record) or ("projectHash" in record and "messages" not in record)


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Args:
        record: `contents` or `history`, with `systemInstruction` and `tools` if they are recorded; a session; or the
            `events` of a file with one content or one message of a session per record.
        score: dotted path of the score; without one, the usual names are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: a part or message is of an unknown type or not text, or a field of it is wrong.
    """
    talk = Talk()
    session = record
    models = Counter[str]()
    instruction = record.get("systemInstruction", record.get("system_instruction"))
    if instruction:
        talk.hear(Message("system", _instruction(instruction)))
    name = _contents(record)
    events = objects(record.get("events") or [], "events")
    if name is not None or (events and _is_content(events[0])):
        name = name or "events"
        for index, content in enumerate(objects(record.get(name), name)):
            _add_content(talk, content, f"{name}.{index}")
    else:
        if events:
            session = events[0]
        lines = _last_state(events) if events else objects(record.get("messages"), "messages")
        for index, message in enumerate(lines):
            where = f"messages.{index}"
            _add_message(talk, message, where, models)
    messages, metadata = talk.finished()
    taken = score_at(record, score, SCORES, session=name is None)
    policy = models.most_common(1)[0][0] if models else text_at(record, "model", "modelVersion")
    for field, kept in (("sessionId", "session"), ("startTime", "started"), ("lastUpdated", "ended")):
        if (value := text_at(session, field)) is not None:
            metadata[kept] = value
    return Imported(
        messages=messages,
        context_turns=0,
        score=taken,
        task=task_at(record, task, TASKS),
        policy=policy,
        tools=_tools(record),
        outcome=outcome_at(record),
        metadata=metadata,
        other_scores=other_scores(record, taken[0], SCORES),
        made=talk.made(policy),
    )


def _last_state(lines: Sequence[Record]) -> list[Record]:
    """The messages of a session that is written as a list of changes: the last line of a message counts.

    `$set` may replace all messages; `$rewindTo` takes back a message and all after it.

    Raises:
        DataError: a line is of another kind.
    """
    messages: dict[str, Record] = {}
    for index, line in enumerate(lines):
        changed = line.get("$set")
        if index == 0 or (isinstance(changed, dict) and "messages" not in changed):
            continue
        if isinstance(changed, dict):
            replaced = objects(changed["messages"], f"events.{index}.$set.messages")
            messages = {str(message.get("id", number)): message for number, message in enumerate(replaced)}
        elif isinstance(back := line.get("$rewindTo"), str):
            kept = list(messages).index(back) if back in messages else len(messages)
            messages = dict(list(messages.items())[:kept])
        elif "type" in line:
            messages[str(line.get("id", f"line {index}"))] = line
        else:
            raise DataError(f"events.{index}: a line of {_kind(line)} is neither a message nor a change that is known")
    return list(messages.values())


def _instruction(instruction: object) -> str:
    if isinstance(instruction, str):
        return instruction
    parts = at(instruction, "parts")
    return _text(parts if parts is not None else instruction, "systemInstruction.parts")


def _text(parts: object, where: str) -> str:
    """The text of parts that are all text. Raises DataError for anything else."""
    if isinstance(parts, str):
        return parts
    texts = []
    for index, part in enumerate(objects([parts] if isinstance(parts, dict) else parts, where)):
        if not isinstance(part.get("text"), str):
            raise DataError(f"{where}.{index}: a part of {_kind(part)}; only text can be kept")
        texts.append(part["text"])
    return "".join(texts)


def _kind(part: Record) -> str:
    return ", ".join(part)[:80] or "nothing"


def _add_content(talk: Talk, content: Record, where: str) -> None:
    role = content.get("role")
    if role not in ("user", "model", "function", "system"):
        raise DataError(f"{where}.role: {str(role)[:80]!r} is not one of user, model, function, system")
    talk.keep_aside(where, content, _CONTENT)
    if role == "system":
        talk.hear(Message("system", _text(content.get("parts"), f"{where}.parts")))
        return
    texts: list[str] = []
    for index, part in enumerate(objects(content.get("parts"), f"{where}.parts")):
        here = f"{where}.parts.{index}"
        call, result, text = part.get("functionCall"), part.get("functionResponse"), part.get("text")
        if role == "model" and isinstance(call, dict):
            talk.reply(Message("assistant", "", tool_calls=(_call(call, f"{here}.functionCall"),)))
        elif role != "model" and isinstance(result, dict):
            talk.hear_user(texts)
            talk.hear(_result(result, f"{here}.functionResponse"))
        elif not isinstance(text, str) or call is not None or result is not None:
            raise DataError(f"{here}: a part of {_kind(part)} in a content of role {role} cannot be kept")
        elif role != "model":
            texts.append(text)
        elif part.get("thought") is True:
            talk.reply(Message("assistant", "", text or None))
        else:
            talk.reply(Message("assistant", text))
    talk.hear_user(texts)


def _call(call: Record, where: str) -> ToolCall:
    if not isinstance(call.get("name"), str):
        raise DataError(f"{where}.name: a call needs a name")
    return ToolCall(str(call.get("id") or ""), call["name"], arguments_text(call.get("args") or {}, f"{where}.args"))


def _result(result: Record, where: str) -> Message:
    """A tool's message: the text of a response with nothing but `output`, `error` or `result`, else it as JSON."""
    response = result.get("response")
    if not isinstance(response, dict):
        raise DataError(f"{where}.response: must be an object, got {type(response).__name__}")
    if result.get("parts"):
        raise DataError(f"{where}.parts: only text can be kept")
    only = (
        next(iter(response.values()))
        if response.keys() <= {"output", "error", "result"} and len(response) == 1
        else None
    )
    content = only if isinstance(only, str) else json.dumps(response, ensure_ascii=False)
    id_, name = text_at(result, "id"), text_at(result, "name")
    return Message("tool", content, tool_call_id=id_, name=None if id_ else name)


def _add_message(talk: Talk, message: Record, where: str, models: Counter[str]) -> None:
    """Add a message of a session; a reply has its calls with their results."""
    kind = message.get("type")
    if kind in _NOTES:
        return
    talk.keep_aside(where, message, _MESSAGE)
    if kind == "user":
        talk.hear(Message("user", _text(message.get("content"), f"{where}.content")))
        return
    if kind != "gemini":
        raise DataError(f"{where}.type: {str(kind)[:80]!r} is not one of user, gemini, {', '.join(_NOTES)}")
    models.update(filter(None, [text_at(message, "model")]))
    talk.by = {"model": message.get("model"), "timestamp": message.get("timestamp")}
    thoughts = objects(message.get("thoughts") or [], f"{where}.thoughts")
    thought = "\n".join(": ".join(filter(None, (text_at(t, "subject"), text_at(t, "description")))) for t in thoughts)
    calls = objects(message.get("toolCalls") or [], f"{where}.toolCalls")
    made = tuple(_call(call, f"{where}.toolCalls.{i}") for i, call in enumerate(calls))
    content = message.get("content") or ""
    if calls and isinstance(content, list):
        # The calls are there twice: as the model wrote them, and with their results.
        content = [part for part in content if not (isinstance(part, dict) and "functionCall" in part)]
    talk.reply(Message("assistant", _text(content, f"{where}.content"), thought or None, made))
    for index, call in enumerate(calls):
        here = f"{where}.toolCalls.{index}.result"
        for number, part in enumerate(_parts(call.get("result"), here)):
            result = part.get("functionResponse")
            if not isinstance(result, dict):
                raise DataError(f"{here}.{number}: a part of {_kind(part)} in a result cannot be kept")
            talk.hear(_result(result, f"{here}.{number}.functionResponse"))


def _parts(result: object, where: str) -> Sequence[Record]:
    return objects(result if isinstance(result, list) else [] if result is None else [result], where)


def _tools(record: Record) -> tuple[str, ...]:
    """Definitions of the tools in OpenAI's form."""
    tools = at(record, "tools") or at(record, "config.tools") or []
    declared = [
        function
        for index, tool in enumerate(objects(tools, "tools"))
        for function in objects(
            tool.get("functionDeclarations", tool.get("function_declarations")) or [],
            f"tools.{index}.functionDeclarations",
        )
    ]
    return tuple(json.dumps({"type": "function", "function": function}, ensure_ascii=False) for function in declared)


__all__ = ["read", "recognises", "runs"]
