"""Rows that are one run: a row per call of the model, or parts of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.conversations import lines_of

from trajtree.formats import importing
from trajtree.formats.importing import ImportReport, import_files
from trajtree.store.trajectory_store import TrajectoryStore


def said(*texts: str) -> list[dict[str, str]]:
    """A user's message, a reply, a user's message, ..."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def row(messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"messages": messages, "score": 1, "task": "key", **fields}


def taken(folder: Path, rows: Sequence[dict[str, Any]], **options: Any) -> tuple[list[tuple[str, ...]], ImportReport]:
    """The replies of each run that is taken from a file of these rows."""
    file, store = folder / "rows.jsonl", folder / "store.jsonl"
    file.write_text(lines_of(rows))
    report = import_files(file, store, **options)
    runs = [tuple(m.content for m in t.messages if m.role == "assistant") for t in TrajectoryStore(store, create=True)]
    again = import_files(file, store, **options)
    assert (again.added, again.skipped) == (0, report.added)
    return runs, report


CALLS = [
    row(said("Get the key", "north"), run=0, step=0),
    row(said("Get the key", "north", "ok", "take key"), run=0, step=1),
    row(said("Get the key", "south"), run=1, step=0),
    row(said("Get the key", "south", "ok", "wait"), run=1, step=1),
]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0)])
def test_a_row_per_call_is_one_run(tmp_path: Path, order: Sequence[int]) -> None:
    runs, report = taken(tmp_path, [CALLS[i] for i in order])
    assert sorted(runs) == [("north", "take key"), ("south", "wait")]
    assert (report.added, report.held, report.beginnings, report.left_out_count) == (2, 2, 0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        [{"trial_name": "a", "episode": "episode-0"}, {"trial_name": "a", "episode": "episode-1"}],
        [{"rollout_id": 7}, {"rollout_id": 7}],
        [{"step": 0}, {"step": 1}],
        [{"run_id": "x", "turn": 3}, {"run_id": "x", "turn": 4}],
    ],
)
def test_fields_that_say_so(tmp_path: Path, fields: list[dict[str, Any]]) -> None:
    rows = [row(said("q", "a"), **fields[0]), row(said("q", "a", "b", "c"), **fields[1])]
    assert taken(tmp_path, rows)[0] == [("a", "c")]


ONE = [
    [{"trial_id": "a"}, {"trial_id": "a"}],
    [{"trajectory_id": 1, "episode": 0}, {"trajectory_id": 1, "episode": 1}],
    [{"step": 0}, {"step": 1}],
]


@pytest.mark.parametrize("fields", ONE)
@pytest.mark.parametrize(
    ("one", "other"),
    [({"score": 0}, {"score": 1}), ({"score": 1, "model": "a"}, {"score": 1, "model": "b"}), ({"score": 1}, {})],
)
def test_runs_that_score_or_act_differently_are_different_runs(
    tmp_path: Path, fields: list[dict[str, Any]], one: dict[str, Any], other: dict[str, Any]
) -> None:
    rows = [
        row(said("q", "a"), **fields[0]) | one,
        row(said("q", "a", "b", "c"), **fields[1]) | {"score": None} | other,
    ]
    runs, report = taken(tmp_path, rows)
    assert (report.held, report.joined, report.undecided, report.disagreeing) == (0, 0, 0, 2)
    assert runs == ([("a",), ("a", "c")] if other else [("a",)])


@pytest.mark.parametrize("fields", ONE)
def test_rows_before_the_last_need_no_score_or_model(tmp_path: Path, fields: list[dict[str, Any]]) -> None:
    last = row(said("q", "a", "b", "c"), **fields[1], model="weak")
    runs, report = taken(tmp_path, [row(said("q", "a"), **fields[0]) | {"score": None}, last])
    assert (runs, report.held, report.disagreeing) == ([("a", "c")], 1, 0)


@pytest.mark.parametrize("fields", ONE)
@pytest.mark.parametrize("same", [True, False])
def test_rows_of_one_length_are_different_runs(tmp_path: Path, fields: list[dict[str, Any]], same: bool) -> None:
    rows = [row(said("q", "a"), **fields[0], n=0), row(said("q", "a" if same else "b"), **fields[1], n=1)]
    runs, report = taken(tmp_path, rows)
    assert (len(runs), report.held, report.undecided) == (2, 0, 2)


@pytest.mark.parametrize("fields", ONE)
def test_only_rows_that_say_so_are_parts(tmp_path: Path, fields: list[dict[str, Any]]) -> None:
    rows = [row(said("q", "a"), **fields[0]), row(said("p", "b"), **fields[1])]
    runs, report = taken(tmp_path, rows)
    assert (runs, report.joined, report.undecided) == ([("a",), ("b",)], 0, 2)
    numbered = [row(said("q", "a"), run=1, part=1), row(said("p", "b"), run=1, part=2)]
    other = tmp_path / "other"
    other.mkdir()
    runs, report = taken(other, numbered)
    assert (runs, report.joined) == ([("a", "b")], 1)


