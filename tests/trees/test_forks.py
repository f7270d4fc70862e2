"""Preference pairs: same past, different choice, a real difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import key_path, quick, trajectories, trajectory

from trajtree.trajectory import Outcome, Trajectory
from trajtree.trees.forks import (
    PairSettings,
    Select,
    adjacent,
    every,
    extremes,
    options_of,
    over_explored,
    pairs,
    pairs_of,
)
from trajtree.trees.merge import build_tree
from trajtree.trees.pair import PASTS, Pair
from trajtree.trees.values import Aggregate, best, discounted, mean
from trajtree.trees.whole_runs import over_each_worse, prompts_apart, unstructured, whole


@quick
@given(
    trajectories(),
    st.sampled_from((mean, best)),
    st.sampled_from((0.05, 0.25, 0.6)),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_what_every_pair_keeps(
    given_: list[Trajectory], aggregate: Aggregate, min_gap: float, per_fork: int, per_tree: int
) -> None:
    tree = build_tree(given_)
    found = pairs(tree, aggregate=aggregate, min_gap=min_gap, per_fork=per_fork, per_tree=per_tree)
    by_sample = {t.sample: t for t in given_}
    assert len(found) <= per_tree
    forks = Counter((p.node, key_path(by_sample[p.chosen_sample])[p.depth][0]) for p in found)
    assert all(count <= per_fork for count in forks.values())
    # Every fork has its widest pair in before any fork has its second, and so on.
    seen: Counter[tuple[int, str]] = Counter()
    rounds = []
    for pair in found:
        fork = (pair.node, key_path(by_sample[pair.chosen_sample])[pair.depth][0])
        rounds.append((seen[fork], -round(pair.gap, 9)))
        seen[fork] += 1
    assert rounds == sorted(rounds)
    for pair in found:
        chosen, rejected = by_sample[pair.chosen_sample], by_sample[pair.rejected_sample]
        assert key_path(chosen)[: pair.depth] == key_path(rejected)[: pair.depth]
        after_chosen, after_rejected = key_path(chosen)[pair.depth], key_path(rejected)[pair.depth]
        assert after_chosen[0] == after_rejected[0]
        assert after_chosen[1] != after_rejected[1]
        assert pair.gap >= min_gap
        assert pair.chosen_value > pair.rejected_value
        assert chosen.score > rejected.score
        assert pair.depth == tree.depth[pair.node]
        for side, value, visits in (
            (after_chosen, pair.chosen_value, pair.chosen_visits),
            (after_rejected, pair.rejected_value, pair.rejected_visits),
        ):
            prefix = (*key_path(chosen)[: pair.depth], side)
            behind = [t.score for t in given_ if key_path(t)[: len(prefix)] == prefix]
            assert visits == len(behind)
            assert value == pytest.approx(max(behind) if aggregate is best else sum(behind) / len(behind))


@quick
@given(trajectories())
def test_a_generous_call_finds_every_fork_with_a_difference(given_: list[Trajectory]) -> None:
    tree = build_tree(given_)
    found = pairs(tree, min_gap=1e-9, per_fork=99, per_tree=999)
    expected = sum(
        abs(tree.mean[a] - tree.mean[b]) > 1e-9 for _, same in tree.forks() for a in same for b in same if a < b
    )
    assert len(found) == expected


def test_equal_scores_make_no_pair() -> None:
    assert pairs(build_tree([trajectory("a", 0.5), trajectory("b", 0.5, sample=1)]), min_gap=1e-12) == []


def test_children_that_differ_by_observation_never_pair() -> None:
    sun = trajectory(["a", "b"], 1.0, sample=0, seen=["hall", "sun"])
    rain = trajectory(["a", "c"], 0.0, sample=1, seen=["hall", "rain"])
    assert pairs(build_tree([sun, rain])) == []


def test_caps() -> None:
    """Two forks with three unequal children each."""
    given_ = [
        trajectory(actions, score, sample=n)
        for n, (actions, score) in enumerate([("aa", 1.0), ("ab", 0.5), ("ac", 0.0), ("b", 0.25), ("c", 0.0)])
    ]
    tree = build_tree(given_)
    widest = pairs(tree)
    assert [(p.depth, p.chosen_sample, p.rejected_sample, p.gap) for p in widest] == [(1, 0, 2, 1.0), (0, 0, 4, 0.5)]
    assert pairs(tree, per_tree=1) == widest[:1]
    assert len(pairs(tree, per_fork=2)) == 4
    assert len(pairs(tree, per_fork=9)) == 6
    assert len(pairs(tree, per_fork=9, per_tree=5)) == 5
    assert len(pairs(tree, per_fork=9, min_gap=0.3)) == 4


def test_best_and_worst_continuation_the_shorter_of_equals() -> None:
    given_ = [
        trajectory("aaa", 1.0, sample=0),
        trajectory("aa", 1.0, sample=1),
        trajectory("ab", 0.0, sample=2),
        trajectory("baa", 0.0, sample=3),
        trajectory("bb", 0.0, sample=4),
        trajectory("bc", 0.25, sample=5),
    ]
    (pair,) = [p for p in pairs(build_tree(given_)) if p.depth == 0]
    assert (pair.chosen_sample, pair.rejected_sample, pair.chosen_visits, pair.rejected_visits) == (1, 4, 3, 3)
    assert (pair.chosen_value, pair.rejected_value) == (pytest.approx(2 / 3), pytest.approx(0.25 / 3))


@quick
@given(trajectories(), st.sampled_from((1.0, 0.9, 0.5)))
def test_discounted_values_by_brute_force(given_: list[Trajectory], gamma: float) -> None:
    tree = build_tree(given_)
    value = discounted(gamma)(tree)
    for node in range(len(tree)):
        behind = [tree.trajectories[i] for i in tree.through(node)]
        expected = [t.score * gamma ** (len(t.steps) - tree.depth[node]) for t in behind]
        assert value[node] == pytest.approx(sum(expected) / len(expected))


def test_sides_are_chosen_by_what_the_value_counts() -> None:
    """Discounted, the short success is better than the long one, whatever their scores say."""
    runs = [
        trajectory("a", 1.0, sample=0),
        trajectory("abcabc", 1.0, sample=1),
        trajectory("bbbbbb", 1.0, sample=2),
        trajectory("bb", 0.9, sample=3),
    ]
    tree = build_tree(runs)
    for past in PASTS:
        found = pairs_of(tree, PairSettings(aggregate="discounted", gamma=0.5, min_gap=0.01, past=past))
        (first, *_) = [pair for pair in found if pair.depth == 0]
        assert (first.chosen_sample, first.rejected_sample) == (0, 2)
    score = pairs_of(tree, PairSettings(min_gap=0.01, past="equal"))
    assert [(pair.chosen_sample, pair.rejected_sample) for pair in score if pair.depth == 0] == [(0, 3)]


@quick
@given(trajectories(), st.sampled_from((1.0, 0.9, 0.5)))
def test_equal_pasts_are_found_under_discounting_too(given_: list[Trajectory], gamma: float) -> None:
    """Here all runs through a node have one past, so asking for equal pasts changes nothing."""
    tree = build_tree(given_)
    settings = PairSettings(aggregate="discounted", gamma=gamma, min_gap=0.05, per_fork=9, per_tree=99)
    found = [pair for pair in pairs_of(tree, settings) if pair.past == "equal"]
    equal = pairs_of(tree, replace(settings, past="equal"))
    assert {(p.node, p.chosen_value, p.rejected_value) for p in found} <= {
        (p.node, p.chosen_value, p.rejected_value) for p in equal
    }
    for pair in equal:
        one, other = (t.score * gamma ** len(t.steps) for t in pair.sides(tree))
        assert one > other


def test_which_options_are_compared() -> None:
    given_ = [
        trajectory([action], score, sample=n)
        for n, (action, score) in enumerate(zip("abcd", (1, 0.6, 0.3, 0), strict=True))
    ]
    tree = build_tree(given_)

    def compared(select: Select) -> list[tuple[int, int]]:
        return sorted((p.chosen_sample, p.rejected_sample) for p in pairs(tree, select=select, per_fork=9))

    assert compared(extremes) == [(0, 3)]
    assert compared(adjacent) == [(0, 1), (1, 2), (2, 3)]
    assert compared(every) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [(p.chosen_sample, p.rejected_sample) for p in pairs(tree)] == [(0, 3)]


@quick
@given(trajectories(), st.sampled_from((0.05, 0.25, 0.6)), st.integers(1, 6))
def test_pairs_without_forks(given_: list[Trajectory], min_gap: float, per_tree: int) -> None:
    tree = build_tree(given_)
    score = {t.sample: t.score for t in given_ if t.steps}
    begun = {t.sample: t.steps[0].observation for t in given_ if t.steps}
    wide = [(a, b) for a in score for b in score if score[a] - score[b] >= min_gap]
    together = [(a, b) for a, b in wide if begun[a] == begun[b]]
    assert prompts_apart(tree, min_gap=min_gap) == len(wide) - len(together)
    done = {t.sample: key_path(t) for t in given_}
    possible = sum(done[a] != done[b] for a, b in together)
    for found in (
        whole(tree, min_gap=min_gap, per_tree=per_tree),
        unstructured(tree, min_gap=min_gap, per_tree=per_tree),
    ):
        assert len(found) == min(per_tree, possible)
        assert len({(p.chosen_sample, p.rejected_sample) for p in found}) == len(found)
        for pair in found:
            assert (pair.node, pair.depth, pair.past) == (0, 0, "equal")
            assert begun[pair.chosen_sample] == begun[pair.rejected_sample]
            assert done[pair.chosen_sample] != done[pair.rejected_sample]
            assert (pair.chosen_value, pair.rejected_value) == (score[pair.chosen_sample], score[pair.rejected_sample])
            assert pair.gap >= min_gap
    assert unstructured(tree, seed=1) == unstructured(tree, seed=1)


@pytest.mark.parametrize("pairing", [whole, unstructured])
def test_a_trajectory_without_a_step_is_in_no_pair_of_whole_ones(pairing: Callable[..., list[Pair]]) -> None:
    """It ended before it acted: there is no reply of it to set against another's."""
    mute = trajectory([], 0.0, sample=0, outcome=Outcome.AGENT_ERROR)
    good, bad = trajectory(["a"], 1.0, sample=1), trajectory(["b"], 0.0, sample=2)
    found = pairing(build_tree([mute, good, bad]), per_tree=9)
    assert [(pair.chosen_sample, pair.rejected_sample) for pair in found] == [(1, 2)]
    assert [p.rejected_sample for p in over_each_worse(good, [mute, bad], min_gap=0.1, most=9)] == [2]


