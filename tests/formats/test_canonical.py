"""The content of a record is the same text as ever, however it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick

from trajtree.errors import DataError
from trajtree.formats.read.records import RawRecord, decode, decode_with_content

text = st.text(st.characters(exclude_categories=("Cs",))) | st.text('\x7f\0\u00e9\U0001f600a:,xuU\\"\n/', max_size=8)
number = st.integers() | st.floats(allow_nan=False) | st.sampled_from((1e16, 1e-5, 123e-7, -1e17, 5e-324, 9.9e15, -0.0))
value = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)


def content(data: bytes) -> bytes:
    return decode_with_content(RawRecord(1, 1, data))[1]


@quick
@given(st.dictionaries(text, value, max_size=4), st.booleans(), st.sampled_from((None, 1)))
def test_the_content_is_what_json_says(record: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    """Stores identify records by its hash, so it is spelt as Python's json spells it, with sorted keys."""
    data = json.dumps(record, ensure_ascii=ascii_only, indent=indent).encode()
    read, said = decode_with_content(RawRecord(1, 1, data))
    assert said == json.dumps(json.loads(data), sort_keys=True).encode()
    assert json.dumps(read) == json.dumps(json.loads(data)) == json.dumps(decode(RawRecord(1, 1, data)))


def test_what_is_spelt_in_two_ways() -> None:
    record = b'{"b": [1e16, 0.00001, NaN, 1E2], "a": "\\u00e9\xf0\x9f\x98\x80\\\\u00e9\\\\x41\\\\U0001f600\x7f"}'
    assert content(record) == (
        b'{"a": "\\u00e9\\ud83d\\ude00\\\\u00e9\\\\x41\\\\U0001f600\\u007f", "b": [1e+16, 1e-05, NaN, 100.0]}'
    )


@quick
@given(st.dictionaries(text, value, max_size=3), text, value, st.booleans())
def test_a_key_given_twice_is_refused_at_any_depth(
    record: dict[str, Any], key: str, inner: Any, ascii_only: bool
) -> None:
    name = json.dumps(key, ensure_ascii=ascii_only)
    twice = f"{{{name}: {json.dumps(inner, ensure_ascii=ascii_only)}, {name}: 1}}"
    whole = json.dumps({**record, "deep": [0]}, ensure_ascii=ascii_only).replace("[0]}", f"[{twice}]}}")
    with pytest.raises(DataError, match="occurs twice in one object"):
        content(whole.encode())
