"""What a training learns from, and which examples each method takes from it.

Material is trajectories, trees, pairs of trajectories, or pairs of messages from other tools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

from trajtree.errors import DataError, NothingToLearn, counted
from trajtree.formats.pairs import read_pairs
from trajtree.models.transcript import ChatFormat
from trajtree.store import trajectory_store, tree_store
from trajtree.store.files import open_text
from trajtree.store.lines import parsed
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_scored_trees
from trajtree.train.examples import (
    Example,
    PairExample,
    SftExample,
    message_pairs,
    pair_examples,
    reply_examples,
    sft_examples,
)
from trajtree.train.settings import METHODS, WEIGHTS
from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.forks import PairSettings, options_of, pairs_of
from trajtree.trees.pair import Pair
from trajtree.trees.partings import why_no_pair
from trajtree.trees.search import PathSettings, best_path, search_of
from trajtree.trees.tree import TrajectoryTree

_IMPORT = "other tools' runs: trajtree import, then trajtree build"
"""What to do with everything else."""


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Trajectories, all of which are imitated; `name` is their source in error messages."""

    name: str
    trajectories: Sequence[Trajectory]


@dataclass(frozen=True, slots=True)
class Trees:
    """A file of trees."""

    name: str
    path: Path

    def __iter__(self) -> Iterator[TrajectoryTree]:
        """Read one tree at a time."""
        return read_scored_trees(self.path)


@dataclass(frozen=True, slots=True)
class TrajectoryPairs:
    """Pairs, and the trajectories that they refer to by (task, sample)."""

    name: str
    pairs: Sequence[Pair]
    trajectories: Mapping[tuple[str, int], Trajectory]

    def chosen_run(self, pair: Pair) -> Trajectory:
        """The whole run of a pair's chosen side."""
        return self.trajectories[pair.task, pair.chosen_sample]


@dataclass(frozen=True, slots=True)
class MessagePairs:
    """A file of pairs in TRL's conversational format."""

    name: str
    path: Path


Material = Trajectories | Trees | TrajectoryPairs | MessagePairs


@dataclass(frozen=True, slots=True)
class Taking:
    """How examples are taken.

    Attributes:
        chat: the chat format of the sequences.
        context: length in tokens of the longest sequence that can be trained.
        pairs, paths: which pairs and which paths of trees are taken.
        weigh: how pairs are weighted, a name in WEIGHTS.
    """

    chat: ChatFormat
    context: int
    pairs: PairSettings
    paths: PathSettings
    weigh: str


def material_of(source: Path, paths: PathSettings) -> Material:
    """The contents of a file: trees, trajectories that score at least `paths.min_score`, or pairs in TRL's format.

    Raises:
        DataError: it contains something else, or no trajectory scores enough.
    """
    with open_text(source) as file:
        line = file.readline()
    try:
        first = parsed(line)
    except ValueError:
        raise DataError(
            f"{source}, line 1: not JSON; train reads trees, runs or pairs as trajtree writes them in JSON Lines, not "
            f"Parquet or a page ({_IMPORT})"
        ) from None
    form = first.get("format") if isinstance(first, dict) else None
    if form == tree_store.FORMAT:
        return Trees(str(source), source)
    if form == trajectory_store.FORMAT:
        good = [t for t in TrajectoryStore(source) if t.counts and t.reaches(paths.min_score)]
        if not good:
            raise DataError(f"{source}: no run scored at least {paths.min_score}; lower --min-score")
        return Trajectories(str(source), good)
    if isinstance(first, dict) and {"prompt", "chosen", "rejected"} <= first.keys():
        return MessagePairs(str(source), source)
    if isinstance(first, dict) and {"task", "node", "chosen", "rejected"} <= first.keys():
        raise DataError(
            f"{source}, line 1: these pairs refer to runs in another file, as in a recipe's run directory; write pairs "
            "with their messages: trajtree pairs TREES --to trl"
        )
    raise DataError(f"{source}, line 1: not trees, runs, or pairs with prompt, chosen and rejected ({_IMPORT})")


def examples_of(material: Material, method: str, how: Taking) -> list[Example]:
    """The examples that a method takes from the material.

    Raises:
        NothingToLearn: the material contains nothing that the method learns from.
        DataError: the method cannot learn from such material, or too much of it is longer than the context.
    """
    return list(TAKES[METHODS[method].takes](material, method, how))


