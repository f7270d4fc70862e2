"""Sessions of the coding agent pi, and of OpenClaw, which is built on it: one entry per line, each naming its parent.

A session that was rewound has several ends; the run is the branch of the last entry. Source: pi's description of its
session files (versions 1 to 3), how it makes them into the model's messages, and files of both programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trajtree.chat import arguments_text, text_of
from trajtree.errors import DataError
from trajtree.formats.read.aside import TEXT_PART, Known
from trajtree.formats.read.fields import Record, at, objects, text_at
from trajtree.formats.read.records import RawRecord
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors.events import ID, joined, twin_of
from trajtree.formats.read.vendors.resumed import Place, held_by, message_of
from trajtree.formats.read.vendors.session import run_of, several
from trajtree.formats.read.vendors.talk import Talk, kind_of
from trajtree.trajectory import Message, Outcome, ToolCall

_NOTES = frozenset(("session", "model_change", "thinking_level_change", "custom", "label", "session_info"))
"""Entries that the model never sees."""

_COMPACTED = (
    "The conversation history before this point was compacted into the following summary:\n\n<summary>\n",
    "\n</summary>",
)
_LEFT = ("The following is a summary of a branch that this conversation came back from:\n\n<summary>\n", "</summary>")
"""What pi puts around the summaries that it gives to the model."""

_UNSENT = ("error", "aborted")
"""Why a reply stopped if the model is not shown it later."""

_READ = ("role", "content", "timestamp")
_CUSTOM = Known(frozenset((*_READ, "customType", "display", "details")), {"content": TEXT_PART})
_MESSAGES = {
    "user": Known(frozenset(_READ), {"content": TEXT_PART}),
    "assistant": Known(
        frozenset((*_READ, "api", "provider", "model", "usage", "stopReason", "responseId", "errorMessage"))
    ),
    "toolResult": Known(frozenset((*_READ, "toolCallId", "toolName", "details")), {"content": TEXT_PART}),
    "custom": _CUSTOM,
    "hookMessage": _CUSTOM,
    "bashExecution": Known(
        frozenset(("role", "timestamp", "command", "output", "exitCode", "cancelled", "truncated", "fullOutputPath"))
    ),
    "compactionSummary": Known(frozenset(("role", "timestamp", "summary", "tokensBefore"))),
    "branchSummary": Known(frozenset(("role", "timestamp", "summary", "fromId"))),
}
_OF_EXTENSION = Known(_CUSTOM.fields | {"type", "id", "parentId"}, _CUSTOM.within)
_PARTS = {
    "text": Known(frozenset(("type", "text", "textSignature"))),
    "thinking": Known(frozenset(("type", "thinking", "thinkingSignature"))),
    "toolCall": Known(frozenset(("type", "id", "name", "arguments", "partialJson", "thoughtSignature"))),
}
"""What is read of a message and of a reply's parts, or irrelevant to what was said; the rest is kept aside."""


def recognises(record: Record) -> bool:
    """Whether a record is the first entry of a session."""
    return record.get("type") == "session" and {"id", "timestamp", "cwd"} <= record.keys()


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """One record for the whole session."""
    return joined(records, ID) if (twin := twin_of(path)) is None else iter((twin,))


def held(paths: Sequence[Path]) -> Mapping[Place, Place]:
    """The sessions whose messages are all in another's file, as where one was forked: see `resumed.held_by`."""
    return {Place(path, 1): Place(holder, 1) for path, holder in held_by(paths, _spoken).items()}


