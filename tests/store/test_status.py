"""How a command reports its progress, the file in which it is kept, and who is said to be running, silent or dead."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from trajtree.errors import DataError, RunError
from trajtree.store import watching
from trajtree.store.progress import Illustrated
from trajtree.store.status import Status, read_status, standing, status_file, write_status
from trajtree.store.watching import Watch

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Clock:
    """Stands for `time` where estimates are made."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watching, "time", clock)
    return clock


def status(
    state: str = "running", *, host: str = "", pid: int = 1, updated: datetime = NOW, reason: str = ""
) -> Status:
    host = host or socket.gethostname()
    began = updated - timedelta(minutes=5)
    written = {"command": "run", "state": state, "reason": reason, "host": host, "pid": pid, "began": began}
    return msgspec.convert({**written, "updated": updated, "stages": ()}, Status)


def test_stages_are_to_do_running_done_or_kept(clock: Clock) -> None:
    watch = Watch("run")
    watch.planned(["tasks", "weak", "explore"])
    watch.ended("tasks", 12.0, kept=True)
    stage = watch.named("weak")
    stage.total(10)
    clock.now += 5
    stage.advance(4, {"loss": 0.5})
    found = {one.name: one for one in watch.status().stages}
    assert [(name, one.state) for name, one in found.items()] == [
        ("tasks", "kept"),
        ("weak", "running"),
        ("explore", "to do"),
    ]
    assert found["tasks"].seconds == 12.0
    assert (found["weak"].done, found["weak"].total, found["weak"].seconds) == (4, 10, 5.0)
    assert found["weak"].figures == {"loss": 0.5}
    watch.ended("weak", 5.5, kept=False)
    assert [one.state for one in watch.status().stages] == ["kept", "done", "to do"]


def test_stages_that_never_began_were_left_out() -> None:
    with Watch("run") as watch:
        watch.planned(["pairs", "train"])
        watch.named("pairs")
        assert [one.state for one in watch.status().stages] == ["running", "to do"]
    assert [one.state for one in watch.status().stages] == ["done", "left out"]


def test_the_estimate_leaves_out_what_was_done_earlier(clock: Clock) -> None:
    """A store with 900 of 1,000 episodes: these are counted at once and say nothing about the speed."""
    watch = Watch("explore")
    stage = watch.named("explore")
    stage.total(1000)
    stage.advance(900)
    assert stage.status().left is None
    for _ in range(10):
        clock.now += 2
        stage.advance(1)
    assert stage.status().left == pytest.approx(90 * 2)


def test_an_estimate_leaves_out_what_had_to_be_loaded(clock: Clock) -> None:
    """A minute before the first of 250 steps, which take a second each."""
    stage = Watch("run").named("weak")
    stage.total(250)
    clock.now += 60
    stage.advance(1)
    assert stage.status().left is None
    for done in range(2, 12):
        clock.now += 1
        stage.advance(1)
        assert stage.status().left == 250 - done


def test_much_at_once_makes_an_estimate(clock: Clock) -> None:
    """Waves of 64 episodes."""
    stage = Watch("run").named("evaluate")
    stage.total(200)
    clock.now += 120
    stage.advance(64)
    assert stage.status().left == pytest.approx(120 * 136 / 64)
    clock.now += 100
    stage.advance(64)
    assert stage.status().left == pytest.approx(100 * 72 / 64, abs=0.1)


def test_an_estimate_follows_the_speed(clock: Clock) -> None:
    stage = Watch("explore").named("explore")
    stage.total(10_000)
    for _ in range(100):
        clock.now += 60
        stage.advance(1)
    for _ in range(2 * watching._MOMENTS):
        clock.now += 1
        stage.advance(2)
    status = stage.status()
    assert status.left == pytest.approx((10_000 - status.done) / 2, rel=0.01)


def test_nothing_is_estimated_without_a_total(clock: Clock) -> None:
    stage = Watch("import").named("import")
    clock.now += 10
    stage.advance(500)
    assert (stage.status().total, stage.status().left) == (None, None)


