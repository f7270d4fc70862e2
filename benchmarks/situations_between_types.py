"""How alike two task types that share a world turn out in it, from the committed results of the demo.

    python benchmarks/situations_between_types.py

A cell is a row of a run, a task type and a world (what stands outside). A cell's value is its success less the mean of
its row and type. Printed is the correlation of two types' values over all cells that they share, and the share of the
variance of single tasks that lies between the worlds of one type (an intra-class correlation without any correction).
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from itertools import combinations
from pathlib import Path

from trajtree.envs.scienceworld.situations import situation

RESULTS = Path(__file__).parent / "results"
Cells = dict[tuple[str, str], list[float]]


def world(task: str) -> str:
    """What stands outside: it is the same in all find tasks of one number."""
    return situation(f"find-animal/{task.partition('/')[2]}")


def cells_of(results: dict) -> list[Cells]:
    """Per row that ever succeeds: the successes of its tasks by type and world."""
    found = []
    for row in results["rows"]:
        cells: Cells = defaultdict(list)
        for task in row["tasks"]:
            cells[task["task_type"], world(task["task"])].append(task["success"])
        if any(success for successes in cells.values() for success in successes):
            found.append(cells)
    return found


def deviations(cells: Cells) -> dict[str, dict[str, float]]:
    """By type and world: mean success less the mean of the type's worlds."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (kind, where), successes in cells.items():
        found[kind][where] = statistics.fmean(successes)
    return {kind: {w: m - statistics.fmean(by.values()) for w, m in by.items()} for kind, by in found.items()}


def between_types(rows: list[Cells], one: str, other: str) -> tuple[float, int]:
    """Correlation over rows and worlds, and of how many cells."""
    pairs = []
    for cells in rows:
        by = deviations(cells)
        pairs += [(by[one][w], by[other][w]) for w in by[one] if w in by[other]]
    return statistics.correlation(*zip(*pairs, strict=True)), len(pairs)


def main() -> None:
    """Print both tables."""
    paths = sorted(RESULTS.glob("demo-*seed*.json"))
    rows = [cells for path in paths for cells in cells_of(json.loads(path.read_text()))]
    kinds = sorted({kind for cells in rows for kind, _ in cells})
    print(f"{len(rows)} rows of {len(paths)} runs: {', '.join(path.name for path in paths)}")
    for one, other in combinations(kinds, 2):
        correlation, count = between_types(rows, one, other)
        print(f"{one} with {other}: {correlation:+.2f} ({count} cells)")
    for kind in kinds:
        shares = []
        for cells in rows:
            own = {w: successes for (k, w), successes in cells.items() if k == kind}
            single = [success for successes in own.values() for success in successes]
            if (whole := statistics.pvariance(single)) > 0:
                mean = statistics.fmean(single)
                between = sum(len(s) * (statistics.fmean(s) - mean) ** 2 for s in own.values()) / len(single)
                shares.append(between / whole)
        print(f"{kind}: {statistics.fmean(shares):.2f} of the variance lies between its worlds ({len(shares)} rows)")


if __name__ == "__main__":
    main()
