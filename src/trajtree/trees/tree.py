"""The trajectory tree of one task: every trajectory of the task, merged where decisions agree.

A node is a step: the agent saw an observation and chose an action. The tree is a frozen struct of arrays; node 0 is
the root, before any step. Trajectories are sorted, and nodes are numbered in their order, depth first; so the nodes
below a node are the numbers that follow it, and the trajectories through a node are neighbours. `trajtree.trees.merge`
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

from trajtree.trajectory import Trajectory


@dataclass(frozen=True)
class TrajectoryTree:
    """Trajectories of one task as arrays over N nodes and T trajectories.

    Attributes:
        task: the task.
        trajectories: [T] what was merged, sorted.
        parent: [N] parent of each node, NO_PARENT for the root.
        depth: [N] steps from the root.
        decision: [N] first of the siblings before which the agent saw the same observation, NO_PARENT for the root:
            nodes with the same `decision` are different answers to one situation.
        observation: [N] canonical observation before the step; "" at the root.
        action: [N] canonical action; "" at the root.
        first, stop: [N] trajectories first[n] to stop[n] - 1 pass through or end at node n.
        visits: [N] how many of them count: a branched trajectory counts from its first own step on, because the policy
            did not come to the nodes before it by itself. At least 1.
        score_sum: [N] sum of the scores of those that count.
        end: [T] node at which each trajectory ends.
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

    def __len__(self) -> int:
        """Number of nodes, the root included."""
        return len(self.parent)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """[T] score of each trajectory."""
        return np.array([t.score for t in self.trajectories])

    @property
    def mean(self) -> NDArray[np.float64]:
        """[N] mean score of the trajectories that count at each node."""
        return self.score_sum / self.visits

    @cached_property
    def counts_from(self) -> NDArray[np.int32]:
        """[T] depth from which on each trajectory counts: 0 for a whole one, that of its first own step else."""
        return counts_from(self.trajectories)

    @cached_property
    def best(self) -> NDArray[np.float64]:
        """[N] best score of all trajectories through each node, those that do not count there included."""
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
        """Children of one node, ascending; quicker than `children` where few nodes are looked at."""
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
        """Nodes from the root, which is left out, to `node`."""
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
        """Nodes after which the agent, seeing one and the same observation, did different things.

        Yields (node, children that share an observation), two or more children each. Children that part because
        the environment answered differently are no decision of the agent's and make no fork.
        """
        for node, members in self.decisions():
            yield node, tuple(members.tolist())

    def decisions(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Forks as (node, [options] children), in order of the node and of its first child."""
        order = np.argsort(self.decision[1:], kind="stable") + 1
        group = self.decision[order]
        starts = np.flatnonzero(np.diff(group, prepend=-2))
        sizes = np.diff(starts, append=len(group))
        starts, sizes = starts[sizes > 1], sizes[sizes > 1]
        nodes = self.parent[group[starts]]
        for which in np.lexsort((group[starts], nodes)):
            begin = starts[which]
            yield int(nodes[which]), order[begin : begin + sizes[which]]


def range_max(values: NDArray[np.float64], begin: NDArray[np.int32], end: NDArray[np.int32]) -> NDArray[np.float64]:
    """[K] largest of values[begin[k]:end[k]] for each k; no range may be empty."""
    # reduceat reduces from each bound to the next: begin[0]:end[0], end[0]:begin[1], begin[1]:end[1], ...; every other
    # result is what is wanted. An `end` may be len(values), hence the sentinel behind them.
    bounds = np.empty(2 * len(begin), np.intp)
    bounds[::2], bounds[1::2] = begin, end
    return np.maximum.reduceat(np.append(values, -np.inf), bounds)[::2]


def counts_from(trajectories: Sequence[Trajectory]) -> NDArray[np.int32]:
    """[T] depth from which on each trajectory counts in the values of nodes."""
    return np.array([0 if t.origin is None else t.origin.steps + 1 for t in trajectories], np.int32)


def from_labels(
    task: str,
    trajectories: Sequence[Trajectory],
    seen: NDArray[np.int64],
    done: NDArray[np.int64],
    observations: Sequence[str],
    actions: Sequence[str],
) -> TrajectoryTree:
    """The tree in which steps are one node when all that was seen and done up to them is equal.

    Args:
        task: the task.
        trajectories: [T] the trajectories, in any order.
        seen, done: [T, longest] number of each step's observation and action, -1 after a trajectory's last step.
            Siblings are ordered by these numbers.
        observations, actions: what the numbers stand for.
    """
    # labels [T, longest]: one number for each (observation, action); equal rows up to a column share their nodes.
    labels = np.where(seen >= 0, seen * len(actions) + done, -1)
    scores = np.array([t.score for t in trajectories])
    samples = np.array([t.sample for t in trajectories])
    # Sort lexicographically by label (lexsort takes its last key first). Trajectories that share a beginning are then
    # neighbours, and one that ends where another goes on comes right before it, because -1 is the lowest label.
    rows = np.lexsort((scores, samples, *labels.T[::-1]))
    labels, scores, begins = labels[rows], scores[rows], counts_from(trajectories)[rows]
    lengths = (labels >= 0).sum(axis=1)
    count, longest = labels.shape

    # shared [T]: steps that a trajectory has in common with the one before it. In a sorted list no earlier one shares
    # more, so every step beyond them opens a node, and all others are nodes already.
    columns = np.arange(longest)
    shared = np.zeros(count, np.int64)
    if longest:
        differ = labels[1:] != labels[:-1]
        shared[1:] = np.where(differ.any(axis=1), differ.argmax(axis=1), longest)
    shared = np.minimum(shared, lengths)
    present = columns < lengths[:, None]
    new = present & (columns >= shared[:, None])
    # node [T, 1 + longest]: node of each trajectory after 0, 1, 2, ... steps; 0, the root, beyond its end. New nodes
    # are numbered row by row, which is depth first. A shared step has the number that stands above it: numbers only
    # grow downwards, so the running maximum of a column is the number of its latest new node.
    node = np.where(new, np.cumsum(new).reshape(new.shape), 0)
    node = np.maximum.accumulate(node, axis=0)
    node = np.column_stack([np.zeros(count, np.int64), np.where(present, node, 0)])

    # row, column [N - 1]: the trajectory and step by which each node but the root was opened, in order of the nodes.
    row, column = np.nonzero(new)
    parent = np.concatenate([[TrajectoryTree.NO_PARENT], node[row, column]])
    saw, did = np.divmod(labels[row, column], len(actions))
    # Every (trajectory, node) passage, the root's first; `counted` are those at or below where a trajectory begins to
    # count (column c is a node at depth c + 1).
    passages = np.concatenate([np.zeros(count, np.int64), node[:, 1:][present]])
    counted = np.concatenate([begins == 0, (columns + 1 >= begins[:, None])[present]])
    weights = np.concatenate([scores, np.repeat(scores, lengths)])
    size = len(parent)
    first = np.concatenate([[0], row]).astype(np.int32)
    return TrajectoryTree(
        task=task,
        trajectories=tuple(map(trajectories.__getitem__, rows.tolist())),
        parent=parent.astype(np.int32),
        depth=np.concatenate([[0], column + 1]).astype(np.int32),
        decision=_decisions(parent, saw),
        observation=("", *map(observations.__getitem__, saw.tolist())),
        action=("", *map(actions.__getitem__, did.tolist())),
        first=first,
        stop=(first + np.bincount(passages, minlength=size)).astype(np.int32),
        visits=np.bincount(passages[counted], minlength=size).astype(np.int32),
        score_sum=np.bincount(passages[counted], weights=weights[counted], minlength=size).astype(np.float64),
        end=node[np.arange(count), lengths].astype(np.int32),
    )


def _decisions(parent: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.int32]:
    """[N] first sibling that saw the same observation.

    Args:
        parent: [N] parents.
        seen: [N - 1] number of the observation before each node but the root.
    """
    # Sorted by parent, then by what was seen; the sort is stable, so the first of each group is its lowest node.
    order = np.lexsort((seen, parent[1:]))
    starts = np.empty(len(order), bool)
    starts[:1] = True
    starts[1:] = (np.diff(parent[1:][order]) != 0) | (np.diff(seen[order]) != 0)
    # cumsum(starts) - 1 numbers the groups, so each member gets the node that starts its own.
    decision = np.full(len(parent), TrajectoryTree.NO_PARENT, np.int32)
    decision[order + 1] = (order[starts] + 1)[np.cumsum(starts) - 1]
    return decision


__all__ = ["TrajectoryTree", "counts_from", "from_labels", "range_max"]
