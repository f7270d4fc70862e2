"""How long the demo takes and how much memory, with all of its processes: the recipe, its stages' and the simulator's.

    python benchmarks/demo_time.py --run runs/demo-timed --out benchmarks/results/demo-time.json
    python benchmarks/demo_time.py --run runs/demo-timed32 --dtype float32 --out benchmarks/results/demo-time.json

Memory is the sum of proportional set sizes, in which pages that processes share count once, every two seconds; Linux
only. A run directory that has something already is refused, since finished stages take no time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from trajtree.models.weights import versions

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
EVERY = 2.0


def proportional(process: psutil.Process) -> int:
    """Bytes of a process and of those that it started; what has just ended counts nothing."""
    found = 0
    for one in (process, *process.children(recursive=True)):
        try:
            found += one.memory_full_info().pss
        except psutil.Error:
            continue
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a new run directory")
    parser.add_argument("--dtype", default="auto", help="of the arithmetic (default: what the recipe does here)")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time (default: as make demo)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.run.exists():
        raise SystemExit(f"{args.run}: is there already; name a new run directory")
    words = ["run", str(RECIPE), "--run", str(args.run), "--jobs", str(args.jobs), "--set", f"play.dtype={args.dtype}"]
    began, loads, peak = time.monotonic(), [os.getloadavg()[0]], 0
    process = psutil.Popen([sys.executable, "-m", "trajtree", *words])
    while process.poll() is None:
        try:
            peak = max(peak, proportional(process))
        except psutil.NoSuchProcess:
            break
        loads.append(os.getloadavg()[0])
        time.sleep(EVERY)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, words)
    seconds = time.monotonic() - began
    (results,) = args.run.glob("reports/*/results.json")
    stages = {name: round(took, 1) for name, took in json.loads(results.read_text())["timings"].items()}
    found = {
        "command": f"trajtree {' '.join(words)}".replace(str(RECIPE), "recipes/demo.yaml"),
        "seconds": seconds,
        "peak_gb": peak / 1e9,
        "cores": os.cpu_count(),
        "load_before": loads[0],
        "load_median": sorted(loads)[len(loads) // 2],
        "stages": stages,
        "versions": versions(["trajtree", "torch", "transformers", "peft", "scienceworld"]),
    }
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{seconds / 60:.1f} min, {peak / 1e9:.1f} GB, stages {sum(stages.values()) / 60:.1f} min")


if __name__ == "__main__":
    main()
