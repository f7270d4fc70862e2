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
from trajtree.formats.containers.tables import rows_in
from trajtree.formats.importing import import_files
from trajtree.formats.write.parquet import write_rows
from trajtree.store.trajectory_store import TrajectoryStore

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


def test_what_was_written_is_read_as_a_log(tmp_path: Path) -> None:
    """Columns of JSON come from pyarrow as text; within a list, an object, or on their own."""
    rows_ = [
        {
            "task": "t",
            "score": number / 2,
            "messages": [
                {"role": "user", "content": "Go"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": '{"is": "text"}'},
                {"role": "assistant", "content": f"Done {number}"},
            ],
            "tools": [{"type": "function", "function": {"name": "ls", "parameters": {}}}],
        }
        for number, call in enumerate([{"id": "1", "function": {"name": "ls", "arguments": "{}"}}] * 2)
    ]
    write_rows(rows_, tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    found = {}
    for name in ("rows.parquet", "rows.jsonl"):
        report = import_files(tmp_path / name, tmp_path / f"{name}.store")
        assert (report.added, report.left_out_count) == (2, 0)
        found[name] = [(run.messages, run.tools, run.score) for run in TrajectoryStore(tmp_path / f"{name}.store")]
    assert found["rows.parquet"] == found["rows.jsonl"]


def test_columns_of_json_hold_json(tmp_path: Path) -> None:
    """What is none stays text, and costs no other row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"one": pa.json_(), "inner": pa.struct([("a", pa.json_()), ("b", pa.string())])}
    held = {"one": ['{"x": [1]}', None], "inner": [{"a": "[2]", "b": "[2]"}, None]}
    storage = {"one": pa.string(), "inner": pa.struct([("a", pa.string()), ("b", pa.string())])}
    table = pa.table({name: pa.array(held[name], storage[name]) for name in held}).cast(pa.schema(list(kinds.items())))
    pq.write_table(table, tmp_path / "t.parquet")
    assert [json.loads(row) for row in rows_in(tmp_path / "t.parquet")] == [
        {"one": {"x": [1]}, "inner": {"a": [2], "b": "[2]"}},
        {"one": None, "inner": None},
    ]
    broken = pa.table({"one": pa.array(["{", "", '{"a": NaN}', "[1]"], pa.string())}).cast(
        pa.schema([("one", pa.json_())])
    )
    pq.write_table(broken, tmp_path / "b.parquet")
    assert [json.loads(row)["one"] for row in rows_in(tmp_path / "b.parquet")] == ["{", "", '{"a": NaN}', [1]]
