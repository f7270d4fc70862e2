"""The store keeps what it was given, through kills, and says where a file is wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import anything, quick, trajectory

from trajtree.errors import DataError
from trajtree.store.encoding import Row, from_row, is_read_back, to_row
from trajtree.store.trajectory_store import FORMAT, VERSION, TrajectoryStore, write_store
from trajtree.trajectory import Made, Message, Origin, Outcome, Sampling, Step, Tokens, ToolCall, Trajectory


def store_of(folder: Path, *given_: Trajectory) -> TrajectoryStore:
    store = TrajectoryStore(folder / "t.jsonl", create=True)
    store.append(given_)
    return store


@quick
@given(st.lists(st.lists(anything, max_size=2), max_size=3))
def test_what_was_appended_is_read(batches: list[list[Trajectory]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder) / "new" / "t.jsonl", create=True)
        assert list(store) == []
        for batch in batches:
            store.append(batch)
        assert list(store) == [t for batch in batches for t in batch]


NAN, INF = float("nan"), float("inf")
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.0, 0.5, NAN, INF, 2**63, 2**64, -(2**63) - 1, 10**400, "", "x", "\ud800", b"x", [], (), {}),
    *([1], ("x",), (None,), {"a": None}, {"a": NAN}, {"a": 2**64}, {1: "x"}, {"a": [1]}, {"\udfff": 1}, {"row": True}),
    *(Sampling(NAN, 1.0), Sampling(INF, 1.0), Sampling(0.0, 0.0), Sampling(0.0, NAN), Sampling(-1.0, 2.0)),
    *(Sampling("a", 1.0), Origin(0, 0), Origin(2**63, 1), Origin("a", 1), Origin(0, True)),  # type: ignore[arg-type]
    *((Message("user", None),), (Message("boss", "x"),), [Message("user", "x")], ("x", "y")),  # type: ignore[arg-type]
    *((Message("assistant", "x", 5, ("y",)),), (Message("tool", "x", tool_call_id=7),)),  # type: ignore[arg-type]
    *((Step("o", None),), (Step(None, "a"),), (Step("o", "a", 5),), (Step("o", "a", reward=True),)),  # type: ignore
    *((Tokens((1,), ()),), (Tokens(("a",), ()),), (Tokens([1, 2], ((0, 1),)),), (Tokens((-1, 2**64), ()),)),  # type: ignore
)


@quick
@given(anything, st.sampled_from([field.name for field in fields(Trajectory)]), st.sampled_from(ODD))
def test_what_was_appended_is_read_or_refused(given_: Trajectory, field: str, value: Any) -> None:
    """Of whatever is called a trajectory: types are not checked when one is made."""
    odd = copy(given_)
    object.__setattr__(odd, field, value)
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), trajectory("a", sample=7))
        before = store.path.read_bytes()
        try:
            store.append([given_, odd])
        except DataError as error:
            assert re.match("task .*, sample .*: (cannot be stored, .|holds )", str(error), re.DOTALL)
            assert store.path.read_bytes() == before
        else:
            assert list(store)[1:] == [given_, odd]


_odd = st.sampled_from((*(v for v in ODD if isinstance(v, str | int | float | bytes | None)), (), [], ["x"], ("x",)))
_text = st.one_of(st.text("ab:\n", max_size=3), _odd)
_number = st.one_of(
    st.sampled_from((0.0, 0.5, 1.0, -0.0, 2**60 + 1)), _odd.filter(lambda v: type(v) in (int, float, bool))
)
_calls = st.lists(st.builds(ToolCall, _text, _text, _text), max_size=1)
_messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(("system", "user", "assistant", "tool")),
        *(
            _text,
            st.none() | _text,
            st.just(()) | _calls.map(tuple) | _calls | _odd,
            st.none() | _text,
            st.none() | _text,
        ),
    )
    | st.builds(Message, st.sampled_from(("user", "assistant")), st.text(max_size=2)),
    max_size=4,
)


def _step(*given_: Any) -> Step:
    try:
        return Step(*given_)
    except (ValueError, OverflowError):
        return Step(*given_[:3])


@quick
@given(
    messages=_messages.map(tuple),
    steps=st.lists(st.builds(_step, _text, _text, st.none() | _text, _number), max_size=3).map(tuple),
    made=st.just(())
    | st.lists(st.builds(Made, st.none() | _text, st.none() | _text, st.none() | _number, _odd, _odd), max_size=2).map(
        tuple
    ),
    metadata=st.dictionaries(st.text(max_size=2) | _odd.filter(lambda v: not isinstance(v, list)), _odd, max_size=2),
    tools=st.lists(_text, max_size=2).map(tuple),
    context_turns=st.sampled_from((0, 1, 1, True, -1)),
)
def test_what_is_not_read_would_be_read_back(**changes: Any) -> None:
    """Of values of any type in any part."""
    odd = copy(replace(trajectory("a", 0.5), seed=None, sampling=None))
    for name, value in changes.items():
        object.__setattr__(odd, name, value)
    try:
        row = to_row(odd)
        line = msgspec.json.encode(row)
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError):
        return
    if is_read_back(odd, row):
        assert from_row(msgspec.json.decode(line, type=Row)) == odd


def test_runs_of_logs_need_not_be_read_back() -> None:
    calls = (ToolCall("1", "look", "{}"),)
    said = (Message("user", "Go."), Message("assistant", "", "why", calls), Message("tool", "x", None, (), "1", "look"))
    made = (Made("m", "noon", 0.5),)
    steps = (Step("Go.", "look({})", "why", 1.0),)
    run = Trajectory(*("t", 0, "p", "e", "", None, None), said, steps, 1.0, Outcome.COMPLETED, made=made)
    assert is_read_back(run, to_row(run))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sampling": Sampling(NAN, 1.0)},
            "again: field sampling.0: Expected `float`, got `null`",
        ),
        ({"sampling": Sampling(0.0, 0.0)}, "again: field sampling.1: Expected `float` > 0.0"),
        ({"metadata": {"a": None}}, "again: field metadata: Expected `bool | int | float | str`, got `null`"),
        (
            {"metadata": {1: "x"}},
            "cannot be stored, field metadata: dict {1: 'x'} would be read back as dict {'1': 'x'}",
        ),
        ({"seed": 0.5}, "again: field seed: Expected `int | null`, got `float`"),
        ({"context_turns": -1}, "again: field context_turns: Expected `int` >= 0"),
        ({"task": 5}, "again: field task: Expected `str`, got `int`"),
        ({"policy": None}, "again: field policy: Expected `str`, got `null`"),
        ({"sample": 2**63}, "again: field sample: Expected `int` <= 9223372036854775807"),
        (
            {"steps": [Step("o", "a")]},
            "cannot be stored, field steps: list [Step(observation='o', ac",
        ),
        (
            {"messages": (None,)},
            "a value has another type than its field: 'NoneType' object has no attribute 'reasoning'",
        ),
        ({"tools": ({"name": "look"},)}, "again: field tools.0: Expected `str`, got `object`"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    odd = replace(trajectory(["a"]), **changes)
    with pytest.raises(DataError) as error:
        TrajectoryStore(tmp_path / "t.jsonl").append([odd])
    assert str(error.value).startswith(f"task {odd.task!r}, sample {odd.sample}: cannot be stored, ")
    assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("complete", [0, 2])
def test_torn_tail_at_every_byte(tmp_path: Path, complete: int) -> None:
    """`complete` whole trajectories, then a line that a kill has cut at any byte."""
    old = [trajectory("ab", 0.5, sample=n) for n in range(complete)]
    new = trajectory(["日本\n🗝️"], 1.0, sample=8)
    store = TrajectoryStore(tmp_path / "t.jsonl", create=True)
    if old:
        store.append(old)
    begin = store.path.stat().st_size if old else 0
    store.append([new])
    whole = store.path.read_bytes()
    for cut in range(begin, len(whole)):
        store.path.write_bytes(whole[:cut])
        assert list(store) == old
        store.append([new])
        assert list(store) == [*old, new]
        assert store.path.read_bytes() == whole


APPENDER = """
import sys
from tests.builders import trajectory
from trajtree.store.trajectory_store import TrajectoryStore
store = TrajectoryStore(sys.argv[1], create=True)
for sample in range(10**6):
    store.append([trajectory(["go " * 400], 0.5, sample=sample)])
    print(sample, flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.11])
