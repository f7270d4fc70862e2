"""The formats that are read from the first tell one story alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.formats.conversations import Run, as_atif, as_messages, as_sharegpt, as_trace, lines_of
from tests.formats.one_story import CALLS, TASK, TEXT, Telling, check_story

Writer = Callable[[Run], dict[str, Any]]


def in_task(write: Writer, *place: str) -> Writer:
    """The writer, with the story's task at a place in its records."""

    def written(run: Run) -> dict[str, Any]:
        record = inner = write(run)
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = TASK
        return record

    return written


WRITERS: dict[str, tuple[Writer, tuple[Telling, ...]]] = {
    "messages": (in_task(as_messages, "task"), CALLS),
    "messages in text": (in_task(as_messages, "task"), TEXT),
    "sharegpt": (in_task(as_sharegpt, "task"), TEXT),
    "atif": (in_task(as_atif, "extra", "task"), CALLS),
    "verifiers": (in_task(as_trace, "task", "key"), CALLS),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_story_is_the_same(tmp_path: Path, name: str) -> None:
    write, story = WRITERS[name]
    (tmp_path / "runs.jsonl").write_text(lines_of([write(Run(told.messages, (), told.score)) for told in story]))
    check_story(tmp_path / "runs.jsonl", tmp_path / "store.jsonl", story)