def _pairs(
    material: Material, method: str, how: Taking, *, step_only: bool = False, with_run: bool = False
) -> list[PairExample]:
    if isinstance(material, MessagePairs):
        if step_only:
            raise DataError(f"{material.name}: contains pairs, but {method} needs to know the fork; give trees")
        if with_run:
            raise DataError(f"{material.name}: {method} needs to know the runs of pairs; give trees")
        return message_pairs(read_pairs(material.path), how.chat, context=how.context)
    found = _trajectory_pairs(material, method, how)
    return pair_examples(
        found.pairs,
        found.trajectories,
        how.chat,
        context=how.context,
        weight=WEIGHTS[how.weigh],
        step_only=step_only,
        with_run=with_run,
    )


def _at_forks(trees: Trees, settings: PairSettings) -> TrajectoryPairs:
    found: list[Pair] = []
    behind: dict[tuple[str, int], Trajectory] = {}
    for tree in trees:
        here = pairs_of(tree, settings)
        behind |= {side.key: side for pair in here for side in pair.sides(tree)}
        found += here
    if not found:
        raise NothingToLearn(f"{trees.name}: no pair to learn from: {why_no_pair(trees, settings)}")
    return TrajectoryPairs(trees.name, found, behind)


def _steps(material: Material, method: str, how: Taking) -> list[PairExample]:
    return _pairs(material, method, how, step_only=True)


def _anchored(material: Material, method: str, how: Taking) -> list[PairExample]:
    return _pairs(material, method, how, with_run=True)


def _anchored_solved(material: Material, method: str, how: Taking) -> list[PairExample]:
    """Pairs whose chosen run succeeds, repeated until there are as many as pairs, so that `_chosen_solved` is the same
    without the rejected sides."""
    pairs = _trajectory_pairs(material, method, how)
    solved = [pair for pair in pairs.pairs if pairs.chosen_run(pair).success]
    if not solved:
        raise _none_solved(material, len(pairs.pairs))
    repeated = replace(pairs, pairs=list(islice(cycle(solved), len(pairs.pairs))))
    return _pairs(repeated, method, how, with_run=True)


def _none_solved(material: Material, chosen: int) -> NothingToLearn:
    return NothingToLearn(f"{material.name}: of {counted(chosen, 'chosen run')} none succeeds, so none is learned from")


def _chosen(material: Material, method: str, how: Taking) -> list[SftExample]:
    """Only the chosen sides: what pairs teach without their rejected sides."""
    return [SftExample(pair.chosen, pair.weight, pair.name) for pair in _pairs(material, method, how)]


def _chosen_runs(material: Material, method: str, how: Taking) -> list[SftExample]:
    """The whole runs of the chosen sides, each as often as it is chosen."""
    return sft_examples(_chosen_trajectories(material, method, how), how.chat, context=how.context)


def _chosen_solved(material: Material, method: str, how: Taking) -> list[SftExample]:
    """Those of the chosen runs that succeed, repeated until there are as many as pairs."""
    chosen = _chosen_trajectories(material, method, how)
    solved = [t for t in chosen if t.success]
    if not solved:
        raise _none_solved(material, len(chosen))
    return sft_examples(islice(cycle(solved), len(chosen)), how.chat, context=how.context)


def _chosen_trajectories(material: Material, method: str, how: Taking) -> list[Trajectory]:
    pairs = _trajectory_pairs(material, method, how)
    return [pairs.chosen_run(pair) for pair in pairs.pairs]


def _trajectory_pairs(material: Material, method: str, how: Taking) -> TrajectoryPairs:
    if isinstance(material, Trees):
        return _at_forks(material, how.pairs)
    if isinstance(material, MessagePairs):
        raise DataError(f"{material.name}: {method} needs to know the runs of pairs; give trees")
    if isinstance(material, Trajectories):
        raise DataError(
            f"{material.name}: contains runs, but {method} takes trees; make them with: trajtree build {material.name}"
        )
    return material


