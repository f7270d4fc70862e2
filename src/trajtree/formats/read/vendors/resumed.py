"""Sessions that were resumed or forked: the later file repeats the earlier one's messages, with their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from msgspec import json

from trajtree.errors import DataError
from trajtree.formats.read.fields import Record, objects, text_at
from trajtree.formats.read.records import decode, raw_records


class Place(NamedTuple):
    """A run, by its file and its number there, from 1."""

    path: Path
    number: int


def held_by(paths: Sequence[Path], spoken: Callable[[Record], bytes | None]) -> Mapping[Path, Path]:
    """The sessions whose messages are all in another session's file, and that file: the longest, or the last of equals.

    Only files that begin with the same message are read for this.

    Args:
        paths: the sessions' files.
        spoken: what identifies a message that a session has as its own; None for any other event.
    """
    beginnings: dict[bytes, list[Path]] = {}
    for path in paths:
        if (first := next(_spoken(path, spoken), None)) is not None:
            beginnings.setdefault(first, []).append(path)
    found = {}
    for alike in beginnings.values():
        said = {path: frozenset(_spoken(path, spoken)) for path in alike} if len(alike) > 1 else {}
        longest_first = sorted(reversed(said), key=lambda path: -len(said[path]))
        for index, path in enumerate(longest_first):
            holder = next((other for other in longest_first[:index] if said[path] <= said[other]), None)
            if holder is not None:
                found[path] = holder
    return found


def message_of(event: Record, ids: Sequence[str]) -> bytes | None:
    """Hash of an event's message with its id, the first of those fields that it has; None without any.

    A text counts as the block that a program makes of it when it repeats the message.
    """
    id_ = text_at(event, *ids)
    if id_ is None:
        return None
    message = event.get("message")
    if isinstance(message, dict) and isinstance(text := message.get("content"), str):
        message = {**message, "content": [{"type": "text", "text": text}]}
    return blake2b(json.encode([id_, message], order="deterministic"), digest_size=16).digest()


def _spoken(path: Path, spoken: Callable[[Record], bytes | None]) -> Iterator[bytes]:
    return filter(None, map(spoken, _events(path)))


def _events(path: Path) -> Iterator[Record]:
    """A file's events, without what cannot be read: that is reported when the run is."""
    for raw in raw_records(path):
        try:
            record = decode(raw)
            yield from objects(record["loglines"], "loglines") if "loglines" in record else (record,)
        except DataError:
            continue


__all__ = ["Place", "held_by", "message_of"]
