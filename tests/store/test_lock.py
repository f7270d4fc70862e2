"""A lock is held by one process at a time, says by which, and goes with the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import trajectory

from trajtree.errors import DataError, RunError
from trajtree.store.files import write_whole
from trajtree.store.lines import write_jsonl
from trajtree.store.lock import claimed, locked
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.store.tree_store import write_trees
from trajtree.trees.merge import build

NOW = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"

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


def test_a_file_with_a_second_name_is_not_added_to(tmp_path: Path) -> None:
    """Two names of one file by hard links have two locks; links to a name have that name's."""
    store = TrajectoryStore(tmp_path / "a.jsonl", create=True)
    store.append([trajectory("a")])
    before = store.path.read_bytes()
    (tmp_path / "b.jsonl").hardlink_to(store.path)
    for name in ("a.jsonl", "b.jsonl"):
        with pytest.raises(DataError, match=rf"{name}: the file has 2 names \(hard links\).*copy the file"):
            TrajectoryStore(tmp_path / name).append([trajectory("b", sample=1)])
    assert store.path.read_bytes() == before
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "c.jsonl").symlink_to(store.path)
    TrajectoryStore(tmp_path / "c.jsonl").append([trajectory("b", sample=1)])
    assert [t.sample for t in store] == [0, 1]


def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    with python(HOLDER, lock) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        for _ in range(2):  # being refused does not spoil the lock
            refused = pytest.raises(RunError, match=rf"^in use by pid {holder.pid} on \S+ since {NOW}; wait for it$")
            with refused, locked(lock, "in use by {holder}; wait for it"):
                pass
        holder.communicate("go on\n")
    with locked(lock, "in use"):
        assert lock.read_text().startswith(f"pid {os.getpid()} on ")


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with python(HOLDER, lock) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        holder.send_signal(signal.SIGKILL)
    assert lock.exists()
    with locked(lock, "in use"):
        assert lock.read_text().startswith(f"pid {os.getpid()} on ")
    assert not lock.exists()


def test_two_are_never_inside(tmp_path: Path) -> None:
    contenders = [python(CONTENDER, tmp_path / ".lock", tmp_path / "inside") for _ in range(3)]
    for contender in contenders:
        contender.communicate()
    assert [contender.returncode for contender in contenders] == [0, 0, 0]


# --- files that are written ---

WRITER = """
import sys
from pathlib import Path
from tests.builders import trajectory
from trajtree.store.trajectory_store import TrajectoryStore
store, sample = TrajectoryStore(sys.argv[1], create=True), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(150):
    store.append([trajectory(["look"], task=f"toy/{number}", sample=sample)])
"""

REWRITER = """
import sys
from trajtree.store.lock import claimed
from trajtree.store.trajectory_store import TrajectoryStore, write_store
store = TrajectoryStore(sys.argv[1], create=True)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(30):
    write_store(store, store.path)
"""


def together(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0


@pytest.mark.parametrize("rewritten", [False, True])
def test_two_appenders_lose_nothing(tmp_path: Path, rewritten: bool) -> None:
    """Not even while a third process puts the whole store anew in its own place."""
    path = tmp_path / "runs.jsonl"
    write_store([], path)
    more = [python(REWRITER, path)] if rewritten else []
    together(*(python(WRITER, path, Path(str(sample))) for sample in (0, 1)), *more)
    assert sorted(t.key for t in TrajectoryStore(path)) == [
        (f"toy/{n}", s) for n in sorted(range(150), key=str) for s in (0, 1)
    ]


WRITERS = {
    "store": lambda path: write_store([trajectory(["look"])], path),
    "trees": lambda path: write_trees(build([trajectory(["look"])]), path),
    "rows": lambda path: write_jsonl([{"a": 1}], path),
    "text": lambda path: write_whole(path, "text"),
}


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_being_written_is_refused(tmp_path: Path, write: str) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    taken = rf"^{path}: is being written by another process \(pid {os.getpid()} on \S+ since {NOW}\); wait for it"
    with claimed(path), pytest.raises(RunError, match=taken):
        WRITERS[write](path)
    assert path.read_bytes() == b"before"
    WRITERS[write](path)
    assert path.read_bytes() != b"before"


def test_two_links_to_a_file_share_its_lock(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    with claimed(link), pytest.raises(RunError, match="is being written"), claimed(tmp_path / "there" / "file"):
        pass


def test_a_device_has_no_lock() -> None:
    with claimed("/dev/null"), claimed("/dev/null"):
        pass
    assert not Path("/dev/.null.lock").exists()
