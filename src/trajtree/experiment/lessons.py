"""What rows learn from: trees, pairs and paths."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from trajtree.envs.domain import load_domain
from trajtree.envs.guard import canonical_forms
from trajtree.errors import DataError
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import STORE, store_in
from trajtree.models.sentences import merge_options
from trajtree.store.files import write_atomically
from trajtree.store.pooling import pooled
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Trajectory
from trajtree.trees import merge
from trajtree.trees.forks import PairSettings, over_explored, pairs_of
from trajtree.trees.merge import MergeOptions, MergeSettings
from trajtree.trees.pair import Pair
from trajtree.trees.search import PathSettings, best_path, search_of
from trajtree.trees.whole_runs import over_each_worse

TREES = "trees.jsonl"
PAIRS = "pairs.jsonl"
"""Pairs in a stage's folder: they refer to trajectories by sample and contain no messages."""


def pool_explorations(work: Work) -> None:
    """The trajectories of an exploration after those that it adds to, under samples of their own."""
    both = pooled([store_in(work.inputs["before"]), store_in(work.inputs["added"])])
    (work.folder / STORE).unlink(missing_ok=True)
    store_in(work.folder).append(both)


def build_trees(recipe: Recipe, how: MergeSettings, work: Work) -> None:
    """One tree per task."""
    options: MergeOptions = {**canonical_forms(load_domain(recipe.env.name).environment), **merge_options(how)}
    write_trees(merge.build(store_in(work.inputs["explored"]), **options), work.folder / TREES)


def find_pairs(how: PairSettings, work: Work) -> None:
    """Find the preference pairs of the trees."""
    _write_pairs(work.folder, (pair for t in read_trees(work.inputs["trees"] / TREES) for pair in pairs_of(t, how)))


def find_paths(how: PathSettings, work: Work) -> None:
    """Find each tree's best path, as a trajectory, if it scored enough."""
    find = search_of(how)
    paths = (best_path(t, find, whole=how.whole) for t in read_trees(work.inputs["trees"] / TREES))
    (work.folder / STORE).unlink(missing_ok=True)
    store_in(work.folder).append(path for path in paths if path.reaches(how.min_score))


def find_expert_pairs(how: PairSettings, work: Work) -> None:
    """Pair the expert's demonstration with the explorer's worse runs of the same task; also write a store of both.

    The explorer's samples keep their numbers; the expert's follow them.
    """
    both, own = _with_expert(work)
    by_task: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for t in both:
        by_task[t.task].append(t)
    found: list[Pair] = []
    for task in sorted(by_task):
        worse = [t for t in by_task[task] if t.key in own]
        for expert in (t for t in by_task[task] if t.key not in own):
            found += over_each_worse(expert, worse, min_gap=how.min_gap, most=how.per_tree)
    (work.folder / STORE).unlink(missing_ok=True)
    store_in(work.folder).append(t for task in sorted(by_task) for t in by_task[task])
    _write_pairs(work.folder, found)


def find_expert_forks(recipe: Recipe, how: PairSettings, work: Work) -> None:
    """Pair the expert's step with the explorer's at the forks on the expert's path; also write a store of both.

    The explorer's samples keep their numbers; the expert's follow them.
    """
    both, own = _with_expert(work)
    environment = load_domain(recipe.env.name).environment
    (work.folder / STORE).unlink(missing_ok=True)
    store = store_in(work.folder)
    store.append(both)
    trees = merge.build(store, **canonical_forms(environment))
    experts: defaultdict[str, set[int]] = defaultdict(set)
    for t in both:
        if t.key not in own:
            experts[t.task].add(t.sample)
    _write_pairs(work.folder, (pair for tree in trees for pair in over_explored(tree, experts[tree.task], how)))


def _with_expert(work: Work) -> tuple[list[Trajectory], set[tuple[str, int]]]:
    """The explorer's runs that count and, after them, the expert's; and the keys of the explorer's."""
    explored = [t for t in store_in(work.inputs["explored"]) if t.counts]
    both = list(pooled([explored, store_in(work.inputs["demonstrations"])]))
    return both, {t.key for t in explored}


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs of a stage's folder.

    Raises:
        DataError: a line is not a pair; file and line are named.
    """
    path, found = folder / PAIRS, []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            found.append(Pair(**json.loads(line)))
        except (ValueError, TypeError) as error:
            old = '"chosen":' in line
            why = "written by an earlier trajtree, find the pairs again" if old else f"not a pair ({error})"
            raise DataError(f"{path}, line {number}: {why}") from None
    return found


def _write_pairs(folder: Path, pairs: Iterable[Pair]) -> None:
    write_atomically(folder / PAIRS, "".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))


__all__ = [
    "PAIRS",
    "TREES",
    "build_trees",
    "find_expert_forks",
    "find_expert_pairs",
    "find_pairs",
    "find_paths",
    "pool_explorations",
    "read_pairs",
]
