"""Tuning the demo's strong model, packed and padded, in turns: seconds a step, and what that makes of the whole demo.

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
from itertools import pairwise
from pathlib import Path
from typing import Any

from trajtree.experiment.recipe import load_recipe
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef, load_tokenizer, pick_dtype, versions
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.train.examples import sft_examples
from trajtree.train.losses import sft
from trajtree.train.trainable import Lora, with_adapter
from trajtree.train.trainer import Optimisation, train


def seconds_a_step(recipe: Any, demonstrations: list[Any], packed: bool) -> list[float]:
    """Wall seconds of each step but the first."""
    name = recipe.strong.model
    chat = ChatFormat(load_tokenizer(name), name)
    model = with_adapter(
        ModelRef(name), Lora(recipe.strong.lora_rank, recipe.strong.lora_alpha), dtype="auto", seed=recipe.seed
    )
    examples = sft_examples(demonstrations, chat, context=model.config.max_position_embeddings)
    how = Optimisation(1, recipe.sft.lr, recipe.sft.batch, accumulate=recipe.sft.accumulate, packed=packed)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            examples,
            sft(),
            how,
            Path(folder),
            seed=recipe.seed,
            progress=lambda done, total, metrics: ends.append(time.monotonic()),
        )
    return [after - before for before, after in pairwise(ends)]


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
            steps[name] += seconds_a_step(recipe, demonstrations, name == "packed")
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
