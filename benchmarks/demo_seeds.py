"""The demo for several seeds, exploring demonstrated and unseen tasks; results and a table for docs/results.md.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --explore demonstrated unseen --run runs/seeds

All runs share one run directory, so what does not depend on the seed or on the explored tasks is made once. Each
run's results.json is copied to benchmarks/results as soon as it is there; `--table` only prints the table of those,
and of the other recipes' results that lie there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def run(seed: int, explore: str, folder: Path, recipe: Path, overrides: list[str]) -> None:
    """One run of the recipe, with its results copied."""
    settings = [f"seed={seed}", f"explore.tasks={explore}", *overrides]
    sets = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "trajtree", "run", os.path.relpath(recipe), "--run", str(folder), *sets]
    subprocess.run(command, check=True)
    shutil.copy(folder / "results.json", RESULTS / f"demo-{explore}-seed{seed}.json")


def table(pattern: str) -> str:
    """Markdown table of the results whose file names match: a line a row and seed."""
    lines = [
        "| row | seed | success | 95 % | score | best so far | completed | over weak | 95 % | p | PGR |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    runs = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(pattern))]
    for name in [row["name"] for row in runs[0]["rows"]] if runs else []:
        for results in runs:
            if any(row["name"] == name for row in results["rows"]):
                lines.append(line(results, name, results["seed"]))
    return "\n".join(lines)


def line(results: dict, name: str, seed: int) -> str:
    """One row of one run."""
    row = next(r for r in results["rows"] if r["name"] == name)
    over = next(
        (c for c in results["comparisons"] if (c["row"], c["against"], c["metric"]) == (name, "weak", "success")), None
    )
    pgr = next((p for p in results["pgr"] if (p["row"], p["metric"]) == (name, "success")), None)
    rate, score, best = row["success_rate"], row["score"], row["best_score"]
    gain = "| |"
    if over is not None:
        p = "<0.0001" if over["p_value"] < 0.0001 else f"{over['p_value']:.4f}"
        gain = f"{over['difference']['value']:+.3f} | {span(over['difference'])} | {p}"
    recovered = "" if pgr is None or pgr["value"] is None else f"{pgr['value']:.2f}"
    return (
        f"| {name} | {seed} | {rate['value']:.3f} | {span(rate)} | {score['value']:.3f} | {best['value']:.3f} | "
        f"{row['completion_rate']:.3f} | {gain} | {recovered} |"
    )


def span(interval: dict) -> str:
    """[low, high]."""
    return f"[{interval['low']:.3f}, {interval['high']:.3f}]"


def main() -> None:
    """Run what was asked for, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--explore", nargs="*", default=["demonstrated", "unseen"])
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes" / "demo.yaml")
    parser.add_argument("--run", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--set", action="append", default=[], help="override of the recipe, as for trajtree run")
    parser.add_argument("--table", action="store_true", help="only print the tables of the stored results")
    args = parser.parse_args()
    if not args.table:
        RESULTS.mkdir(exist_ok=True)
        for explore in args.explore:
            for seed in args.seeds:
                run(seed, explore, args.run, args.recipe, args.set)
    for explore in args.explore:
        print(f"\n### Exploring {explore} tasks\n\n{table(f'demo-{explore}-seed*.json')}")
    for path in sorted(RESULTS.glob("recipe-*.json")):
        print(f"\n### {path.stem.removeprefix('recipe-')}\n\n{table(path.name)}")


if __name__ == "__main__":
    main()
