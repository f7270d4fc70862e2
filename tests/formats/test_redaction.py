"""Private texts get placeholders, equal ones the same, and the rest of a run stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, text
from tests.formats.conversations import lines_of

from trajtree.formats.importing import import_files
from trajtree.formats.read.detect import FORMATS
from trajtree.formats.redaction import Redactor, may_hold_a_key
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trees.merge import build

A40 = "a1B2c3D4e5" * 4
KEYS = [
    f"sk-{A40}",
    f"sk-ant-api03-{A40}-_",
    f"sk-proj-{A40}",
    f"ghp_{A40[:36]}",
    f"github_pat_{A40}",
    f"glpat-{A40[:20]}",
    "AKIAABCDEFGHIJKLMNOP",
    f"AIza{A40[:35]}",
    f"xoxb-123456-{A40}",
    f"hf_{A40[:34]}",
    f"npm_{A40[:36]}",
    f"sk_live_{A40[:24]}",
    f"eyJ{A40[:20]}.eyJ{A40[:20]}.{A40[:20]}",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIE cut off",
]
OTHERS = [
    ("secret", "API_KEY=abcdef123456", "abcdef123456"),
    ("secret", '{"api_key": "zyx987654321"}', "zyx987654321"),
    ("secret", '"{\\"DB_PASSWORD\\": \\"correct1horse2\\"}"', "correct1horse2"),
    ("secret", "Authorization: Bearer abc.def-1234567890", "abc.def-1234567890"),
    ("mail", "write to anna.b+x@mail.example.org, now", "anna.b+x@mail.example.org"),
    ("home", "cd /home/anna/project && ls", "anna"),
    ("home", "open /Users/Anna.B/x.py", "Anna.B"),
    ("home", "C:\\Users\\anna\\x", "anna"),
    ("home", '"C:\\\\Users\\\\anna\\\\x"', "anna"),
]
PLAIN = [
    "the task-force took a risk-free, 40-hour break; sk-learn is scikit-learn",
    "git@github.com:owner/name.git",
    "token = next(tokens); password: required; secret santa; key=value",
    "api_key = os.environ['API_KEY'] or ${TOKEN_NUMBER_1234}",
    "/home/user/x /home/ubuntu/y /Users/Shared/z, /home/ alone",
    "a @decorator, x@y, user@localhost",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_get_placeholders(key: str) -> None:
    redactor = Redactor()
    said = redactor.text(f"export X={key}")
    assert said.startswith("export X=<key-") and said.endswith(">") and len(said) == len("export X=<key-01234567>")
    assert redactor.counts == {"key": 1}


@pytest.mark.parametrize(("kind", "said", "private"), OTHERS)
def test_other_private_texts_get_placeholders(kind: str, said: str, private: str) -> None:
    redactor = Redactor()
    before, _, after = said.partition(private)
    found = redactor.text(said)
    assert found.startswith(f"{before}<{kind}-") and found.endswith(f">{after}")
    assert redactor.counts == {kind: 1}


@pytest.mark.parametrize("said", PLAIN)
def test_what_is_not_private_stays(said: str) -> None:
    redactor = Redactor()
    assert redactor.text(said) == said
    assert not redactor.counts


@quick
@given(text, st.sampled_from([*KEYS, *(said for _, said, _ in OTHERS)]), text)
def test_redaction_is_done_once_and_is_the_same_everywhere(before: str, said: str, after: str) -> None:
    first, second = Redactor(), Redactor()
    once = first.text(f"{before} {said} {after}")
    assert first.text(once) == once
    assert second.text(f"{before} {said} {after}") == once


def test_json_stays_json() -> None:
    for said in (*KEYS, *(said for _, said, _ in OTHERS), *PLAIN):
        arguments = json.dumps({"command": said, "n": 1})
        assert set(json.loads(Redactor().text(arguments))) == {"command", "n"}


@pytest.mark.parametrize("key", [*KEYS[:4], KEYS[6], KEYS[7], KEYS[9], KEYS[13]])
def test_common_keys_are_seen_without_redaction(key: str) -> None:
    assert may_hold_a_key(json.dumps({"x": f"a {key} b"}).encode())


@pytest.mark.parametrize("said", PLAIN)
def test_no_key_is_seen_where_there_is_none(said: str) -> None:
    assert not may_hold_a_key(said.encode())


def session(action: str, score: float) -> dict[str, Any]:
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "bash", "arguments": json.dumps({"cmd": "ls /home/anna"})},
    }
    return {
        "messages": [
            {"role": "system", "content": f"Work in /home/anna/x with {KEYS[0]}"},
            {"role": "user", "content": "mail anna@example.org"},
            {"role": "assistant", "content": "", "reasoning_content": "anna@example.org?", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "/home/anna/y", "mood": KEYS[1]},
            {"role": "assistant", "content": action},
        ],
        "score": score,
        "model": "weak",
        "tools": [{"name": "bash", "description": "in /home/anna"}],
    }


def test_a_redacted_import_holds_nothing_private_and_still_merges(tmp_path: Path) -> None:
    runs, store = tmp_path / "r.jsonl", tmp_path / "s.jsonl"
    runs.write_text(lines_of([session("a", 1), session("b", 0)]))
    report = import_files(runs, store, redact=True)
    assert report.redacted == {"key": 4, "mail": 4, "home": 8}
    data = store.read_text()
    assert not any(private in data for private in ("anna", KEYS[0], KEYS[1]))
    (tree,) = build(TrajectoryStore(store))
    assert [len(options) for _, options in tree.forks()] == [2]
    again = import_files(runs, store, redact=True)
    assert (again.added, again.skipped, store.read_text()) == (0, 2, data)
    assert import_files(runs, store, redact=False).skipped == 2  # the hashes are those of the source


def test_redaction_is_on_by_default_for_formats_of_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    runs = tmp_path / "r.jsonl"
    runs.write_text(lines_of([session("a", 1)]))
    plain = import_files(runs, tmp_path / "plain.jsonl")
    assert (plain.redacted, plain.with_keys) == ({}, 1)
    assert "anna" in (tmp_path / "plain.jsonl").read_text()
    monkeypatch.setitem(FORMATS, "messages", replace(FORMATS["messages"], private=True))
    private = import_files(runs, tmp_path / "private.jsonl")
    assert (private.redacted["home"], private.with_keys) == (4, 0)
    assert "anna" not in (tmp_path / "private.jsonl").read_text()
    assert import_files(runs, tmp_path / "open.jsonl", redact=False).redacted == {}
