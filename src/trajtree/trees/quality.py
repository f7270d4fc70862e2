"""What a tree has to teach: the paper's breadth, depth and different scores behind forks, in figures."""

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
    """Figures of one tree.

    Attributes:
        task: the task.
        trajectories: how many were merged.
        nodes: nodes without the root.
        leaves: nodes without children.
        forks: places where the agent, seeing one thing, did several.
        informative_forks: forks behind which the mean scores differ.
        spread: mean over the forks of the range of the mean scores behind them; 0 without forks.
        depth: longest trajectory, in steps.
        branching: mean options a fork; 0 without forks.
        merged: share of the trajectories' steps that need no node of their own.
        best, mean: score of the trajectories.
        pairs: pairs of fork options whose mean scores differ.
        lost: trajectories that cannot be read back from the tree; anything but 0 is a defect.
        token_ratio: tokens of all trajectories over tokens of the tree that shares common beginnings, which is what
            training on the packed tree saves; the engine's tokens where all trajectories have them, else characters.
    """

    task: str
    trajectories: int
    nodes: int
    leaves: int
    forks: int
    informative_forks: int
    spread: float
    depth: int
    branching: float
    merged: float
    best: float
    mean: float
    pairs: int
    lost: int
    token_ratio: float


def spreads(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[forks] range of the mean scores behind each fork; a fork is informative where it is above SCORE_TOLERANCE."""
    mean = tree.mean
    return np.array([np.ptp(mean[children]) for _, children in tree.decisions()], np.float64)


def quality(tree: TrajectoryTree) -> TreeQuality:
    """Figures of one tree."""
    mean, spread = tree.mean, spreads(tree)
    groups = [children for _, children in tree.decisions()]
    steps = int(tree.depth[tree.end].sum())
    nodes = len(tree) - 1
    return TreeQuality(
        task=tree.task,
        trajectories=len(tree.trajectories),
        nodes=nodes,
        leaves=len(tree) - len(np.unique(tree.parent[1:])),
        forks=len(groups),
        informative_forks=int((spread > SCORE_TOLERANCE).sum()),
        spread=float(spread.mean()) if len(spread) else 0.0,
        depth=int(tree.depth.max()),
        branching=float(np.mean([len(children) for children in groups])) if groups else 0.0,
        merged=1 - nodes / steps if steps else 0.0,
        best=float(tree.scores.max()),
        mean=float(tree.scores.mean()),
        pairs=sum(_different_pairs(mean[children]) for children in groups),
        lost=sum(int(tree.depth[end]) != len(t.steps) for t, end in zip(tree.trajectories, tree.end, strict=True)),
        token_ratio=token_ratio(tree.trajectories),
    )


def _different_pairs(values: NDArray[np.float64]) -> int:
    """Pairs of values that differ."""
    ordered = np.sort(values)
    above = len(ordered) - np.searchsorted(ordered, ordered + SCORE_TOLERANCE, side="right")
    return int(above.sum())


def token_ratio(trajectories: Sequence[Trajectory]) -> float:
    """Tokens of all trajectories over tokens of their trie; 1 when there is nothing to share."""
    if all(t.tokens for t in trajectories):
        rows = sorted(tokens.ids for t in trajectories for tokens in t.tokens)
        flat = [np.array(ids, np.int64) for ids in rows]
    else:
        texts = sorted("\x00".join(_texts(t)).encode(errors="replace") for t in trajectories)
        flat = [np.frombuffer(text, np.uint8) for text in texts]
    total = sum(map(len, flat))
    shared = sum(_common(a, b) for a, b in pairwise(flat))
    return total / (total - shared) if total > shared else 1.0


def _texts(trajectory: Trajectory) -> list[str]:
    if trajectory.messages:
        return [f"{m.role}\x00{m.reasoning or ''}{m.content}{m.tool_calls or ''}" for m in trajectory.messages]
    return [f"{s.observation}\x00{s.thought or ''}\x00{s.action}" for s in trajectory.steps]


def _common(a: NDArray[np.int64] | NDArray[np.uint8], b: NDArray[np.int64] | NDArray[np.uint8]) -> int:
    """Length of the common beginning."""
    length = min(len(a), len(b))
    differ = np.flatnonzero(a[:length] != b[:length])
    return int(differ[0]) if len(differ) else length


__all__ = ["TreeQuality", "quality", "spreads", "token_ratio"]
