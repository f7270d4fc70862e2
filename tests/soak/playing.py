"""Explorations among faults: of the environment, its workers and their Java, the model server, and the process itself.

Whatever happens, a store has each task and sample at most once, and each that is not marked as a fault is what it
would have been without faults. When all is well again, the same command plays what is missing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from threading import Event

from tests.soak.commands import Ended, Violation, end, environment, listens, start
from tests.soak.player import Hat
from tests.soak.weather import VARIABLE, Weather
from tests.toy import TASKS

from trajtree.errors import EnvError
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling, Trajectory

MARK = "SOAK_MARK"
"""Variable by which the processes of a trial, and all that they start, are known."""

Key = tuple[str, int]

WORLDS = {
    "toy": ["--env", "tests.soak.weather:DOMAIN", "--tasks", "toy", "--first", "6", "--rollouts", "3"],
    "java": ["--env", "textworldexpress", "--tasks", "coin", "--first", "3", "--rollouts", "3", "--max-steps", "8"],
}
"""What is played. Of Java, only where the simulator is installed."""

EXPECTED: dict[tuple[str, str], dict[Key, Trajectory]] = {}
"""What an unbroken exploration plays, by world and policy, once that is known."""


# --- a model server that can be killed ---


@dataclass
class Server:
    """A model server in a process of its own; it comes back at the same address.

    Attributes:
        port: outside the range from which connections get theirs, so that nobody else is there meanwhile.
    """

    port: int
    process: subprocess.Popen[str] | None = None

    def up(self, share: float) -> None:
        """Start it, so that it answers a share of the requests wrongly; unless it is there."""
        if self.process is not None:
            return
        words = [sys.executable, "-m", "tests.soak.model_server", str(self.port), str(share)]
        self.process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if not self.process.stdout.readline().startswith("http"):
            raise Violation(f"the soak's own model server did not start on port {self.port}")

    def down(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


@contextlib.contextmanager
def server(random: Random) -> Iterator[Server]:
    """One that is killed at the end."""
    found = Server(free_port(random))
    try:
        yield found
    finally:
        found.down()


def free_port(random: Random) -> int:
    """A port that nobody has."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port := random.randrange(20_000, 30_000)))
            return port


# --- processes of a trial ---


