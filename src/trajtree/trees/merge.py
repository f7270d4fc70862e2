"""Merging trajectories into trees: which steps become one node.

Exact merging, the default, makes one node of steps when all canonical observations and actions up to them are equal.
Semantic merging, as in the paper, asks only that the embeddings of the observations are similar. In neither does the
order of the trajectories matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import DataError
from trajtree.trajectory import Trajectory
from trajtree.trees.tree import TrajectoryTree, from_labels

Canonical = Callable[[str], str]
"""Reduces a text to what counts when two are compared."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Takes texts, returns [texts, width], a vector of length 1 for each."""


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
        canonical_action, canonical_observation: what counts of an action and of an observation.
        embed: sentence embeddings for semantic merging. By default observations are the same only if they are equal.
            With embeddings, the different observations after one node are taken in alphabetical order; each is the same
            as the most similar one of those before it that opened a group, if their cosine is at least `similarity`,
            and opens a group of its own otherwise.
        similarity: smallest cosine of observations that are the same. 0.9 is from the code of the paper's authors,
            which embeds observation and thought together; here only observations are embedded.

    Raises:
        DataError: there are no trajectories, they are of several tasks, one was lost to a fault of the environment or
            the engine, or one branched off a trajectory that is not among them.
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


def _numbered(
    texts: Sequence[str], canonical: Canonical, present: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers for the canonical forms of texts.

    Args:
        texts: of all steps, trajectory by trajectory.
        canonical: reduces a text to its canonical form.
        present: [T, longest] whether each trajectory has a step there.

    Returns:
        [T, longest] number of each step's form, -1 after a trajectory's last step, and the forms that the numbers stand
        for, in alphabetical order.
    """
    # Most texts occur often, so each different one is made canonical and ranked only once.
    # index: the different texts, in the order in which they were met. flat [steps]: which of them each step has.
    index: dict[str, int] = {}
    flat = [index.setdefault(text, len(index)) for text in texts]
    # forms [different texts]: their canonical forms, of which several may be equal.
    forms = list(map(canonical, index))
    names = sorted(set(forms))
    rank = dict(zip(names, range(len(names)), strict=True))
    number_of = np.array([rank[form] for form in forms], np.int64)
    # A mask is filled row by row, which is the order of the texts.
    numbers = np.full(present.shape, -1, np.int64)
    if flat:
        numbers[present] = number_of[flat]
    return numbers, names


def _similar(
    seen: NDArray[np.int64], done: NDArray[np.int64], observations: Sequence[str], embed: Embed, similarity: float
) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers of observations in which similar ones after the same node have the same number.

    Args:
        seen, done: [T, longest] number of each step's observation and action, as `_numbered` gives them.
        observations: what the numbers of `seen` stand for.
        embed: sentence embeddings.
        similarity: smallest cosine of similar observations.

    Returns:
        [T, longest] the new numbers, and the observation that each stands for. No number is used after two nodes.
    """
    if not observations:
        return seen, []
    vectors = np.asarray(embed(observations), np.float32)  # [observations, width]
    merged = np.full_like(seen, -1)
    names: list[str] = []
    # node [T]: the node at which each trajectory is before the current step, numbered anew at every depth.
    node = np.zeros(len(seen), np.int64)
    for column in range(seen.shape[1]):
        here = np.flatnonzero(seen[:, column] >= 0)  # the trajectories that have such a step
        for before in np.unique(node[here]):
            rows = here[node[here] == before]
            # present: the different observations after this node. Their numbers ascend with the alphabet, so grouping
            # does not depend on the order of the trajectories. which [rows]: which of them each trajectory saw.
            present, which = np.unique(seen[rows, column], return_inverse=True)
            # leaders: which of `present` open a group. groups [present]: the group of each.
            leaders, groups = np.unique(_leaders(vectors[present], similarity), return_inverse=True)
            merged[rows, column] = len(names) + groups[which]
            names += [observations[present[leader]] for leader in leaders]
        # Numbers of different nodes differ, so observation and action identify the next node, without the one before.
        _, after = np.unique(np.stack([merged[here, column], done[here, column]]), axis=1, return_inverse=True)
        node[here] = after.ravel()
    return merged, names


def _leaders(vectors: NDArray[np.float32], similarity: float) -> list[int]:
    """For each of `vectors` [vectors, width], the index of its leader: the most similar leader before it, or itself.

    A vector follows a leader whose cosine is at least `similarity`, and else becomes one. Followers lead nobody, so
    similarity is not passed on from one to the next, and everything in a group is similar to its leader.
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
