"""Records are cut out of any layout of JSON, with their place, and a broken one does not hide the others."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, text
from tests.formats.conversations import lines_of

from trajtree.errors import DataError
from trajtree.formats.read import records as records_module
from trajtree.formats.read.records import RawRecord, decode, raw_records

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
records = st.lists(st.dictionaries(text, values, max_size=3), min_size=1, max_size=5)
layouts = st.sampled_from(
    (
        lines_of,
        lambda rs: "\n \r\n".join(json.dumps(r, ensure_ascii=False) for r in rs),
        json.dumps,
        lambda rs: json.dumps(rs, indent=2, ensure_ascii=False),
        lambda rs: "\n\n" + json.dumps(rs, indent=1).replace("\n", "\r\n") + "\n\n",
    )
)


def read(content: bytes | str, name: str = "runs.json") -> list[RawRecord]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(raw_records(path))


def told(found: list[RawRecord]) -> list[Any]:
    """(line, object), or (line, reason) where it is broken."""
    result: list[Any] = []
    for raw in found:
        try:
            result.append((raw.line, decode(raw)))
        except DataError as error:
            result.append((raw.line, str(error)))
    return result


@quick
@given(records, layouts, st.sampled_from((1, 2, 7, 1 << 16)), st.booleans())
def test_every_layout_gives_the_same_records(given_: list[Any], layout: Any, chunk: int, bom: bool) -> None:
    content = ("\ufeff" if bom else "") + layout(given_)
    with patch.object(records_module, "_CHUNK", chunk):
        found = read(content)
    assert [decode(raw) for raw in found] == given_
    assert [raw.number for raw in found] == list(range(1, len(given_) + 1))
    encoded = content.removeprefix("\ufeff").encode().split(b"\n")
    for raw in found:
        assert encoded[raw.line - 1].lstrip().lstrip(b"[ ").startswith(raw.data.split(b"\n")[0].rstrip()[:1])


@quick
@given(st.dictionaries(text, values, max_size=3))
def test_an_object_over_many_lines_is_one_record(record: dict[str, Any]) -> None:
    found = read("\n" + json.dumps(record, indent=2) + "\n")
    assert [(raw.number, raw.line, decode(raw)) for raw in found] == [(1, 2, record)]


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert [(r.number, r.line) for r in read('{"a": 1}\n\n  \n{"b": 2}\n{"c": 3}', "x.jsonl")] == [
        (1, 1),
        (2, 4),
        (3, 5),
    ]
    array = '\n[\n  {"a":\n 1}, {"b": 2},\n\n {"c": 3}\n]\n'
    assert [(r.number, r.line) for r in read(array)] == [(1, 3), (2, 4), (3, 6)]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"a": 1', "not JSON: "),
        ("{]}", "not JSON: "),
        ("hello", "not JSON: "),
        ("[1]", "a run is a JSON object, got list"),
        ("3", "a run is a JSON object, got int"),
        ('{"a": "\\ud800"}', "not JSON: "),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
    ],
)
@pytest.mark.parametrize("place", [1, 2])
def test_a_broken_line_is_one_bad_record(name: str, broken: str, reason: str, place: int) -> None:
    lines = ['{"ok": 1}', '{"ok": 2}', '{"ok": 3}']
    lines.insert(place, broken)
    found = told(read("\n".join(lines), name))
    assert [line for line, _ in found] == [1, 2, 3, 4]
    assert found.pop(place)[1].startswith(reason)
    assert [value for _, value in found] == [{"ok": 1}, {"ok": 2}, {"ok": 3}]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_a_torn_first_line_is_no_long_object(name: str) -> None:
    assert [line for line, _ in told(read('{"a": {"b\n{"ok": 1}\n{"ok": 2}\n', name))] == [1, 2, 3]


def test_bytes_that_are_no_text_are_one_bad_record() -> None:
    (_, bad), good = told(read(b'{"a": "\xff\xfe"}\n{"ok": 1}\n', "x.jsonl"))
    assert bad.startswith("not JSON: ")
    assert good == (2, {"ok": 1})


@pytest.mark.parametrize("broken", ['{"a" 1}', "{'a': 1}", "nonsense", "{]}", "1", '{"a": "\\ud800"}', "}"])
def test_a_broken_element_is_one_bad_record(broken: str) -> None:
    found = told(read(f'[{{"ok": 1}},\n{broken},\n{{"ok": [2, "]"]}}]'))
    assert [line for line, _ in found] == [1, 2, 3]
    assert isinstance(found[1][1], str)
    assert [found[0][1], found[2][1]] == [{"ok": 1}, {"ok": [2, "]"]}]


@pytest.mark.parametrize("torn", ['{"a": [1', '{"a": "}]', '{"a": "b\\', '{"a": 1}', ""])
def test_an_array_that_does_not_end_is_said(torn: str) -> None:
    found = told(read('[{"ok": 1},\n{"ok": 2},\n' + torn))
    assert found == [(1, {"ok": 1}), (2, {"ok": 2}), (3, "the file ends before the array does")]


def test_what_follows_an_array_is_not_lost() -> None:
    found = told(read('[{"ok": 1}]\n{"ok": 2}\n junk\n[]\n'))
    assert found[:2] == [(1, {"ok": 1}), (2, {"ok": 2})]
    assert [line for line, _ in found[2:]] == [3, 4]


@pytest.mark.parametrize("content", ["", "\n \n", "[]", " [ ]\n", "\ufeff"])
def test_nothing_gives_nothing(content: str) -> None:
    assert read(content) == []


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_a_record_that_is_too_long_is_not_read(name: str) -> None:
    long = '{"a": "' + "x" * 300 + '"}'
    with patch.object(records_module, "LONGEST", 100), patch.object(records_module, "_CHUNK", 16):
        in_lines = told(read(f'{{"ok": 1}}\n{long}\n{{"ok": 2}}\n', name))
        in_array = told(read(f'[{{"ok": 1}},\n{long},\n{{"ok": 2}}]', name))
        alone = told(read('{\n"a": "' + "x" * 300 + '"}', "x.json"))
    assert [line for line, _ in in_lines] == [1, 2, 3]
    assert "longer than" in in_lines[1][1]
    assert in_lines[2][1] == {"ok": 2}
    assert in_array[0] == (1, {"ok": 1})
    assert in_array[1][0] == 2
    assert "longer than" in in_array[1][1]
    assert "longer than" in alone[0][1]


def test_an_array_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" + ",".join(json.dumps({"a": "x" * 1000}) for _ in range(2000)) + "]")
    import tracemalloc

    tracemalloc.start()
    try:
        assert sum(1 for _ in raw_records(path)) == 2000
        assert tracemalloc.get_traced_memory()[1] < 500_000 < path.stat().st_size
    finally:
        tracemalloc.stop()


WRAPPED = [
    '{"messages": [\n{"role": "user", "content": "q"},\n{"role": "assistant", "content": "a"}\n], "score": 1}\n',
    '{"messages": [\n{"role": "user", "content": "q"}\n], "score": 1}',
    '{"a": [\n\n{"b": 1}\n, {"c": [\n{"d": 1}]}]}',
    '{\n"a": [\n{"b": 1}]}',
]


@pytest.mark.parametrize("content", WRAPPED)
@pytest.mark.parametrize("name", ["x.json", "x", "x.json.gz"])
def test_an_object_that_was_wrapped_by_hand_is_one_record(content: str, name: str) -> None:
    data = gzip.compress(content.encode()) if name.endswith("gz") else content
    (raw,) = read(data, name)
    assert decode(raw) == json.loads(content)


def test_a_wrapped_object_that_is_broken_is_one_bad_record() -> None:
    ((line, reason),) = told(read('{"messages": [\n{"role": "user"},\n{"role" "assistant"}\n]}', "x.json"))
    assert line == 1
    assert reason.startswith("not JSON")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"score": 0, "a": "b:c", "score": 1}', "'score'"),
        ('{"a": [{"content": "x", "role": "u", "content": "y"}]}', "'content'"),
        ('{"a": {"b": {}, "b": {}}, "n": NaN}', "'b'"),
        ('{"a\\u003a": 1, "x": "\\u003a", "x": ":"}', "'x'"),
        ('{"n": ' + "9" * 60 + ', "n": 1}', "'n'"),
        ('{"\\u0061": 1, "a": 1}', "'a'"),
    ],
)
def test_a_key_that_occurs_twice_is_named(text: str, key: str) -> None:
    assert told(read(text + '\n{"ok": 1}\n', "x.jsonl")) == [
        (1, f"{key} occurs twice in one object, and only one value could be kept"),
        (2, {"ok": 1}),
    ]


@quick
@given(records)
def test_keys_that_occur_once_are_no_fault(given_: list[Any]) -> None:
    for spelling in (json.dumps, lambda r: json.dumps(r, ensure_ascii=False), lambda r: json.dumps(r, indent=3)):
        for record in given_:
            text = spelling(record)
            assert decode(RawRecord(1, 1, text.encode())) == record
            assert decode(RawRecord(1, 1, text.replace(":", "\\u003a").replace('"\\u003a', '":').encode())) is not None
