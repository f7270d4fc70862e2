"""Control-C and SIGTERM end a command in order; it goes on where it was, and a second signal ends it at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.commands import shop_run

SECONDS = 120


def started(*words: str | Path) -> subprocess.Popen[str]:
    """Python with these arguments; it does not ignore Control-C, as what a shell starts in the background does."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=attentive,
    )


def attentive() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finished(*words: str | Path) -> str:
    process = started("-m", "trajtree", *words)
    said, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors[-3000:]
    return said


def stopped_when(there: Callable[[], bool], number: int, *words: str | Path) -> None:
    """Start trajtree, send the signal once `there()` holds, and check how it ends."""
    process = started("-m", "trajtree", *words)
    end = time.monotonic() + SECONDS
    while not there():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + number, said[-3000:]
    (line,) = [line for line in said.splitlines() if not line.startswith("[transformers]")]
    assert line == f"trajtree: stopped; nothing finished is lost: go on with: trajtree {' '.join(map(str, words))}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_ends_in_order_and_goes_on(tmp_path: Path, number: int) -> None:
    runs, store = tmp_path / "runs.jsonl", tmp_path / "store.jsonl"
    rows = (shop_run([f"lamp {n}"], f"lamp {n % 7}", n % 5 / 4) for n in range(30_000))
    runs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("import", runs, "--out", store)
    stopped_when(lambda: store.exists() and store.read_bytes().count(b"\n") > 1, number, *words)
    stored = store.read_bytes().count(b"\n") - 1
    assert 0 < stored < 30_000
    assert f"{30_000 - stored:,} runs added" in finished(*words)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [".store.jsonl.status.json"]
    whole = tmp_path / "whole.jsonl"
    finished("import", runs, "--out", whole)
    assert store.read_bytes() == whole.read_bytes()


SLOW = """
import time
import tomllib
from trajtree.cli.interrupts import ended_in_order
with ended_in_order():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize(("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_at_once(first: int, second: int) -> None:
    process = started("-c", SLOW)
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    process.send_signal(first)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(second)
    _, said = process.communicate(timeout=30)
    assert process.returncode == -second and said == ""


IMPORTING = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = ["trajtree", "doctor"]
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "begin",
    ["from trajtree.cli.start import main; main()", "import runpy; runpy.run_module('trajtree', run_name='__main__')"],
    ids=["script", "module"],
)
def test_a_signal_while_modules_are_imported(begin: str, number: int) -> None:
    process = started("-c", IMPORTING + begin)
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    said = ""
    for _ in range(10):
        process.send_signal(number)
        try:
            # Python drops an exception that a signal raises within a destructor; people press Control-C again.
            _, said = process.communicate(timeout=6)
            break
        except subprocess.TimeoutExpired:
            continue
    assert (process.returncode, said) == (128 + number, "trajtree: stopped before it began\n")


def test_the_script_begins_where_signals_are_heard() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"trajtree": "trajtree.cli.start:main"}


FINISHED = """
import os, signal, sys
from trajtree.cli.interrupts import ended_in_order
with ended_in_order():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(0)
"""


def test_what_finishes_all_the_same_has_finished() -> None:
    process = started("-c", FINISHED)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_status_is_ours_wherever_the_signal_came(tmp_path: Path, number: int) -> None:
    """Of a module that ends after `exec` of a string raised KeyboardInterrupt, Python makes a death by SIGINT."""
    (tmp_path / "stopped.py").write_text(f"""
import os
from trajtree.cli.interrupts import ended_in_order
with ended_in_order():
    exec("os.kill(os.getpid(), {int(number)}); sum(range(10 ** 7))")
""")
    words = [sys.executable, "-m", "stopped"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=attentive)
    assert done.returncode == 128 + number
    assert done.stderr.startswith("trajtree: stopped; nothing finished is lost: go on with: trajtree")


def test_what_goes_wrong_while_stopping_is_reported() -> None:
    process = started("-c", FINISHED.replace("sys.exit(0)", "raise ValueError('half written')"))
    _, said = process.communicate(timeout=30)
    wrong, stopped = said.splitlines()
    assert process.returncode == 128 + signal.SIGTERM
    assert wrong == "trajtree: ValueError while stopping: half written"
    assert stopped.startswith("trajtree: stopped; nothing finished is lost: go on with: trajtree")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{FINISHED}".replace("SIGTERM", "SIGINT")
    process = started("-c", ignoring + "print('done')")
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "done\n")
