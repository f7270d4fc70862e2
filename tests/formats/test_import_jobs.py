"""Several processes import exactly what one does, and leave signals and errors to the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from tests.formats.conversations import lines_of

from trajtree.errors import DataError, RunError
from trajtree.formats import importing
from trajtree.formats.importing import import_files
from trajtree.store import parallel


def run(task: str, *actions: str, **others: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": f"do {task} — now"}]
    for action in actions:
        said += [{"role": "assistant", "content": action}, {"role": "user", "content": f"after {action}"}]
    return {"messages": said, "score": len(actions) % 3 / 2, "task": task, **others}


def logs(folder: Path) -> list[Path]:
    """Files of several kinds: with duplicates, bad rows, parts of runs, tasks without a name, an archive."""
    folder.mkdir()
    rows = [run(f"t{n % 3}", *(f"go {n % 4} {step}" for step in range(n % 5))) for n in range(40)]
    unnamed = [{name: value for name, value in run("x", f"a{n}").items() if name != "task"} for n in range(3)]
    first = folder / "a.jsonl"
    first.write_text(lines_of([*rows, "bad", *unnamed, run("t0", "look", score=9), rows[1]]))
    parts = folder / "parts.jsonl"
    calls = [run("t1", *(f"c{step}" for step in range(n + 1)), run_id="r", step=n, score=1) for n in range(3)]
    alone = [run("t2", f"d{n}", run_id=f"alone{n}", step=0) for n in range(9)]
    parts.write_text(lines_of([calls[0], *alone[:5], calls[1], *alone[5:], calls[2]]))
    member = folder / "member.json"
    member.write_text(json.dumps([run("t4", "in an archive"), 7, rows[2]]))
    with tarfile.open(folder / "more.tar.gz", "w:gz") as archive:
        archive.add(member, "inner/member.json")
    member.unlink()
    return [first, parts, folder / "more.tar.gz"]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few records in a piece, so that there are many pieces; read only in the process that imports."""
    monkeypatch.setattr(importing, "_PIECE_ROWS", 3)
    monkeypatch.setattr(importing, "_BATCH_ROWS", 7)


@pytest.mark.usefixtures("small_pieces")
def test_the_store_and_the_report_do_not_depend_on_the_jobs(tmp_path: Path) -> None:
    files = logs(tmp_path / "in")
    reports = []
    for jobs in (1, 2):
        store = tmp_path / f"{jobs}.jsonl"
        found = [import_files(files[:1], store, jobs=jobs)]
        first = files[0].with_name("renamed.jsonl")
        files[0].rename(first)  # under another name its rows are known
        found.append(import_files([first, *files[1:]], store, jobs=jobs))
        first.rename(files[0])
        reports.append(found)
    assert reports[0] == reports[1]
    (first_report, second) = reports[0]
    assert (first_report.added, first_report.left_out_count) == (36, 10)
    assert (second.added, second.skipped, second.held) == (12, 36, 2)
    assert first_report.shared_steps > 0
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_stands_before_a_changed_row_is_kept(tmp_path: Path, jobs: int) -> None:
    log, store = tmp_path / "a.jsonl", tmp_path / "s.jsonl"
    rows = [run("t", f"go {n}") for n in range(30)]
    log.write_text(lines_of(rows[:20]))
    import_files(log, store)
    before = store.read_bytes()
    new = tmp_path / "0.jsonl"
    new.write_text(lines_of([run("u", f"go {n}") for n in range(10)]))
    log.write_text(lines_of([*rows[:15], run("t", "changed"), *rows[16:]]))
    with pytest.raises(DataError, match=r"a\.jsonl, line 16: row 16 is not the one that was imported"):
        import_files([new, log], store, jobs=jobs)
    assert store.read_bytes().startswith(before)
    assert len(store.read_bytes().splitlines()) == 31


def test_jobs_are_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--jobs 0: must be at least 1"):
        import_files(tmp_path, tmp_path / "s.jsonl", jobs=0)


def doubled(number: int, by: int) -> int:
    if number == by:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_a_process_that_dies_is_reported(tmp_path: Path) -> None:
    assert list(parallel.in_order(doubled, range(20), -1, jobs=2)) == [(n, 2 * n) for n in range(20)]
    with pytest.raises(RunError, match=r"a process of --jobs died.*with fewer jobs"):
        list(parallel.in_order(doubled, range(20), 9, jobs=2))


def test_pieces_are_taken_only_when_they_are_needed() -> None:
    taken: list[int] = []

    def pieces() -> Any:
        for number in range(50):
            taken.append(number)
            yield number

    results = parallel.in_order(doubled, pieces(), -1, jobs=2)
    for number, (piece, _) in enumerate(results):
        assert piece == number
        assert len(taken) <= number + 2 * parallel._AHEAD


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line_and_no_process_stays(tmp_path: Path, number: int) -> None:
    """Control-C reaches all processes of the terminal: the workers leave it to the command."""
    log, store = tmp_path / "a.jsonl", tmp_path / "s.jsonl"
    log.write_text(lines_of([run("t", *(f"go {n} {step} " * 50 for step in range(20))) for n in range(9000)]))
    command = [sys.executable, "-m", "trajtree", "import", str(log), "--out", str(store), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=attentive)
    deadline = time.monotonic() + 120
    while not (store.exists() and store.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.strip().startswith("trajtree: stopped; nothing finished is lost: go on with: trajtree import")
    assert len(said.strip().splitlines()) == 1
    deadline = time.monotonic() + 30
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)
    assert import_files(log, store).skipped > 0


def attentive() -> None:
    """What a shell starts in the background ignores Control-C, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def alive(session: int) -> list[str]:
    """The processes of a session."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "pid=,args="], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if "defunct" not in line]
