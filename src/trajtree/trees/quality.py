"""How much a tree has to teach, as figures: the paper's breadth and depth, and how scores differ at its forks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trajtree.trajectory import SCORE_TOLERANCE, Trajectory
from trajtree.trees.tree import TrajectoryTree


@dataclass(frozen=True, slots=True)
class TreeQuality:
    """Figures of one tree; those that need scores are None if it has runs without one.

    Attributes:
        task: the task.
        trajectories: how many were merged.
        nodes: number of nodes without the root.
        leaves: number of nodes without children.
        forks: number of places where the agent saw the same thing and acted differently.
        informative_forks: number of forks whose options have different mean scores.
        spread: range of the options' mean scores at a fork, averaged over the forks; 0 without forks.
        depth: length of the longest trajectory, in steps.
        branching: mean number of options per fork; 0 without forks.
        merged: share of the trajectories' steps that merging saved: 1 - nodes / steps.
        best, mean: best and mean score of the trajectories.
        pairs: number of pairs of options of a fork whose mean scores differ.
        lost: number of trajectories whose path and steps differ in length; anything but 0 is a defect.
        token_ratio: tokens of all trajectories divided by their tokens when common beginnings are stored once, which is
            what training on packs can save. Counts the engine's tokens if all trajectories have them, else bytes of
            text.
    """

    task: str
    trajectories: int
    nodes: int
    leaves: int
    forks: int
    informative_forks: int | None
    spread: float | None
    depth: int
    branching: float
    merged: float
    best: float | None
    mean: float | None
    pairs: int | None
    lost: int
    token_ratio: float


def spreads(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[forks] range of the options' mean scores at each fork; above SCORE_TOLERANCE, the fork is informative."""
    mean = tree.mean
    return np.array([np.ptp(mean[children]) for _, children in tree.decisions()], np.float64)


def quality(tree: TrajectoryTree) -> TreeQuality:
    """Figures of one tree."""
    mean, spread, scores = (None, None, None) if tree.unscored else (tree.mean, spreads(tree), tree.scores)
    groups = [children for _, children in tree.decisions()]
    steps = int(tree.depth[tree.end].sum())
    nodes = len(tree) - 1
    return TreeQuality(
        task=tree.task,
        trajectories=len(tree.trajectories),
        nodes=nodes,
        leaves=len(tree) - len(np.unique(tree.parent[1:])),
        forks=len(groups),
        informative_forks=None if spread is None else int((spread > SCORE_TOLERANCE).sum()),
        spread=None if spread is None else float(spread.mean()) if len(spread) else 0.0,
        depth=int(tree.depth.max()),
        branching=float(np.mean([len(children) for children in groups])) if groups else 0.0,
        merged=1 - nodes / steps if steps else 0.0,
        best=None if scores is None else float(scores.max()),
        mean=None if scores is None else float(scores.mean()),
        pairs=None if mean is None else sum(_different_pairs(mean[children]) for children in groups),
        lost=sum(int(tree.depth[end]) != len(t.steps) for t, end in zip(tree.trajectories, tree.end, strict=True)),
        token_ratio=token_ratio(tree.trajectories),
    )


def _different_pairs(values: NDArray[np.float64]) -> int:
    """Number of pairs of values that differ by more than SCORE_TOLERANCE."""
    # For each value, count the values above it; this counts every pair once.
    ordered = np.sort(values)
    above = len(ordered) - np.searchsorted(ordered, ordered + SCORE_TOLERANCE, side="right")
    return int(above.sum())


def token_ratio(trajectories: Sequence[Trajectory]) -> float:
    """Tokens of all trajectories divided by those of their trie, which stores common beginnings once; at least 1."""
    if all(t.tokens for t in trajectories):
        sequences = sorted(tokens.ids for t in trajectories for tokens in t.tokens)
        flat = [np.array(ids, np.int64) for ids in sequences]
    else:
        texts = sorted("\x00".join(_texts(t)).encode(errors="replace") for t in trajectories)
        flat = [np.frombuffer(text, np.uint8) for text in texts]
    total = sum(map(len, flat))
    # In a sorted list each sequence shares its longest beginning with the one before it; only the rest is new.
    shared = sum(_common(a, b) for a, b in pairwise(flat))
    return total / (total - shared) if total > shared else 1.0


def _texts(trajectory: Trajectory) -> list[str]:
    """A trajectory's messages, or its steps if it has none, as texts that are equal if and only if these are."""
    if trajectory.messages:
        return [f"{m.role}\x00{m.reasoning or ''}{m.content}{m.tool_calls or ''}" for m in trajectory.messages]
    return [f"{s.observation}\x00{s.thought or ''}\x00{s.action}" for s in trajectory.steps]


def _common(a: NDArray[np.int64] | NDArray[np.uint8], b: NDArray[np.int64] | NDArray[np.uint8]) -> int:
    """Length of the common beginning of two sequences."""
    length = min(len(a), len(b))
    differ = np.flatnonzero(a[:length] != b[:length])
    return int(differ[0]) if len(differ) else length


__all__ = ["TreeQuality", "quality", "spreads", "token_ratio"]
