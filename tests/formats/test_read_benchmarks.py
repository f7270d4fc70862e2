"""The logs of benchmarks and their agents: every conversation written in them comes back as it was."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.builders import quick
from tests.formats.benchmark_writers import WRITERS
from tests.formats.conversations import Run, runs
from tests.formats.one_story import CALLS, Telling, check_story

from trajtree.errors import DataError
from trajtree.formats.read.detect import FORMATS, beginning_of, runs_of
from trajtree.formats.read.records import decode
from trajtree.formats.read.to_trajectory import trajectory_of
from trajtree.trajectory import Message, Outcome, Trajectory

RUNS = (".traj", ".traj.json", "results.json", "log.json", ".jsonl")
JUNK = (None, [], {}, "", "x", 7, -1, 1e300, True, [[]], [None], {"a": 1})


def written(name: str, folder: Path, conversations: list[tuple[tuple[Message, ...], float]]) -> list[Path]:
    """The files with the runs that a writer wrote."""
    WRITERS[name].write(folder, conversations)
    return sorted(path for path in folder.rglob("*") if path.name.endswith(RUNS))


def read_all(path: Path) -> list[Trajectory]:
    """What is read of a file, its format detected."""
    name = beginning_of(path).format
    found = []
    for raw in runs_of(path, name):
        record = decode(raw)
        found.append(trajectory_of(FORMATS[name].read(record, score=None, task=None), name, (0.0, 1.0)))
    return found


def without_ids(messages: tuple[Message, ...]) -> list[Message]:
    return [
        structs.replace(m, tool_call_id=None, tool_calls=tuple(structs.replace(c, id="") for c in m.tool_calls))
        for m in messages
    ]


@pytest.mark.parametrize("name", WRITERS)
@quick
@given(st.data())
def test_what_was_written_is_read(name: str, data: st.DataObject) -> None:
    writer = WRITERS[name]
    told: list[Run] = [data.draw(runs(tools=True, reasoning=writer.reasoning)) for _ in range(2)]
    if writer.format == "tau2-bench":
        # All simulations of a file share one policy, and an empty one is none.
        shared = told[0].messages[told[0].messages[0] == Message("system", "") :]
        told = [replace(told[0], messages=shared, score=run.score) for run in told]
    with tempfile.TemporaryDirectory() as folder:
        files = written(name, Path(folder), [(run.messages, float(run.score)) for run in told])
        assert {beginning_of(path).format for path in files} == {writer.format}
        found = [trajectory for path in files for trajectory in read_all(path)]
    assert len(found) == 2
    for trajectory, run in zip(found, told, strict=True):
        if writer.ids:
            assert trajectory.messages == run.messages
        else:
            assert without_ids(trajectory.messages) == without_ids(run.messages)
        assert tuple((s.observation, s.thought, s.action) for s in trajectory.steps) == run.steps
        assert trajectory.score == (float(run.score == 1) if writer.binary else float(run.score))
        assert (trajectory.context_turns, trajectory.outcome) == (0, Outcome.COMPLETED)
        assert trajectory.task == writer.task
        assert trajectory.policy in ("weak-1", "unknown")


@pytest.mark.parametrize("name", WRITERS)
def test_the_story_is_the_same(tmp_path: Path, name: str) -> None:
    writer = WRITERS[name]
    story = CALLS if writer.reasoning else tuple(map(without_reasoning, CALLS))
    logs = tmp_path / "logs"
    logs.mkdir()
    files = written(name, logs, [(told.messages, told.score) for told in story])
    check_story(files, tmp_path / "store.jsonl", story, ids=writer.ids, task=writer.task)


def without_reasoning(told: Telling) -> Telling:
    return Telling(tuple(structs.replace(m, reasoning=None) for m in told.messages), told.score)


@pytest.mark.parametrize("name", WRITERS)
@quick
@given(st.data())
def test_damaged_logs_are_refused_not_crashed_on(name: str, data: st.DataObject) -> None:
    """Any value of a record may be missing or be anything else: one sentence says so, or the rest is read."""
    run = data.draw(runs(tools=True, reasoning=WRITERS[name].reasoning))
    with tempfile.TemporaryDirectory() as folder:
        path = written(name, Path(folder), [(run.messages, float(run.score))])[0]
        lines = path.suffix == ".jsonl"
        record = json.loads(path.read_text())
        spots = list(places(record))
        for _ in range(data.draw(st.integers(1, 3))):
            holder, key = data.draw(st.sampled_from(spots))
            holder[key] = data.draw(
                st.sampled_from([None, [], {}, "", "x", 7, -1, 1e300, True, [[]], [None], {"a": 1}])
            )
        path.write_text(json.dumps(record) + ("\n" if lines else ""))
        try:
            found = read_all(path)
        except DataError as error:
            assert str(error)
        else:
            assert all(0 <= one.score <= 1 and len(one.replies) == len(one.steps) > 0 for one in found)


@pytest.mark.parametrize("name", WRITERS)
@quick
@given(st.data())
def test_logs_that_were_cut_are_refused(name: str, data: st.DataObject) -> None:
    run = data.draw(runs(tools=True, reasoning=WRITERS[name].reasoning))
    with tempfile.TemporaryDirectory() as folder:
        path = written(name, Path(folder), [(run.messages, float(run.score))])[0]
        whole = path.read_text().rstrip()
        path.write_text(whole[: data.draw(st.integers(1, len(whole) - 1))])
        with pytest.raises(DataError):
            read_all(path)


def places(value: Any) -> Any:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)
