"""Merging trajectories into trees: which steps are one node.

Exact merging, the default, makes one node of steps whose canonical observations and actions are equal so far; the
order in which trajectories arrive changes nothing. Semantic merging, as in the paper, asks of observations only that
their embeddings are similar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import DataError
from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree, from_labels

Canonical = Callable[[str], str]
"""What of a text counts when two are compared."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""[texts] to [texts, width], one vector of length 1 a text."""


def build_tree(
    trajectories: Iterable[Trajectory],
    *,
    canonical_action: Canonical = str.strip,
    canonical_observation: Canonical = str.strip,
    embed: Embed | None = None,
    similarity: float = 0.9,
) -> TrajectoryTree:
    """Merge trajectories of one task.

    Args:
        trajectories: what to merge.
        canonical_action, canonical_observation: what of an action and of an observation counts.
        embed: sentence embeddings; with them, observations after one node are the same when their cosine to the
            first such observation, in alphabetical order, is at least `similarity` (the paper's merge and its 0.9).
            By default they are the same when they are equal.
        similarity: that cosine.

    Raises:
        DataError: there is none, they are of several tasks, one was lost to a fault of the environment or the engine,
            or one branched off a trajectory that is not among them.
    """
    rows = list(trajectories)
    tasks = sorted({t.task for t in rows})
    if len(tasks) != 1:
        raise DataError(f"a tree needs trajectories of one task, got {tasks or 'none'}")
    for trajectory in rows:
        if trajectory.outcome.is_fault:
            what = f"task {trajectory.task}, sample {trajectory.sample}"
            raise DataError(f"{what}: {trajectory.outcome} says nothing about the policy, leave it out")
    present_samples = {t.sample for t in rows}
    for trajectory in rows:
        if trajectory.origin is not None and trajectory.origin.sample not in present_samples:
            raise DataError(
                f"task {trajectory.task}, sample {trajectory.sample}: branched off sample {trajectory.origin.sample}, "
                "which is not among the trajectories; build the tree with it, or drop the origin"
            )
    lengths = np.array([len(t.steps) for t in rows])
    present = np.arange(lengths.max(initial=0)) < lengths[:, None]
    seen, observations = _numbered([s.observation for t in rows for s in t.steps], canonical_observation, present)
    done, actions = _numbered([s.action for t in rows for s in t.steps], canonical_action, present)
    if embed is not None:
        seen, observations = _similar(seen, done, observations, embed, similarity)
    return from_labels(tasks[0], rows, seen, done, observations, actions)


def build(
    trajectories: Iterable[Trajectory],
    *,
    canonical_action: Canonical = str.strip,
    canonical_observation: Canonical = str.strip,
    embed: Embed | None = None,
    similarity: float = 0.9,
) -> list[TrajectoryTree]:
    """One tree per task, sorted by task; trajectories lost to faults of the environment or the engine are left out.

    See `build_tree` for the arguments.
    """
    by_task: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if not trajectory.outcome.is_fault:
            by_task.setdefault(trajectory.task, []).append(trajectory)
    return [
        build_tree(
            by_task[task],
            canonical_action=canonical_action,
            canonical_observation=canonical_observation,
            embed=embed,
            similarity=similarity,
        )
        for task in sorted(by_task)
    ]


def _numbered(
    texts: Sequence[str], canonical: Canonical, present: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each text's canonical form at its place, -1 elsewhere, and the forms, sorted."""
    index: dict[str, int] = {}
    flat = [index.setdefault(text, len(index)) for text in texts]
    forms = list(map(canonical, index))
    names = sorted(set(forms))
    rank = dict(zip(names, range(len(names)), strict=True))
    number_of = np.array([rank[form] for form in forms], np.int64)
    numbers = np.full(present.shape, -1, np.int64)
    if flat:
        numbers[present] = number_of[flat]
    return numbers, names


def _similar(
    seen: NDArray[np.int64], done: NDArray[np.int64], observations: Sequence[str], embed: Embed, similarity: float
) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers of observations by which similar ones after one node are one; a number belongs to one node."""
    if not observations:
        return seen, []
    vectors = np.asarray(embed(observations), np.float32)
    merged = np.full_like(seen, -1)
    names: list[str] = []
    node = np.zeros(len(seen), np.int64)
    for column in range(seen.shape[1]):
        here = np.flatnonzero(seen[:, column] >= 0)
        for before in np.unique(node[here]):
            rows = here[node[here] == before]
            present, which = np.unique(seen[rows, column], return_inverse=True)
            leaders, groups = np.unique(_leaders(vectors[present], similarity), return_inverse=True)
            merged[rows, column] = len(names) + groups[which]
            names += [observations[present[leader]] for leader in leaders]
        _, after = np.unique(np.stack([merged[here, column], done[here, column]]), axis=1, return_inverse=True)
        node[here] = after.ravel()
    return merged, names


def _leaders(vectors: NDArray[np.float32], similarity: float) -> list[int]:
    """For each vector, the first one that is similar enough to it, itself if none is."""
    leaders: list[int] = []
    leader_of: list[int] = []
    for index, vector in enumerate(vectors):
        cosine = vectors[leaders] @ vector if leaders else np.zeros(0)
        if len(cosine) and cosine.max() >= similarity:
            leader_of.append(leaders[int(cosine.argmax())])
        else:
            leaders.append(index)
            leader_of.append(index)
    return leader_of


__all__ = ["Canonical", "Embed", "build", "build_tree"]
