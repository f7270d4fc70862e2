"""Episodes that begin elsewhere: one tree with whole ones, but they count only where they played themselves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from tests.builders import branched, key_path, quick, trajectory

from trajtree.errors import DataError
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Origin, Trajectory
from trajtree.trees.forks import pairs
from trajtree.trees.merge import build_tree
from trajtree.trees.search import best_path, exact
from trajtree.trees.tree import TrajectoryTree
from trajtree.trees.values import discounted

STRUCTURE = ("parent", "depth", "decision", "first", "stop", "end")


def whole(given_: list[Trajectory]) -> list[Trajectory]:
    return [replace(t, origin=None) for t in given_]


def node_keys(tree: TrajectoryTree, node: int) -> tuple[tuple[str, str], ...]:
    return tuple((tree.observation[n], tree.action[n]) for n in tree.path(node))


@quick
@given(branched())
def test_the_tree_has_the_shape_of_whole_episodes(given_: list[Trajectory]) -> None:
    ours, theirs = build_tree(given_), build_tree(whole(given_))
    for name in STRUCTURE:
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert np.array_equal(ours.best, theirs.best)
    assert [t.key for t in ours.trajectories] == [t.key for t in theirs.trajectories]


@quick
@given(branched())
def test_counts_by_brute_force(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    scores = defaultdict(list)
    for one in given_:
        for length in range(len(one.steps) + 1):
            if one.origin is None or length > one.origin.steps:
                scores[key_path(one)[:length]].append(one.score)
    for node in range(len(tree)):
        here = scores[node_keys(tree, node)]
        assert tree.visits[node] == len(here) == len(tree.counting(node)) >= 1
        assert tree.mean[node] == pytest.approx(np.mean(here))
        assert sorted(tree.trajectories[i].score for i in tree.counting(node)) == sorted(here)
    assert np.allclose(discounted(1.0)(tree), tree.mean)


@quick
@given(branched())
def test_trees_survive_their_file(tmp_path_factory: pytest.TempPathFactory, given_: list[Trajectory]) -> None:
    path: Path = tmp_path_factory.mktemp("trees") / "trees.jsonl"
    tree = build_tree(given_)
    write_trees([tree], path)
    (read,) = read_trees(path)
    for name in (*STRUCTURE, "visits", "score_sum"):
        assert np.array_equal(getattr(read, name), getattr(tree, name)), name
    assert read.trajectories == tree.trajectories


@quick
@given(branched())
def test_pairs_compare_what_counts(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    by_sample = {t.sample: t for t in tree.trajectories}
    for pair in pairs(tree, per_fork=3):
        rejected = by_sample[pair.rejected_sample]
        assert rejected.origin is None or rejected.origin.steps <= pair.depth
        assert pair.rejected_visits >= 1


def test_a_branch_started_from_a_failure_does_not_make_its_way_worse() -> None:
    """Two runs, the better one left at its first step by five bad branches: the fork at the root still prefers it."""
    good, bad = trajectory(["a", "b"], 1.0, sample=0), trajectory(["c"], 0.5, sample=1)
    worse = [replace(trajectory(["a", "x"], 0.0, sample=2 + i), origin=Origin(0, 1)) for i in range(5)]
    found = {pair.depth: pair for pair in pairs(build_tree([good, bad, *worse]), per_fork=1)}
    assert [(depth, found[depth].chosen_sample, found[depth].chosen_value) for depth in sorted(found)] == [
        (0, 0, 1.0),
        (1, 0, 1.0),
    ]
    assert found[0].rejected_sample == 1


def test_a_branch_without_its_parent_is_refused() -> None:
    alone = replace(trajectory(["a", "b"], sample=3), origin=Origin(1, 1))
    with pytest.raises(DataError, match="sample 3: branched off sample 1, which is not among the trajectories"):
        build_tree([alone])


def test_a_branch_that_does_not_begin_like_its_parent_is_refused() -> None:
    """Its nodes would be passed by nobody who counts there, and their means would be NaN."""
    parent = trajectory(["a", "b", "c"], sample=0)
    for actions, steps in ((["x", "y", "z"], 1), (["a", "y", "z"], 2), (["a", "b", "d"], 3)):
        stray = replace(trajectory(actions, sample=1), origin=Origin(0, steps))
        said = f"sample 1: branched off sample 0 after {steps} steps?, and does not begin with the same ones; correct"
        with pytest.raises(DataError, match=said):
            build_tree([trajectory(["o"], sample=2), parent, stray])
    fine = [replace(trajectory(["a", "b", "d"], sample=n), origin=Origin(n - 1, 2)) for n in (1, 2)]
    assert build_tree([parent, *fine]).visits.all()


def test_branches_of_one_another_are_refused() -> None:
    itself = replace(trajectory(["a", "b"], sample=0), origin=Origin(0, 1))
    with pytest.raises(DataError, match="sample 0: branched off sample 0 after 1 step"):
        build_tree([itself])
    both = [replace(trajectory(["a", "b"], sample=n), origin=Origin(1 - n, 1)) for n in range(2)]
    with pytest.raises(DataError, match="sample 0: the runs that it branched off branched off it in turn"):
        build_tree(both)


def test_a_file_with_a_stray_branch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    child = replace(trajectory(["a", "c"], sample=1), origin=Origin(0, 1))
    write_trees([build_tree([trajectory(["a", "b"], sample=0), child])], path)
    path.write_text(path.read_text().replace('"origin":[0,1]', '"origin":[0,2]'))
    with pytest.raises(DataError, match=r"line 2, field trajectories\.1\.origin: branched off sample 0 after 2 steps"):
        list(read_trees(path))


def test_a_best_path_stands_by_itself() -> None:
    parent = trajectory(["a", "b"], 0.0, sample=0)
    child = replace(trajectory(["a", "c"], 1.0, sample=1), origin=Origin(0, 1))
    path = best_path(build_tree([parent, child]), exact)
    assert (path.sample, path.origin, len(path.steps)) == (1, None, 2)


def test_an_origin_takes_over_no_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="origin has 3 steps, the episode has 2"):
        replace(trajectory(["a", "b"]), origin=Origin(0, 3))
    cut = replace(trajectory(["a", "b", "c"]), origin=Origin(0, 2)).first(1)
    assert cut.origin is None
