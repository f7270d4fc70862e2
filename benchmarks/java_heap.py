"""Java's processor time for ScienceWorld's worlds, by how its heap is divided and how many worlds are open.

    python benchmarks/java_heap.py --out benchmarks/results/java-heap.json

Each measurement is a process of its own, with a virtual machine that plays the same episodes: tasks of eight types,
five actions each, the oldest world closed whenever there would be more than so many. Observations are compared, so a
division that changed one would be noticed. Divisions take turns; other work on the machine hardly changes CPU seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import deque
from itertools import islice
from pathlib import Path
from statistics import median

TYPES = (
    "find-living-thing",
    "find-plant",
    "find-animal",
    "find-non-living-thing",
    "lifespan-longest-lived",
    "lifespan-shortest-lived",
    "lifespan-longest-lived-then-shortest-lived",
    "chemistry-mix-paint-secondary-color",
)
ACTIONS = ("look around", "teleport to outside", "look around", "teleport to kitchen", "inventory")
JAVAS_OWN = "Java's own"


def measure(division: str, worlds: int, episodes: int) -> dict[str, object]:
    """CPU seconds of this process's virtual machine for some episodes, and a hash of all that it said."""
    from trajtree.envs import jvm
    from trajtree.envs.scienceworld.env import ScienceWorld, splits

    if division == JAVAS_OWN:
        jvm._OPTIONS = tuple(option for option in jvm._OPTIONS if not option.startswith("-Xmn"))
    each = -(-episodes // len(TYPES))
    tasks = [f"{kind}/{n}" for n in range(each) for kind in TYPES if n in splits(kind, "train")]
    said, live = hashlib.sha256(), deque[ScienceWorld]()
    for task in islice(tasks, episodes):
        env = ScienceWorld(max_steps=20)
        said.update(env.reset(task).encode())
        for action in ACTIONS:
            said.update(env.step(action).observation.encode())
        live.append(env)
        if len(live) > worlds:
            live.popleft().close()
    process = jvm.shared_jvm(jvm.SCIENCEWORLD)._process.pid
    used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return {"cpu_seconds": sum(map(int, used)) / os.sysconf("SC_CLK_TCK"), "said": said.hexdigest()[:16]}


def main() -> None:
    """Measure, and write what was found."""
    from trajtree.envs.jvm import HEAP_MB, NEW_MB
    from trajtree.models.weights import versions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worlds", type=int, nargs="+", default=[20, 32, 64])
    parser.add_argument("--episodes", type=int, default=104)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("DIVISION", "WORLDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), args.episodes)))
        return
    divisions = (JAVAS_OWN, f"{NEW_MB} MiB")
    found: dict[tuple[str, int], list[float]] = {}
    said = set()
    for _ in range(args.rounds):
        for worlds in args.worlds:
            for division in divisions:
                words = [sys.executable, __file__, "--one", division, str(worlds), "--episodes", str(args.episodes)]
                one = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
                found.setdefault((division, worlds), []).append(one["cpu_seconds"])
                said.add(one["said"])
                print(f"{worlds} worlds, for new objects {division}: {one['cpu_seconds']:.1f} CPU seconds", flush=True)
    result = {
        "command": " ".join(["python", "benchmarks/java_heap.py", *sys.argv[1:]]),
        "versions": versions(["trajtree", "scienceworld"]),
        "heap_mib": HEAP_MB,
        "episodes": args.episodes,
        "same_observations": len(said) == 1,
        "measured": [
            {"new_objects": division, "worlds": worlds, "cpu_seconds": seconds, "median": median(seconds)}
            for (division, worlds), seconds in found.items()
        ],
    }
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
