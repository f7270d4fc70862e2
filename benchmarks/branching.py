"""What branching exploration gives over independent episodes, at an equal budget of sampled agent tokens.

Both explorations of branching.yaml start from the same weak model, and their first episodes per task are the same. Its
weak model and independent episodes are those of failures.yaml, so a run of that recipe is taken further:

    trajtree run benchmarks/recipes/branching.yaml --run runs/failures/seed0 --set seed=0
    python benchmarks/branching.py measure --independent runs/failures/seed*/explore-weak/*/trajectories.jsonl \\
        --branching runs/failures/seed*/explore-branching/*/trajectories.jsonl --out benchmarks/results/branching.json
    python benchmarks/branching.py table benchmarks/results/branching.json --plot docs/branching.svg

`--recipe benchmarks/recipes/branching-textworldexpress.yaml` measures the stores of that recipe instead.

Stores are cut where they reach the recipe's budget, episodes taken in rounds: the first of every task, then the second
of every task, and so on, then those that branch off, as they were played.

A fork counts as informative if two of its options have RUNS runs of their own each, and means that differ by the
recipe's `pairs.min_gap`. A run is an option's own if the policy chose the option in it: runs that began below an option
do not count for it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajtree.envs.domain import load_domain
from trajtree.experiment.recipe import load_recipe
from trajtree.explore.branching import TreeOf, tree_maker
from trajtree.explore.episode import sampled_tokens
from trajtree.models.weights import versions
from trajtree.statistics import clustered, differences
from trajtree.statistics.layout import Layout
from trajtree.statistics.results import Interval
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.forks import pairs
from trajtree.trees.tree import TrajectoryTree

RECIPE = Path(__file__).parent / "recipes" / "branching.yaml"
RUNS = 2
"""Least number of runs behind each side of a fork that counts."""
SIDES = ("independent", "branching")
POINTS = 12
"""Points of a curve."""
Floats = NDArray[np.float64]

EVERYTHING = 10**6
"""More pairs than a tree has."""


def informative(tree: TrajectoryTree, gap: float, runs: int) -> int:
    """Forks with two options that have `runs` runs of their own each, and means at least `gap` apart."""
    found = 0
    for _, options in tree.decisions():
        own = np.array([len(tree.counting(option)) for option in options.tolist()])
        means = tree.mean[options][own >= runs]
        found += int(len(means) > 1 and np.ptp(means) >= gap - SCORE_TOLERANCE)
    return found


def until(runs: Iterable[Trajectory], budget: float) -> list[Trajectory]:
    """The first episodes that reach the budget together."""
    found, spent = list[Trajectory](), 0
    for run in runs:
        if spent >= budget:
            break
        found.append(run)
        spent += sampled_tokens(run)
    return found


def replayed_tokens(run: Trajectory) -> int:
    """Agent tokens that a branched episode took over from its parent."""
    return sum(end - start for tokens in run.tokens for start, end in tokens.agent) - sampled_tokens(run)


def by_task(runs: Sequence[Trajectory], tree_of: TreeOf, gap: float) -> dict[str, dict[str, float]]:
    """What the runs of each task gave."""
    groups: dict[str, list[Trajectory]] = defaultdict(list)
    for run in runs:
        if not run.outcome.is_fault and run.steps:
            groups[run.task].append(run)
    found = {}
    for task, group in groups.items():
        tree = tree_of(group)
        found[task] = {
            "runs": len(group),
            "forks": informative(tree, gap, RUNS),
            "forks of one run": informative(tree, gap, 1),
            "pairs": len(pairs(tree, min_gap=gap, per_tree=EVERYTHING)),
            "solved": int(any(run.success for run in group)),
            "best": max(run.score for run in group),
        }
    return found


def point(runs: Sequence[Trajectory], tree_of: TreeOf, gap: float, tasks: int) -> dict[str, float]:
    """A point of the curve: what was spent, and what it gave."""
    each = by_task(runs, tree_of, gap).values()
    totals = {key: sum(one[key] for one in each) for key in ("forks", "forks of one run", "pairs", "solved")}
    return {
        "tokens": sum(map(sampled_tokens, runs)),
        "replayed tokens": sum(map(replayed_tokens, runs)),
        "episodes": len(runs),
        "steps": sum(len(run.steps) for run in runs),
        "sampled steps": sum(len(run.steps) - (run.origin.steps if run.origin else 0) for run in runs),
        "lost": sum(run.outcome.is_fault for run in runs),
        **totals,
        "best": sum(one["best"] for one in each) / tasks,
    }


def repeated(runs: Iterable[Trajectory], first: int, branches: int) -> dict[str, int]:
    """How often the episodes from one point in one pass were all alike, and how often they solved what nothing had.

    Args:
        runs: a store of branching.
        first: the episodes per task before any branch.
        branches: the episodes from one point.
    """
    of_task: dict[str, list[Trajectory]] = defaultdict(list)
    for run in runs:
        if not run.outcome.is_fault and run.steps:
            of_task[run.task].append(run)
    found = dict.fromkeys(("points", "one first action", "one score", "first solution"), 0)
    found["tasks solved by every first episode"] = 0
    for group in of_task.values():
        before = [run for run in group if run.sample < first]
        found["tasks solved by every first episode"] += all(run.success for run in before)
        points: dict[int, list[Trajectory]] = defaultdict(list)
        for run in group:
            if run.sample >= first:
                points[(run.sample - first) // branches].append(run)
        for _, those in sorted(points.items()):
            begun = [run.origin.steps if run.origin else 0 for run in those]
            actions = {
                run.steps[at].action if at < len(run.steps) else None for run, at in zip(those, begun, strict=True)
            }
            found["points"] += 1
            found["one first action"] += len(actions) == 1
            found["one score"] += max(run.score for run in those) - min(run.score for run in those) <= SCORE_TOLERANCE
            found["first solution"] += any(run.success for run in those) and not any(run.success for run in before)
            before += those
    return found


def in_rounds(runs: Iterable[Trajectory], rollouts: int) -> list[Trajectory]:
    """The first `rollouts` episodes of all tasks in rounds, then the others in their order."""
    return sorted(runs, key=lambda run: min(run.sample, rollouts))


def measure(args: argparse.Namespace) -> None:
    """Read all stores, and write the figures."""
    recipe = load_recipe(args.recipe)
    domain = load_domain(recipe.env.name)
    tree_of, gap = tree_maker(domain.environment), recipe.pairs.min_gap
    ways = {name: how for how, name in zip((recipe.explore, recipe.explorations["branching"]), SIDES, strict=True)}
    budget = args.budget or ways["branching"].budget
    assert budget is not None
    seeds: dict[int, dict[str, Any]] = defaultdict(dict)
    names = set[str]()
    for side, how in ways.items():
        for path in getattr(args, side):
            runs = in_rounds(TrajectoryStore(path), how.rollouts)
            spent, tasks = sum(map(sampled_tokens, runs)), {run.task for run in runs}
            if spent < budget:
                raise SystemExit(f"{path}: {spent:,} sampled tokens, and the budget is {budget:,}; let it finish")
            names |= tasks
            seeds[runs[0].seed][side] = {
                "curve": [
                    point(until(runs, budget * k / POINTS), tree_of, gap, len(tasks)) for k in range(1, POINTS + 1)
                ],
                "tasks": by_task(until(runs, budget), tree_of, gap),
            }
            if how.strategy == "branching":
                seeds[runs[0].seed][side]["repeated"] = repeated(until(runs, budget), how.rollouts, how.branches)
    figures = {
        "budget": budget,
        "recipe": {"min_gap": gap, **{side: how.model_dump(mode="json") for side, how in ways.items()}},
        "seeds": [{"seed": seed, **sides} for seed, sides in sorted(seeds.items()) if len(sides) == len(SIDES)],
        "situations": {task: domain.situation(task) for task in sorted(names)},
        "versions": {
            **versions(["trajtree", "torch", "transformers"]),
            recipe.env.name: domain.environment.version,
        },
    }
    args.out.write_text(json.dumps({**figures, "over": over(figures)}, indent=1) + "\n")
    print(table(json.loads(args.out.read_text())))


def over(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Branching less independent, per task: means over tasks and seeds, with intervals over situations and seeds."""
    tasks = list(figures["situations"])
    layout = Layout.of(list(figures["situations"].values()), [task.partition("/")[0] for task in tasks])
    found = {}
    for key in ("forks", "pairs", "solved", "best"):
        ours, theirs = (
            np.array(
                [[seed[name]["tasks"].get(task, {}).get(key, 0) for task in tasks] for seed in figures["seeds"]],
                float,
            )
            for name in reversed(SIDES)
        )  # [seeds, tasks]
        sides, by_seed = (ours.mean(0), theirs.mean(0)), (ours.mean(1), theirs.mean(1))
        if key in ("solved", "best"):
            shown = differences.interval(differences.estimate(*sides, layout, by_seed))
        else:
            shown = counted_apart(sides, layout, by_seed)
        ratio = ratio_of(sides, layout, by_seed)
        found[key] = {
            "independent": float(theirs.mean()),
            "branching": float(ours.mean()),
            "difference": [shown.value, shown.low, shown.high],
            "ratio": float(ours.mean() / theirs.mean()) if theirs.mean() else None,
            "ratio interval": None if ratio is None else list(ratio),
        }
    return {**found, "situations": layout.situations.count}


