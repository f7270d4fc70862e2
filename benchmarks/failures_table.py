"""The tables of docs/results.md on whether failures teach, from the stored results of failures.yaml and own-runs.yaml.

    trajtree run benchmarks/recipes/failures.yaml --run runs/failures/seed0 --set seed=0
    cp runs/failures/seed0/reports/NAME-HASH/results.json benchmarks/results/failures-seed0.json
    python benchmarks/failures_table.py benchmarks/results/failures-seed*.json

`trajtree compare` prints the same figures, and more of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def rate(found: Mapping[str, float]) -> str:
    """A rate and its interval, in percent."""
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def points(found: Mapping[str, float]) -> str:
    """A difference and its interval, in points."""
    return f"{100 * found['value']:+.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def chance(p_value: float) -> str:
    """A p-value."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def tables(compared: Mapping[str, Any]) -> str:
    """The rows, then the comparisons that were named beforehand."""
    label = compared["labels"]
    lines = [
        "| row | seeds | success, % | by seed | best score so far, % | completed, % |",
        "|---|---|---|---|---|---|",
    ]
    for row in compared["rows"]:
        by_seed = ", ".join(f"{100 * one:.1f}" for one in row["success_by_seed"])
        figures = (rate(row["success"]), by_seed, rate(row["reward"]), f"{100 * row['completed']['value']:.1f}")
        lines.append(f"| {label[row['row']]} | {len(row['seeds'])} | {' | '.join(figures)} |")
    lines += [
        "",
        "| named beforehand | success, points | p | p after Holm | by seed | these models | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for named in compared["named"]:
        found = named["success"]
        figures = (
            f"{label[found['row']]} - {label[found['against']]}",
            points(found["difference"]),
            chance(found["p_value"]),
            chance(named["holm"]),
            ", ".join(f"{100 * one:+.1f}" for one in found["by_seed"]),
            points(found["these_models"]),
            chance(found["these_models_p"]),
        )
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "compared.json"
        command = [sys.executable, "-m", "trajtree", "compare", *map(str, args.results), "--json", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(tables(json.loads(out.read_text())))


if __name__ == "__main__":
    main()
