"""The trajectory tree of one task: all trajectories of the task, merged where their decisions agree.

A node is a step: the agent saw an observation and chose an action. The tree is a frozen struct of arrays; node 0 is
the root, before any step. Trajectories are sorted, and nodes are numbered in that order, depth first. So a node's
descendants have the numbers right after it, and the trajectories through a node are neighbours. `trajtree.trees.merge`
builds trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import DataError, counted
from trajtree.trajectory import Trajectory
from trajtree.trees.display import line_of, lines_of, outline, outlines
from trajtree.trees.sameness import EQUAL_TEXTS, Merging


@dataclass(frozen=True)
class TrajectoryTree:
    """Trajectories of one task as arrays over N nodes and T trajectories.

    A tree with a trajectory without a score has no values, not even where the others have scores: its `score_sum` is
    NaN, and `scores`, `mean`, `best`, and all that learns from them, raise DataError.

    Attributes:
        task: the task.
        trajectories: [T] the merged trajectories, sorted.
        parent: [N] parent of each node, NO_PARENT for the root.
        depth: [N] steps from the root.
        decision: [N] first of the siblings that answer the same situation, NO_PARENT for the root. A situation is what
            the agent saw before the step; before its first step, that includes everything it was given: instructions,
            examples, tools. So runs with different contexts share no decision.
        observation: [N] canonical observation before the step; "" at the root.
        action: [N] canonical action; "" at the root.
        first, stop: [N] trajectories first[n] to stop[n] - 1 pass through or end at node n.
        visits: [N] how many of them count: a branched trajectory counts from its own first step on, because the policy
            did not choose the nodes before it. At least 1.
        score_sum: [N] sum of the scores of those that count.
        end: [T] node at which each trajectory ends.
        merging: what counted as the same, where that is more than equal texts.
    """

    ROOT: ClassVar[int] = 0
    NO_PARENT: ClassVar[int] = -1

    task: str
    trajectories: tuple[Trajectory, ...]
    parent: NDArray[np.int32]
    depth: NDArray[np.int32]
    decision: NDArray[np.int32]
    observation: tuple[str, ...]
    action: tuple[str, ...]
    first: NDArray[np.int32]
    stop: NDArray[np.int32]
    visits: NDArray[np.int32]
    score_sum: NDArray[np.float64]
    end: NDArray[np.int32]
    merging: Merging = EQUAL_TEXTS

    def __len__(self) -> int:
        """Number of nodes, the root included."""
        return len(self.parent)

    def __repr__(self) -> str:
        """One line: the task, the size, the scores."""
        return line_of(self)

    def _repr_html_(self) -> str:
        return outline(self)

    @cached_property
    def unscored(self) -> int:
        """Number of trajectories without a score; the tree has values only if there are none."""
        return sum(t.unscored for t in self.trajectories)

    def check_scored(self) -> None:
        """Raise DataError unless all trajectories have a score."""
        if self.unscored:
            raise DataError(
                f"task {self.task}: {counted(self.unscored, 'run')} of {len(self.trajectories):,} without a score, so "
                "this tree can only be shown; import the runs with --scores FILE, or leave them out: trajtree build "
                "without --unscored keep"
            )

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """[T] score of each trajectory."""
        self.check_scored()
        return np.array([t.score for t in self.trajectories])

    def trajectory(self, sample: int) -> Trajectory:
        """The trajectory with this `Trajectory.sample`, which is not an index into `trajectories`.

        Raises:
            KeyError: there is none.
        """
        return self.trajectories[self._of_sample[sample]]

    @cached_property
    def _of_sample(self) -> dict[int, int]:
        return {t.sample: index for index, t in enumerate(self.trajectories)}

    @property
    def mean(self) -> NDArray[np.float64]:
        """[N] mean score of the trajectories that count at each node."""
        self.check_scored()
        return self.score_sum / self.visits

    @cached_property
    def shared(self) -> NDArray[np.int64]:
        """[T] steps that each trajectory has in common with the one before it; 0 for the first."""
        # A trajectory opens the nodes of its path that it is the first to pass through; those before them are shared.
        opened = np.bincount(self.first[1:], minlength=len(self.trajectories))
        return self.depth[self.end] - opened

    @cached_property
    def counts_from(self) -> NDArray[np.int32]:
        """[T] depth from which each trajectory counts: 0 for a whole one, else that of its own first step."""
        return counts_from(self.trajectories)

    @cached_property
    def best(self) -> NDArray[np.float64]:
        """[N] best score of all trajectories through each node, including those that do not count there."""
        return range_max(self.scores, self.first, self.stop)

    @cached_property
    def subtree_end(self) -> NDArray[np.int32]:
        """[N] exclusive end of each node's subtree: node n and its descendants are n, ..., subtree_end[n] - 1."""
        # Nodes are numbered in the order of the first trajectory through them. So the first node whose first trajectory
        # is `stop` or later is the first one outside the subtree.
        first_node_of = np.searchsorted(self.first, np.arange(len(self.trajectories) + 1)).astype(np.int32)
        ends: NDArray[np.int32] = first_node_of[self.stop]
        return ends

    @cached_property
    def _by_parent(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Nodes without the root by parent, and [N + 1] where each node's children begin among them."""
        order = np.argsort(self.parent[1:], kind="stable") + 1
        return order, np.searchsorted(self.parent[order], np.arange(len(self) + 1))

    def children_of(self, node: int) -> list[int]:
        """Children of one node, ascending; faster than `children` when few nodes are needed."""
        order, begin = self._by_parent
        found: list[int] = order[begin[node] : begin[node + 1]].tolist()
        return found

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """[N] children of each node, ascending."""
        order, begin = (values.tolist() for values in self._by_parent)
        return tuple(tuple(order[start:end]) for start, end in pairwise(begin))

    @cached_property
    def ending(self) -> tuple[tuple[int, ...], ...]:
        """[N] trajectories that end at each node."""
        lists: list[list[int]] = [[] for _ in range(len(self))]
        for index, node in enumerate(self.end.tolist()):
            lists[node].append(index)
        return tuple(map(tuple, lists))

    def path(self, node: int) -> list[int]:
        """Nodes from the root (excluded) to `node` (included)."""
        nodes = []
        while node != self.ROOT:
            nodes.append(node)
            node = int(self.parent[node])
        return nodes[::-1]

    def through(self, node: int) -> range:
        """Indices of the trajectories that pass through or end at `node`."""
        return range(int(self.first[node]), int(self.stop[node]))

    def counting(self, node: int) -> list[int]:
        """Indices of the trajectories that count at `node`, `visits[node]` of them."""
        here = self.through(node)
        counted = self.counts_from[here.start : here.stop] <= self.depth[node]
        found: list[int] = (np.flatnonzero(counted) + here.start).tolist()
        return found

    def forks(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Nodes after which the agent saw the same observation and acted differently.

        Yields (node, children that share an observation), two or more children each. Children that differ because
        the environment answered differently are not the agent's decision and make no fork.
        """
        for node, members in self.decisions():
            yield node, tuple(members.tolist())

    def decisions(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Forks as (node, [options] children), ordered by node and first child."""
        order = np.argsort(self.decision[1:], kind="stable") + 1
        group = self.decision[order]
        starts = np.flatnonzero(np.diff(group, prepend=-2))
        sizes = np.diff(starts, append=len(group))
        starts, sizes = starts[sizes > 1], sizes[sizes > 1]
        nodes = self.parent[group[starts]]
        for which in np.lexsort((group[starts], nodes)):
            begin = starts[which]
            yield int(nodes[which]), order[begin : begin + sizes[which]]


class Trees(list[TrajectoryTree]):
    """Trees, one per task: a list that a prompt shows in a line each, and a notebook as outlines."""

    def __repr__(self) -> str:
        """A line per tree."""
        return lines_of(self)

    def _repr_html_(self) -> str:
        return outlines(self)


def range_max(values: NDArray[np.float64], begin: NDArray[np.int32], end: NDArray[np.int32]) -> NDArray[np.float64]:
    """[K] largest of values[begin[k]:end[k]] for each k; no range may be empty."""
    # reduceat reduces from each bound to the next: begin[0]:end[0], end[0]:begin[1], begin[1]:end[1], ...; every other
    # result is the one needed. An `end` may be len(values), hence the sentinel after the values.
    bounds = np.empty(2 * len(begin), np.intp)
    bounds[::2], bounds[1::2] = begin, end
    return np.maximum.reduceat(np.append(values, -np.inf), bounds)[::2]


def counts_from(trajectories: Sequence[Trajectory]) -> NDArray[np.int32]:
    """[T] depth from which each trajectory counts in the values of nodes."""
    return np.array([0 if t.origin is None else t.origin.steps + 1 for t in trajectories], np.int32)


__all__ = ["TrajectoryTree", "Trees", "counts_from", "range_max"]