def _runs(material: Material, method: str, how: Taking) -> list[SftExample]:
    if isinstance(material, Trees):
        paths = (best_path(tree, search_of(how.paths), whole=how.paths.whole) for tree in material)
        good = [path for path in paths if path.reaches(how.paths.min_score)]
        if not good:
            raise NothingToLearn(f"{material.name}: no path scored at least {how.paths.min_score}; lower --min-score")
        material = Trajectories(material.name, good)
    if not isinstance(material, Trajectories):
        raise DataError(f"{material.name}: contains pairs, but {method} takes trees or runs")
    return sft_examples(material.trajectories, how.chat, context=how.context)


def _weighted(
    material: Material,
    method: str,
    how: Taking,
    weights: Callable[[TrajectoryTree], Iterable[tuple[Trajectory, float]]],
) -> list[SftExample]:
    weighted = [(t, weight) for tree in _trees(material, method) for t, weight in weights(tree) if weight]
    by_key = {t.key: weight for t, weight in weighted}
    return sft_examples((t for t, _ in weighted), how.chat, context=how.context, weight=lambda t: by_key[t.key])


def _trees(material: Material, method: str) -> Trees:
    if isinstance(material, Trees):
        return material
    kind = "runs" if isinstance(material, Trajectories) else "pairs"
    raise DataError(f"{material.name}: contains {kind}, but {method} takes trees, as written by trajtree build")


def _branches(material: Material, method: str, how: Taking) -> list[SftExample]:
    return _weighted(material, method, how, lambda tree: ((t, t.score) for t in tree.trajectories))


def _labelled(material: Material, method: str, how: Taking) -> list[SftExample]:
    return _weighted(material, method, how, _wanted)


def _wanted(tree: TrajectoryTree) -> Iterator[tuple[Trajectory, float]]:
    """Runs above their tree's mean score are wanted, those below it are not; those at the mean are left out."""
    middle = float(tree.scores.mean())
    for t in tree.trajectories:
        gap = t.score - middle
        yield t, 0.0 if abs(gap) <= SCORE_TOLERANCE else 1.0 if gap > 0 else -1.0


def _advantages(material: Material, method: str, how: Taking) -> list[SftExample]:
    return _weighted(material, method, how, _above)


def _above(tree: TrajectoryTree) -> Iterator[tuple[Trajectory, float]]:
    """Every run by exp(advantage), its score less its tree's mean in standard deviations of the tree's scores.

    Advantage-weighted regression (Peng et al. 2019), with advantages scaled as in GRPO, so that they do not depend on
    how an environment scores. Runs of a tree that all score the same weigh 1.
    """
    apart = tree.scores - tree.scores.mean()
    spread = float(tree.scores.std())
    for t, gap in zip(tree.trajectories, apart.tolist(), strict=True):
        yield t, math.exp(gap / spread) if spread > SCORE_TOLERANCE else 1.0


def _options(material: Material, method: str, how: Taking) -> list[SftExample]:
    """The replies at informative forks, wanted or not by the value of the node that they lead to."""
    options = [(o, tree.trajectory(o.sample)) for tree in _trees(material, method) for o in options_of(tree, how.pairs)]
    if not options:
        raise NothingToLearn(
            f"{material.name}: no fork whose options differ by {how.pairs.min_gap} in value, so there is nothing to "
            "learn from; lower the smallest gap, or explore more"
        )
    return reply_examples(options, how.chat, context=how.context)


Take = Callable[[Material, str, Taking], Sequence[Example]]

TAKES: dict[str, Take] = {
    "pairs": _pairs,
    "steps": _steps,
    "anchored-pairs": _anchored,
    "solved-pairs": _anchored_solved,
    "options": _options,
    "chosen": _chosen,
    "chosen-runs": _chosen_runs,
    "chosen-solved": _chosen_solved,
    "runs": _runs,
    "branches": _branches,
    "labelled": _labelled,
    "advantages": _advantages,
}
"""What methods take from material: pairs, pairs of single replies, pairs with the chosen side's whole run, those of
them whose chosen run succeeds, the replies at forks, chosen sides, the runs that these belong to or those of them that
succeed, whole runs, all runs weighted by score, runs marked as wanted or not, or all runs weighted by their advantage.
"""

__all__ = [
    "TAKES",
    "Material",
    "MessagePairs",
    "Taking",
    "Trajectories",
    "TrajectoryPairs",
    "Trees",
    "examples_of",
    "material_of",
]