def counted_apart(sides: tuple[Floats, Floats], layout: Layout, by_seed: tuple[Floats, Floats]) -> Interval:
    """The interval of a difference of counts; they have no bounds, so theirs are far away, which leaves Student's."""
    apart = clustered.with_seeds(clustered.estimate(sides[0] - sides[1], layout), by_seed[0] - by_seed[1])
    # How far what was not seen may differ is not known either.
    low, high = clustered.ends(apart, clustered.t_quantile(0.975, apart.df), (-1e3, 1e3), unseen=0)
    return Interval(apart.mean, low, high)


def ratio_of(
    sides: tuple[Floats, Floats], layout: Layout, by_seed: tuple[Floats, Floats]
) -> tuple[float, float] | None:
    """The interval of the ratio of two means; None where it has no end."""
    layout, several = layout.pooled(), by_seed if len(by_seed[0]) > 1 else None
    if not sides[1].any():
        return None
    ratio = float(sides[0].mean() / sides[1].mean())
    apart = clustered.estimate(sides[0] - ratio * sides[1], layout)
    if several is not None:
        apart = clustered.with_seeds(apart, several[0] - ratio * several[1])
    ends = fieller(*sides, layout, clustered.t_quantile(0.975, apart.df), several)
    return None if np.isinf(ends).any() else ends


