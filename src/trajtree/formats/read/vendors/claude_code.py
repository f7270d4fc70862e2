"""Sessions of Claude Code: one event per line, each naming the one that it follows.

A session that was rewound has several ends; the run is the branch of the last one. Source: session files of versions
1.0 to 2.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trajtree.errors import DataError
from trajtree.formats.read.aside import Known
from trajtree.formats.read.fields import Record, at, objects, text_at
from trajtree.formats.read.records import RawRecord, decode, raw_records
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors.blocks import add_blocks
from trajtree.formats.read.vendors.events import Events, twin_of
from trajtree.formats.read.vendors.resumed import Place, held_by, message_of
from trajtree.formats.read.vendors.session import run_of, several
from trajtree.formats.read.vendors.talk import Talk, kind_of

_SPOKEN = ("user", "assistant")
_FIRST = ("summary", "file-history-snapshot")
"""Events without a session that may come first."""

_TOLD = (*_SPOKEN, "system", "attachment")
"""Events from which messages are read."""

_MESSAGE = Known(
    frozenset(
        (
            *("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage"),
            *("container", "context_management", "diagnostics"),
        )
    )
)
"""What is read of a message, or irrelevant to what was said; its blocks are checked one by one."""

_SIDECHAIN = re.compile(rb'"isSidechain"\s*:\s*true')
_SESSION = re.compile(rb'"sessionId"\s*:\s*"([^"\\]*)"')
_NOBODY = "<synthetic>"
"""The model of replies that the program wrote itself, such as "API Error"."""


def recognises(record: Record) -> bool:
    """Whether a record is an event of a session."""
    if isinstance(record.get("loglines"), list):
        return True
    if record.get("type") in _FIRST:
        return "leafUuid" in record or "messageId" in record
    return isinstance(record.get("type"), str) and "sessionId" in record


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """The session's own run, then one record for each of its subagents' (sidechains).

    A session that ran on the web is an object with `loglines`, and is a record already.
    """
    if (twin := twin_of(path)) is not None:
        yield twin
        return
    main: Events | None = None
    sides: dict[str, Events] = {}
    named: dict[str, str] = {}
    sessions: dict[str, None] = {}
    number = 0
    for raw in records:
        if b'"loglines"' in raw.data and isinstance(_event(raw).get("loglines"), list):
            number += 1
            yield raw._replace(number=number)
            continue
        if found := _SESSION.search(raw.data):
            sessions[found[1].decode("utf-8", "replace")] = None
        event = _event(raw) if _SIDECHAIN.search(raw.data) else {}
        if event.get("isSidechain") is True:
            # Older versions do not name the subagent: its events follow one another.
            own, before = str(event.get("uuid")), str(event.get("parentUuid"))
            name = text_at(event, "agentId") or named.get(before, own)
            named[own] = name
            sides.setdefault(name, Events(raw.line)).add(raw)
        else:
            main = main or Events(raw.line)
            main.add(raw)
    # A resumed session begins with messages of the earlier one, under its id. A file is named after its own session.
    session = path.stem if path.stem in sessions else next(iter(sessions), "")
    if main is not None and (not main.empty or not sides):
        number += 1
        yield main.record(number, session_id=session)
    for name, side in sides.items():
        number += 1
        yield side.record(number, session_id=f"{session}/{name}")


def held(paths: Sequence[Path]) -> Mapping[Place, Place]:
    """The sessions whose messages are all in another's file, as where one was resumed: see `resumed.held_by`.

    Of such a session's subagents, only those are held whose messages are all a subagent's of one of these files.
    """
    sessions = held_by(paths, _spoken)
    found = {Place(path, 1): Place(holder, 1) for path, holder in sessions.items()}
    told: dict[bytes, list[tuple[Place, frozenset[bytes]]]] = {}
    for path in (*dict.fromkeys(sessions.values()), *sessions):
        for place, said in _subagents(path):
            alike = [other for other, more in told.get(next(iter(said)), ()) if said <= more]
            if alike and path in sessions:
                found[place] = alike[0]
            for message in said if not alike else ():
                told.setdefault(message, []).append((place, said))
    return found


def _subagents(path: Path) -> Iterator[tuple[Place, frozenset[bytes]]]:
    """The runs of a file's subagents that can be read, each with its messages."""
    for raw in runs(path, raw_records(path)):
        events = _event(raw).get("events")
        if isinstance(events, list) and events[0].get("isSidechain") is True:
            said = (message_of(event, ("uuid",)) for event in events if event.get("type") in _SPOKEN)
            if found := frozenset(filter(None, said)):
                yield Place(path, raw.number), found


def _spoken(event: Record) -> bytes | None:
    """What identifies a message, for `held`; subagents' messages and notes to the user alone are none."""
    unsent = (
        event.get("isApiErrorMessage") or event.get("isVisibleInTranscriptOnly") or event.get("isSidechain") is True
    )
    return None if unsent or kind_of(event) not in _SPOKEN else message_of(event, ("uuid",))


