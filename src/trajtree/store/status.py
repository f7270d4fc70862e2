"""What a command is doing, in a file that another process can read: `status.json` in a folder, or beside a store.

The file is replaced as a whole, at most once a second, and also when nothing has changed, so that a reader can tell
slow work from work that ended without saying so.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from trajtree.errors import DataError, RunError
from trajtree.store.files import open_input, write_atomically

_NAME = "status.json"
"""In a folder; beside a file, `.FILE.status.json`."""

SIGN_OF_LIFE = 5.0
"""Seconds after which the file is written again although nothing has changed."""

_SILENCE = timedelta(seconds=6 * SIGN_OF_LIFE)
"""Without a sign of life for longer, a command is no longer said to be running."""

StageState = Literal["to do", "running", "done", "kept", "left out"]
"""`kept` was done by an earlier command; `left out` was not needed, or had nothing to work on."""


class StageStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage; a command without stages has a single one.

    Attributes:
        name: of the stage.
        state: what became of it so far.
        done, total: units of work; the total is None where it is not known.
        seconds: how long it has taken.
        left: an estimate of the seconds that are left; None where there is none.
        figures: by name, as the work gave them; only finite ones, because JSON has no others.
    """

    name: str
    state: StageState
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    left: float | None = None
    figures: dict[str, float] = {}


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command and its stages.

    Attributes:
        command: its name.
        state: `running` also in the file of a command that was killed; see `standing`.
        reason: why it failed.
        host, pid: where it runs.
        began, updated: when it began, and when this was written; UTC.
        stages: in order.
        picture: a few lines that show what it is working on.
    """

    command: str
    state: Literal["running", "finished", "failed", "stopped"]
    reason: str = ""
    host: str
    pid: int
    began: datetime
    updated: datetime
    stages: tuple[StageStatus, ...]
    picture: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """From its beginning to when this was written."""
        return (self.updated - self.began).total_seconds()


Standing = Literal["running", "finished", "failed", "stopped", "silent", "dead"]
"""How a command stands: `silent` gives no sign of life; `dead` ended without saying so, as when it is killed."""


def status_file(path: Path) -> Path:
    """Where the status of the command that writes a folder, or a file, is kept."""
    return path / _NAME if path.is_dir() else path.with_name(f".{path.name}.{_NAME}")


def write_status(status: Status, file: Path) -> None:
    """Write it as a whole.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(file, msgspec.json.format(msgspec.json.encode(status), indent=1).decode() + "\n")


def read_status(path: Path) -> Status:
    """The status of the command that writes, or wrote, a folder or a file.

    Raises:
        RunError: there is none.
        DataError: it is damaged.
    """
    file = status_file(path)
    if not file.exists():
        if not path.exists():
            raise RunError(f"{path}: there is no such file or folder")
        what = "a run directory, a folder of trajtree train, or a store that a command fills"
        raise RunError(f"{path}: no command has reported its progress here (there is no {file.name}); name {what}")
    with open_input(file) as opened:
        text = opened.read()
    try:
        return msgspec.json.decode(text, type=Status)
    except (ValueError, msgspec.MsgspecError) as error:
        raise DataError(f"{file}: damaged ({error}); the next command that works there replaces it") from None


def standing(status: Status, now: datetime | None = None) -> Standing:
    """How the command stands now, seen from this machine."""
    now = datetime.now(UTC) if now is None else now
    if status.state != "running" or now - status.updated <= _SILENCE:
        return status.state
    return "dead" if status.host == socket.gethostname() and not _lives(status.pid) else "silent"


def _lives(pid: int) -> bool:
    """Whether there is such a process, whatever it is; where the system cannot be asked, there may be.

    A process that has ended and that nobody waited for (in a container, often for good) still has its number.
    """
    if os.name == "nt":
        return True
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    with suppress(OSError):  # Linux says what state it is in, after the name in parentheses
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] != [b"Z"]
    return True


__all__ = [
    "SIGN_OF_LIFE",
    "StageStatus",
    "Standing",
    "Status",
    "read_status",
    "standing",
    "status_file",
    "write_status",
]