@pytest.mark.parametrize("mode", ["whole", "unstructured", "matched"])
def test_runs_that_did_the_same_are_no_pair_whatever_they_score(mode: str) -> None:
    """Both sides would be the same text."""
    lucky, unlucky = trajectory(["a", "b "], 1.0, sample=0), trajectory(["a", "b"], 0.0, sample=1)
    other = trajectory(["a", "c"], 0.5, sample=2)
    settings = PairSettings(mode=mode, aggregate="best")
    assert pairs_of(build_tree([lucky, unlucky]), settings) == []
    found = pairs_of(build_tree([lucky, unlucky, other]), settings)
    assert {(pair.chosen_sample, pair.rejected_sample) for pair in found} <= {(0, 2), (2, 1)} and found
    worse = over_each_worse(lucky, [unlucky, other], min_gap=0.1, most=9)
    assert [pair.rejected_sample for pair in worse] == [2]


@quick
@given(trajectories(), st.integers(1, 8))
def test_matched_pairs_are_random_and_as_many_as_at_forks(runs: list[Trajectory], per_tree: int) -> None:
    tree = build_tree(runs)
    settings = PairSettings(mode="matched", min_gap=0.2, per_tree=per_tree)
    at_forks = pairs_of(tree, replace(settings, mode="every"))
    found = pairs_of(tree, settings)
    assert len(found) <= len(at_forks)
    assert len(found) == min(len(at_forks), len(unstructured(tree, min_gap=0.2, per_tree=99)))