def fieller(
    gained: Floats, gap: Floats, layout: Layout, limit: float, by_seed: tuple[Floats, Floats] | None = None
) -> tuple[float, float]:
    """Both ends of Fieller's interval of mean(gained) / mean(gap), [tasks] each; infinite where it has none.

    `limit` is the quantile of Student's t; `by_seed` are the means of both with each seed, [seeds] each.
    Source: Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16 (1954).
    """
    # [2, 2] covariances of the mean of what is gained and of the gap.
    errors = clustered.covariances((gained, gap), layout)
    if by_seed is not None:
        errors = errors + np.cov(np.stack(by_seed)) / len(by_seed[0])
    # The ends are the roots of square * R^2 - 2 * middle * R + rest.
    squared, means = limit**2, (float(gained.mean()), float(gap.mean()))
    square = means[1] ** 2 - squared * errors[1, 1]
    middle = means[0] * means[1] - squared * errors[0, 1]
    rest = means[0] ** 2 - squared * errors[0, 0]
    if square <= 0:
        return -np.inf, np.inf
    half = float(np.sqrt(max(0.0, middle**2 - square * rest)))
    return float(middle - half) / square, float(middle + half) / square


def table(figures: Mapping[str, Any]) -> str:
    """The tables of the page: each seed's figures at the budget, and the differences."""
    lines = [
        "| seed | exploration | episodes | sampled | replayed | steps | forks | pairs | solved | best |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    columns = ("episodes", "tokens", "replayed tokens", "steps", "forks", "pairs", "solved")
    for seed in figures["seeds"]:
        for name in SIDES:
            end = seed[name]["curve"][-1]
            shown = " | ".join(f"{end[column]:,}" for column in columns)
            lines.append(f"| {seed['seed']} | {name} | {shown} | {end['best']:.3f} |")
    lines += ["", "| per task | independent | branching | difference, 95 % | ratio, 95 % |", "|---|---|---|---|---|"]
    for key, label in (
        ("forks", "informative forks"),
        ("pairs", "pairs"),
        ("solved", "solved"),
        ("best", "best score"),
    ):
        one = figures["over"][key]
        value, low, high = one["difference"]
        ends = one["ratio interval"]
        ratio = f"{one['ratio']:.2f} " + (f"[{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "no end")
        lines.append(
            f"| {label} | {one['independent']:.3f} | {one['branching']:.3f} | {value:+.3f} [{low:.3f}, {high:.3f}] | "
            f"{ratio} |"
        )
    return "\n".join(lines)


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Forks, solved tasks and pairs against sampled tokens; a line per seed."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "branching", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    colours = {"independent": "#777777", "branching": "#0b6fa4"}
    for axis, (key, label) in zip(
        axes, (("forks", "informative forks"), ("solved", "tasks solved"), ("pairs", "pairs")), strict=True
    ):
        for number, seed in enumerate(figures["seeds"]):
            for name, colour in colours.items():
                curve = seed[name]["curve"]
                axis.plot(
                    [at["tokens"] / 1000 for at in curve],
                    [at[key] for at in curve],
                    color=colour,
                    alpha=0.8,
                    label=None if number else name,
                )
        axis.set(xlabel="thousand sampled agent tokens", ylabel=label, ylim=(0, None))
    axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def show(args: argparse.Namespace) -> None:
    """Print the tables, and draw the curves."""
    figures = json.loads(args.figures.read_text())
    print(table(figures))
    if args.plot:
        plot(figures, args.plot)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    measuring = steps.add_parser("measure", help="read the stores and write the figures")
    measuring.add_argument("--independent", type=Path, nargs="+", required=True, help="a store per seed")
    measuring.add_argument("--branching", type=Path, nargs="+", required=True, help="a store per seed")
    measuring.add_argument("--recipe", type=Path, default=RECIPE)
    measuring.add_argument("--budget", type=int, help="sampled tokens to cut at (default the recipe's)")
    measuring.add_argument("--out", type=Path, required=True)
    measuring.set_defaults(run=measure)
    showing = steps.add_parser("table", help="print the tables")
    showing.add_argument("figures", type=Path)
    showing.add_argument("--plot", type=Path)
    showing.set_defaults(run=show)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
