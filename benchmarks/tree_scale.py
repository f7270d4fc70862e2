"""From 10^4 to 10^6 runs of 20 steps through import, build and pairs: time and memory as the store grows.

    python benchmarks/tree_scale.py --out benchmarks/results/tree-scale.json --plot docs/tree-scale.png

Each command runs in a process of its own, as a user would run it; its peak memory is what the system counted. Every
task has 1,000 runs, so the largest task is the same at every size. Finished sizes are kept in --out: run it again
after a kill and it goes on.
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

RUNS_A_TASK = 1000
STEPS = 20


def write_runs(path: Path, runs: int) -> None:
    """Chat messages, one run a line; the runs of a task lie apart, as logs of many workers do."""
    rng = random.Random(0)
    tasks = max(1, runs // RUNS_A_TASK)
    with path.open("w") as file:
        for number in range(runs):
            room, messages = (
                "hall",
                [{"role": "user", "content": f"Task {number % tasks}: find the key. You are in the hall."}],
            )
            for step in range(STEPS):
                choice = int(5 * rng.random() ** 2)
                room = f"room {choice} on floor {step}"
                messages.append({"role": "assistant", "content": f"go to door {choice}"})
                messages.append({"role": "user", "content": f"You are in {room}."})
            row = {"task": f"task/{number % tasks}", "messages": messages, "score": rng.randrange(5) / 4}
            file.write(json.dumps(row) + "\n")


def run(arguments: list[str]) -> dict[str, float]:
    """Run a trajtree command; seconds of wall clock and CPU, and peak megabytes."""
    start = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "trajtree", *arguments], os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"trajtree {' '.join(arguments)} failed")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def measure(runs: int, folder: Path) -> dict[str, object]:
    """All three commands on `runs` runs."""
    folder.mkdir(parents=True)
    source, store, trees, pairs = (
        folder / name for name in ("runs.jsonl", "store.jsonl", "trees.jsonl", "pairs.jsonl")
    )
    write_runs(source, runs)
    figures: dict[str, object] = {"runs": runs, "source_mb": source.stat().st_size / 2**20}
    figures["import"] = run(["import", str(source), "--out", str(store)])
    source.unlink()
    figures["store_mb"] = store.stat().st_size / 2**20
    figures["build"] = run(["build", str(store), "--out", str(trees)])
    store.unlink()
    figures["trees_mb"] = trees.stat().st_size / 2**20
    figures["pairs"] = run(["pairs", str(trees), "--out", str(pairs)])
    with pairs.open("rb") as file:
        figures["pairs_written"] = sum(1 for _ in file)
    shutil.rmtree(folder)
    return figures


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
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"), help="scratch space, about 15 GB for 10^6")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    done = json.loads(args.out.read_text()) if args.out.exists() else {"sizes": []}
    done["command"] = " ".join(["python", *sys.argv])
    done["python"], done["machine"] = platform.python_version(), f"{platform.system()} {platform.machine()}"
    for size in args.sizes:
        if any(row["runs"] == size for row in done["sizes"]):
            continue
        shutil.rmtree(args.folder / str(size), ignore_errors=True)
        done["sizes"].append(measure(size, args.folder / str(size)))
        done["sizes"].sort(key=lambda row: row["runs"])
        args.out.write_text(json.dumps(done, indent=1) + "\n")
        print(json.dumps(done["sizes"][-1]), flush=True)
    if args.plot:
        plot(done["sizes"], args.plot)


if __name__ == "__main__":
    main()
