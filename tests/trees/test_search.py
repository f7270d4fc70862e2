"""The exact search against brute force, and MCTS against a second, slow implementation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import key_path, quick, trajectories, trajectory

from trajtree.trajectory import Trajectory
from trajtree.trees.merge import build_tree
from trajtree.trees.search import SearchResult, best_of_n, exact, mcts
from trajtree.trees.tree import TrajectoryTree

GOLDEN = Path(__file__).parents[1] / "golden"
Keys = tuple[tuple[str, str], ...]


def keys_of(tree: TrajectoryTree, node: int) -> Keys:
    return tuple((tree.observation[n], tree.action[n]) for n in tree.path(node))


def end_values(given_: list[Trajectory]) -> dict[Keys, float]:
    """Mean score of the trajectories with exactly these steps."""
    scores: dict[Keys, list[float]] = {}
    for one in given_:
        scores.setdefault(key_path(one), []).append(one.score)
    return {keys: sum(s) / len(s) for keys, s in scores.items()}


@quick
@given(trajectories())
def test_exact_finds_the_best_end(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    found = exact(tree)
    ends = end_values(given_)
    best = min(ends, key=lambda keys: (-round(ends[keys], 9), len(keys), keys))
    assert keys_of(tree, found.end) == best
    assert found.value == pytest.approx(ends[best])
    assert (
        found.trajectory.sample
        == min((t for t in given_ if key_path(t) == best), key=lambda t: (-t.score, t.sample)).sample
    )
    for node in range(len(tree)):
        here = keys_of(tree, node)
        assert found.values[node] == pytest.approx(max(v for k, v in ends.items() if k[: len(here)] == here))
    assert not found.visits.any()


@pytest.mark.parametrize(
    ("scores", "end"),
    [
        ({"a": 1.0, "ab": 0.5, "abc": 0.75}, "a"),  # at an inner node
        ({"": 0.5, "a": 0.25}, ""),  # before any step
        ({"a": 0.5, "ab": 0.5, "abc": 0.5}, "a"),  # the shortest of equals, on one path
        ({"abc": 1.0, "b": 1.0}, "b"),  # and on different paths
        ({"abc": 1.0, "acb": 1.0, "bb": 1.0, "ba": 1.0}, "ba"),  # equally short: the earlier node
        ({"a": 0.0, "ab": 0.0}, "a"),
    ],
)
def test_exact_by_hand(scores: dict[str, float], end: str) -> None:
    tree = build_tree([trajectory(actions, score, sample=n) for n, (actions, score) in enumerate(scores.items())])
    found = exact(tree)
    assert "".join(tree.action[n] for n in tree.path(found.end)) == end
    assert (found.value, found.trajectory.sample) == (scores[end], list(scores).index(end))


class SlowMCTS:
    """The same search, written from its docstring, on nested dictionaries made from the trajectories."""

    def __init__(self, given_: list[Trajectory], iterations: int, gamma: float, seed: int) -> None:
        self.gamma = gamma
        self.random = np.random.default_rng(seed)
        self.root = self.node(())
        for one in given_:
            here = self.root
            for key in key_path(one):
                here = here["children"].setdefault(key, self.node((*here["keys"], key)))
            here["scores"].append(one.score)
        for _ in range(iterations):
            self.walk()

    def order(self, node: dict[str, Any], options: int) -> list[int]:
        """The order in which a node's options are first tried, drawn when the search first comes to it."""
        if "order" not in node:
            node["order"] = self.random.permutation(options).tolist() if options > 1 else [0]
        found: list[int] = node["order"]
        return found

    @staticmethod
    def node(keys: Keys) -> dict[str, Any]:
        return {"keys": keys, "children": {}, "scores": [], "visits": 0, "reward": 0.0, "stop": [0, 0.0]}

    def options(self, node: dict[str, Any]) -> list[tuple[float, int, dict[str, Any] | None]]:
        """(reward, visits, child) of each option: the children in order, then stopping, whose child is None."""
        found = [(c["reward"], c["visits"], c) for _, c in sorted(node["children"].items())]
        return [*found, *([(node["stop"][1], node["stop"][0], None)] if node["scores"] else [])]

    def walk(self) -> None:
        passed, here = [self.root], self.root
        while True:
            options = self.options(here)
            fresh = [o for o in options if o[1] == 0]
            if fresh:
                child = options[self.order(here, len(options))[len(options) - len(fresh)]][2]
            else:
                total = sum(visits for _, visits, _ in options)
                bounds = [r / c + self.gamma * math.sqrt(math.log(total) / c) for r, c, _ in options]
                child = options[bounds.index(max(bounds))][2]
            if child is None:
                break
            here = child
            passed.append(here)
        gain = sum(here["scores"]) / len(here["scores"])
        here["stop"] = [here["stop"][0] + 1, here["stop"][1] + gain]
        for node in passed:
            node["visits"] += 1
            node["reward"] += gain

    def path(self) -> tuple[Keys, float]:
        here = self.root
        while True:
            reward, visits, child = max((o for o in self.options(here) if o[1]), key=lambda o: o[0] / o[1])
            if child is None:
                return here["keys"], reward / visits
            here = child

    def all(self) -> dict[Keys, tuple[int, float]]:
        found, stack = {}, [self.root]
        while stack:
            node = stack.pop()
            found[node["keys"]] = node["visits"], node["reward"] / node["visits"] if node["visits"] else math.nan
            stack += node["children"].values()
        return found


