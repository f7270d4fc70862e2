"""A lock is held by one process at a time, says by which, and goes with the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trajtree.errors import RunError
from trajtree.store.lock import locked

HOLDER = """
import sys
from pathlib import Path
from trajtree.store.lock import locked
with locked(Path(sys.argv[1]), ""):
    print("holding", flush=True)
    sys.stdin.readline()
"""

CONTENDER = """
import sys
from pathlib import Path
from trajtree.errors import RunError
from trajtree.store.lock import locked
lock, inside = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(300):
    try:
        with locked(lock, "taken"):
            inside.mkdir()
            inside.rmdir()
    except RunError:
        pass
"""


def python(code: str, *arguments: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    with python(HOLDER, lock) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        for _ in range(2):  # being refused does not spoil the lock
            refused = pytest.raises(RunError, match=rf"^in use by pid {holder.pid}; wait for it$")
            with refused, locked(lock, "in use by {holder}; wait for it"):
                pass
        holder.communicate("go on\n")
    with locked(lock, "in use"):
        assert lock.read_text() == f"pid {os.getpid()}"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with python(HOLDER, lock) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        holder.send_signal(signal.SIGKILL)
    assert lock.exists()
    with locked(lock, "in use"):
        assert lock.read_text() == f"pid {os.getpid()}"


def test_two_are_never_inside(tmp_path: Path) -> None:
    contenders = [python(CONTENDER, tmp_path / ".lock", tmp_path / "inside") for _ in range(3)]
    for contender in contenders:
        contender.communicate()
    assert [contender.returncode for contender in contenders] == [0, 0, 0]
