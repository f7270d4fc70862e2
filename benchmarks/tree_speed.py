"""Building, searching and MCTS against plain object trees, in one run.

    python benchmarks/tree_speed.py --out benchmarks/results/tree-speed.json

The baseline is the usual way to write it: a node object per step, with a list of children that is scanned for an equal
action and observation, and UCB computed child by child in Python. Both sides get the same trajectories, already in
memory. Wide: 200 actions per step to choose from. Narrow: 2. Ratios are medians over repetitions that alternate.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import random
import statistics
import time
from pathlib import Path

import numpy as np

import trajtree
from trajtree.trees.merge import build_tree
from trajtree.trees.search import exact, mcts


class Node:
    """One step of the plain tree."""

    __slots__ = ("action", "children", "ends", "observation", "parent", "reward", "score_sum", "tries", "visits")

    def __init__(self, observation: str, action: str, parent: Node | None) -> None:
        self.observation, self.action, self.parent = observation, action, parent
        self.children: list[Node] = []
        self.ends: list[float] = []
        self.visits, self.score_sum = 0, 0.0
        self.tries, self.reward = 0, 0.0


def plain_build(trajectories: list[trajtree.Trajectory]) -> Node:
    """A tree of objects."""
    root = Node("", "", None)
    for trajectory in trajectories:
        node = root
        node.visits += 1
        node.score_sum += trajectory.score
        for step in trajectory.steps:
            observation, action = step.observation.strip(), step.action.strip()
            for child in node.children:
                if child.action == action and child.observation == observation:
                    break
            else:
                child = Node(observation, action, node)
                node.children.append(child)
            node = child
            node.visits += 1
            node.score_sum += trajectory.score
        node.ends.append(trajectory.score)
    return root


def plain_mcts(root: Node, iterations: int, gamma: float, seed: int) -> None:
    """UCB over the children, one after another; a node where a trajectory ended may be the end."""
    rng = random.Random(seed)
    stops: dict[int, list[float]] = {}
    for _ in range(iterations):
        node = root
        path = [root]
        while True:
            fresh = [child for child in node.children if child.tries == 0]
            stop = stops.get(id(node), [0, 0.0])
            can_stop = bool(node.ends)
            if can_stop and stop[0] == 0 and not fresh:
                break
            if fresh:
                node = rng.choice(fresh)
            elif not node.children:
                break
            else:
                total = math.log(sum(child.tries for child in node.children) + stop[0])
                best, best_value = None, -math.inf
                for child in node.children:
                    value = child.reward / child.tries + gamma * math.sqrt(total / child.tries)
                    if value > best_value:
                        best, best_value = child, value
                if can_stop and stop[1] / stop[0] + gamma * math.sqrt(total / stop[0]) > best_value:
                    break
                assert best is not None
                node = best
            path.append(node)
        score = sum(node.ends) / len(node.ends)
        stop = stops.setdefault(id(node), [0, 0.0])
        stop[0] += 1
        stop[1] += score
        for one in path:
            one.tries += 1
            one.reward += score


def made(tasks: int, runs: int, steps: int, fan_out: int, seed: int) -> list[list[trajtree.Trajectory]]:
    """Trajectories that choose among `fan_out` actions, the first ones more often; observations tell what was done."""
    rng = np.random.default_rng(seed)
    groups = []
    for task in range(tasks):
        chosen = (fan_out * rng.random((runs, steps)) ** 2).astype(int)
        group = []
        for sample, row in enumerate(chosen.tolist()):
            done = [
                trajtree.Step(f"you are in room {row[i - 1] if i else 'zero'} of the house", f"go to room {a}")
                for i, a in enumerate(row)
            ]
            score = float(rng.integers(0, 5)) / 4
            group.append(
                trajtree.Trajectory(
                    f"task/{task}",
                    sample,
                    "weak",
                    "made",
                    "1",
                    0,
                    None,
                    (),
                    tuple(done),
                    score,
                    trajtree.Outcome.COMPLETED,
                )
            )
        groups.append(group)
    return groups


def seconds(work: object) -> float:
    """Seconds of CPU that a call takes, the collection of garbage as it comes; freeing the result is not counted."""
    gc.collect()
    start = time.process_time()
    result = work()  # type: ignore[operator]
    spent = time.process_time() - start
    del result
    return spent


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--mcts-trees", type=int, default=20, help="trees on which MCTS is compared")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    runs = args.trajectories // args.tasks
    figures: dict[str, object] = {
        "command": vars(args) | {"out": str(args.out)},
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    # Hundreds of children only occur if many runs belong to one task; with 100 runs per task 100 is the most.
    cases = {
        "wide": (args.tasks, runs, 200),
        "wide, few tasks": (max(1, args.tasks // 20), runs * 20, 800),
        "wide, one task": (1, args.trajectories // 10, 20_000),
        "narrow": (args.tasks, runs, 2),
    }
    for name, (tasks, runs_a_task, fan_out) in cases.items():
        groups = made(tasks, runs_a_task, args.steps, fan_out, seed=0)
        gc.freeze()  # the trajectories are nobody's garbage
        plain, ours, search = [], [], []
        for _ in range(args.repeat):
            plain.append(seconds(lambda g=groups: [plain_build(group) for group in g]))
            ours.append(seconds(lambda g=groups: [build_tree(group) for group in g]))
        trees = [build_tree(group) for group in groups]
        for _ in range(args.repeat):
            search.append(seconds(lambda t=trees: [exact(tree) for tree in t]))
        slow, fast = [], []
        for _ in range(args.repeat):
            roots = [plain_build(group) for group in groups[: args.mcts_trees]]
            slow.append(seconds(lambda r=roots: [plain_mcts(root, args.iterations, math.sqrt(2), 0) for root in r]))
            fresh = [build_tree(group) for group in groups[: args.mcts_trees]]
            fast.append(seconds(lambda t=fresh: [mcts(tree, iterations=args.iterations) for tree in t]))
        widest = statistics.mean(max(map(len, tree.children)) for tree in trees)
        figures[name] = {
            "tasks": tasks,
            "trajectories a task": runs_a_task,
            "nodes": sum(map(len, trees)),
            "widest node, mean over trees": widest,
            "build, s": {"plain": plain, "ours": ours},
            "build, times as fast": statistics.median(plain) / statistics.median(ours),
            "exact search, s": search,
            "exact search, share of build": statistics.median(search) / statistics.median(ours),
            "mcts, s": {"plain": slow, "ours": fast},
            "mcts, times as fast": statistics.median(slow) / statistics.median(fast),
        }
        print(name, json.dumps(figures[name], indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
