"""What more episodes per task (the paper's M) give: the trees' branching, their forks and pairs, and what is solved.

    trajtree run benchmarks/recipes/ablations.yaml --run runs/failures/seed0 --set seed=0
    python benchmarks/rollouts_per_task.py runs/failures/seed*/explore-m10/*/trajectories.jsonl \\
        --results benchmarks/results/ablations-seed*.json \\
        --out benchmarks/results/rollouts-per-task.json --plot docs/rollouts-per-task.svg

Each store has at least ten episodes per task of one weak model. Of every task the first M are merged into a tree, since
they are the same whatever M is. `--results` adds what a strong model solves on dev after imitating the best path of
each tree: the recipe's rows `exact_m3` and so on, and `w2sg_exact` for M = 6.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from trajtree.envs.domain import load_domain
from trajtree.experiment.recipe import load_recipe
from trajtree.explore.branching import TreeOf, tree_maker
from trajtree.explore.episode import sampled_tokens
from trajtree.models.weights import versions
from trajtree.report import read_results_json
from trajtree.store.files import digest_of_files
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory
from trajtree.trees.forks import pairs
from trajtree.trees.quality import quality

RECIPE = Path(__file__).parent / "recipes" / "ablations.yaml"
SIZES = (3, 4, 6, 8, 10)
ROWS = {size: "w2sg_exact" if size == 6 else f"exact_m{size}" for size in SIZES}
COLUMNS = {
    "episodes": "episodes",
    "tokens": "sampled tokens",
    "branching": "options per fork",
    "forks": "forks",
    "informative": "informative forks",
    "pairs": "pairs",
    "solved": "solved, %",
    "best": "best score, %",
}


def of_size(runs: Mapping[str, Sequence[Trajectory]], size: int, tree_of: TreeOf, gap: float) -> dict[str, float]:
    """Figures of the trees of each task's first `size` episodes; options per fork is over the trees that have forks."""
    groups = [[run for run in task if run.sample < size and run.counts and run.steps] for task in runs.values()]
    trees = [tree_of(group) for group in groups if group]
    each = [quality(tree) for tree in trees]
    return {
        "episodes": sum(map(len, groups)),
        "tokens": sum(sampled_tokens(run) for group in groups for run in group),
        "branching": mean(forked) if (forked := [one.branching for one in each if one.forks]) else 0.0,
        "forks": mean(one.forks for one in each),
        "informative": mean(one.informative_forks or 0 for one in each),
        "pairs": mean(len(pairs(tree, min_gap=gap, per_tree=10**6)) for tree in trees),
        "solved": 100 * mean(any(run.success for run in group) for group in groups),
        "best": 100 * mean(max((run.score for run in group), default=0.0) for group in groups),
    }


def by_task(store: Path) -> dict[str, list[Trajectory]]:
    """The store's runs by task.

    Raises:
        SystemExit: a task has fewer episodes than the largest M, or there is none.
    """
    found: dict[str, list[Trajectory]] = defaultdict(list)
    for run in TrajectoryStore(store):
        if run.sample < SIZES[-1]:
            found[run.task].append(run)
    fewest, task = min(((len(runs), task) for task, runs in found.items()), default=(0, "the store"))
    if fewest < SIZES[-1]:
        raise SystemExit(f"{store}: {task} has {fewest} episodes; {SIZES[-1]} are needed")
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of each store, by M, and each result's success, by seed and M."""
    recipe = load_recipe(args.recipe)
    environment = load_domain(recipe.env.name).environment
    tree_of, gap = tree_maker(environment), recipe.pairs.min_gap
    stores = []
    for path in args.stores:
        runs = by_task(path)
        seed = next(iter(runs.values()))[0].seed
        trees = {size: of_size(runs, size, tree_of, gap) for size in SIZES}
        stores.append({"seed": seed, "data": digest_of_files([path]), "trees": trees})
    learned = []
    for path in args.results:
        rows = {row.name: row for row in read_results_json(path).results.rows}
        learned.append({size: 100 * rows[name].success_rate.value for size, name in ROWS.items() if name in rows})
    return {
        "recipe": recipe.name,
        "min_gap": gap,
        "stores": sorted(stores, key=lambda store: store["seed"]),
        "learned": learned,
        "versions": {**versions(["trajtree"]), recipe.env.name: environment.version},
    }


def table(figures: Mapping[str, Any]) -> str:
    """One line per M: means over the stores, and over the results where there are any."""
    heads = ["M", *COLUMNS.values(), *(["learned: success, %"] if figures["learned"] else [])]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for size in map(str, SIZES):
        each = [store["trees"][size] for store in figures["stores"]]
        cells = [size]
        for column in COLUMNS:
            value = mean(one[column] for one in each)
            cells.append(f"{value:,.0f}" if column in ("episodes", "tokens") else f"{value:.2f}")
        if figures["learned"]:
            found = [seed[size] for seed in figures["learned"] if size in seed]
            cells.append(", ".join(f"{value:.1f}" for value in found))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Options per fork, informative forks and what is solved against M; a line per seed."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rollouts", "font.size": 9})
    import matplotlib.pyplot as plt

    shown = ("branching", "informative", "solved")
    panels = len(shown) + bool(figures["learned"])
    figure, axes = plt.subplots(1, panels, figsize=(3 * panels, 3), layout="constrained")
    for axis, column in zip(axes, shown, strict=False):
        for store in figures["stores"]:
            axis.plot(SIZES, [store["trees"][str(size)][column] for size in SIZES], "o-", color="#0b6fa4", alpha=0.8)
        axis.set(xlabel="episodes per task (M)", ylabel=COLUMNS[column])
    for seed in figures["learned"]:
        sizes = [size for size in SIZES if str(size) in seed]
        axes[-1].plot(sizes, [seed[str(size)] for size in sizes], "o-", color="#0b6fa4", alpha=0.8)
        axes[-1].set(xlabel="episodes per task (M)", ylabel="learned: success on dev, %")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", type=Path, help="explorations; without any, --out is read again")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--results", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    if args.stores:
        args.out.write_text(json.dumps(measure(args), indent=1) + "\n")
    figures = json.loads(args.out.read_text())
    print(table(figures))
    if args.plot:
        plot(figures, args.plot)


if __name__ == "__main__":
    main()
