"""Bytes are searched as Python would search them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick

from trajtree.formats.read.searching import count, searcher

PATTERNS = ("sk-|hf_", r"\\u003[aA]", r"\\x", "é|日")
FOUND = {pattern: searcher(pattern) for pattern in PATTERNS}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("times", [1, 5000])
@quick
@given(
    parts=st.lists(st.sampled_from(("sk", "-", "hf_", "\\", "u003", "a", "A", "x", "é", "日", "\0", "\n")), max_size=8)
)
def test_patterns_are_found(pattern: str, times: int, parts: list[str]) -> None:
    text = " " * times + "".join(parts)
    assert FOUND[pattern](text.encode()) == (re.search(pattern, text) is not None)


@quick
@given(st.binary(max_size=40), st.integers(1, 400), st.integers(0, 255))
def test_bytes_are_counted(data: bytes, times: int, byte: int) -> None:
    assert count(data * times, byte) == (data * times).count(byte)