@pytest.mark.parametrize(("options", "what"), [({}, "part: rows 1, 2 are all of one run"), ({"run": "run"}, "run '1'")])
def test_parts_with_different_scores_are_left_out(tmp_path: Path, options: dict[str, str], what: str) -> None:
    rows = [row(said("q", "a"), run=1, part=1) | {"score": 0}, row(said("p", "b"), run=1, part=2)]
    runs, report = taken(tmp_path, rows, **options)
    assert (runs, report.joined, report.left_out_count) == ([], 0, 2)
    assert all(what in one.reason for one in report.left_out)
    assert report.left_out[0].reason.endswith("but their scores or models are not those of row 2")


@pytest.mark.parametrize(
    "fields",
    [
        [{}, {}],
        [{"run": "experiment"}, {"run": "experiment"}],
        [{"run": "experiment", "step": 100}, {"run": "experiment", "step": 200}],
        [{"rollout_id": 1}, {"rollout_id": 2}],
        [{"step": 0}, {"step": 0}],
        [{"rollout_id": 1, "task": "a"}, {"rollout_id": 1, "task": "b"}],
    ],
)
def test_without_such_fields_a_short_run_is_a_run(tmp_path: Path, fields: list[dict[str, Any]]) -> None:
    """A run that was cut short is a beginning too; it is told of, and taken."""
    rows = [row(said("q", "a"), **fields[0]), row(said("q", "a", "b", "c"), **fields[1])]
    for index, given_ in enumerate((rows, rows[::-1])):
        folder = tmp_path / str(index)
        folder.mkdir()
        runs, report = taken(folder, given_)
        assert sorted(runs) == [("a",), ("a", "c")]
        assert (report.held, report.beginnings) == (0, 1)


def test_the_field_can_be_named(tmp_path: Path) -> None:
    rows = [row(said("q", "a"), info={"sample": 1}), row(said("q", "a", "b", "c"), info={"sample": 1})]
    runs, report = taken(tmp_path, rows, run="info.sample")
    assert (runs, report.held) == ([("a", "c")], 1)


def test_rows_that_contradict_are_left_out_where_the_field_was_named(tmp_path: Path) -> None:
    rows = [*CALLS, row(said("Get the key", "east", "ok", "wait"), run=1, step=2)]
    runs, report = taken(tmp_path, rows, run="run")
    assert runs == [("north", "take key")]
    assert [r.number for r in report.left_out] == [3, 4, 5]
    assert report.left_out[0].reason.startswith("run: rows 3, 4, 5 are all of run '1', but neither beginnings")


def test_rows_that_contradict_are_told_of_where_the_field_was_guessed(tmp_path: Path) -> None:
    rows = [*CALLS, row(said("Get the key", "east", "ok", "wait"), run=1, step=2)]
    runs, report = taken(tmp_path, rows)
    assert runs == [("north", "take key"), ("south",), ("south", "wait"), ("east", "wait")]
    assert (report.held, report.undecided) == (1, 3)


def test_a_row_without_the_named_field_is_left_out(tmp_path: Path) -> None:
    runs, report = taken(tmp_path, [*CALLS[:2], row(said("q", "a"))], run="run")
    assert runs == [("north", "take key")]
    assert report.left_out[0].reason.startswith("run: no such field; --run must name the one that names the run")


def test_a_run_that_has_grown_is_not_taken_twice(tmp_path: Path) -> None:
    taken(tmp_path, CALLS[:3])
    file, store = tmp_path / "rows.jsonl", tmp_path / "store.jsonl"
    file.write_text(lines_of(CALLS))
    report = import_files(file, store)
    assert (report.added, report.skipped) == (0, 2)
    assert "its run continues row 3, which is in the store as a run of its own" in report.left_out[0].reason
    file.rename(tmp_path / "renamed.jsonl")
    report = import_files(tmp_path / "renamed.jsonl", store)
    assert (report.added, report.skipped, report.left_out_count) == (0, 2, 1)


@pytest.mark.parametrize("first", [0, 1])
def test_replies_that_were_given_to_a_later_call_are_the_agents_own(tmp_path: Path, first: int) -> None:
    """In a `prompt`, replies are context, unless an earlier row says that the agent made them."""
    texts = said("q", "a", "b", "c", "d", "e")
    rows: list[dict[str, Any]] = [
        {"prompt": texts[:at], "completion": texts[at : at + 1], "score": 1, "rollout_id": 1, "step": at}
        for at in (1, 3, 5)
    ]
    for number, record in enumerate(rows):
        record["step"] = number
    runs, report = taken(tmp_path, rows[first:])
    assert (runs, report.held) == ([("a", "c", "e")], 2 - first)
    kept = next(iter(TrajectoryStore(tmp_path / "store.jsonl")))
    assert (kept.context_turns, [s.action for s in kept.steps]) == (first, ["a", "c", "e"][first:])


