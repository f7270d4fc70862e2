"""How alike ScienceWorld's task types turn out where they share a world, from stored results.

    python benchmarks/situations_between_types.py [RESULTS.json ...]

Without arguments the committed results of the demo's earlier form are read, which has the find types. A cell is a row
of a run, a task type and a world: the things that the simulator adds to it, such as the animals that stand outside, as
stored. A cell's value is its success less the mean of its row and type. Printed is the correlation of two types' values
over all cells that they share, and the share of the variance of single tasks that lies between the worlds of one type
(an intra-class correlation without any correction). Pairs of types that share fewer than MIN_CELLS cells are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from itertools import combinations
from pathlib import Path

MIN_CELLS = 10
RESULTS = Path(__file__).parent / "results"
Cells = dict[tuple[str, str], list[float]]


def world(task: dict) -> str:
    """The things that the simulator adds, which a stored situation names in brackets."""
    return task["situation"].rpartition("[")[2]


def cells_of(results: dict) -> list[Cells]:
    """Per row that ever succeeds: the successes of its tasks by type and world."""
    found = []
    for row in results["rows"]:
        cells: Cells = defaultdict(list)
        for task in row["tasks"]:
            cells[task["task_type"], world(task)].append(task["success"])
        if any(success for successes in cells.values() for success in successes):
            found.append(cells)
    return found


def deviations(cells: Cells) -> dict[str, dict[str, float]]:
    """By type and world: mean success less the mean of the type's worlds."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (kind, where), successes in cells.items():
        found[kind][where] = statistics.fmean(successes)
    return {kind: {w: m - statistics.fmean(by.values()) for w, m in by.items()} for kind, by in found.items()}


def shared_cells(rows: list[Cells], one: str, other: str) -> list[tuple[float, float]]:
    """The two types' values in each row and world that has both."""
    pairs = []
    for cells in rows:
        by = deviations(cells)
        pairs += [(by[one][w], by[other][w]) for w in by.get(one, {}) if w in by.get(other, {})]
    return pairs


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", default=sorted(RESULTS.glob("demo-*-seed*.json")))
    paths = parser.parse_args().results
    rows = [cells for path in paths for cells in cells_of(json.loads(path.read_text()))]
    kinds = sorted({kind for cells in rows for kind, _ in cells})
    print(f"{len(rows)} rows of {len(paths)} runs: {', '.join(path.name for path in paths)}")
    for one, other in combinations(kinds, 2):
        pairs = shared_cells(rows, one, other)
        if len(pairs) >= MIN_CELLS and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            correlation = statistics.correlation(*zip(*pairs, strict=True))
            print(f"{one} with {other}: {correlation:+.2f} ({len(pairs)} cells)")
    for kind in kinds:
        shares = []
        for cells in rows:
            own = {w: successes for (k, w), successes in cells.items() if k == kind}
            single = [success for successes in own.values() for success in successes]
            if single and (whole := statistics.pvariance(single)) > 0:
                mean = statistics.fmean(single)
                between = sum(len(s) * (statistics.fmean(s) - mean) ** 2 for s in own.values()) / len(single)
                shares.append(between / whole)
        if shares:
            print(
                f"{kind}: {statistics.fmean(shares):.2f} of the variance lies between its worlds ({len(shares)} rows)"
            )


if __name__ == "__main__":
    main()
