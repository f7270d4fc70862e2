"""Merging trajectories into trees: which steps become one node.

Exact merging, the default, makes steps one node if all canonical observations and actions up to them are equal.
Semantic merging, as in the paper, only requires the embeddings of observations and contexts to be similar. In both, the
order of the trajectories does not matter, and parts of texts can be left out of the comparison (`sameness`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, with_config

from trajtree.errors import DataError, one_of
from trajtree.trajectory import Context, Trajectory
from trajtree.trees.checks import stray_branch, unfit_run
from trajtree.trees.embeddings import MODEL
from trajtree.trees.numbering import from_labels
from trajtree.trees.sameness import EQUAL_TEXTS, Acting, Ignoring, Merging
from trajtree.trees.tree import TrajectoryTree, Trees

Canonical = Callable[[str], str]
"""Reduces a text to what matters when two texts are compared."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Takes texts, returns [texts, width]: a vector of length 1 per text."""


SIMILARITY = 0.9
"""Default cosine from which texts count as the same, from the paper's code.

There, observation and thought are embedded together; here only observations and contexts are.
"""

MERGES = ("exact", "semantic")
"""Ways to merge: observations are the same if they are equal, or if they are similar."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class MergeSettings:
    """Which observations count as the same.

    Attributes:
        merge: a name in MERGES.
        similarity: smallest cosine of the observations that `semantic` takes as the same.
        model: the sentence-transformers model of `semantic`; the default is the one in the paper's code.
    """

    merge: Annotated[str, AfterValidator(one_of(MERGES))] = "exact"
    similarity: Annotated[float, Field(ge=0.0, le=1.0)] = SIMILARITY
    model: str = MODEL


class MergeOptions(TypedDict, total=False):
    """The arguments of `Merger`, by name."""

    canonical_action: Canonical
    canonical_observation: Canonical
    embed: Embed | None
    similarity: float
    ignore: Collection[str]
    action: str | None
    keep_unscored: bool


class Merger:
    """Merges trajectories, and knows afterwards which of its options had an effect.

    Args:
        canonical_action, canonical_observation: reduce actions and observations to what is compared.
        embed: sentence embeddings for semantic merging. By default observations are the same only if they are equal.
            With embeddings, the different observations after a node are processed in alphabetical order. Each joins the
            group of the most similar observation that opened a group before, if their cosine is at least `similarity`;
            otherwise it opens a group of its own. The same holds for contexts that have the same tools, and messages of
            the same roles.
        similarity: smallest cosine of texts that are the same.
        ignore: parts of texts that are not compared, in contexts, observations and actions: names in
            `sameness.IGNORABLE`, or regular expressions. Nothing is removed from the trajectories.
        action: the part of a reply that is compared: a name in `sameness.ACTIONS`; a field of the arguments of calls,
            or of replies that are JSON; or a regular expression, whose first group is the action, if it has one. A
            reply that has no such part is compared whole.
        keep_unscored: merge runs without a score too. Their trees can be looked at, and have no values.

    Raises:
        DataError: an entry of `ignore`, or `action`, is none of these.
    """

    def __init__(
        self,
        *,
        canonical_action: Canonical = str.strip,
        canonical_observation: Canonical = str.strip,
        embed: Embed | None = None,
        similarity: float = SIMILARITY,
        ignore: Collection[str] = (),
        action: str | None = None,
        keep_unscored: bool = False,
    ) -> None:
        self.keep_unscored = keep_unscored
        self.ignoring, self.acting = Ignoring(ignore), Acting(action)
        self.merging = Merging(tuple(ignore), action, None if embed is None else similarity)
        self._canonical_action = _after(self.ignoring, canonical_action) if ignore else canonical_action
        self._canonical_observation = _after(self.ignoring, canonical_observation) if ignore else canonical_observation
        self._embed, self._similarity = embed, similarity

    def trees(self, trajectories: Iterable[Trajectory]) -> Trees:
        """One tree per task, see `build`."""
        by_task: dict[str, list[Trajectory]] = {}
        for trajectory in trajectories:
            if trajectory.counts or (self.keep_unscored and not trajectory.outcome.is_fault):
                by_task.setdefault(trajectory.task, []).append(trajectory)
        return Trees(self.tree(by_task[task]) for task in sorted(by_task))

    def tree(self, trajectories: Iterable[Trajectory]) -> TrajectoryTree:
        """The tree of one task, see `build_tree`."""
        rows = list(trajectories)
        tasks = sorted({t.task for t in rows})
        if len(tasks) != 1:
            raise DataError(f"a tree needs trajectories of one task, got {tasks or 'none'}")
        if (unfit := unfit_run(tasks[0], rows, keep_unscored=self.keep_unscored)) is not None:
            raise DataError(f"task {tasks[0]}, sample {rows[unfit.index].sample}: {unfit.reason}")
        lengths = np.array([len(t.steps) for t in rows], np.int64)
        context = self._contexts(rows)
        seen, observations = _numbered(
            [text for t in rows for text in self.ignoring.observations(t)], self._canonical_observation
        )
        done, actions = _numbered([text for t in rows for text in self.acting(t)], self._canonical_action)
        if self._embed is not None:
            seen, observations = _similar(lengths, context, seen, done, observations, self._embed, self._similarity)
        # A step's label says what was seen and done in it; for first steps, it also includes the context.
        labels = seen * len(actions) + done
        starts = (np.cumsum(lengths) - lengths)[lengths > 0]
        labels[starts] += context[lengths > 0] * len(observations) * len(actions)
        tree = from_labels(
            tasks[0],
            rows,
            labels,
            len(actions),
            [observations[number] for number in seen.tolist()],
            [actions[number] for number in done.tolist()],
        )
        if (unfit := stray_branch(tree)) is not None:
            raise DataError(f"task {tree.task}, sample {tree.trajectories[unfit.index].sample}: {unfit.reason}")
        return tree if self.merging == EQUAL_TEXTS else replace(tree, merging=self.merging)

    def _contexts(self, rows: Sequence[Trajectory]) -> NDArray[np.int64]:
        """[T] number identifying each trajectory's context, independent of the order of `rows`."""
        contexts = [self.ignoring.context(t.context) for t in rows]
        different = set(contexts)
        ranked = sorted(different, key=repr) if len(different) > 1 else list(different)
        numbers = list(range(len(ranked)))
        if self._embed is not None and len(ranked) > 1:
            numbers = _similar_contexts(ranked, self._embed, self._similarity)
        rank = dict(zip(ranked, numbers, strict=True))
        return np.array([rank[context] for context in contexts], np.int64)