def test_kill_loses_nothing_that_was_appended(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "t.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", APPENDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in (first + process.stdout.read()).splitlines() if line]
    assert process.returncode == -signal.SIGKILL
    store = TrajectoryStore(path, create=True)
    samples = [t.sample for t in store]
    assert samples == list(range(len(samples)))
    assert told == samples[: len(told)]
    store.append([trajectory("a", sample=10**6)])
    assert [t.sample for t in store] == [*samples, 10**6]


def row(**changes: Any) -> str:
    return json.dumps({**to_row(trajectory("a", 0.5)), **changes})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "(whole line): JSON is malformed"),
        ("[]", "(whole line): Expected `object`, got `array`"),
        ("", "(whole line): Input data was truncated"),
        (row().replace('"messages"', '"colour"'), "colour: unknown"),
        (row(outcome="won"), "outcome: Invalid enum value 'won'"),
        (row(score=2.0), "score: Expected `float` <= 1.0"),
        (row(score=-0.1), "score: Expected `float` >= 0.0"),
        (row(score=float("nan")), "(whole line): JSON is malformed"),
        (row(score="much"), "score: Expected `float`, got `str`"),
        (row(sampling=[-1.0, 1.0]), "sampling.0: Expected `float` >= 0.0"),
        (row(messages=[["r", "x"]]), "messages.0.0: Invalid enum value 'r'"),
        (row(messages=[["u"]]), "messages.0: Expected `array` of at least length 2"),
        (row(messages=[["u", "x", {"colour": "red"}]]), "messages.0.2.colour: unknown to this version of trajtree"),
        (row(tokens=[[[1, 2], [1, 5]]]), "tokens.0.1: agent range [1, 5)"),
        (row(tokens=[[[1, 2], [1]]]), "tokens.0.1: the last range has no end"),
        (row(colour="red"), "colour: unknown to this version of trajtree"),
        (row(steps=[[0, "a", None, "o", "red"]]), "(whole line): Expected `array` of at most length 4"),
        (row(steps=[0]), "steps.0: there is no reply for it"),
        (row(messages=[["a", "look"]], steps=[[0, [0, 5]]]), "steps.0: characters 0 to 5 of a reply of 4"),
        (row(messages=[["a", "look"]], steps=[[0, [3, 1]]]), "steps.0: characters 3 to 1"),
        (row(messages=[["a", "look"]], steps=[[0, [-3, 1]]]), "steps.0: characters -3 to 1"),
        (row(place=["file", 0, 1, "x", "y"]), "place.1: Expected `int` >= 1"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, said: str) -> None:
    good = trajectory("a", 0.5)
    store = store_of(tmp_path, good)
    with store.path.open("a") as file:
        file.write(line + "\n")
    reader = iter(store)
    assert next(reader) == good
    with pytest.raises(DataError, match=re.escape(f"{store.path}, line 3, field {said}")):
        next(reader)