def _spoken(entry: Record) -> bytes | None:
    """What identifies a message, for `held`."""
    return message_of(entry, ("id", "timestamp")) if kind_of(entry) == "message" else None


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one session.

    The system prompt is not in a session. What follows a compaction comes after the summary that the model was given
    then. Replies that an error or the user cut short, which the model is not shown later, are only counted (metadata
    `unsent_replies`).

    Args:
        record: `events`, the entries of the file, and `session_id`.
        score: dotted path of the score; without one, the usual names are tried. A session has none.
        task: dotted path of the task; without one, the prompt is the task.

    Raises:
        DataError: an entry, message or part is of an unknown kind; the beginning is missing; or the session ends in an
            error of the API.
    """
    entries = objects(record.get("events"), "events")
    head = entries[0] if entries else {}
    talk, models = Talk(), Counter[str]()
    unsent: set[str] = set()
    unsent_replies = compactions = 0
    last: Record = {}
    chosen = _branch(entries)
    for index in chosen:
        entry, where, kind = entries[index], f"events.{index}", kind_of(entries[index])
        if kind in _NOTES:
            continue
        if kind in ("compaction", "branch_summary"):
            compactions += kind == "compaction"
            talk.hear(_summary(entry, _COMPACTED if kind == "compaction" else _LEFT, where))
        elif kind == "custom_message":
            talk.keep_aside(where, entry, _OF_EXTENSION)
            talk.hear(Message("user", text_of(entry.get("content"), f"{where}.content")))
        elif kind != "message":
            raise DataError(f"{where}.type: {kind[:80]!r} is not an entry that is known")
        else:
            (last,) = objects([entry.get("message")], where)
            if last.get("role") == "assistant" and last.get("stopReason") in _UNSENT:
                unsent_replies += 1
                unsent.update(str(part.get("id")) for part in _parts(last, where) if kind_of(part) == "toolCall")
            elif last.get("role") != "toolResult" or last.get("toolCallId") not in unsent:
                if isinstance(model := last.get("model"), str):
                    models[model] += 1
                _add(talk, last, f"{where}.message", entry)
    if last.get("stopReason") == "error":
        raise DataError("the session ends in an error of the API, which says nothing about the agent")
    return run_of(
        talk,
        record,
        [entries[index] for index in chosen],
        models,
        score=score,
        task=task,
        model=text_at(head, "modelId"),
        outcome=Outcome.TRUNCATED if last.get("stopReason") == "length" else Outcome.COMPLETED,
        version=str(head.get("version", 1)),
        parent_session=text_at(head, "parentSession", "branchedFrom"),
        models=several(models),
        compactions=compactions,
        unsent_replies=unsent_replies,
    )


def _branch(entries: Sequence[Record]) -> list[int]:
    """The entries of the run, by index: the last one and what it follows. Entries of version 1 follow one another.

    Raises:
        DataError: one follows an entry that is not in the file.
    """
    place = {entry["id"]: index for index, entry in enumerate(entries) if isinstance(entry.get("id"), str)}
    if not any("parentId" in entry for entry in entries):
        return list(range(len(entries)))
    here, chosen = len(entries) - 1, list[int]()
    while True:
        chosen.append(here)
        parent = entries[here].get("parentId")
        if parent is None:
            return chosen[::-1]
        here = place.get(str(parent), len(entries))
        if here >= chosen[-1]:
            raise DataError(f"events.{chosen[-1]}.parentId: is not in the file before, so the beginning is missing")


def _add(talk: Talk, message: Record, where: str, entry: Record) -> None:
    """Add a message as the model was given it, or gave it."""
    role = str(message.get("role"))
    if role not in _MESSAGES:
        raise DataError(f"{where}.role: {role[:80]!r} is not one of {', '.join(_MESSAGES)}")
    if message.get("excludeFromContext") is True:
        return
    talk.keep_aside(where, message, _MESSAGES[role])
    if role == "assistant":
        time = entry.get("timestamp")
        talk.by = {"model": message.get("model"), "timestamp": time, "cost": at(message, "usage.cost.total")}
        calls, said, thought = list[ToolCall](), list[str](), list[str]()
        for index, part in enumerate(_parts(message, where)):
            here, kind = f"{where}.content.{index}", kind_of(part)
            if kind not in _PARTS:
                raise DataError(f"{here}: a part of type {kind[:80]!r}; only {', '.join(_PARTS)} can be kept")
            talk.keep_aside(here, part, _PARTS[kind])
            if kind == "toolCall":
                calls.append(_call(part, here))
            elif not isinstance(text := part.get(kind), str):
                raise DataError(f"{here}.{kind}: must be text, got {type(text).__name__}")
            else:
                (said if kind == "text" else thought).append(text)
        if said or calls or thought:
            reasoning = "\n".join(filter(None, thought)) or None
            talk.reply(Message("assistant", "".join(said), reasoning, tuple(calls)), where)
    elif role == "toolResult":
        call = message.get("toolCallId")
        if not isinstance(call, str):
            raise DataError(f"{where}.toolCallId: must name the call, got {type(call).__name__}")
        talk.hear(Message("tool", text_of(message.get("content"), f"{where}.content"), tool_call_id=call))
    elif role == "bashExecution":
        talk.hear(Message("user", _ran(message)))
    elif role in ("compactionSummary", "branchSummary"):
        talk.hear(_summary(message, _COMPACTED if role == "compactionSummary" else _LEFT, where))
    else:
        talk.hear(Message("user", text_of(message.get("content"), f"{where}.content")))


def _parts(message: Record, where: str) -> Sequence[Record]:
    return objects(message.get("content"), f"{where}.content")


def _call(part: Record, where: str) -> ToolCall:
    id_, name = part.get("id"), part.get("name")
    if not isinstance(id_, str) or not isinstance(name, str):
        raise DataError(f"{where}: a toolCall needs an id and a name")
    return ToolCall(id_, name, arguments_text(part.get("arguments", {}), f"{where}.arguments"))


def _summary(entry: Record, around: tuple[str, str], where: str) -> Message:
    summary = entry.get("summary")
    if not isinstance(summary, str):
        raise DataError(f"{where}.summary: must be text, got {type(summary).__name__}")
    return Message("user", summary.join(around))


def _ran(message: Record) -> str:
    """What the model is told of a command that the user ran, in pi's words."""
    command, output, code = text_at(message, "command"), text_at(message, "output"), message.get("exitCode")
    text = f"Ran `{command or ''}`\n" + (f"```\n{output}\n```" if output else "(no output)")
    if message.get("cancelled") is True:
        text += "\n\n(command cancelled)"
    elif code:
        text += f"\n\nCommand exited with code {code}"
    if message.get("truncated") is True and (full := text_at(message, "fullOutputPath")):
        text += f"\n\n[Output truncated. Full output: {full}]"
    return text


__all__ = ["held", "read", "recognises", "runs"]
