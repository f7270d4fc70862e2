"""Plain JSON Lines: written whole or not at all, read back as they were, errors naming the line."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trajtree.errors import DataError, RunError
from trajtree.store.files import write_whole
from trajtree.store.lines import read_jsonl, write_jsonl


def test_rows_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    rows = [{"a": "日本\u2028\n"}, {"b": [1.5, None]}]
    assert write_jsonl(iter(rows), path) == 2
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == rows
    assert "日本" in path.read_text(encoding="utf-8")
    assert write_jsonl([], path) == 0
    assert path.read_bytes() == b""


def refused() -> Iterator[dict[str, Any]]:
    yield {"a": 1}
    raise DataError("pair 2 cannot be written")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (refused(), "pair 2 cannot be written"),
        ([{"a": 1}, {"a": float("nan")}], "rows.jsonl, line 2: cannot be written as JSON"),
        ([{"a": "\ud800"}], "rows.jsonl, line 1: cannot be written as JSON"),
    ],
)
def test_a_refused_row_leaves_the_old_file(tmp_path: Path, rows: Any, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old\n")
    with pytest.raises(DataError, match=message):
        write_jsonl(rows, path)
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "rows.jsonl"
    path.write_text("old\n")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*rows\.jsonl: No space left on device"):
        write_jsonl([{"a": 1}], path)
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    rows = [{"a": "日本\u2028\n"}, {"b": [1.5, None]}]
    write_jsonl(rows, tmp_path / "rows.jsonl")
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows


@pytest.mark.parametrize(("line", "message"), [("{torn", "not JSON"), ("[1]", "must be a JSON object, got list")])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: {message}"):
        list(read_jsonl(path))


def test_a_text_file_is_written_whole_or_the_error_names_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "page.html", "text")
    assert (tmp_path / "page.html").read_text() == "text"
    with pytest.raises(RunError, match=r"cannot write .*page\.html: No such file or directory"):
        write_whole(tmp_path / "nowhere" / "page.html", "text")