def test_reading_is_lazy(tmp_path: Path) -> None:
    store = store_of(tmp_path, trajectory("a"), trajectory("b", sample=1))
    whole = store.path.read_bytes()
    with store.path.open("ab") as file:
        file.write(b"{bad\n")
    reader = iter(store)
    assert [next(reader).sample, next(reader).sample] == [0, 1]
    with pytest.raises(DataError, match="line 4"):
        next(reader)
    assert store.path.read_bytes() == whole + b"{bad\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "line 1: not a trajectory store"),
        ("hello", "line 1: not a trajectory store"),
        ("name,score\na,1", "line 1: not a trajectory store"),
        ("\n", "line 1: not a trajectory store"),
        ("[1]\n", "line 1: not a trajectory store"),
        ('{"format": "other", "version": 1}\n', "line 1: not a trajectory store"),
        ('{"format": "trajtree.trajectories"}\n', "line 1, field version: None"),
        (
            '{"format": "trajtree.trajectories", "version": 3}\n{}\n',
            "line 1, field version: 3; this trajtree reads versions 1 and 2",
        ),
        (
            '{"format": "trajtree.trajectories", "version": 3}',
            "line 1, field version: 3; this trajtree reads versions 1 and 2",
        ),
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, content: str, message: str) -> None:
    store = TrajectoryStore(tmp_path / "notes.txt", create=True)
    store.path.write_text(content)
    expected = re.escape(f"{store.path}, {message}")
    with pytest.raises(DataError, match=expected):
        list(store)
    with pytest.raises(DataError, match=expected):
        store.append([trajectory("a")])
    assert store.path.read_text() == content


