"""The trajectory tree of one task: every trajectory of the task, merged where decisions agree.

A node is a step: the agent saw an observation and chose an action. Steps are merged when their parents are one
node and both their canonical observation and their canonical action are equal. The tree is a frozen struct of
arrays; node 0 is the root, before any step. Nodes are numbered in the order of the sorted trajectories, so the order
in which trajectories arrive changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import DataError
from trajtree.trajectory import Outcome, Trajectory

Canonical = Callable[[str], str]


@dataclass(frozen=True)
class TrajectoryTree:
    """Trajectories of one task as arrays over N nodes and T trajectories.

    Attributes:
        task: the task.
        trajectories: [T] what was merged, sorted.
        parent: [N] parent of each node, NO_PARENT for the root.
        depth: [N] steps from the root.
        observation: [N] canonical observation before the step; "" at the root.
        action: [N] canonical action; "" at the root.
        visits: [N] trajectories that pass through or end at the node.
        score_sum: [N] sum of their scores.
        end: [T] node at which each trajectory ends.
    """

    ROOT: ClassVar[int] = 0
    NO_PARENT: ClassVar[int] = -1

    task: str
    trajectories: tuple[Trajectory, ...]
    parent: NDArray[np.int32]
    depth: NDArray[np.int32]
    observation: tuple[str, ...]
    action: tuple[str, ...]
    visits: NDArray[np.int32]
    score_sum: NDArray[np.float64]
    end: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of nodes, the root included."""
        return len(self.parent)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """[N] children of each node, ascending."""
        lists: list[list[int]] = [[] for _ in range(len(self))]
        for node in range(1, len(self)):
            lists[self.parent[node]].append(node)
        return tuple(map(tuple, lists))

    @cached_property
    def ending(self) -> tuple[tuple[int, ...], ...]:
        """[N] trajectories that end at each node."""
        lists: list[list[int]] = [[] for _ in range(len(self))]
        for index, node in enumerate(self.end):
            lists[node].append(index)
        return tuple(map(tuple, lists))

    @property
    def mean(self) -> NDArray[np.float64]:
        """[N] mean score of the trajectories through each node."""
        return self.score_sum / self.visits

    def path(self, node: int) -> list[int]:
        """Nodes from the root, which is left out, to `node`."""
        nodes = []
        while node != self.ROOT:
            nodes.append(node)
            node = int(self.parent[node])
        return nodes[::-1]

    def through(self, node: int) -> list[int]:
        """Indices of the trajectories that pass through or end at `node`."""
        found: list[int] = []
        stack = [node]
        while stack:
            here = stack.pop()
            found += self.ending[here]
            stack += self.children[here]
        return sorted(found)

    def forks(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Nodes after which the agent, seeing one and the same observation, did different things.

        Yields (node, children that share an observation), two or more children each. Children that part because
        the environment answered differently are no decision of the agent's and make no fork.
        """
        for node, children in enumerate(self.children):
            by_observation: dict[str, list[int]] = {}
            for child in children:
                by_observation.setdefault(self.observation[child], []).append(child)
            yield from ((node, tuple(same)) for same in by_observation.values() if len(same) > 1)


def build_tree(
    trajectories: Iterable[Trajectory],
    *,
    canonical_action: Canonical = str.strip,
    canonical_observation: Canonical = str.strip,
) -> TrajectoryTree:
    """Merge trajectories of one task exactly.

    Raises:
        DataError: there is none, they are of several tasks, or one ended by an environment error, which says
            nothing about the policy.
    """
    rows = []
    for trajectory in trajectories:
        if trajectory.outcome is Outcome.ENV_ERROR:
            raise DataError(f"task {trajectory.task}, sample {trajectory.sample}: env_error is not data, leave it out")
        keys = [(canonical_observation(s.observation), canonical_action(s.action)) for s in trajectory.steps]
        rows.append((keys, trajectory.sample, trajectory))
    tasks = sorted({t.task for _, _, t in rows})
    if len(tasks) != 1:
        raise DataError(f"a tree needs trajectories of one task, got {tasks or 'none'}")
    rows.sort(key=lambda row: (row[0], row[1], row[2].score))
    index: dict[tuple[int, str, str], int] = {}
    parent, depth, observation, action, visits, score_sum, end = [-1], [0], [""], [""], [0], [0.0], []
    for keys, _, trajectory in rows:
        node = TrajectoryTree.ROOT
        passed = [node]
        for seen, done in keys:
            child = index.setdefault((node, seen, done), len(parent))
            if child == len(parent):
                parent.append(node)
                depth.append(depth[node] + 1)
                observation.append(seen)
                action.append(done)
                visits.append(0)
                score_sum.append(0.0)
            node = child
            passed.append(node)
        for node in passed:
            visits[node] += 1
            score_sum[node] += trajectory.score
        end.append(passed[-1])
    return TrajectoryTree(
        task=tasks[0],
        trajectories=tuple(row[2] for row in rows),
        parent=np.array(parent, np.int32),
        depth=np.array(depth, np.int32),
        observation=tuple(observation),
        action=tuple(action),
        visits=np.array(visits, np.int32),
        score_sum=np.array(score_sum, np.float64),
        end=np.array(end, np.int32),
    )


def build(
    trajectories: Iterable[Trajectory],
    *,
    canonical_action: Canonical = str.strip,
    canonical_observation: Canonical = str.strip,
) -> list[TrajectoryTree]:
    """One tree a task, sorted by task; trajectories lost to the environment (env_error) are left out."""
    by_task: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if trajectory.outcome is not Outcome.ENV_ERROR:
            by_task.setdefault(trajectory.task, []).append(trajectory)
    return [
        build_tree(by_task[task], canonical_action=canonical_action, canonical_observation=canonical_observation)
        for task in sorted(by_task)
    ]


@dataclass(frozen=True, slots=True)
class TreeQuality:
    """What the paper asks of a tree: breadth (forks), depth, and different scores behind its forks."""

    task: str
    trajectories: int
    nodes: int
    leaves: int
    forks: int
    informative_forks: int
    depth: int
    best: float
    mean: float


def quality(tree: TrajectoryTree) -> TreeQuality:
    """Figures of one tree; a fork is informative when the mean scores behind it differ."""
    forks = list(tree.forks())
    mean = tree.mean
    informative = [children for _, children in forks if np.ptp(mean[list(children)]) > 1e-9]
    scores = [t.score for t in tree.trajectories]
    return TreeQuality(
        task=tree.task,
        trajectories=len(scores),
        nodes=len(tree) - 1,
        leaves=sum(not children for children in tree.children),
        forks=len(forks),
        informative_forks=len(informative),
        depth=int(tree.depth.max()),
        best=max(scores),
        mean=float(np.mean(scores)),
    )


def to_record(tree: TrajectoryTree) -> dict[str, object]:
    """The tree without its trajectories, for JSON: arrays as lists, trajectories by (task, sample)."""
    return {
        "task": tree.task,
        "samples": [t.sample for t in tree.trajectories],
        "parent": tree.parent.tolist(),
        "depth": tree.depth.tolist(),
        "observation": list(tree.observation),
        "action": list(tree.action),
        "visits": tree.visits.tolist(),
        "score_sum": tree.score_sum.tolist(),
        "end": tree.end.tolist(),
    }


def from_record(
    record: Mapping[str, Sequence[object]], trajectories: Mapping[tuple[str, int], Trajectory]
) -> TrajectoryTree:
    """Inverse of `to_record`. Raises DataError when a trajectory of the tree is missing."""
    task = str(record["task"])
    try:
        members = tuple(trajectories[task, int(str(sample))] for sample in record["samples"])
    except KeyError as error:
        raise DataError(f"tree of {task}: trajectory {error} is not in the store") from None
    return TrajectoryTree(
        task=task,
        trajectories=members,
        parent=np.array(record["parent"], np.int32),
        depth=np.array(record["depth"], np.int32),
        observation=tuple(map(str, record["observation"])),
        action=tuple(map(str, record["action"])),
        visits=np.array(record["visits"], np.int32),
        score_sum=np.array(record["score_sum"], np.float64),
        end=np.array(record["end"], np.int32),
    )


__all__ = ["TrajectoryTree", "TreeQuality", "build", "build_tree", "from_record", "quality", "to_record"]