# --- the expert's steps ---


def of_expert(*runs: Trajectory, experts: tuple[int, ...] = (9,), **settings: float) -> list[tuple[str, str, float]]:
    """For each pair, either side's actions after the fork, and the gap."""
    tree = build_tree(runs)
    found = []
    for pair in over_explored(tree, experts, PairSettings(**settings)):  # type: ignore[arg-type]
        ours, theirs = ("".join(s.action for s in side.steps[pair.depth :]) for side in pair.sides(tree))
        found.append((ours, theirs, round(pair.gap, 6)))
    return found


def test_the_expert_stands_over_what_was_explored_at_the_forks_on_its_path() -> None:
    expert = trajectory("abc", 1.0, sample=9)
    explored = trajectory("abd", 0.0, sample=0), trajectory("ae", 0.5, sample=1), trajectory("ae", 0.0, sample=2)
    apart = trajectory("fg", 0.75, sample=3), trajectory("fh", 0.0, sample=4)
    assert of_expert(expert, *explored, *apart) == [
        ("c", "d", 1.0),
        ("bc", "e", 0.75),
        ("abc", "fh", 0.625),
    ], "where the expert did not come there is no pair; a side shows its worst run, and its value is their mean"
    assert of_expert(expert, *explored, *apart, per_tree=1) == [("c", "d", 1.0)]
    assert of_expert(expert, *explored, *apart, min_gap=0.7) == [("c", "d", 1.0), ("bc", "e", 0.75)]