def test_header_says_what_the_file_is(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    assert json.loads(store.path.read_text()) == {"format": FORMAT, "version": VERSION}
    assert list(store) == []


@pytest.mark.parametrize(
    "write", [lambda path: write_store([], path), lambda path: TrajectoryStore(path).append([trajectory(["look"])])]
)
def test_a_full_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / 'runs.jsonl'}'"):
        write(tmp_path / "runs.jsonl")


def test_a_tail_longer_than_a_block_is_cut(tmp_path: Path) -> None:
    """Looking for the last line break goes back through the file in blocks of 64 kB."""
    good = trajectory(["x" * 70_000])
    store = store_of(tmp_path, good)
    with store.path.open("ab") as file:
        file.write(b"y" * 200_000)
    store.append([good])
    assert list(store) == [good, good]


def test_nothing_is_written_when_the_data_cannot_be(tmp_path: Path) -> None:
    store = store_of(tmp_path, trajectory("a"))
    before = store.path.read_bytes()
    with pytest.raises(DataError, match=r"task 'toy/0', sample 0: holds half a character"):
        store.append([trajectory("b"), trajectory(["\ud800"])])
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_scores_outside_the_range_are_no_trajectories(score: float) -> None:
    with pytest.raises(ValueError, match="score is"):
        trajectory("a", score)


@pytest.mark.parametrize("agent", [((1, 1),), ((2, 1),), ((0, 9),), ((1, 3), (2, 4)), ((-1, 2),)])
def test_agent_ranges_fit_their_tokens(agent: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="agent range"):
        Tokens((1, 2, 3, 4), agent)


def test_a_line_is_plain(tmp_path: Path) -> None:
    """What a file looks like is part of the promise: one JSON object per line, and no text twice."""
    store = TrajectoryStore(tmp_path / "t.jsonl", create=True)
    messages = (Message("system", "Act."), Message("user", "Go."), Message("assistant", "I go.\nAction: go"))
    steps = (Step("Act.\nGo.", "go", reward=1.0),)
    store.append([replace(trajectory("a", 0.5), messages=messages, steps=steps)])
    line = json.loads(store.path.read_text().splitlines()[1])
    assert line == {
        "task": "toy/0",
        "sample": 0,
        "policy": "weak",
        "env": "toy",
        "env_version": "1",
        "seed": 0,
        "sampling": [0, 1],
        "messages": [["s", "Act."], ["u", "Go."], ["a", "I go.\nAction: go"]],
        "steps": [[1, [14, 16], None, "Act.\nGo."]],
        "score": 0.5,
    }


@pytest.mark.parametrize("read", [list, lambda store: list(store.by_task()), lambda store: list(store.heads())])
def test_a_store_that_is_not_there_is_said_unless_it_is_to_be_made(
    tmp_path: Path, read: Callable[[TrajectoryStore], list[Any]]
) -> None:
    path = tmp_path / "typo.jsonl"
    with pytest.raises(DataError, match=r"typo\.jsonl: there is no such store; name another one, or make it with"):
        read(TrajectoryStore(path))
    assert read(TrajectoryStore(path, create=True)) == []
    TrajectoryStore(path).append([])
    assert read(TrajectoryStore(path)) == []


def test_arguments_nested_too_deeply_are_named(tmp_path: Path) -> None:
    """Their action cannot be made again, neither for writing nor for reading."""
    path = tmp_path / "t.jsonl"
    deep = "[" * 100_000
    calls = [(ToolCall("1", "look", arguments),) for arguments in ("{}", deep)]
    said = [(Message("user", "Go."), Message("assistant", "", None, call)) for call in calls]
    good, bad = (replace(trajectory(["look({})"], 1.0, seen=["Go."]), messages=messages) for messages in said)
    TrajectoryStore(path).append([good])
    with pytest.raises(DataError, match=r"sample 0: cannot be stored, .*nested too deeply"):
        TrajectoryStore(path).append([bad])
    path.write_text(path.read_text().replace('"look","{}"', f'"look","{deep}"'))
    with pytest.raises(DataError, match=r"t\.jsonl, line 2, field .*nested too deeply"):
        list(TrajectoryStore(path))
