"""What merging trajectories must keep."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import TASK, key_path, quick, trajectories, trajectory

from trajtree.errors import DataError
from trajtree.trajectory import Outcome, Trajectory
from trajtree.tree import TrajectoryTree, TreeQuality, build, build_tree, from_record, quality, to_record

ARRAYS = ("parent", "depth", "visits", "score_sum", "end")


def same(one: TrajectoryTree, other: TrajectoryTree) -> bool:
    rest = ("task", "trajectories", "observation", "action")
    return all(np.array_equal(getattr(one, a), getattr(other, a)) for a in ARRAYS) and all(
        getattr(one, a) == getattr(other, a) for a in rest
    )


def node_keys(tree: TrajectoryTree, node: int) -> tuple[tuple[str, str], ...]:
    return tuple((tree.observation[n], tree.action[n]) for n in tree.path(node))


@quick
@given(trajectories())
def test_every_trajectory_can_be_read_back(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    assert sorted(t.sample for t in tree.trajectories) == [t.sample for t in given_]
    for index, one in enumerate(tree.trajectories):
        assert node_keys(tree, int(tree.end[index])) == key_path(one)
        assert index in tree.ending[tree.end[index]]


@quick
@given(trajectories().flatmap(lambda ts: st.tuples(st.just(ts), st.permutations(ts))))
def test_order_of_arrival_changes_nothing(both: tuple[list[Trajectory], list[Trajectory]]) -> None:
    assert same(build_tree(both[0]), build_tree(both[1]))


@quick
@given(trajectories())
def test_counts_are_those_of_brute_force(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    visits: Counter[tuple[tuple[str, str], ...]] = Counter()
    scores: defaultdict[tuple[tuple[str, str], ...], float] = defaultdict(float)
    for one in given_:
        for length in range(len(one.steps) + 1):
            visits[key_path(one)[:length]] += 1
            scores[key_path(one)[:length]] += one.score
    nodes = [node_keys(tree, n) for n in range(len(tree))]
    assert len(set(nodes)) == len(tree) == len(visits)
    assert {k: tree.visits[n] for n, k in enumerate(nodes)} == visits
    assert {k: tree.score_sum[n] for n, k in enumerate(nodes)} == scores
    for n, keys in enumerate(nodes):
        assert [tree.trajectories[i] for i in tree.through(n)] == [
            t for t in tree.trajectories if key_path(t)[: len(keys)] == keys
        ]


@quick
@given(trajectories())
def test_parent_depth_and_children_agree(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    assert (tree.parent[0], tree.depth[0], tree.observation[0], tree.action[0]) == (tree.NO_PARENT, 0, "", "")
    for node in range(1, len(tree)):
        assert 0 <= tree.parent[node] < node
        assert tree.depth[node] == tree.depth[tree.parent[node]] + 1 == len(tree.path(node))
        assert node in tree.children[tree.parent[node]]
    assert sum(map(len, tree.children)) == len(tree) - 1


@quick
@given(trajectories())
def test_forks_are_choices_of_the_agent(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    forks = list(tree.forks())
    for node, children in forks:
        assert len({tree.observation[c] for c in children}) == 1
        assert len({tree.action[c] for c in children}) == len(children) > 1
        assert set(children) <= set(tree.children[node])
    groups = Counter((int(tree.parent[n]), tree.observation[n]) for n in range(1, len(tree)))
    assert len(forks) == sum(count > 1 for count in groups.values())


@quick
@given(trajectories(env_errors=True))
def test_env_errors_are_no_data(given_: list[Trajectory]) -> None:
    played = [t for t in given_ if t.outcome is not Outcome.ENV_ERROR]
    trees = build(given_)
    assert [t for tree in trees for t in tree.trajectories] == sorted(played, key=lambda t: (key_path(t), t.sample))
    if played != given_:
        with pytest.raises(DataError, match="env_error"):
            build_tree(given_)


def test_one_tree_a_task() -> None:
    given_ = [trajectory("a", task=task, sample=n) for n, task in enumerate(("t/b", "t/a", "t/b"))]
    assert [(tree.task, len(tree.trajectories)) for tree in build(given_)] == [("t/a", 1), ("t/b", 2)]
    with pytest.raises(DataError, match=r"\['t/a', 't/b'\]"):
        build_tree(given_)
    with pytest.raises(DataError, match="none"):
        build_tree([])
    assert build([]) == []


def test_canonical_forms_decide_what_merges() -> None:
    given_ = [trajectory(["Go  North"], sample=0, seen=["Hall"]), trajectory(["go north"], sample=1, seen=["hall"])]
    assert len(build_tree(given_)) == 3
    tree = build_tree(
        given_, canonical_action=lambda a: " ".join(a.lower().split()), canonical_observation=lambda o: o.lower()
    )
    assert (len(tree), tree.action[1], tree.observation[1]) == (2, "go north", "hall")


@quick
@given(trajectories())
def test_record_survives_json(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    again = from_record(json.loads(json.dumps(to_record(tree))), {t.key: t for t in given_})
    assert same(tree, again)
    assert [getattr(again, a).dtype for a in ARRAYS] == [getattr(tree, a).dtype for a in ARRAYS]


def test_record_without_its_trajectory() -> None:
    tree = build_tree([trajectory("ab", sample=7)])
    with pytest.raises(DataError, match=r"toy/0.*7"):
        from_record(to_record(tree), {})


def test_quality_by_hand() -> None:
    """After `a` the agent chose `b` or `c` to the same end (no information); at the root, `a` or `d` (information)."""
    tree = build_tree(
        [
            trajectory("ab", 0.5, sample=0),
            trajectory("ac", 0.5, sample=1),
            trajectory("acb", 0.5, sample=2),
            trajectory("d", 1.0, sample=3),
            trajectory("d", 0.0, sample=4),
            trajectory("dd", 1.0, sample=5),
        ]
    )
    assert quality(tree) == TreeQuality(
        task=TASK,
        trajectories=6,
        nodes=6,  # a, ab, ac, acb, d, dd
        leaves=3,  # ab, acb, dd
        forks=2,
        informative_forks=1,
        depth=3,
        best=1.0,
        mean=3.5 / 6,
    )
