"""Parquet gives back the very rows, through `datasets` as TRL loads them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import quick, text

from trajtree.errors import DataError
from trajtree.formats.write.parquet import write_rows

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("pyarrow", reason="Parquet comes with the logs extra")
datasets = pytest.importorskip("datasets", reason="datasets comes with the dev extra")

words = text.filter(lambda said: "\x00" not in said)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
objects = st.dictionaries(words, values | st.lists(values, max_size=2), max_size=3)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "messages": st.lists(objects, max_size=3),
    "tools": st.lists(objects, max_size=2),
    "score": st.floats(0, 1),
    "count": st.integers(-(2**63), 2**63 - 1),
    "label": st.booleans(),
    "labels": st.lists(st.booleans(), max_size=3),
    "values": st.lists(st.floats(0, 1), max_size=3),
    "completions": st.lists(words, max_size=3),
    "task": words,
    "mixed": values,
}
rows = st.lists(st.fixed_dictionaries({}, optional=COLUMNS).filter(bool), min_size=1, max_size=5)


def loaded(path: Path) -> Any:
    return datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))


@settings(quick, max_examples=min(quick.max_examples, 20))
@given(rows)
def test_rows_come_back(tmp_path_factory: pytest.TempPathFactory, given_: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    assert write_rows(given_, path) == len(given_)
    columns = {name for row in given_ for name in row}
    assert list(loaded(path)) == [{name: row.get(name) for name in columns} for row in given_]
    assert [p.name for p in path.parent.iterdir() if p.name != "cache"] == ["rows.parquet"]


def test_many_rows_come_back_in_their_order(tmp_path: Path) -> None:
    """A column may begin after the first group of rows, or with nothing but empty lists."""
    given_ = [
        {"n": n, "tools": [], "late": None} if n < 1500 else {"n": n, "tools": [{"a": n}], "late": "x"}
        for n in range(2500)
    ]
    write_rows(iter(given_), tmp_path / "rows.parquet")
    assert list(loaded(tmp_path / "rows.parquet")) == given_


def test_other_names_are_json_lines(tmp_path: Path) -> None:
    write_rows([{"a": 1}], tmp_path / "rows.jsonl")
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"a": 1}


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows([{"a": 1}], path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"rows.parquet, row 2: cannot be written"):
        write_rows([{"a": 1}, {"a": float("nan")}], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]


def test_without_pyarrow_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="pyarrow"):
        write_rows(iter([{"a": 1}]), tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []
