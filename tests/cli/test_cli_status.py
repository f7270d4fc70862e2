"""`trajtree status`: what runs, what ended and what was killed, from another shell."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.commands import done, shop_run
from tests.cli.test_cli_interrupts import finished, started

from trajtree.errors import RunError
from trajtree.store import status as status_module
from trajtree.store.status import status_file

SECONDS = 60


def logs(path: Path, runs: int) -> Path:
    rows = (shop_run([f"lamp {n}"], f"lamp {n % 7}", n % 5 / 4) for n in range(runs))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_finished_import(tmp_path: Path, files: list[str]) -> None:
    store = tmp_path / "store.jsonl"
    done("import", *files, "--out", store)
    said = done("status", store)
    assert said.startswith("import: finished 0:00:0") and "5" in said
    found = json.loads(done("status", store, "--json"))
    assert (found["standing"], found["state"], found["command"]) == ("finished", "finished", "import")
    assert found["stages"][0]["done"] == 5
    # What is beside the store is no log.
    assert "not logs" not in done("import", tmp_path / "tickets", "--out", store)
    (tmp_path / "more").mkdir()
    status_file(store).rename(tmp_path / "more" / ".x.jsonl.status.json")
    logs(tmp_path / "more" / "runs.jsonl", 2)
    said = done("import", tmp_path / "more", "--out", tmp_path / "other.jsonl")
    assert "2 runs added" in said and "0 left out" in said


def test_a_killed_command_is_dead_and_the_next_one_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store.jsonl"
    words = ("import", logs(tmp_path / "runs.jsonl", 20_000), "--out", store)
    process = started("-m", "trajtree", *words)
    end = time.monotonic() + SECONDS
    while not status_file(store).exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    assert "import: running for" in done("status", store)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    monkeypatch.setattr(status_module, "_SILENCE", timedelta(seconds=0))
    assert "import: dead: it ended" in done("status", store)
    assert json.loads(done("status", store, "--json"))["standing"] == "dead"
    finished(*words)
    assert "import: finished" in done("status", store)


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no command has reported its progress here"):
        done("status", tmp_path)


def test_a_refused_command_leaves_the_status_of_the_one_that_works(tmp_path: Path, files: list[str]) -> None:
    store = tmp_path / "store.jsonl"
    done("import", *files, "--out", store)
    before = status_file(store).read_bytes()
    lock = tmp_path / ".store.jsonl.lock"
    from filelock import FileLock

    with FileLock(lock), pytest.raises(RunError, match="another process"):
        done("import", *files, "--out", store)
    assert status_file(store).read_bytes() == before
    assert os.listdir(tmp_path).count(".store.jsonl.status.json") == 1
