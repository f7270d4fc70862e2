"""The methods that `trajtree train` knows: which examples each takes from trees, runs or pairs, and its objective."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from trajtree.errors import DataError
from trajtree.formats.pairs import read_pairs
from trajtree.models.transcript import ChatFormat
from trajtree.store import trajectory_store as runs_store
from trajtree.store import tree_store
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees
from trajtree.train import losses
from trajtree.train.examples import Example, Weigh, message_pairs, pair_examples, sft_examples
from trajtree.train.losses import Objective
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees import forks
from trajtree.trees.search import best_path, exact
from trajtree.trees.tree import TrajectoryTree

Method = Literal["tree-dpo", "dpo", "step-dpo", "multi-turn-dpo", "ipo", "kto", "path-sft", "branch-sft"]
METHODS: tuple[Method, ...] = get_args(Method)
_ON_RUNS = ("kto", "path-sft", "branch-sft")


@dataclass(frozen=True, slots=True)
class Settings:
    """What methods ask for; each looks at what concerns it.

    Attributes:
        beta: inverse temperature of preference losses.
        kl: weight of TreeDPO's explicit KL.
        gamma: discount of a turn in multi-turn-dpo.
        label_smoothing: share of pairs that are thought to be wrong, in dpo, step-dpo and tree-dpo.
        min_gap, per_fork, per_tree: which pairs of a tree (see `trajtree.trees.forks.pairs`).
        min_score: least score of a path, or of a run where runs are given, in path-sft.
        weigh: how much pairs count.
    """

    beta: float = 0.1
    kl: float = 0.1
    gamma: float = 0.9
    label_smoothing: float = 0.0
    min_gap: float = 0.1
    per_fork: int = 1
    per_tree: int = 8
    min_score: float = 0.5
    weigh: Weigh = "equal"


def objective_of(method: Method, settings: Settings) -> Objective:
    """The loss of a method."""
    smooth = settings.label_smoothing
    makers: dict[Method, Callable[[], Objective]] = {
        "tree-dpo": partial(losses.dpo, settings.beta, label_smoothing=smooth, kl=settings.kl),
        "dpo": partial(losses.dpo, settings.beta, label_smoothing=smooth),
        "step-dpo": partial(losses.dpo, settings.beta, label_smoothing=smooth),
        "multi-turn-dpo": partial(losses.multi_turn_dpo, settings.beta, settings.gamma),
        "ipo": partial(losses.ipo, settings.beta),
        "kto": partial(losses.kto, settings.beta),
        "path-sft": losses.sft,
        "branch-sft": losses.sft,
    }
    return makers[method]()


def examples_of(source: Path, method: Method, settings: Settings, chat: ChatFormat, *, context: int) -> list[Example]:
    """What a method takes from a file of trees, a store of runs, or a file of pairs in TRL's format.

    Raises:
        DataError: the file is none of these, holds nothing for the method, or too much of it is longer than `context`.
    """
    kind = _kind(source)
    if kind == "pairs":
        if method in _ON_RUNS or method == "step-dpo":
            raise DataError(f"{source}: holds pairs, but {method} takes trees; give the file that trajtree build wrote")
        return list(message_pairs(read_pairs(source), chat, context=context))
    if kind == "runs":
        if method != "path-sft":
            raise DataError(f"{source}: holds runs, but {method} takes trees; make them with: trajtree build {source}")
        good = [run for run in TrajectoryStore(source) if run.reaches(settings.min_score)]
        if not good:
            raise DataError(f"{source}: no run scored at least {settings.min_score}; lower --min-score")
        return list(sft_examples(good, chat, context=context))
    if method in _ON_RUNS:
        weight = {"kto": _wanted, "branch-sft": _score, "path-sft": _best(settings.min_score)}[method]
        weighted = [(run, w) for tree in read_trees(source) for run, w in weight(tree) if w]
        weights = {run.key: w for run, w in weighted}
        found = sft_examples((run for run, _ in weighted), chat, context=context, weight=lambda run: weights[run.key])
        return list(found)
    pairs: list[forks.Pair] = []
    behind: dict[tuple[str, int], Trajectory] = {}
    for tree in read_trees(source):
        here = forks.pairs(tree, min_gap=settings.min_gap, per_fork=settings.per_fork, per_tree=settings.per_tree)
        needed = {sample for pair in here for sample in (pair.chosen, pair.rejected)}
        behind |= {run.key: run for run in tree.trajectories if run.sample in needed}
        pairs += here
    if not pairs:
        raise DataError(f"{source}: no fork whose sides differ by {settings.min_gap}; lower --min-gap")
    step = method == "step-dpo"
    return list(pair_examples(pairs, behind, chat, context=context, weigh=settings.weigh, step_only=step))


def _wanted(tree: TrajectoryTree) -> Iterator[tuple[Trajectory, float]]:
    """Runs above their tree's mean score are wanted, those below are not; those at the mean say nothing."""
    middle = float(tree.scores.mean())
    for run in tree.trajectories:
        gap = run.score - middle
        yield run, 0.0 if abs(gap) <= SCORE_TOLERANCE else 1.0 if gap > 0 else -1.0


def _score(tree: TrajectoryTree) -> Iterator[tuple[Trajectory, float]]:
    """Every run counts by its score."""
    return ((run, run.score) for run in tree.trajectories)


def _best(least: float) -> Callable[[TrajectoryTree], Iterator[tuple[Trajectory, float]]]:
    def weights(tree: TrajectoryTree) -> Iterator[tuple[Trajectory, float]]:
        path = best_path(tree, exact)
        yield path, float(path.reaches(least))

    return weights


def _kind(source: Path) -> Literal["trees", "runs", "pairs"]:
    try:
        with source.open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror})") from None
    try:
        first = json.loads(line)
    except ValueError:
        raise DataError(
            f"{source}, line 1: not JSON by itself; give trees, runs or pairs that trajtree wrote (other tools' runs: "
            "trajtree import, then trajtree build)"
        ) from None
    form = first.get("format") if isinstance(first, dict) else None
    if form in (tree_store.FORMAT, runs_store.FORMAT):
        return "trees" if form == tree_store.FORMAT else "runs"
    if isinstance(first, dict) and {"prompt", "chosen", "rejected"} <= first.keys():
        return "pairs"
    raise DataError(f"{source}, line 1: neither trees, nor runs, nor pairs with prompt, chosen and rejected")


__all__ = ["METHODS", "Method", "Settings", "examples_of", "objective_of"]