def build_tree(trajectories: Iterable[Trajectory], **options: Unpack[MergeOptions]) -> TrajectoryTree:
    """Merge trajectories of one task. The options are the arguments of `Merger`.

    Raises:
        DataError: there are no trajectories, they belong to several tasks, one was lost to a fault of the environment
            or the engine, one has no score (unless `keep_unscored`), two are the same sample, one branched off a
            trajectory that is not among them or begins otherwise, or an option is wrong.
    """
    return Merger(**options).tree(trajectories)


def build(trajectories: Iterable[Trajectory], **options: Unpack[MergeOptions]) -> Trees:
    """One tree per task, sorted by task. Trajectories that do not count (`Trajectory.counts`) are left out.

    With `keep_unscored`, those without a score are merged too, and a tree with any has no values. The options are the
    arguments of `Merger`; DataError is raised as by `build_tree`.
    """
    return Merger(**options).trees(trajectories)


def _after(ignoring: Ignoring, canonical: Canonical) -> Canonical:
    return lambda text: canonical(ignoring(text))


def _similar_contexts(contexts: Sequence[Context], embed: Embed, similarity: float) -> list[int]:
    """For each of different contexts, in their order, the number of the one that it joins, or its own."""
    numbers = list(range(len(contexts)))
    alike: dict[Hashable, list[int]] = {}
    for number, (given, opening, tools) in enumerate(contexts):
        shapes = (
            tuple((m.role, m.name, tuple((c.name, c.arguments) for c in m.tool_calls)) for m in messages)
            for messages in (given, opening)
        )
        alike.setdefault((*shapes, tools), []).append(number)
    for members in alike.values():
        if len(members) > 1:
            texts = [
                "\n".join(m.content for m in (*contexts[number].given, *contexts[number].opening) if m.content)
                for number in members
            ]
            for number, leader in zip(members, _leaders(np.asarray(embed(texts), np.float32), similarity), strict=True):
                numbers[number] = members[leader]
    return numbers


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


__all__ = ["SIMILARITY", "Canonical", "Embed", "MergeOptions", "Merger", "build", "build_tree"]