def test_a_field_that_names_no_run_is_refused(tmp_path: Path) -> None:
    _, report = taken(tmp_path, [row(said("q", "a"), run=[1])], run="run")
    assert report.left_out[0].reason == "run: does not name a run (text or a number); --run must name another field"


@pytest.mark.parametrize("values", [(-1, -2), (1, "1"), (0, 2**61 - 1)])
def test_runs_of_different_values_are_different_runs(tmp_path: Path, values: tuple[Any, Any]) -> None:
    rows = [row(said("q", "a", "b", "c")[: 2 + 2 * i], run=value) for i, value in enumerate(values)]
    assert taken(tmp_path, rows, run="run")[0] == [("a",), ("a", "c")]


CALL = {"id": "c", "type": "function", "function": {"name": "get", "arguments": "{}"}}
FIRST = [
    {"role": "user", "content": "Q", "mood": "curious"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
]
LATER = [{"role": "tool", "tool_call_id": "c", "content": "7"}, {"role": "assistant", "content": "It is 7."}]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ([{"rollout_id": 1, "step": 0}, {"rollout_id": 1, "step": 1}], {}),
        ([{"run": 1, "part": 1}, {"run": 1, "part": 2}], {}),
        ([{"run": 1, "step": 4}, {"run": 1, "step": 5}], {"run": "run"}),
    ],
)
def test_parts_are_joined_where_the_fields_say_so(
    tmp_path: Path, fields: list[dict[str, Any]], options: dict[str, str]
) -> None:
    rows = [row(FIRST, **fields[0], n=0), row(LATER, **fields[1], n=1), row(said("q", "a"), rollout_id=2, run=2)]
    runs, report = taken(tmp_path, rows, **options)
    assert runs == [("", "It is 7."), ("a",)]
    assert (report.held, report.joined, report.left_out_count) == (0, 1, 0)
    joined = next(iter(TrajectoryStore(tmp_path / "store.jsonl")))
    assert {k: v for k, v in joined.metadata.items() if k.startswith("message_fields")} == {
        "message_fields_row_1": '{"messages.0": {"mood": "curious"}}'
    }
    assert [s.observation for s in joined.steps] == ["Q", "7"]


def test_an_import_of_such_rows_may_stop_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_BATCH_ROWS", 2)
    parts = [row(FIRST, rollout_id=7, step=0), row(LATER, rollout_id=7, step=1)]
    calls = [
        row(said("q", "a", "b", "c")[: 2 + 2 * step], rollout_id=run, step=step) for step in (0, 1) for run in (1, 2)
    ]
    file, whole, store = tmp_path / "r.jsonl", tmp_path / "whole.jsonl", tmp_path / "s.jsonl"
    file.write_text(lines_of([calls[0], parts[0], *calls[1:3], parts[1], calls[3]]))
    assert import_files(file, whole).added == 3
    data = whole.read_bytes()
    for cut in range(0, len(data), 41):
        store.write_bytes(data[:cut])
        report = import_files(file, store)
        assert store.read_bytes() == data, f"cut at {cut}"
        assert (report.added + report.skipped, report.held, report.joined, report.left_out_count) == (3, 2, 1, 0)


def test_a_later_part_alone_is_no_run(tmp_path: Path) -> None:
    rows = [row(said("q", "a")), row(LATER), row(said("go on", "b"), run=1, part=2), row(said("q", "c"), part=3)]
    runs, report = taken(tmp_path, rows)
    assert runs == [("a",), ("c",)]
    assert [r.reason.partition(",")[0] for r in report.left_out] == [
        "messages: the first one is a tool's result",
        "part: this is a later part of a run",
    ]


def test_parts_are_not_guessed_from_numbers_alone(tmp_path: Path) -> None:
    """Rows of a training log are numbered too."""
    rows = [row(said(f"question {i}", "a"), run="experiment", step=i, task=None) for i in range(4)]
    assert taken(tmp_path, rows)[0] == [("a",)] * 4
    rows = [row(said(f"question {i}", "a"), step=i, task=None) for i in range(4)]
    (tmp_path / "2").mkdir()
    assert taken(tmp_path / "2", rows)[0] == [("a",)] * 4


replies = st.lists(st.sampled_from("ab"), min_size=1, max_size=5)


@quick
@given(st.lists(replies, min_size=1, max_size=5), st.randoms(use_true_random=False), st.booleans())
def test_every_call_belongs_to_one_run(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[str]], chance: random.Random, named: bool
) -> None:
    """Whatever the order of the rows: as many runs as there were, each whole."""
    rows = []
    for number, run in enumerate(runs):
        texts = [text for reply in run for text in ("seen", reply)]
        for step in range(len(run)):
            rows.append(row(said(*texts[: 2 * step + 2]), run=number, step=step))
    chance.shuffle(rows)
    found, report = taken(tmp_path_factory.mktemp("rows"), rows, run="run" if named else None)
    assert sorted(found) == sorted(map(tuple, runs))
    assert report.held == len(rows) - len(runs)
