"""The long soak: 20,000 episodes of a scripted policy, a tenth of them in ScienceWorld, struck at random moments.

    python -m tests.soak.long --out benchmarks/results/soak.json
    python -m tests.soak.long --share 0.02 workers cluster     # a little of two legs

Legs that --out has already are kept there, unless they are played again.

A leg is one exploration. It is played twice: first in one go with nothing happening to it, then among blows. A blow
falls when the store has grown to a random size; the same command is given again for as long as something is missing.
In the end each task and sample is there exactly once, and each episode is what it was without blows. Memory is that of
the largest process of a kind in each tenth of the store's growth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import psutil
from tests.soak.commands import ROOT, Violation, end, environment, listens, start
from tests.soak.playing import MARK, Key, Server, check, gone, marked, server
from tests.soak.weather import VARIABLE

from trajtree.models.weights import versions
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

BLOWS = 20
"""In each leg."""
GROWTH = 0.1
"""By which the largest process of a later tenth may exceed that of the first."""
MOST_LIVES = 100
"""Commands that a leg may take; more would mean that it does not come on."""
_ROOM = 2**30


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
        return self.folder / "runs.jsonl"

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
    scene.served.up(0.05)
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


@dataclass(frozen=True)
class Leg:
    """An exploration.

    Attributes:
        words: the arguments of the command; {port} is the model server's.
        tasks: how many there are.
        rollouts: of each.
        blows: what may happen.
        weather: share of the environment's calls that fail, hang or end its process, among blows.
        needs: the package without which there is no such leg.
    """

    words: str
    tasks: int
    rollouts: int
    blows: dict[str, Blow]
    weather: float = 0.0
    needs: str = "trajtree"


_TOY = "--env tests.soak.weather:DOMAIN --tasks toy --batch 16 --seconds 5"
_SCIENCEWORLD = "--env scienceworld --tasks find-living-thing --max-steps 5 --batch 8 --seconds 45 --workers 2"
LEGS = {
    "workers": Leg(f"{_TOY} --workers 2 --policy hat:x", 120, 75, END | WORKERS, 0.003),
    "server": Leg(
        f"{_TOY} --workers 2 --policy openai:stub@http://127.0.0.1:{{port}}",
        120,
        25,
        END | WORKERS | {"model server killed": unserve},
        0.003,
        "openai",
    ),
    "cluster": Leg(
        f"{_TOY} --policy hat:x --on ray", 120, 50, END | WORKERS | PLAYER | {"node killed": lose_node}, 0.003, "ray"
    ),
    "scienceworld": Leg(
        f"{_SCIENCEWORLD} --policy hat:scienceworld", 100, 20, END | WORKERS | JAVA, needs="scienceworld"
    ),
}
"""By name."""


def sizes(scene: Scene) -> list[tuple[str, float]]:
    """Kind and megabytes of each process."""
    found = []
    for kind, pid in scene.processes():
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found.append((kind, pages * os.sysconf("SC_PAGESIZE") / 1e6))
    return found


@dataclass
class Memory:
    """Megabytes of the largest process of each kind, by tenths of the store's growth."""

    tenths: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seen: list[tuple[str, float]], share: float) -> None:
        """Take in the sizes of processes when the store had so much of its size."""
        for kind, size in seen:
            found = self.tenths.setdefault(kind, [0.0] * 10)
            tenth = min(9, int(10 * share))
            found[tenth] = max(found[tenth], round(size, 1))

    def growth(self) -> dict[str, float]:
        """By how much the largest of a later tenth exceeds the first in which there was any."""
        seen = {kind: [size for size in sizes if size] for kind, sizes in self.tenths.items()}
        return {kind: round(max(sizes) / sizes[0] - 1, 3) for kind, sizes in seen.items()}


