"""Sessions of Codex: one event per line, among them the items that the model was given and gave.

Source: session files (`rollout-*.jsonl`) of versions 0.20 to 0.140; older ones have the items themselves as lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trajtree.errors import DataError
from trajtree.formats.read.fields import Record, at, objects, text_at
from trajtree.formats.read.records import RawRecord
from trajtree.formats.read.to_trajectory import Imported
from trajtree.formats.read.vendors.events import ID, joined, twin_of
from trajtree.formats.read.vendors.items import BETWEEN, add_item
from trajtree.formats.read.vendors.session import run_of, several
from trajtree.formats.read.vendors.talk import Talk, kind_of
from trajtree.trajectory import Message

_NOTES = frozenset(("turn_context", "event_msg", "world_state", "session_state"))
"""Events that the program writes for itself; the model never sees them."""

_ROLLED_BACK = "thread_rolled_back"
_UNREADABLE = ("compaction", "compaction_summary", "context_compaction")
"""Items that stand for a compacted history; what they hold is encrypted."""


def recognises(record: Record) -> bool:
    """Whether a record is the first event of a session."""
    if record.get("type") == "session_meta":
        return isinstance(record.get("payload"), dict)
    return {"id", "timestamp", "instructions"} <= record.keys() and "type" not in record


def runs(path: Path, records: Iterator[RawRecord]) -> Iterator[RawRecord]:
    """One record for the whole session."""
    return joined(records, ID) if (twin := twin_of(path)) is None else iter((twin,))


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one session.

    What follows a compaction comes after the summary that the model was given then.

    Args:
        record: `events`, and `session_id`.
        score: dotted path of the score; without one, the usual names are tried. A session has none.
        task: dotted path of the task; without one, the prompt is the task.

    Raises:
        DataError: an event or item is of an unknown type; or turns were rolled back, so that it is not known what the
            model saw.
    """
    events = objects(record.get("events"), "events")
    talk, models = Talk(BETWEEN), Counter[str]()
    meta: Record = {}
    compactions = 0
    model: str | None = None
    for index, event in enumerate(events):
        where, kind, payload = f"events.{index}", kind_of(event), event.get("payload")
        talk.by = {"model": model, "timestamp": event.get("timestamp")}
        if index == 0:
            meta = payload if isinstance(payload, dict) else event
            instructions = text_at(meta, "base_instructions.text", "instructions")
            if instructions:
                talk.hear(Message("system", instructions))
        elif kind == "response_item":
            (item,) = objects([payload], where)
            compactions += _add(talk, item, f"{where}.payload")
        elif kind == "compacted":
            compactions += 1
            _summary(talk, payload, f"{where}.payload")
        elif kind == "event_msg" and at(payload, "type") == _ROLLED_BACK:
            raise DataError(f"{where}: turns were rolled back, so it is not known what the model saw later")
        elif kind == "turn_context":
            model = text_at(payload, "model")
            models.update(filter(None, [model]))
        elif kind not in _NOTES and kind != "session_meta" and payload is None and event.get("record_type") != "state":
            compactions += _add(talk, event, where)
        elif payload is not None and kind not in _NOTES and kind != "session_meta":
            raise DataError(f"{where}.type: {kind[:80]!r} is not an event that is known")
    return run_of(
        talk,
        record,
        events,
        models,
        score=score,
        task=task,
        model=text_at(meta, "model"),
        version=text_at(meta, "cli_version"),
        models=several(models),
        compactions=compactions,
    )


def _add(talk: Talk, item: Record, where: str) -> bool:
    """Add an item; whether it stands for a history that was compacted."""
    if kind_of(item) in _UNREADABLE:
        return True
    add_item(talk, item, where)
    return False


def _summary(talk: Talk, payload: object, where: str) -> None:
    """Add the summary with which a compacted history begins: what the model was given that is not said yet."""
    history = at(payload, "replacement_history")
    message = text_at(payload, "message")
    if not isinstance(history, list):
        if message is None:
            raise DataError(f"{where}.message: the summary of the history is missing")
        talk.hear(Message("user", message))
        return
    given = Talk(BETWEEN)
    for index, item in enumerate(objects(history, f"{where}.replacement_history")):
        _add(given, item, f"{where}.replacement_history.{index}")
    said = {(m.role, m.content) for m in talk.messages}
    for new in given.messages:
        if new.role == "user" and (new.role, new.content) not in said:
            talk.hear(new)


__all__ = ["read", "recognises", "runs"]