def _event(raw: RawRecord) -> Record:
    try:
        return decode(raw)
    except DataError:
        return {}  # reported when the run is read


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    The system prompt is not in a session, and neither is the text of attachments (reminders that the program adds),
    which the metadata counts. What follows a compaction comes after the summary that the model was given then.

    Args:
        record: `events`, and `session_id`.
        score: dotted path of the score; without one, the usual names are tried. A session has none.
        task: dotted path of the task; without one, the prompt is the task.

    Raises:
        DataError: an event or block is of an unknown type, the beginning is missing, or the API failed at the end.
    """
    where_ = "loglines" if "loglines" in record else "events"
    events = objects(record.get(where_), where_)
    talk, attached = Talk(), Counter[str]()
    models, compactions = Counter[str](), 0
    chosen = _branch(events)
    for index in chosen:
        event, where = events[index], f"events.{index}"
        kind, message = kind_of(event), event.get("message")
        if kind not in _TOLD:
            continue
        if kind == "attachment":
            attached.update(_attach(talk, event, where))
        elif kind == "system":
            compactions += event.get("subtype") == "compact_boundary"
            if event.get("subtype") == "local_command":
                add_blocks(talk, "user", event.get("content"), where)
        elif not isinstance(message, dict):
            raise DataError(f"{where}.message: must be an object, got {type(message).__name__}")
        elif not _unsent(event):
            if kind == "assistant":
                if isinstance(model := message.get("model"), str):
                    models[model] += 1
                talk.by = {"model": model, "timestamp": event.get("timestamp")}
            if message.get("content") is None:
                raise DataError(f"{where}.message.content: is missing")
            talk.keep_aside(f"{where}.message", message, _MESSAGE)
            name = text_at(message, "id") or text_at(event, "uuid") or where
            add_blocks(talk, message.get("role"), message["content"], f"{where}.message", name)
    if chosen and _unsent(events[chosen[-1]]) and events[chosen[-1]].get("isApiErrorMessage") is True:
        raise DataError(
            f"events.{chosen[-1]}: the session ends in an error of the API, which says nothing about the agent"
        )
    branch = [events[index] for index in chosen]
    return run_of(
        talk,
        record,
        branch,
        models,
        score=score,
        task=task,
        version=next(filter(None, (text_at(event, "version") for event in branch)), None),
        models=several(models),
        attachments=", ".join(f"{kind} ({count})" for kind, count in sorted(attached.items())),
        compactions=compactions,
    )


def _unsent(event: Record) -> bool:
    """Whether the model never saw a message: the program wrote it for whoever reads the session."""
    return (
        event.get("isVisibleInTranscriptOnly") is True
        or event.get("isApiErrorMessage") is True
        or (isinstance(message := event.get("message"), dict) and message.get("model") == _NOBODY)
    )


def _branch(events: Sequence[Record]) -> list[int]:
    """The events of the run, by index: the last message and what it follows, and all parts of the replies among them.

    Raises:
        DataError: an event is of an unknown type, or the first one follows one that is not in the file.
    """
    place: dict[str, int] = {}
    for index, event in enumerate(events):
        kind = kind_of(event)
        # The program's notes for itself (titles, snapshots, modes) follow nothing and hold no message.
        if kind not in (*_TOLD, "progress") and ("message" in event or event.get("parentUuid") is not None):
            raise DataError(f"events.{index}.type: {kind[:80]!r} is not an event that is known")
        if isinstance(event.get("uuid"), str):
            place.setdefault(event["uuid"], index)
    spoken = [i for i, event in enumerate(events) if kind_of(event) in _SPOKEN]
    if not any(events[i].get("parentUuid") for i in spoken):
        return list(range(len(events)))  # it is not recorded what follows what
    at_ = spoken[-1] if spoken else None
    chain: set[int] = set()
    while at_ is not None and at_ not in chain:
        chain.add(at_)
        parent = events[at_].get("parentUuid") or events[at_].get("logicalParentUuid")
        if parent is not None and str(parent) not in place:
            # Some versions do not write every event down.
            before = next((i for i in reversed(range(at_)) if kind_of(events[i]) in _SPOKEN), None)
            if before is None:
                raise DataError(f"events.{at_}.parentUuid: is not in the file, so the beginning of the run is missing")
            at_ = before
        else:
            at_ = place[str(parent)] if parent is not None else None
    return sorted(chain if chain.issuperset(spoken) else chain | _beside(events, chain))


def _beside(events: Sequence[Record], chain: set[int]) -> set[int]:
    """Parts of the branch's replies, and results of their calls, that are off it: parallel calls make side branches."""
    names = {text_at(events[i], "message.id") for i in chain if events[i].get("type") == "assistant"} - {None}
    parts = {
        i
        for i, event in enumerate(events)
        if event.get("type") == "assistant" and text_at(event, "message.id") in names
    }
    answered = {call for i in chain for call in _blocks(events[i], "tool_result", "tool_use_id")}
    asked = {call for i in parts | chain for call in _blocks(events[i], "tool_use", "id")} - answered
    found = set()
    for index, event in enumerate(events):
        results = set(_blocks(event, "tool_result", "tool_use_id")) if index not in chain else set()
        if results and results <= asked:
            found.add(index)
            asked -= results
    return parts | found


def _blocks(event: Record, kind: str, field: str) -> list[str]:
    content = at(event, "message.content")
    blocks = content if isinstance(content, list) else []
    return [str(block.get(field)) for block in blocks if isinstance(block, dict) and block.get("type") == kind]


def _attach(talk: Talk, event: Record, where: str) -> list[str]:
    """Add what the user typed while the agent worked; the kinds of all other attachments are returned."""
    attachment = event.get("attachment")
    kind = str(at(attachment, "type"))
    if kind != "queued_command":
        return [kind]
    add_blocks(talk, "user", at(attachment, "prompt"), f"{where}.attachment")
    return []


__all__ = ["held", "read", "recognises", "runs"]
