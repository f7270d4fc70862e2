"""The expert's paths of recipes/scienceworld.yaml, replayed: how many reach the full score within the step limit.

    python benchmarks/scienceworld_experts.py --out benchmarks/results/scienceworld-experts.json

Of each type some variations are played, spread evenly over all three splits; `--per-type 0` plays every one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from contextlib import closing
from pathlib import Path

from trajtree.envs.domain import NoDemonstration
from trajtree.envs.scienceworld import TASK_TYPES, ScienceWorld, demonstrate
from trajtree.experiment.recipe import load_recipe
from trajtree.models.weights import versions

RECIPE = Path(__file__).parent.parent / "recipes" / "scienceworld.yaml"


def measured(kind: str, limit: int | None, variations: range) -> dict[str, object]:
    """How the expert does on some variations of a type."""
    steps, without = [], {}
    with closing(ScienceWorld(max_steps=limit)) as env:
        for variation in variations:
            shown = demonstrate(env, f"{kind}/{variation}")
            if isinstance(shown, NoDemonstration):
                without[shown.task] = shown.reason
            else:
                steps.append(len(shown.steps))
    return {
        "step limit": limit,
        "variations": len(variations),
        "with full score": len(steps),
        "steps": {"shortest": min(steps), "median": statistics.median(steps), "longest": max(steps)},
        "without": without,
    }


def main() -> None:
    """Play type after type, and write what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-type", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = load_recipe(RECIPE)
    results: dict[str, object] = {
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "versions": versions(["trajtree", "scienceworld"]),
    }
    for kind in recipe.tasks.types:
        whole = TASK_TYPES[kind].variations
        every = max(1, whole // args.per_type) if args.per_type else 1
        results[kind] = measured(kind, recipe.env.limit(kind), range(0, whole, every))
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        print(kind, json.dumps(results[kind]), flush=True)


if __name__ == "__main__":
    main()