def marked(mark: str) -> list[tuple[int, str]]:
    """Every living process that a trial's commands have started, with its command line."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
    return found


def workers(mark: str, command: int) -> list[int]:
    """The workers of a command and their Java."""
    helpers = ("resource_tracker",)
    return [pid for pid, line in marked(mark) if pid != command and line and not any(name in line for name in helpers)]


@dataclass
class Trouble:
    """What happens to a command while it runs.

    Attributes:
        server: of a model, to be killed and to come back; None to leave it alone.
        share: of its requests that are answered wrongly.
        hunted: whether workers and their Java are killed, or stopped for a while.
        number: the signal that ends the command itself; None for none.
        count: of what was done.
        store: of the command.
    """

    server: Server | None
    share: float
    hunted: bool
    number: signal.Signals | None
    random: Random
    mark: str
    count: Counter[str]
    store: Path

    def strike(self, process: subprocess.Popen[str], over: Event) -> None:
        """Make it happen, until the command is over."""
        if self.number is not None and self.number != signal.SIGKILL and not listens(process):
            return
        if self.random.random() < 0.7:  # mostly while it plays
            while not self.store.exists() and not over.wait(0.1):
                pass
        until, left = time.monotonic() + self.random.uniform(0, 8), self.random.randrange(1, 6)
        while not over.wait(self.random.uniform(0.2, 2)):
            if self.number is not None and time.monotonic() > until:
                process.send_signal(self.number)
                return
            if self.hunted and left and (there := workers(self.mark, process.pid)):
                self._hunt(self.random.choice(there))
                left -= 1
            if self.server is not None and left and self.random.random() < 0.3:
                self.server.down()
                self.count["model servers killed"] += 1
                left -= 1
                over.wait(self.random.uniform(0, 4))
                self.server.up(self.share)

    def _hunt(self, pid: int) -> None:
        number = self.random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)
            self.count[f"workers and Java that got {number.name}"] += 1
            if number == signal.SIGSTOP:
                time.sleep(self.random.uniform(1, 6))
                os.kill(pid, signal.SIGCONT)


def troubled(words: Sequence[str], trouble: Trouble, weather: float) -> Ended:
    """Run a command among troubles, and check that it ends in order and leaves no process behind."""
    variables = {VARIABLE: str(weather), MARK: trouble.mark}
    process = start(words, module="tests.soak.player", variables=variables)
    over = Event()
    with ThreadPoolExecutor(1) as beside:
        struck = beside.submit(trouble.strike, process, over)
        try:
            ended = end(process, words)
        finally:
            over.set()
    struck.result()
    number = trouble.number
    ended.check(0, 1, *(() if number is None else (-number, 128 + number)))
    gone(trouble.mark, words)
    return ended


def gone(mark: str, words: Sequence[str]) -> None:
    """Wait until a command that ended has left no process.

    Raises:
        Violation: it has.
    """
    until = time.monotonic() + 120
    while left := marked(mark):
        if time.monotonic() > until:
            raise Violation(f"{' '.join(words)} left processes behind: {left}")
        time.sleep(0.1)


# --- trials ---


def exploring(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """An exploration that is broken off, broken into and lied to, several times; then to the end."""
    world = random.choice(["toy", "toy", *(["java"] if find_spec("textworld_express") else [])])
    with server(random) as model:
        served = random.random() < 0.5
        policy = f"openai:stub@http://127.0.0.1:{model.port}" if served else "hat:x"
        store = folder / "runs.jsonl"
        words = ["explore", *WORLDS[world], "--policy", policy, "--out", str(store)]
        for _ in range(random.randint(1, 2)):
            share, weather = random.choice((0.0, 0.1, 0.3)), random.choice((0.0, 0.02, 0.1))
            number = random.choice((None, None, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            trouble = Trouble(
                model if served else None, share, random.random() < 0.7, number, random, folder.name, count, store
            )
            if served:
                model.down()
                model.up(share)
            how = ["--workers", str(random.randint(0, 2)), "--seconds", "2", "--batch", str(random.choice((4, 32)))]
            ended = troubled([*words, *how], trouble, weather if world == "toy" else 0.0)
            count[f"explorations that ended with {ended.status}"] += 1
            check(store, expected(world, served, folder, model), count)
        if served:
            model.down()
            model.up(0.0)
        calm(words, folder)
        check(store, expected(world, served, folder, model), count, whole=True)


def calm(words: Sequence[str], folder: Path) -> None:
    """Run an exploration to which nothing happens."""
    process = start([*words, "--workers", "1"], module="tests.soak.player", variables={MARK: folder.name})
    end(process, words).check(0)


def expected(world: str, served: bool, folder: Path, model: Server) -> dict[Key, Trajectory]:
    """What is played where nothing happens."""
    name = "served" if served else "hat"
    if (world, name) not in EXPECTED:
        policy = f"openai:stub@http://127.0.0.1:{model.port}" if served else "hat:x"
        if served:
            model.down()
            model.up(0.0)
        store = folder / "expected.jsonl"
        calm(["explore", *WORLDS[world], "--policy", policy, "--out", str(store)], folder)
        EXPECTED[world, name] = {trajectory.key: trajectory for trajectory in TrajectoryStore(store)}
    return EXPECTED[world, name]


def check(path: Path, sound: dict[Key, Trajectory], count: Counter[str], *, whole: bool = False) -> None:
    """Every stored episode is one of those asked for, once, and as it should be, or marked as a fault.

    Raises:
        Violation: it is not; or `whole`, and an episode is missing or was lost to a fault.
    """
    stored = list(TrajectoryStore(path)) if path.exists() else []
    often = [key for key, times in Counter(t.key for t in stored).items() if times > 1]
    wrong = [t.key for t in stored if not t.outcome.is_fault and t != sound.get(t.key)]
    lost = [t.key for t in stored if t.outcome.is_fault]
    missing = sound.keys() - {t.key for t in stored} if whole else set()
    if often or wrong or missing or (whole and lost):
        raise Violation(f"{path}: twice {often}, not as it should be {wrong}, missing {missing}, lost {lost}")
    count["episodes lost to faults, and played again later"] += len(lost)
    count["episodes played among faults"] += 0 if whole else len(stored) - len(lost)


def breaking_environment(base: Path, folder: Path, random: Random, count: Counter[str]) -> None:
    """An environment that raises or lies, within this process."""

    def play(weather: float, name: str) -> TrajectoryStore:
        store = TrajectoryStore(folder / name, create=True)
        episodes = independent(TASKS[:6], 3, [Sampling(1.0)])
        rollout(episodes, Hat(), lambda: Weather(weather, Random(random.random())), store, seed=7, batch=4)
        return store

    sound = {t.key: t for t in play(0.0, "sound.jsonl")}
    with warnings.catch_warnings(), contextlib.suppress(EnvError):
        warnings.simplefilter("ignore")  # what goes wrong in closing is a warning
        play(random.choice((0.02, 0.1, 0.5)), "bad.jsonl")
    check(folder / "bad.jsonl", sound, count)
    check(play(0.0, "bad.jsonl").path, sound, count, whole=True)
    count["explorations of an environment that breaks"] += 1


__all__ = ["breaking_environment", "exploring"]
