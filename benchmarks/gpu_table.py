"""The table of docs/training.md from what gpu.py measured.

python benchmarks/gpu_table.py benchmarks/results/gpu.json benchmarks/results/gpu-large.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

OURS = "packed, mask"
OTHERS = ("padded", "packed, loop", "packed, flex", "packed, deterministic", "TRL", "TRL, reference precomputed")


def rows(measured: dict[str, Any]) -> list[str]:
    """A line per model and step: milliseconds of ours, how many times as long the others take, and memory."""
    found = []
    for model, parts in measured["models"].items():
        for shape, step in parts["steps"].items():
            sides = {name: side for name, side in step["sides"].items() if isinstance(side, dict)}  # else out of memory
            if OURS not in sides:
                continue
            took = sides[OURS]["seconds"]
            times = [f"{sides[side]['seconds'] / took:.2f}x" if side in sides else "" for side in OTHERS]
            memory = [f"{sides[name]['MiB'] / 1024:.1f}" for name in ("TRL", OURS) if name in sides]
            counts = f"{step['tokens']:,}, {step['packed tokens']:,}"
            cells = [model, shape, counts, f"{1000 * took:.0f} ms", *times, f"{', '.join(memory)} GiB"]
            found.append(f"| {' | '.join(cells)} |")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    args = parser.parse_args()
    head = [
        "model's shape",
        "step",
        "tokens, packed",
        "packed, one mask",
        *OTHERS,
        "memory beyond the weights, TRL and packed",
    ]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for path in args.results:
        print("\n".join(rows(json.loads(path.read_text()))))


if __name__ == "__main__":
    main()