@dataclass
class Round:
    """A leg played to its end, with blows or without.

    Attributes:
        coming: (size of the store in bytes, name) of the blows that are still to fall, the last one first.
        size: bytes of the whole store, as far as known.
    """

    leg: Leg
    folder: Path
    random: Random
    size: float
    coming: list[tuple[float, str]] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    fell: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lost: int = 0

    def life(self, words: list[str], weather: float, served: Server | None, machines: Any) -> int:
        """One command to its end; its exit status."""
        mark = f"{self.folder.name}-{sum(self.ended.values())}"
        variables = {MARK: mark, VARIABLE: str(weather)}
        process = start(words, module="tests.soak.player", variables=variables)
        marks = (mark,) if machines is None else (mark, CLUSTER)
        scene = Scene(self.folder, self.random, marks, process, served, machines)
        over = Event()
        with ThreadPoolExecutor(1) as beside:
            watched = beside.submit(self._watch, scene, over)
            try:
                ended = end(process, words)
            finally:
                over.set()
        if (fatal := watched.result()) is None:
            ended.check(0, 1)
        elif ended.check(0, STATUS[fatal]).status == 1 and "space" not in str(ended.sentence):
            raise Violation(f"{' '.join(words)} on a full disk said {ended.sentence}")
        # What has been stopped notices only now that it is to end.
        for _, pid in scene.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        gone(mark, words)
        until = time.monotonic() + 120
        while left := list(scene.processes()):
            if time.monotonic() > until:
                raise Violation(f"{' '.join(words)} left processes behind on the cluster: {left}")
            time.sleep(0.1)
        self.ended[str(ended.status)] += 1
        if scene.torn and (data := scene.store.read_bytes()).endswith(b"\n"):
            last = data[:-1].rfind(b"\n") + 1
            scene.store.write_bytes(data[: self.random.randrange(last, len(data))])
        if os.path.ismount(self.folder):
            resize(self.folder, _ROOM)
        return ended.status

    def _watch(self, scene: Scene, over: Event) -> str | None:
        """Strike until the command is over; which blow it was that is to end it, None if none of them."""
        before, seen, fatal = _size(scene.store), None, None
        while not over.wait(0.25):
            if (now := _size(scene.store)) <= before:
                continue
            # What is seen counts once the store has grown further: the table at the end is not playing.
            if seen is not None:
                self.memory.add(seen, before / self.size)
            before, seen = now, sizes(scene)
            if fatal is None and self.coming and now >= self.coming[-1][0]:
                name = self.coming[-1][1]
                if self.leg.blows[name](scene):
                    self.fell[name] += 1
                    self.coming.pop()
                    fatal = name if name in END else None
        return fatal


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def played(leg: Leg, share: float, base: Path, random: Random) -> dict[str, Any]:
    """The figures of a leg.

    Raises:
        Violation: an episode is missing, there twice, or not what it is without blows.
    """
    rollouts = max(1, round(leg.rollouts * share))
    episodes = leg.tasks * rollouts
    figures: dict[str, Any] = {"command": f"explore {leg.words}", "episodes": episodes}
    with ExitStack() as stack:
        served = stack.enter_context(server(random)) if "{port}" in leg.words else None
        given = leg.words.format(port=served.port if served else "").split()
        words = ["explore", *given, "--first", str(leg.tasks), "--rollouts", str(rollouts)]
        sound: dict[Key, Trajectory] = {}
        size = 700.0 * episodes
        for name in ("undisturbed", "among blows"):
            struck = name == "among blows"
            folder = base / name.replace(" ", "-")
            store = folder / "runs.jsonl"
            command = [*words, "--out", str(store)]
            disk = stack.enter_context(small_disk(folder))
            weather = leg.weather if struck else 0.0
            machines = stack.enter_context(cluster(weather)) if "--on" in command else None
            fell = Round(leg, folder, random, size)
            if struck:
                names = [blow for blow in leg.blows if disk or leg.blows[blow] is not fill]
                drawn = [*names * (BLOWS // len(names)), *random.sample(names, BLOWS % len(names))]
                random.shuffle(drawn)
                sizes = sorted((random.uniform(0.01, 0.95) * size for _ in drawn), reverse=True)
                fell.coming = list(zip(sizes, drawn, strict=True))
            began = time.monotonic()
            while True:
                if served:
                    served.down()
                    served.up(0.05 if struck else 0.0)
                status = fell.life(command, weather, served, machines)
                count = Counter[str]()
                if struck:
                    check(store, sound, count)
                fell.lost += count["episodes lost to faults, and played again later"]
                if status == 0:
                    break
                if not struck or sum(fell.ended.values()) > MOST_LIVES:
                    raise Violation(f"{' '.join(command)} does not come to an end: {dict(fell.ended)}")
            if struck:
                if served:
                    served.down()
                    served.up(0.0)
                # Here, also where it was on a cluster.
                fell.life([word for word in command if word not in ("--on", "ray")], 0.0, served, None)
                check(store, sound, Counter(), whole=True)
            else:
                sound = {trajectory.key: trajectory for trajectory in TrajectoryStore(store)}
                size = _size(store)
                if len(sound) != episodes or any(each.outcome.is_fault for each in sound.values()):
                    raise Violation(f"{store}: not whole, though nothing happened")
            figures[name] = {
                "seconds": round(time.monotonic() - began),
                "MB of the largest process, by tenths": fell.memory.tenths,
                "growth after the first tenth": fell.memory.growth(),
            }
            if struck:
                figures[name] |= {
                    "blows": dict(sorted(fell.fell.items())),
                    "exit statuses": dict(sorted(fell.ended.items())),
                    "episodes seen as lost to faults between commands": fell.lost,
                    "solved, and not": [
                        sum(t.success for t in sound.values()),
                        sum(not t.success for t in sound.values()),
                    ],
                }
            print(json.dumps(figures[name]), flush=True)
    return figures


CLUSTER = "soak-cluster"


@contextmanager
def cluster(weather: float) -> Iterator[Any]:
    """A cluster of two nodes on this machine; commands find it by RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    paths = {"PYTHONPATH": environment()["PYTHONPATH"], "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    before = dict(os.environ)
    os.environ |= paths | {MARK: CLUSTER, VARIABLE: str(weather)}
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        made.add_node(**NODE)
        os.environ["RAY_ADDRESS"] = made.address
        yield made
    finally:
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A new folder with a disk of its own; False where that is not allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", folder]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def main() -> None:
    """Play the legs, and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("legs", nargs="*", default=list(LEGS), help="some legs only", metavar="LEG")
    parser.add_argument("--share", type=float, default=1.0, help="of the episodes (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="long-soak-"))
    found: dict[str, Any] = {"legs": {}}
    if args.out and args.out.exists():
        found = json.loads(args.out.read_text())
    found["command"] = f"python -m tests.soak.long --seed {args.seed} --share {args.share:g}"
    found["machine"] = {
        "cores": os.cpu_count(),
        "memory GB": round(psutil.virtual_memory().total / 1e9),
        "load before": [round(load, 2) for load in os.getloadavg()],
        **versions(["trajtree", "ray", "scienceworld"]),
    }
    for name in args.legs:
        if find_spec(LEGS[name].needs) is None:
            print(f"{name}: left out, {LEGS[name].needs} is not installed")
            continue
        print(name, flush=True)
        try:
            found["legs"][name] = played(LEGS[name], args.share, base / name, Random(f"{args.seed} {name}"))
        except Violation as violation:
            raise SystemExit(f"{name}: {violation}\nfiles: {base}") from None
        found["episodes"] = sum(leg["episodes"] for leg in found["legs"].values())
        if args.out:
            args.out.write_text(json.dumps(found, indent=1) + "\n")
    shutil.rmtree(base)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
