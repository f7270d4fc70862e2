"""Files in which a run's events stand one per record, joined to one record per run without parsing them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from trajtree.formats.read.records import LONGEST, RawRecord

ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')
"""The first field `id` of a record, with its value."""

_MESSAGE = re.compile(rb'"message"\s*:\s*\{')
_TOO_LONG = f"the session is longer than {LONGEST >> 20} MiB, the limit for one run"


class Events:
    """The events of one run, while its file is read."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._parts: list[bytes] = []
        self._size = 0
        self._problem: str | None = None
        self.empty = True
        """Whether no event has a message."""

    def add(self, raw: RawRecord) -> None:
        """Add an event as written."""
        self._size += len(raw.data)
        self.empty = self.empty and _MESSAGE.search(raw.data) is None
        if self._problem is None:
            self._problem = _TOO_LONG if self._size > LONGEST else _problem_of(raw)
        if self._problem is None:
            self._parts.append(raw.data)
        else:
            self._parts.clear()

    def record(self, number: int, **fields: str) -> RawRecord:
        """The record of the run: `fields`, and `events` with all events."""
        head = json.dumps({name: value for name, value in fields.items() if value})[:-1].encode()
        begin = head + (b', "events": [' if len(head) > 1 else b'"events": [')
        return RawRecord(number, self._line, begin + b",".join(self._parts) + b"]}", self._problem)


def joined(records: Iterator[RawRecord], named: re.Pattern[bytes] | None = None) -> Iterator[RawRecord]:
    """All records of a file as the events of one run; `named` finds the id of the session in the first one."""
    events: Events | None = None
    session = ""
    for raw in records:
        if events is None:
            events = Events(raw.line)
            found = None if named is None else named.search(raw.data)
            session = found[1].decode("utf-8", "replace") if found else ""
        events.add(raw)
    if events is not None:
        yield events.record(1, session_id=session)


def twin_of(path: Path) -> RawRecord | None:
    """What is read instead of a session that Harbor has in another form: nothing, with the reason."""
    agent = next((folder for folder in path.absolute().parents if folder.name == "agent"), None)
    if agent is None or not (agent / "trajectory.json").is_file():
        return None
    return RawRecord(
        1, 1, b"", "the session of a run that is read from agent/trajectory.json, where Harbor wrote it too"
    )


def _problem_of(raw: RawRecord) -> str | None:
    """Why an event cannot be used: it is cut off. Whether it is JSON otherwise shows when the run is read."""
    if raw.problem is None and raw.data.startswith(b"{") and raw.data.endswith(b"}"):
        return None
    problem = raw.problem or "not a JSON object"
    return f"line {raw.line}: {problem}, so the session is not whole; restore or remove the line"


__all__ = ["ID", "Events", "joined", "twin_of"]