@quick
@given(trajectories(), st.integers(1, 80), st.sampled_from((0.0, 0.5, math.sqrt(2), 5.0)), st.integers(0, 99))
def test_mcts_agrees_with_the_slow_one(given_: list[Trajectory], iterations: int, gamma: float, seed: int) -> None:
    tree = build_tree(given_)
    counts, sums = tree.visits.copy(), tree.score_sum.copy()
    found = mcts(tree, iterations=iterations, gamma=gamma, seed=seed)
    slow = SlowMCTS(given_, iterations, gamma, seed)
    expected = slow.all()
    nodes = [keys_of(tree, n) for n in range(len(tree))]
    assert set(nodes) == set(expected)
    for node, keys in enumerate(nodes):
        assert found.visits[node] == expected[keys][0]
        assert found.values[node] == pytest.approx(expected[keys][1], nan_ok=True)
    path, value = slow.path()
    assert keys_of(tree, found.end) == path
    assert found.value == pytest.approx(value)
    assert (
        found.trajectory.sample
        == min((t for t in given_ if key_path(t) == path), key=lambda t: (-t.score, t.sample)).sample
    )
    assert np.array_equal(tree.visits, counts)
    assert np.array_equal(tree.score_sum, sums)


@quick
@given(trajectories(), st.integers(0, 99))
def test_one_iteration_is_one_walk(given_: list[Trajectory], seed: int) -> None:
    tree = build_tree(given_)
    found = mcts(tree, iterations=1, seed=seed)
    assert [n for n in range(len(tree)) if found.visits[n]] == [0, *tree.path(found.end)]
    assert found.value == pytest.approx(end_values(given_)[keys_of(tree, found.end)])


@quick
@given(trajectories())
def test_mcts_never_beats_the_exact_search(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    assert mcts(tree, iterations=300).value <= exact(tree).value + 1e-9


@pytest.mark.parametrize("iterations", [0, -1])
def test_no_walk_finds_nothing(iterations: int) -> None:
    with pytest.raises(ValueError, match=f"iterations is {iterations}: MCTS needs at least 1 walk"):
        mcts(build_tree([trajectory(["a"])]), iterations=iterations)


def test_mcts_can_end_at_an_inner_node() -> None:
    tree = build_tree([trajectory("a", 1.0, sample=3), trajectory("ab", 0.0, sample=1)])
    found = mcts(tree, iterations=50)
    assert (found.end, found.trajectory.sample, found.value) == (1, 3, 1.0)


def test_mcts_as_published_cannot() -> None:
    """The better run is lost, because another one goes on from its end."""
    tree = build_tree([trajectory("a", 1.0, sample=3), trajectory("ab", 0.0, sample=1)])
    found = mcts(tree, iterations=50, may_stop=False)
    assert (found.end, found.trajectory.sample, found.value) == (2, 1, 0.0)


@quick
@given(trajectories())
def test_mcts_as_published_ends_at_a_leaf(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    found = mcts(tree, iterations=20, may_stop=False)
    assert not tree.children_of(found.end)
    if not any(tree.children_of(int(end)) for end in tree.end):
        assert found.end == mcts(tree, iterations=20).end, "where every run ends at a leaf it is the same search"


def test_a_trajectory_without_steps() -> None:
    tree = build_tree([trajectory("", 0.25, sample=2)])
    for found in (exact(tree), mcts(tree, iterations=1)):
        assert (found.end, found.trajectory.sample, found.value) == (0, 2, 0.25)


def figures(tree: TrajectoryTree, found: SearchResult) -> dict[str, Any]:
    """What a golden file stores about a search."""
    return {
        "path": [tree.action[n] for n in tree.path(found.end)],
        "sample": found.trajectory.sample,
        "value": round(found.value, 12),
        "values": [None if math.isnan(v) else round(v, 12) for v in found.values.tolist()],
        "visits": found.visits.tolist(),
    }


@pytest.mark.parametrize("name", ["corridor", "kitchen", "weather"])
def test_golden(name: str) -> None:
    """The files were written once, from `figures`; a difference means that the search now finds something else."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    tree = build_tree(
        trajectory(t["actions"], t["score"], sample=n, seen=t["seen"]) for n, t in enumerate(golden["trajectories"])
    )
    assert figures(tree, exact(tree)) == golden["exact"]
    assert figures(tree, mcts(tree, **golden["settings"])) == golden["mcts"]


def test_scores_that_differ_by_rounding_are_ties() -> None:
    """Rewards add up to 1.0 in the longer run, and to a little less in the shorter one, and neither is better."""
    summed = sum([0.1] * 10)
    assert summed < 1.0
    runs = [trajectory("abc", 1.0, sample=0), trajectory("ab", summed, sample=1), trajectory("ab", 1.0, sample=2)]
    tree = build_tree(runs)
    assert best_of_n(tree).trajectory.sample == 1, "of equally short ones the earliest"
    assert best_of_n(tree, n=1).trajectory.sample == 0
    assert exact(tree).trajectory.sample == 1
    clear = build_tree([*runs[1:], trajectory("abcd", 0.9, sample=3), trajectory("a", 0.99999, sample=4)])
    assert best_of_n(clear).trajectory.sample == 1, "a shorter one that really scores less is no tie"
