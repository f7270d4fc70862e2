"""No reader drops a field of a message, a part or a call that it does not know: it is kept, or the run is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.formats.benchmark_writers import WRITERS as BENCHMARKS
from tests.formats.conversations import Run, as_atif, as_completion, as_messages, as_sharegpt, as_trace, lines_of
from tests.formats.one_story import CALLS, TEXT, Telling
from tests.formats.test_read_vendors import LOGS

from trajtree.formats.importing import import_files
from trajtree.formats.read.detect import FORMATS

_NEW = "words in a field that nobody knows"

_BESIDE = re.compile(r"\.raw_data\.|history\.2\.args$")
"""The engine's whole answer in tau2-bench's results, and a query to OpenHands' memory: neither is read."""

Write = Callable[[Path, Telling], None]


def _rows(write: Callable[[Run], dict[str, Any]]) -> Write:
    def written(folder: Path, told: Telling) -> None:
        (folder / "log.jsonl").write_text(lines_of([write(Run(told.messages, (), told.score))]))

    return written


def _vendors(name: str) -> Write:
    log = LOGS[name]

    def written(folder: Path, told: Telling) -> None:
        made = log.write([m for m in told.messages if log.system or m.role != "system"], told.score)
        (folder / "log.jsonl").write_text(lines_of(made if isinstance(made, list) else [made]))

    return written


def _traces(folder: Path, told: Telling) -> None:
    row = {**as_messages(Run(told.messages, (), told.score)), "trial_name": "t", "task": "x", "episode": "episode-1"}
    row["conversations"] = row.pop("messages")
    (folder / "log.jsonl").write_text(lines_of([{**row, "result": "1.0"}]))


LOG_WRITERS: dict[str, tuple[str, Write, Telling]] = {
    "messages": ("messages", _rows(as_messages), CALLS[0]),
    "prompt and completion": ("messages", _rows(as_completion), CALLS[0]),
    "sharegpt": ("sharegpt", _rows(as_sharegpt), TEXT[0]),
    "sharegpt's calls": ("sharegpt", _rows(as_sharegpt), CALLS[1]),
    "atif": ("atif", _rows(as_atif), CALLS[0]),
    "verifiers": ("verifiers", _rows(as_trace), CALLS[0]),
    "harbor-traces": ("harbor-traces", _traces, CALLS[0]),
    **{name: (log.format, _vendors(name), CALLS[0]) for name, log in LOGS.items()},
    **{
        name: (writer.format, lambda folder, told, w=writer: w.write(folder, [(told.messages, told.score)]), CALLS[0])
        for name, writer in BENCHMARKS.items()
    },
}


def test_every_format_is_tried() -> None:
    assert {format for format, _, _ in LOG_WRITERS.values()} == FORMATS.keys()


@pytest.mark.parametrize("name", LOG_WRITERS)
def test_a_field_that_is_not_known_is_kept_or_said(tmp_path: Path, name: str) -> None:
    _, write, told = LOG_WRITERS[name]
    said = {
        text
        for m in told.messages
        if m.role != "system"  # instructions often stand beside the messages
        for text in (m.content, m.reasoning, *_of_calls(m.tool_calls))
        if text
    }
    tried = 0
    while True:
        folder = tmp_path / str(tried)
        folder.mkdir()
        write(folder, told)
        if (where := _with_new_field(folder, said, tried)) is None:
            break
        tried += 1
        report = import_files(folder, tmp_path / f"{tried}.store", score=LOGS[name].score if name in LOGS else None)
        kept = (tmp_path / f"{tried}.store").read_text() if report.added else ""
        assert report.added + report.left_out_count, where
        assert report.left_out_count or _NEW in kept, f"dropped: a field of {where}"
    assert tried > 3


def _of_calls(calls: Any) -> Iterator[str]:
    for call in calls:
        yield call.name
        yield call.arguments


def _with_new_field(folder: Path, said: set[str], number: int) -> str | None:
    """Give one more field to the object number `number` in which something of the conversation stands, and its copies.

    Returns where it stands first; None if there are fewer such objects.
    """
    found: list[tuple[str, str]] = []
    files = {path: [json.loads(line) for line in path.read_text().splitlines()] for path in _files(folder)}
    for path, records in files.items():
        for record in records:
            for holder, where, _ in _objects(record, path.name):
                spoken = any(one in said for one in holder.values() if isinstance(one, str))
                if (spoken or "role" in holder) and not _BESIDE.search(where):
                    found.append((where, json.dumps(holder)))
    if number >= len(found):
        return None
    chosen = found[number][1]
    for path, records in files.items():
        for record in records:
            for holder, _, restore in list(_objects(record, path.name)):
                if json.dumps(holder) == chosen:
                    holder["new_field"] = _NEW
                    restore()
        path.write_text(lines_of(records))
    return found[number][0]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _objects(value: Any, where: str, restore: Callable[[], None] = lambda: None) -> Iterator[Any]:
    """(object, place, how to write it back) of all objects, those in JSON text too."""
    if isinstance(value, dict):
        yield value, where, restore
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        here = f"{where}.{key}"
        if isinstance(inner, dict | list):
            yield from _objects(inner, here, restore)
        elif isinstance(inner, str) and inner.startswith(("[{", '{"')):
            told = json.loads(inner)

            def back(holder: Any = value, key: Any = key, told: Any = told) -> None:
                holder[key] = json.dumps(told)
                restore()

            yield from _objects(told, here, back)