def test_the_file_is_there_from_the_first_report_to_the_end(tmp_path: Path) -> None:
    store = tmp_path / "runs.jsonl"
    with Watch("import", store) as watch:
        stage = watch.named("import")
        assert not status_file(store).exists(), "what is there may be of another process, which holds the lock"
        stage.advance(7)
        assert isinstance(stage, Illustrated)
        stage.illustrate(["a tree"])
        end = time.monotonic() + 20
        while not status_file(store).exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        found = read_status(store)
        assert (found.state, found.pid, found.stages[0].state) == ("running", os.getpid(), "running")
    found = read_status(store)
    assert (found.state, found.stages[0].state, found.stages[0].done) == ("finished", "done", 7)
    assert found.picture == ("a tree",)
    assert [path.name for path in tmp_path.iterdir()] == [".runs.jsonl.status.json"]


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (DataError("runs.jsonl, line 3:\nno score"), "failed", "runs.jsonl, line 3: no score"),
        (KeyboardInterrupt(), "stopped", ""),
        (AssertionError(), "failed", "AssertionError"),
        (RunError("\udc80.jsonl: is a folder"), "failed", "<U+DC80>.jsonl: is a folder"),
    ],
)
def test_how_it_ended_is_kept(tmp_path: Path, error: BaseException, state: str, reason: str) -> None:
    with pytest.raises(type(error)), Watch("train", tmp_path) as watch:
        watch.named("train").total(3)
        raise error
    found = read_status(tmp_path)
    assert (found.state, found.reason, found.stages[0].state) == (state, reason, "running")


def test_figures_that_json_does_not_have_are_left_out(tmp_path: Path) -> None:
    with Watch("train", tmp_path) as watch:
        watch.named("train").advance(1, {"loss": math.nan, "margin": -math.inf, "lr": 0.5})
    assert read_status(tmp_path).stages[0].figures == {"lr": 0.5}


def test_the_file_is_written_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    monkeypatch.setattr(watching, "write_status", lambda *_: written.append(time.monotonic()))
    with Watch("explore", tmp_path) as watch:
        stage = watch.named("explore")
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            stage.advance(1)
            time.sleep(0.01)
    # The last writing says how it ended, and waits for nothing.
    assert 2 <= len(written) <= 4
    assert all(after - before > 0.9 for before, after in pairwise(written[:-1]))


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with Watch("explore", tmp_path / "no" / "store.jsonl") as watch:
        watch.named("explore").advance(1)
    assert isinstance(watch.trouble, FileNotFoundError)


def test_who_runs_is_silent_or_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    later = NOW + timedelta(minutes=2)
    assert standing(status(), NOW + timedelta(seconds=10)) == "running"
    assert standing(status(pid=process.pid), NOW + timedelta(seconds=10)) == "running"
    assert standing(status(pid=process.pid), later) == "dead"
    assert standing(status(pid=os.getpid()), later) == "silent"
    assert standing(status(host="elsewhere", pid=process.pid), later) == "silent"
    assert standing(status("finished", pid=process.pid), later) == "finished"
    assert standing(status("failed", pid=process.pid), later) == "failed"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says what state a process is in")
def test_a_process_that_ended_and_that_nobody_waited_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(process.pid, 0)
        assert standing(status(pid=process.pid), NOW + timedelta(minutes=2)) == "dead"


def test_a_status_is_read_back(tmp_path: Path) -> None:
    written = status("failed", reason="no score")
    write_status(written, status_file(tmp_path))
    assert read_status(tmp_path) == written


@pytest.mark.parametrize("text", ["", "[]", '{"command": "run"}', "\0"])
def test_a_damaged_file_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(DataError, match=r"status\.json: damaged"):
        read_status(tmp_path)


def test_a_path_that_does_not_exist_is_said_not_to_exist(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: there is no such file or folder"):
        read_status(tmp_path / "nowhere")


def test_where_nothing_was_reported_the_error_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no command has reported .*status\.json.*name a run directory"):
        read_status(tmp_path)
