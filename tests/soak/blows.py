"""What may befall a command that explores, and all that works for it: the blows of the long soak."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.soak.commands import listens
from tests.soak.playing import Server, marked

STORE = "runs.jsonl"
WRONG = 0.05
"""Share of its requests that the model server answers wrongly, or not at all."""


@dataclass
class Scene:
    """A command at work, and what can be struck.

    Attributes:
        folder: of the store, on a disk of its own where that is allowed.
        marks: of the command, and of the cluster if there is one.
        process: the command.
        served: the model server, if one is asked.
        machines: the cluster, if there is one.
        torn: set when the store is to lose a part of its last line before the next command.
    """

    folder: Path
    random: Random
    marks: tuple[str, ...]
    process: subprocess.Popen[str]
    served: Server | None
    machines: Any
    torn: bool = False

    @property
    def store(self) -> Path:
        return self.folder / STORE

    def processes(self) -> Iterator[tuple[str, int]]:
        """Kind and id of the processes that are the command's, or work for it."""
        for mark in self.marks:
            for pid, line in marked(mark):
                if pid == self.process.pid:
                    yield "command", pid
                elif "/java" in line.split(" ")[0]:
                    yield "Java", pid
                elif "multiprocessing.spawn" in line:
                    yield "worker", pid
                elif line.startswith("ray::_"):
                    yield "player", pid

    def sizes(self) -> list[tuple[str, float]]:
        """Kind and resident megabytes of each process."""
        found = []
        for kind, pid in self.processes():
            with suppress(OSError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                found.append((kind, pages * os.sysconf("SC_PAGESIZE") / 1e6))
        return found


Blow = Callable[[Scene], bool]
"""Strikes; False where there was nothing to strike."""


def of(kind: str, number: signal.Signals) -> Blow:
    """Send a signal to a process of a kind. One that is stopped never goes on: it is a step that hangs."""

    def strike(scene: Scene) -> bool:
        there = [pid for found, pid in scene.processes() if found == kind]
        if not there or (kind == "command" and number != signal.SIGKILL and not listens(scene.process)):
            return False
        with suppress(ProcessLookupError):
            os.kill(scene.random.choice(there), number)
            return True
        return False

    return strike


def tear(scene: Scene) -> bool:
    """Kill the command in such a way that its last write is not whole."""
    scene.torn = of("command", signal.SIGKILL)(scene)
    return scene.torn


def fill(scene: Scene) -> bool:
    """Leave some kilobytes on the disk."""
    state = os.statvfs(scene.folder)
    used = (state.f_blocks - state.f_bfree) * state.f_frsize
    return resize(scene.folder, used + 8192)


def resize(folder: Path, size: int) -> bool:
    return not subprocess.run(["mount", "-o", f"remount,size={size}", folder], capture_output=True).returncode


def unserve(scene: Scene) -> bool:
    """Kill the model server; it is back after a while."""
    assert scene.served is not None
    scene.served.down()
    time.sleep(scene.random.uniform(0, 4))
    scene.served.up(WRONG)
    return True


def lose_node(scene: Scene) -> bool:
    """Kill a node of the cluster with all that is on it; another one joins."""
    scene.machines.remove_node(scene.random.choice(list(scene.machines.worker_nodes)), allow_graceful=False)
    scene.machines.add_node(**NODE)
    return True


END = {
    "command killed": of("command", signal.SIGKILL),
    "command killed, its last write torn": tear,
    "command got SIGINT": of("command", signal.SIGINT),
    "command got SIGTERM": of("command", signal.SIGTERM),
    "disk full": fill,
}
STATUS = dict(zip(END, (-signal.SIGKILL, -signal.SIGKILL, 128 + signal.SIGINT, 128 + signal.SIGTERM, 1), strict=True))
"""With what a command ends to which one of those happens."""
WORKERS = {"worker killed": of("worker", signal.SIGKILL), "worker hung": of("worker", signal.SIGSTOP)}
JAVA = {"Java killed": of("Java", signal.SIGKILL), "Java hung": of("Java", signal.SIGSTOP)}
PLAYER = {"player killed": of("player", signal.SIGKILL)}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
