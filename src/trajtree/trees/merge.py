"""Merging trajectories into trees: which steps become one node.

Exact merging, the default, makes steps one node if all canonical observations and actions up to them are equal.
Semantic merging, as in the paper, only requires the observations' embeddings to be similar. In both, the order of the
trajectories does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import DataError
from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree, from_labels

Canonical = Callable[[str], str]
"""Reduces a text to what matters when two texts are compared."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Takes texts, returns [texts, width]: a vector of length 1 per text."""


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
        canonical_action, canonical_observation: reduce actions and observations to what is compared.
        embed: sentence embeddings for semantic merging. By default observations are the same only if they are equal.
            With embeddings, the different observations after a node are processed in alphabetical order. Each joins the
            group of the most similar observation that opened a group before, if their cosine is at least `similarity`;
            otherwise it opens a group of its own.
        similarity: smallest cosine of observations that are the same. 0.9 comes from the paper's code, which embeds
            observation and thought together; here only observations are embedded.

    Raises:
        DataError: there are no trajectories, they belong to several tasks, one was lost to a fault of the environment
            or the engine, two are the same sample, or one branched off a trajectory that is not among them.
    """
    rows = list(trajectories)
    tasks = sorted({t.task for t in rows})
    if len(tasks) != 1:
        raise DataError(f"a tree needs trajectories of one task, got {tasks or 'none'}")
    for trajectory in rows:
        if trajectory.outcome.is_fault:
            what = f"task {trajectory.task}, sample {trajectory.sample}"
            raise DataError(f"{what}: {trajectory.outcome} says nothing about the policy, leave it out")
    _check_samples(rows)
    steps = [step for t in rows for step in t.steps]
    lengths = np.array([len(t.steps) for t in rows], np.int64)
    context = _contexts(rows)
    seen, observations = _numbered([s.observation for s in steps], canonical_observation)
    done, actions = _numbered([s.action for s in steps], canonical_action)
    if embed is not None:
        seen, observations = _similar(lengths, context, seen, done, observations, embed, similarity)
    # A step's label says what was seen and done in it; for first steps, it also includes the context.
    labels = seen * len(actions) + done
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    labels[starts] += context[lengths > 0] * len(observations) * len(actions)
    return from_labels(
        tasks[0],
        rows,
        labels,
        len(actions),
        [observations[number] for number in seen.tolist()],
        [actions[number] for number in done.tolist()],
    )


def _check_samples(rows: Sequence[Trajectory]) -> None:
    """Refuse two trajectories with the same sample, and a branched one whose parent is missing."""
    samples: set[int] = set()
    for t in rows:
        if t.sample in samples:
            raise DataError(
                f"task {t.task}: two runs are sample {t.sample}, as when stores of several seeds are concatenated; "
                "pool the stores instead, which renumbers their runs: trajtree pool STORES --out FILE"
            )
        samples.add(t.sample)
    for t in rows:
        if t.origin is not None and t.origin.sample not in samples:
            raise DataError(
                f"task {t.task}, sample {t.sample}: branched off sample {t.origin.sample}, which is not among the "
                "trajectories; build the tree with it, or remove the origin"
            )


def _contexts(rows: Sequence[Trajectory]) -> NDArray[np.int64]:
    """[T] number identifying each trajectory's context, independent of the order of `rows`."""
    contexts = [t.context for t in rows]
    different = set(contexts)
    ranked = sorted(different, key=repr) if len(different) > 1 else list(different)
    rank = {context: number for number, context in enumerate(ranked)}
    return np.array([rank[context] for context in contexts], np.int64)


def build(
    trajectories: Iterable[Trajectory],
    *,
    canonical_action: Canonical = str.strip,
    canonical_observation: Canonical = str.strip,
    embed: Embed | None = None,
    similarity: float = 0.9,
) -> list[TrajectoryTree]:
    """One tree per task, sorted by task. Trajectories lost to faults of the environment or the engine are left out.

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


def _numbered(texts: Sequence[str], canonical: Canonical) -> tuple[NDArray[np.int64], list[str]]:
    """[S] number of each text's canonical form, and the canonical forms in alphabetical order."""
    # Most texts occur often, so each distinct one is made canonical and ranked only once.
    # index: the distinct texts, in order of first occurrence. flat [S]: the index of each text among them.
    index: dict[str, int] = {}
    flat = [index.setdefault(text, len(index)) for text in texts]
    # forms [distinct texts]: their canonical forms; several may be equal.
    forms = list(map(canonical, index))
    names = sorted(set(forms))
    rank = dict(zip(names, range(len(names)), strict=True))
    return np.array([rank[form] for form in forms], np.int64)[flat], names


def _similar(
    lengths: NDArray[np.int64],
    context: NDArray[np.int64],
    seen: NDArray[np.int64],
    done: NDArray[np.int64],
    observations: Sequence[str],
    embed: Embed,
    similarity: float,
) -> tuple[NDArray[np.int64], list[str]]:
    """Renumber observations so that similar ones after the same node have the same number.

    Args:
        lengths, context: [T] steps of each trajectory, and number of its context.
        seen, done: [S] number of each step's observation and action, as returned by `_numbered`.
        observations: the texts that the numbers in `seen` stand for.
        embed: sentence embeddings.
        similarity: smallest cosine of similar observations.

    Returns:
        [S] the new numbers, and the observation that each stands for. No number is used after more than one node.
    """
    if not observations:
        return seen, []
    vectors = np.asarray(embed(observations), np.float32)  # [observations, width]
    merged = np.full_like(seen, -1)
    names: list[str] = []
    starts = np.cumsum(lengths) - lengths
    # node [T]: the node at which each trajectory is before the current step, renumbered at every depth. Before the
    # first step, trajectories of different contexts are at different places.
    node = context.copy()
    for column in range(int(lengths.max(initial=0))):
        here = np.flatnonzero(lengths > column)  # the trajectories that have such a step
        at = starts[here] + column  # and the index of that step
        for before in np.unique(node[here]):
            places = at[node[here] == before]
            # present: the distinct observations after this node. Their numbers are in alphabetical order, so grouping
            # does not depend on the order of the trajectories. which [places]: which of them each trajectory saw.
            present, which = np.unique(seen[places], return_inverse=True)
            # leaders: which of `present` open a group. groups [present]: the group of each.
            leaders, groups = np.unique(_leaders(vectors[present], similarity), return_inverse=True)
            merged[places] = len(names) + groups[which]
            names += [observations[present[leader]] for leader in leaders]
        # Numbers differ between nodes, so observation and action alone identify the next node.
        _, after = np.unique(np.stack([merged[at], done[at]]), axis=1, return_inverse=True)
        node[here] = after.ravel()
    return merged, names


def _leaders(vectors: NDArray[np.float32], similarity: float) -> list[int]:
    """For each of `vectors` [vectors, width], the index of its leader: the most similar leader before it, or itself.

    A vector follows a leader if their cosine is at least `similarity`; otherwise it becomes a leader. Followers lead
    nobody, so similarity does not chain, and everything in a group is similar to its leader.
    """
    leaders: list[int] = []
    leader_of: list[int] = []
    for index, vector in enumerate(vectors):
        cosines = vectors[leaders] @ vector if leaders else np.zeros(0)  # vectors have length 1
        if len(cosines) and cosines.max() >= similarity:
            leader_of.append(leaders[int(cosines.argmax())])
        else:
            leaders.append(index)
            leader_of.append(index)
    return leader_of


__all__ = ["Canonical", "Embed", "build", "build_tree"]
