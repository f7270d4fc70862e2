"""Tuning the demo's strong model, packed and padded, in turns: seconds per step, and what the whole demo gains.

    python benchmarks/demo_training.py runs/demo --out benchmarks/results/demo-training.json

The run must be finished: its demonstrations are trained on with its recipe's batches, and the time of its stages says
how much of it is training. The first step of each training is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.models.weights import pick_dtype, versions
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.train.material import Trajectories
from trajtree.train.tuning import Training, tune
from trajtree.trajectory import Trajectory


class Clock:
    """A Progress that notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def total(self, amount: int) -> None:
        """Steps in all: not needed."""

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        """A step ended."""
        self.ends.append(time.monotonic())


def seconds_per_step(recipe: Recipe, demonstrations: list[Trajectory], packed: bool) -> list[float]:
    """Wall seconds of each step but the first."""
    row = recipe.all_rows["strong_sft"]
    settings = replace(recipe.train_settings(row), epochs=1.0, packed=packed)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        tune(
            Training(recipe.strong.model, "sft", settings=settings, lora=recipe.strong.lora, seed=recipe.seed),
            Trajectories("demonstrations", demonstrations),
            Path(folder),
            save=lambda *_: None,
            progress=clock,
        )
    return [after - before for before, after in pairwise(clock.ends)]


def main() -> None:
    """Measure in turns, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--examples", type=int, default=16, help="demonstrations in a training")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = load_recipe(args.run / "recipe.yaml")
    (store,) = args.run.glob("demonstrations/*/trajectories.jsonl")
    every = list(TrajectoryStore(store))
    demonstrations = every[:: max(1, len(every) // args.examples)][: args.examples]
    steps: dict[str, list[float]] = {"packed": [], "padded": []}
    for _ in range(args.repeat):
        for name in steps:
            steps[name] += seconds_per_step(recipe, demonstrations, name == "packed")
    medians = {name: statistics.median(found) for name, found in steps.items()}
    ratio = medians["padded"] / medians["packed"]
    stages = json.loads((args.run / "results.json").read_text())["timings"]
    whole = sum(stages.values())
    training = sum(seconds for name, seconds in stages.items() if name.startswith("train-") and "dpo" not in name)
    results = {
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "dtype": pick_dtype("auto"),
        "versions": versions(["trajtree", "torch", "transformers", "peft"]),
        "load before": os.getloadavg(),
        "seconds a step": steps,
        "median": medians,
        "padded over packed": ratio,
        "demo, s": whole,
        "of which SFT of the strong model, s": training,
        "demo with padded SFT over demo": (whole + training * (ratio - 1)) / whole,
    }
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({name: value for name, value in results.items() if name != "seconds a step"}, indent=1))


if __name__ == "__main__":
    main()
