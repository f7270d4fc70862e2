"""Sessions of Claude Code that were resumed: the later file repeats the earlier one's messages, with their uuids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from msgspec import json

from trajtree.errors import DataError
from trajtree.formats.read.fields import Record, objects, text_at
from trajtree.formats.read.records import decode, raw_records


def held(paths: Sequence[Path]) -> dict[Path, Path]:
    """The sessions whose messages are all in another session's file, and that file: the longest, or the last of equals.

    Only files that begin with the same message are read for this.
    """
    beginnings: dict[bytes, list[Path]] = {}
    for path in paths:
        if (first := next(_spoken(path), None)) is not None:
            beginnings.setdefault(first, []).append(path)
    found = {}
    for alike in beginnings.values():
        said = {path: frozenset(_spoken(path)) for path in alike} if len(alike) > 1 else {}
        longest_first = sorted(reversed(said), key=lambda path: -len(said[path]))
        for index, path in enumerate(longest_first):
            holder = next((other for other in longest_first[:index] if said[path] <= said[other]), None)
            if holder is not None:
                found[path] = holder
    return found


def _spoken(path: Path) -> Iterator[bytes]:
    """Hashes of a session's messages with their uuids, without its subagents' and without notes to the user alone."""
    for event in _events(path):
        if event.get("type") not in ("user", "assistant") or event.get("isSidechain") is True:
            continue
        uuid, unsent = text_at(event, "uuid"), event.get("isApiErrorMessage") or event.get("isVisibleInTranscriptOnly")
        if uuid is not None and not unsent:
            yield blake2b(json.encode([uuid, event.get("message")], order="deterministic"), digest_size=16).digest()


def _events(path: Path) -> Iterator[Record]:
    """A file's events, without what cannot be read: that is reported when the run is."""
    for raw in raw_records(path):
        try:
            record = decode(raw)
            yield from objects(record["loglines"], "loglines") if "loglines" in record else (record,)
        except DataError:
            continue


__all__ = ["held"]
