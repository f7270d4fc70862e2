"""What the weak and the strong model reach on each ScienceWorld task type with expert demonstrations alone, on dev.

    OMP_NUM_THREADS=1 python benchmarks/scienceworld_types.py --run runs/scienceworld-types
    python benchmarks/scienceworld_types.py --table    # the table in docs/results-dev.md, from the results

The recipe is recipes/scienceworld.yaml with two rows, the weak model and the strong one tuned on the expert. The
results are written after the first row and again after the second. A run that was killed goes on where it stopped when
the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trajtree.experiment.execute import run_recipe
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.experiment.stage import Done
from trajtree.experiment.tasks import STORE, read_tasks
from trajtree.models.weights import versions
from trajtree.statistics.summary import task_type
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

HERE = Path(__file__).parent
ROWS = ("weak", "strong_sft")


def measured(done: Mapping[str, Done], recipe: Recipe) -> dict[str, object]:
    """By type: the expert's path, and what each row that was measured reaches."""
    expert = by_type(done["demonstrations"])
    situations = read_tasks(done["tasks"].folder)["situations"]
    types: dict[str, dict[str, object]] = {}
    for kind in recipe.tasks.types:
        steps = [len(t.steps) for t in expert[kind]]
        types[kind] = {
            "step limit": recipe.env.limit(kind),
            "demonstrations": len(steps),
            "expert steps": {"shortest": min(steps), "median": statistics.median(steps), "longest": max(steps)},
        }
    for row in ROWS:
        if f"evaluate-{row}" in done:
            for kind, played in by_type(done[f"evaluate-{row}"]).items():
                types[kind][row] = {
                    "tasks": len(played),
                    "situations": len({situations[t.task] for t in played}),
                    "successes": sum(t.success for t in played),
                    "mean score": statistics.fmean(t.score for t in played),
                    "mean steps": statistics.fmean(len(t.steps) for t in played),
                    "by task": {t.task: t.score for t in played},
                }
    return types


def by_type(stage: Done) -> dict[str, list[Trajectory]]:
    """A stage's trajectories by task type."""
    found: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in TrajectoryStore(stage.folder / STORE):
        found[task_type(trajectory)].append(trajectory)
    return found


def saying(stage: str) -> Progress:
    """Print the stage that begins."""
    print(stage, flush=True)
    return SILENT


def table(types: Mapping[str, Any]) -> str:
    """The results as a Markdown table, one line per type."""
    lines = [
        "| type | step limit | expert's steps | tasks, situations | weak: solved, score | strong SFT: solved, score |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in types.items():
        rows = [found[row] for row in ROWS if row in found]
        reached = [f"{row['successes']}, {row['mean score']:.2f}" for row in rows]
        lines.append(
            f"| {kind} | {found['step limit']} | {found['expert steps']['median']:g} | "
            f"{rows[0]['tasks']}, {rows[0]['situations']} | {' | '.join(reached)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure row after row, and write what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes" / "scienceworld.yaml")
    parser.add_argument("--run", type=Path, default=Path("runs/scienceworld-types"))
    parser.add_argument("--set", action="append", default=[], help="override of the recipe, as for trajtree run")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scienceworld-types.json")
    parser.add_argument("--table", action="store_true", help="only print the table of the results in --out")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.out.read_text())["types"]))
        return
    for count in range(1, len(ROWS) + 1):
        rows = ",".join(ROWS[:count])
        only = [f"evaluate.rows=[{rows}]", "evaluate.primary=weak", "evaluate.ceiling=weak", "evaluate.split=dev"]
        recipe = load_recipe(args.recipe, [*args.set, *only])
        done = run_recipe(recipe, args.run, saying)
        results = {
            "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
            "split": "dev",
            "versions": versions(["trajtree", "torch", "transformers", "peft", "scienceworld"]),
            "seconds": {name: stage.seconds for name, stage in done.items()},
            "types": measured(done, recipe),
        }
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{args.out}: {', '.join(ROWS[:count])}", flush=True)


if __name__ == "__main__":
    main()
