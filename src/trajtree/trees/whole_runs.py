"""Pairs of whole trajectories, for comparison with pairs at forks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, starmap

import numpy as np
from numpy.typing import NDArray

from trajtree.trajectory import Trajectory
from trajtree.trees.pair import LOOSEST, SHARED, SIMILAR, Pair, allows, least_gap, past_of
from trajtree.trees.sameness import EQUAL_TEXTS, Merging
from trajtree.trees.tree import TrajectoryTree


def whole(tree: TrajectoryTree, *, min_gap: float = 0.1, per_tree: int = 8, past: str = LOOSEST) -> list[Pair]:
    """Pairs of whole trajectories as in ETO, better over worse, that share only the prompt.

    A baseline for pairs at forks. The best is paired with the worst, the second best with the second worst, and so on;
    then each with the next one in the other list, until there are `per_tree` pairs. Trajectories without a step are
    left out, because they have nothing to compare, and so are pairs that began with different prompts, and those that
    did the same throughout, whose scores differ by chance.
    """
    tree.check_scored()
    # In round r, number i of the best is paired with number i + r of the worst, wrapping around. All rounds together
    # pair any two trajectories in both orders; only the order with a gap is kept.
    prompt, gap = _prompts(tree), least_gap(min_gap)
    best_first = sorted(np.flatnonzero(prompt >= 0).tolist(), key=lambda i: (-tree.scores[i], i))
    worst_first = best_first[::-1]
    rounds = (zip(best_first, worst_first[r:] + worst_first[:r], strict=True) for r in range(len(best_first)))
    wide = (
        _whole(tree.trajectories[both[0]], tree.trajectories[both[1]], tree.merging)
        for one in rounds
        for both in one
        if prompt[both[0]] == prompt[both[1]]
        and tree.end[both[0]] != tree.end[both[1]]
        and tree.scores[both[0]] - tree.scores[both[1]] >= gap
    )
    return list(islice((pair for pair in wide if allows(pair, past)), per_tree))


def unstructured(
    tree: TrajectoryTree, *, min_gap: float = 0.1, per_tree: int = 8, past: str = LOOSEST, seed: int = 0
) -> list[Pair]:
    """Random pairs of whole trajectories, better over worse: the paper's baseline without a tree. See `whole`."""
    random = np.random.default_rng(seed)
    acting, wide, same = _comparisons(tree, min_gap)
    both = acting[np.argwhere(wide & same)]  # [pairs, 2] all (better, worse)
    order = random.permutation(len(both))
    drawn = (
        (tree.trajectories[high], tree.trajectories[low], tree.merging)
        for high, low in both[order].tolist()
        if tree.end[high] != tree.end[low]
    )
    return list(islice((pair for pair in starmap(_whole, drawn) if allows(pair, past)), per_tree))


def prompts_apart(tree: TrajectoryTree, *, min_gap: float = 0.1) -> int:
    """How many pairs of whole trajectories `whole` and `unstructured` leave out because their prompts differ."""
    _, wide, same = _comparisons(tree, min_gap)
    return int((wide & ~same).sum())


def over_each_worse(better: Trajectory, others: Iterable[Trajectory], *, min_gap: float, most: int) -> list[Pair]:
    """One trajectory over each other one of its task that scores at least `min_gap` less, worst first, at most `most`.

    Trajectories without a step are left out, and so are those that began with another prompt or did the same
    throughout.
    """
    gap, lived = least_gap(min_gap), SHARED[SIMILAR]
    done = lived(better, len(better.steps))
    worse = sorted(
        (
            t
            for t in others
            if t.steps
            and better.score - t.score >= gap
            and t.prompt == better.prompt
            and lived(t, len(t.steps)) != done
        ),
        key=lambda t: (t.score, t.sample),
    )
    return [_whole(better, other, EQUAL_TEXTS) for other in worse[:most]]


def _prompts(tree: TrajectoryTree) -> NDArray[np.int64]:
    """[T] number identifying the prompt with which each trajectory began; -1 for those without a step."""
    prompt = np.full(len(tree.trajectories), -1, np.int64)
    for node in np.flatnonzero(tree.depth == 1).tolist():
        prompt[tree.first[node] : tree.stop[node]] = tree.decision[node]
    return prompt


def _comparisons(tree: TrajectoryTree, min_gap: float) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """The A trajectories that took a step; [A, A] whether one beats the other; [A, A] whether their prompts agree."""
    prompt = _prompts(tree)
    acting = np.flatnonzero(prompt >= 0)
    scores, begun = tree.scores[acting], prompt[acting]
    return acting, scores[:, None] - scores >= least_gap(min_gap), begun[:, None] == begun


def _whole(better: Trajectory, worse: Trajectory, merging: Merging) -> Pair:
    """The pair of two whole trajectories."""
    return Pair(
        task=better.task,
        node=TrajectoryTree.ROOT,
        depth=0,
        chosen_sample=better.sample,
        rejected_sample=worse.sample,
        chosen_value=better.score,
        rejected_value=worse.score,
        chosen_visits=1,
        rejected_visits=1,
        past=past_of((better, worse), 0, merging),
    )


__all__ = ["over_each_worse", "prompts_apart", "unstructured", "whole"]
