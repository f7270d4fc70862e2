"""From 10^4 to 10^6 runs through import, build, pairs, show and report: time and memory as the store grows.

    python benchmarks/tree_scale.py --out benchmarks/results/tree-scale.json --plot docs/tree-scale.png

Each command runs in a process of its own, as a user would run it; its peak memory is what the system counted. Every
task has the same number of runs (by default 1,000, of 20 steps), so the largest task is the same at every size; `show`
writes the page and the figures as JSON. `report` is what a report takes from an exploration, its tokens and its trees:
there is no run directory here. Many small tasks:

    python benchmarks/tree_scale.py --runs-per-task 5 --steps 5 --out benchmarks/results/short-runs-scale.json

Finished sizes are kept in --out: run it again
after a kill and it goes on. With `--before SRC`, the `src` folder of another version's checkout, every command runs
under both versions in turn, and the plot is left as it is:

    python benchmarks/tree_scale.py --before ../before/src --sizes 10000 30000 --out RESULTS
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import time
from pathlib import Path

REPORT = """
import sys
from trajtree.experiment.findings import of_trees
from trajtree.explore.episode import sampled_tokens
from trajtree.store.tree_store import read_trees
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trees.forks import PairSettings
sum(map(sampled_tokens, TrajectoryStore(sys.argv[1])))
of_trees(read_trees(sys.argv[2]), PairSettings())
"""


def write_runs(path: Path, runs: int, runs_per_task: int, steps: int) -> None:
    """Chat messages, one run a line; the runs of a task lie apart, as logs of many workers do."""
    rng = random.Random(0)
    tasks = max(1, runs // runs_per_task)
    with path.open("w") as file:
        for number in range(runs):
            room, messages = (
                "hall",
                [{"role": "user", "content": f"Task {number % tasks}: find the key. You are in the hall."}],
            )
            for step in range(steps):
                choice = int(5 * rng.random() ** 2)
                room = f"room {choice} on floor {step}"
                messages.append({"role": "assistant", "content": f"go to door {choice}"})
                messages.append({"role": "user", "content": f"You are in {room}."})
            row = {"task": f"task/{number % tasks}", "messages": messages, "score": rng.randrange(5) / 4}
            file.write(json.dumps(row) + "\n")


def run(arguments: list[str], source: Path | None) -> dict[str, float]:
    """Run Python with the trajtree in `source` (None: the installed one); seconds of wall clock and CPU, peak MB."""
    start = time.perf_counter()
    environment = os.environ | ({"PYTHONPATH": str(source)} if source else {})
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    command = [sys.executable, *arguments]
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def measure(
    runs: int, folder: Path, versions: dict[str, Path | None], runs_per_task: int, steps: int
) -> dict[str, object]:
    """All commands on `runs` runs, under each version in turn."""
    folder.mkdir(parents=True)
    log = folder / "runs.jsonl"
    write_runs(log, runs, runs_per_task, steps)
    size = log.stat().st_size
    figures: dict[str, dict[str, object]] = {name: {} for name in versions}
    for command, read, written in (
        ("import", "runs", "store"),
        ("build", "store", "trees"),
        ("pairs", "trees", "pairs"),
        ("show", "trees", "page"),
    ):
        for name, source in versions.items():
            given = log if read == "runs" else folder / f"{name}-{read}.jsonl"
            out = folder / f"{name}-{written}.jsonl"
            to = ["--html", str(out), "--json", f"{out}.json"] if command == "show" else ["--out", str(out)]
            figures[name][command] = run(["-m", "trajtree", command, str(given), *to], source)
            figures[name][f"{written}_mb"] = out.stat().st_size / 2**20
            figures[name][f"{written}_ratio"] = out.stat().st_size / size
            if written == "pairs":
                with out.open("rb") as file:
                    figures[name]["pairs_written"] = sum(1 for _ in file)
    # An earlier version may not have these functions.
    figures["now"]["report"] = run(
        ["-c", REPORT, *(str(folder / f"now-{name}.jsonl") for name in ("store", "trees"))], None
    )
    shutil.rmtree(folder)
    here = figures.pop("now")
    return {"runs": runs, "source_mb": size / 2**20, **here, **figures}


def plot(rows: list[dict], path: Path) -> None:
    """CPU time and memory against the number of runs."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    sizes = [row["runs"] for row in rows]
    for command in ("import", "build", "pairs"):
        left.loglog(sizes, [row[command]["cpu_seconds"] for row in rows], marker="o", label=command)
        right.semilogx(sizes, [row[command]["peak_mb"] for row in rows], marker="o", label=command)
    total = [sum(row[c]["cpu_seconds"] for c in ("import", "build", "pairs")) for row in rows]
    left.loglog(sizes, [total[-1] * size / sizes[-1] for size in sizes], "k:", label="linear (all three)")
    left.loglog(sizes, total, "k", label="all three")
    left.set(xlabel="runs of 20 steps", ylabel="CPU seconds")
    right.set(xlabel="runs of 20 steps", ylabel="peak memory, MB", ylim=(0, None))
    left.legend(frameon=False)
    right.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure the sizes that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--runs-per-task", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20, help="of each run")
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"), help="scratch space, about 15 GB for 10^6")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--before", type=Path, help="the `src` folder of an earlier version, to run beside this one")
    args = parser.parse_args()
    done = json.loads(args.out.read_text()) if args.out.exists() else {"sizes": []}
    done["command"] = " ".join(["python", *sys.argv])
    versions = {"before": args.before.resolve()} if args.before else {}
    done["python"], done["machine"] = platform.python_version(), f"{platform.system()} {platform.machine()}"
    for size in args.sizes:
        if any(row["runs"] == size for row in done["sizes"]):
            continue
        shutil.rmtree(args.folder / str(size), ignore_errors=True)
        done["sizes"].append(
            measure(size, args.folder / str(size), {**versions, "now": None}, args.runs_per_task, args.steps)
        )
        done["sizes"].sort(key=lambda row: row["runs"])
        args.out.write_text(json.dumps(done, indent=1) + "\n")
        print(json.dumps(done["sizes"][-1]), flush=True)
    if args.plot:
        plot(done["sizes"], args.plot)


if __name__ == "__main__":
    main()
