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
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import psutil
from tests.soak.blows import (
    END,
    JAVA,
    NODE,
    PLAYER,
    STATUS,
    STORE,
    WORKERS,
    WRONG,
    Blow,
    Scene,
    fill,
    lose_node,
    resize,
    unserve,
)
from tests.soak.commands import ROOT, Ended, Violation, end, environment, start
from tests.soak.playing import MARK, Key, Server, check, gone, server
from tests.soak.weather import VARIABLE

from trajtree.models.weights import versions
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

BLOWS = 20
"""In each leg."""
GROWTH = 0.1
"""By which the largest of our processes may be larger in a later tenth than in the first."""
MOST_LIVES = 100
"""Commands that a leg may take; more would mean that it does not come on."""
SECONDS = 7200
"""That a command may take."""
_ROOM = 2**30


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
_SCIENCEWORLD = "--env scienceworld --max-steps 4 --batch 8 --seconds 45 --workers 2 --policy hat:scienceworld"
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
    "scienceworld-animals": Leg(
        f"{_SCIENCEWORLD} --tasks find-living-thing", 50, 20, END | WORKERS | JAVA, needs="scienceworld"
    ),
    "scienceworld-plants": Leg(
        f"{_SCIENCEWORLD} --tasks find-plant", 50, 20, END | WORKERS | JAVA, needs="scienceworld"
    ),
}
"""By name."""


