"""Finding a path in a tree: exactly, or by the paper's MCTS.

Every root-to-end path of a tree is a trajectory that was sampled, so no search beats its best trajectory. The exact
search finds it in one pass; MCTS approaches it and is here as the paper has it, except that it may stop where a
trajectory stopped although others went on (otherwise the best trajectory of a task is lost whenever it is a
prefix of another).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajtree.tree import TrajectoryTree


@dataclass(frozen=True)
class SearchResult:
    """A path and what the search knew.

    Attributes:
        task: the task of the tree.
        end: node at which the path ends.
        sample: the trajectory that is this path (the earliest sample where several are).
        value: what the search expects of it, in [0, 1].
        values: [N] value of each node: of the best end below it (exact), or mean reward over its visits (MCTS, nan
            where it never went).
        visits: [N] search visits, not data counts; 0 everywhere in an exact search.
    """

    task: str
    end: int
    sample: int
    value: float
    values: NDArray[np.float64]
    visits: NDArray[np.int64]


def exact(tree: TrajectoryTree) -> SearchResult:
    """Backward induction in one pass.

    The value of ending at a node is the mean score of the trajectories that end there; the value of a node is the
    best of ending there and of its children. Ties go to the shorter path, then to the earlier node.
    """
    ends = _end_values(tree)
    values = ends.copy()
    target = np.arange(len(tree))
    for node in range(len(tree) - 1, 0, -1):  # children are numbered after their parents
        parent = int(tree.parent[node])
        better = values[node] > values[parent] + 1e-12
        equal = abs(values[node] - values[parent]) <= 1e-12
        nearer = tree.depth[target[node]] <= tree.depth[target[parent]] and target[parent] != parent
        if better or math.isinf(values[parent]) or (equal and nearer):
            values[parent], target[parent] = values[node], target[node]
    end = int(target[TrajectoryTree.ROOT])
    return _result(tree, end, float(values[0]), values, np.zeros(len(tree), np.int64))


def mcts(tree: TrajectoryTree, *, iterations: int = 1000, gamma: float = math.sqrt(2), seed: int = 0) -> SearchResult:
    """The paper's MCTS on the static tree.

    Each iteration walks down by UCB = r/c + gamma sqrt(log C / c), r and c being a child's summed reward and visits
    and C its parent's visits, unvisited options first in random order; it ends where there is nowhere to go, or by
    choosing to stop at a node where some trajectory stopped; the mean score of the trajectories that end there is
    added along the way. The path returned walks greedily by r/c.

    Args:
        tree: the tree.
        iterations: walks from the root.
        gamma: weight of exploration, in units of score.
        seed: order of the unvisited options.
    """
    random = np.random.default_rng(seed)
    size = len(tree)
    ends = _end_values(tree)
    # Option size + n is to stop at node n: a leaf of its own, with its own statistics.
    options = [[*tree.children[n], *([size + n] if tree.ending[n] else [])] for n in range(size)]
    reward, visits = np.zeros(2 * size), np.zeros(2 * size, np.int64)

    def select(node: int) -> int:
        fresh = [o for o in options[node] if visits[o] == 0]
        if fresh:
            return int(fresh[random.integers(len(fresh))])
        log = math.log(visits[node])
        return max(options[node], key=lambda o: reward[o] / visits[o] + gamma * math.sqrt(log / visits[o]))

    for _ in range(iterations):
        walk = [TrajectoryTree.ROOT]
        while walk[-1] < size:
            walk.append(select(walk[-1]))
        reward[walk] += ends[walk[-1] - size]
        visits[walk] += 1

    here = TrajectoryTree.ROOT
    while here < size:
        tried = [o for o in options[here] if visits[o]]
        here = max(tried, key=lambda o: reward[o] / visits[o])
    with np.errstate(invalid="ignore"):
        values = np.where(visits > 0, reward / np.maximum(visits, 1), np.nan)
    return _result(tree, here - size, float(values[here]), values[:size], visits[:size])


def _end_values(tree: TrajectoryTree) -> NDArray[np.float64]:
    """[N] mean score of the trajectories that end at each node, -inf where none does."""
    values = np.full(len(tree), -np.inf)
    for node, members in enumerate(tree.ending):
        if members:
            values[node] = np.mean([tree.trajectories[i].score for i in members])
    return values


def _result(
    tree: TrajectoryTree, end: int, value: float, values: NDArray[np.float64], visits: NDArray[np.int64]
) -> SearchResult:
    sample = min(tree.trajectories[i].sample for i in tree.ending[end])
    return SearchResult(task=tree.task, end=end, sample=sample, value=value, values=values, visits=visits)


__all__ = ["SearchResult", "exact", "mcts"]