def test_an_explorer_that_did_as_the_expert_is_not_rejected() -> None:
    expert, other = trajectory("ab", 1.0, sample=9), trajectory("ac", 1.0, sample=8)
    assert of_expert(expert, trajectory("ab", 0.0, sample=0)) == []
    found = of_expert(expert, other, trajectory("ad", 0.0, sample=0), experts=(8, 9))
    assert found == [("b", "d", 1.0)], "of two experts at a fork one speaks, and they are not compared"
    assert of_expert(expert, trajectory("ac", 1.0, sample=0)) == [], "nothing is gained"


def test_without_an_expert_there_is_no_pair() -> None:
    assert of_expert(trajectory("a", 1.0, sample=0), trajectory("b", 0.0, sample=1), experts=()) == []


# --- ties ---

BELOW_ONE = 1.0 - 2**-53
"""What rewards of 1.0 in all may add up to."""


@pytest.mark.parametrize("past", PASTS)
def test_sides_whose_scores_differ_by_rounding_are_ties(past: str) -> None:
    runs = [
        trajectory("abcabc", 1.0, sample=0),
        trajectory("abca", BELOW_ONE, sample=1),
        trajectory("bbbbbb", 0.0, sample=2),
        trajectory("bbbb", 2**-60, sample=3),
    ]
    # A tree whose merging ignores something looks for sides with similar pasts one by one.
    for tree in (build_tree(runs), build_tree(runs, ignore=["dates"])):
        (pair,) = (pair for pair in pairs(tree, past=past) if pair.depth == 0)
        assert (pair.chosen_sample, pair.rejected_sample) == (1, 3)


def test_options_and_experts_whose_scores_differ_by_rounding_are_ties() -> None:
    runs = [trajectory("abc", 1.0, sample=0), trajectory("ab", BELOW_ONE, sample=1), trajectory("c", 0.0, sample=2)]
    tree = build_tree(runs)
    assert [option.sample for option in options_of(tree, PairSettings()) if option.depth == 0] == [1, 2]
    worse = trajectory("bbbb", 0.0, sample=0), trajectory("bb", 2**-60, sample=1)
    assert of_expert(trajectory("abc", 1.0, sample=9), *worse) == [("abc", "bb", 1.0)]
    experts = trajectory("ab", BELOW_ONE, sample=9), trajectory("ac", 1.0, sample=8)
    found = of_expert(*experts, trajectory("ad", 0.0, sample=0), experts=(8, 9))
    assert found == [("b", "d", 1.0)], "the one that comes first in the tree speaks"
