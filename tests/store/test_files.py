"""Files are written whole, as themselves, through no link that somebody laid; what is read is a file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trajtree.errors import DataError, RunError
from trajtree.store.files import atomically, open_input, write_atomically
from trajtree.store.lines import read_jsonl, write_jsonl
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees
from trajtree.store.unfinished import unfinished_folder

WRITER = """
import sys, time
from pathlib import Path
from trajtree.store.files import atomically
from trajtree.store.unfinished import unfinished_folder
path = Path(sys.argv[1])
with atomically(path) as file, unfinished_folder(path) as folder:
    file.write(b"half")
    file.flush()
    (folder / "part").write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(path)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert started.stdout is not None and started.stdout.readline() == "writing\n"
    return started


def unfinished(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.tmp"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_that_is_written_anew_keeps_its_rights(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text("old")
    path.chmod(mode)
    write_atomically(path, "new")
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == mode


def test_nobody_else_can_read_a_secret_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text("old")
    path.chmod(0o600)
    with atomically(path):
        (there,) = unfinished(tmp_path)
        assert stat.S_IMODE(there.stat().st_mode) == 0o600


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_text("old")
    os.chown(path, 1234, 1235)
    write_atomically(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_through_a_link_its_target_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    for target in (tmp_path / "disk" / "old", tmp_path / "disk" / "new"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        if target.name == "old":
            target.write_text("old")
        write_atomically(link, "text")
        assert link.is_symlink() and target.read_text() == "text" and not target.is_symlink()
    assert unfinished(tmp_path / "disk") == []


def test_no_link_that_lies_in_wait_is_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "out.jsonl"
    victim.write_text("precious")
    for name in (f".out.jsonl.{os.getpid()}.tmp", f".out.jsonl.{os.getpid() + 1}.tmp"):
        (tmp_path / name).symlink_to(victim)
    names = set()
    for _ in range(20):
        with atomically(path):
            names |= {p.name for p in unfinished(tmp_path) if not p.is_symlink()}
    assert victim.read_text() == "precious" and len(names) == 20


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    assert write_jsonl([{"a": 1}, {"a": 2}], pipe) == 2
    reader.join(10)
    assert found == ['{"a": 1}\n{"a": 2}\n'] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_devices_stay_devices() -> None:
    write_jsonl([{"a": 1}], "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(RunError, match="cannot write /dev/full: No space left on device"):
        write_jsonl([{"a": 1}], "/dev/full")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_added_to(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.write_text("before\n")
    script = "import sys\nfrom trajtree.store.lines import write_jsonl\nwrite_jsonl([{'a': 1}], sys.argv[1])"
    with out.open("ab") as file:
        subprocess.run([sys.executable, "-c", script, name], stdout=file, check=True)
    assert out.read_text() == 'before\n{"a": 1}\n'


def test_what_killed_writers_leave_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for name in ("out.jsonl", "out.jsonl.other"):
        with writer(tmp_path / name) as killed:
            assert killed.stdin is not None
            killed.send_signal(signal.SIGKILL)
    assert len(unfinished(tmp_path)) == 4
    write_atomically(path, "new")
    assert [p.name[:16] for p in unfinished(tmp_path)] == [".out.jsonl.other"] * 2
    write_atomically(tmp_path / "out.jsonl.other", "new")
    assert unfinished(tmp_path) == []


def test_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with writer(path) as other:
        write_atomically(path, "quick")
        assert len(unfinished(tmp_path)) == 2
        _, _ = other.communicate("go on\n")
        assert other.returncode == 0
    assert path.read_text() == "half" and unfinished(tmp_path) == []


def test_what_another_machine_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "elsewhere")
        with atomically(path):
            (there,) = unfinished(tmp_path)
            copy = there.read_bytes()
    there.write_bytes(copy)
    write_atomically(path, "new")
    assert unfinished(tmp_path) == [there]


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def write(text: str) -> None:
        for _ in range(60):
            write_atomically(path, text)

    texts = ["a" * 5000, "b" * 7000, "c" * 3000]
    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and unfinished(tmp_path) == []


def test_a_long_or_odd_name_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127, "[a]*?", " "):
        write_atomically(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


def test_an_unfinished_folder_has_the_rights_of_the_one_before_and_goes(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir(mode=0o700)
    with unfinished_folder(tmp_path / "model") as folder:
        (folder / "part").write_text("")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


READERS: dict[str, Callable[[Path], object]] = {
    "open": open_input,
    "lines": lambda path: list(read_jsonl(path)),
    "store": lambda path: list(TrajectoryStore(path)),
    "by task": lambda path: list(TrajectoryStore(path).by_task()),
    "trees": lambda path: list(read_trees(path)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
def test_only_files_are_read(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "is a pipe"), (tmp_path, "is a folder"), (Path("/dev/zero"), "is a device")):
        with pytest.raises(DataError, match=what):
            READERS[reader](path)


def test_a_name_with_a_null_is_no_name() -> None:
    with pytest.raises(DataError, match="is not a file's name"):
        open_input("a\0b")


@pytest.mark.parametrize("reader", ["lines", "store", "trees"])
def test_what_is_nested_too_deeply_is_named(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "deep.jsonl"
    header = {
        "store": '{"format": "trajtree.trajectories", "version": 2}\n',
        "trees": '{"format": "trajtree.trees", "version": 2}\n',
    }.get(reader, '{"a": 1}\n')
    deep = '{"metadata": ' * 100_000
    path.write_text(header + deep + "\n")
    with pytest.raises(DataError, match=r"deep\.jsonl, line 2"):
        READERS[reader](path)
    path.write_text(deep)
    with pytest.raises(DataError, match=r"deep\.jsonl, line 1"):
        READERS[reader](path)