def tenths(seen: list[tuple[int, str, float]]) -> dict[str, Any]:
    """What is known of (bytes of the store, kind, megabytes): the largest process of each kind, by tenths."""
    whole = max(size for size, _, _ in seen) + 1
    largest: dict[str, list[float]] = {}
    for size, kind, found in seen:
        of_kind = largest.setdefault(kind, [0.0] * 10)
        of_kind[10 * size // whole] = max(of_kind[10 * size // whole], round(found, 1))
    there = {kind: [each for each in of_kind if each] for kind, of_kind in largest.items()}
    return {
        "MB of the largest process, by tenths": largest,
        "growth after the first tenth": {kind: round(max(each) / each[0] - 1, 3) for kind, each in there.items()},
    }


@dataclass
class Round:
    """A leg played to its end, with blows or without.

    Attributes:
        folder: of the store.
        weather: see `Leg`.
        wrong: share of its requests that the model server answers wrongly.
        coming: (size of the store in bytes, name) of the blows that are still to fall, the last one first.
        seen: (bytes of the store, kind, megabytes) of processes.
        fell: how often each blow fell.
        ended: how often a command ended with each status.
        lost: episodes that a command left behind as lost to faults.
    """

    leg: Leg
    folder: Path
    random: Random
    weather: float
    wrong: float
    served: Server | None
    machines: Any = None
    began: float = field(default_factory=time.monotonic)
    coming: list[tuple[float, str]] = field(default_factory=list)
    seen: list[tuple[int, str, float]] = field(default_factory=list)
    fell: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lost: int = 0

    @property
    def store(self) -> Path:
        return self.folder / STORE

    @contextmanager
    def place(self, words: list[str]) -> Iterator[list[str]]:
        """The disk, and the cluster where one is asked for; yields the whole command."""
        with ExitStack() as stack:
            stack.enter_context(small_disk(self.folder))
            if "--on" in words:
                self.machines = stack.enter_context(cluster(self.weather))
            yield [*words, "--out", str(self.store)]

    def draw(self, size: int) -> None:
        """Draw the blows, each kind as often as any other, and the sizes of the store at which they fall."""
        names = [blow for blow in self.leg.blows if os.path.ismount(self.folder) or self.leg.blows[blow] is not fill]
        drawn = [*names * (BLOWS // len(names)), *self.random.sample(names, BLOWS % len(names))]
        self.random.shuffle(drawn)
        at = sorted((self.random.uniform(0.01, 0.95) * size for _ in drawn), reverse=True)
        self.coming = list(zip(at, drawn, strict=True))

    def check(self, sound: dict[Key, Trajectory]) -> None:
        """See `playing.check`."""
        count = Counter[str]()
        check(self.store, sound, count)
        self.lost += count["episodes lost to faults, and played again later"]

    def figures(self) -> dict[str, Any]:
        """Time and memory.

        Raises:
            Violation: one of our processes grows. Java's heap grows to its limit as Java likes.
        """
        found = {"seconds": round(time.monotonic() - self.began), **tenths(self.seen)}
        grown = {
            kind: by for kind, by in found["growth after the first tenth"].items() if kind != "Java" and by > GROWTH
        }
        if grown:
            raise Violation(f"{self.folder}: grows: {found}")
        return found

    def life(self, words: list[str]) -> int:
        """One command to its end; its exit status."""
        if self.served:
            self.served.down()
            self.served.up(self.wrong)
        machines = self.machines if "--on" in words else None
        mark = f"{os.getpid()}-{self.folder.name}-{sum(self.ended.values())}"
        variables = {MARK: mark, VARIABLE: str(self.weather)}
        process = start(words, module="tests.soak.player", variables=variables)
        marks = (mark,) if machines is None else (mark, CLUSTER)
        scene = Scene(self.folder, self.random, marks, process, self.served, machines)
        # This is done in the main thread: only there can Ray start nodes.
        with ThreadPoolExecutor(1) as beside:
            ending = beside.submit(end, process, words, SECONDS)
            fatal = self._watch(scene, ending)
        ended = ending.result()
        if fatal is None:
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

    def _watch(self, scene: Scene, ending: Future[Ended]) -> str | None:
        """Strike until the command is over; which blow it was that is to end it, None if none of them."""
        before, fatal = _size(scene.store), None
        seen: list[tuple[int, str, float]] = []
        while not wait([ending], 0.25).done:
            if (now := _size(scene.store)) <= before:
                continue
            # What is seen counts once the store has grown further: the table at the end is not playing.
            self.seen += seen
            before, seen = now, [(now, kind, size) for kind, size in scene.sizes()]
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
    with server(random) if "{port}" in leg.words else nullcontext() as served:
        words = ["explore", *leg.words.format(port=served.port if served else "").split()]
        words += ["--first", str(leg.tasks), "--rollouts", str(rollouts)]
        calm = Round(leg, base / "undisturbed", random, 0.0, 0.0, served)
        with calm.place(words) as command:
            if calm.life(command) != 0:
                raise Violation(f"{' '.join(command)} did not end in order, though nothing happened")
            sound = {trajectory.key: trajectory for trajectory in TrajectoryStore(calm.store)}
            size = _size(calm.store)
        if len(sound) != episodes or any(each.outcome.is_fault for each in sound.values()):
            raise Violation(f"{' '.join(words)}: not whole, though nothing happened")
        figures = {"explored": leg.words, "episodes": episodes, "undisturbed": calm.figures()}
        print(json.dumps(figures), flush=True)
        struck = Round(leg, base / "among-blows", random, leg.weather, WRONG, served)
        with struck.place(words) as command:
            struck.draw(size)
            while struck.life(command) != 0:
                struck.check(sound)
                if sum(struck.ended.values()) > MOST_LIVES:
                    raise Violation(f"{' '.join(command)} does not come to an end: {dict(struck.ended)}")
            struck.check(sound)
            # In the end all is well, and it is played here, also where it was on a cluster.
            struck.weather, struck.wrong, struck.coming = 0.0, 0.0, []
            struck.life([word for word in command if word not in ("--on", "ray")])
            check(struck.store, sound, Counter(), whole=True)
    figures["among blows"] = struck.figures() | {
        "blows": dict(sorted(struck.fell.items())),
        "exit statuses": dict(sorted(struck.ended.items())),
        "episodes lost to faults, and played again by a later command": struck.lost,
    }
    figures["solved"] = sum(trajectory.success for trajectory in sound.values())
    print(json.dumps(figures), flush=True)
    return figures


CLUSTER = f"{os.getpid()}-cluster"


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
def small_disk(folder: Path) -> Iterator[None]:
    """A new folder, with a disk of its own where that is allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", folder]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield
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
    for name in args.legs:
        if find_spec(LEGS[name].needs) is None:
            print(f"{name}: left out, {LEGS[name].needs} is not installed")
            continue
        print(name, flush=True)
        load = _load()
        try:
            figures = played(LEGS[name], args.share, base / name, Random(f"{args.seed} {name}"))
        except Violation as violation:
            raise SystemExit(f"{name}: {violation}\nfiles: {base}") from None
        command = f"python -m tests.soak.long --seed {args.seed} --share {args.share:g} {name}"
        if args.out:
            keep(args.out, name, {"command": command, **figures, "load": [load, _load()]})
    shutil.rmtree(base)


def keep(out: Path, name: str, figures: dict[str, Any]) -> None:
    """Write the figures of a leg beside those that are there."""
    legs = (json.loads(out.read_text())["legs"] if out.exists() else {}) | {name: figures}
    written = {
        "machine": {"cores": os.cpu_count(), "memory GB": round(psutil.virtual_memory().total / 1e9)},
        "versions": versions(["trajtree", "ray", "scienceworld"]),
        "episodes": sum(leg["episodes"] for leg in legs.values()),
        "legs": legs,
    }
    out.write_text(json.dumps(written, indent=1) + "\n")


def _load() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
