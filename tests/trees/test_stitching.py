"""Stitched paths: proposals until they are played, and never worse than what was sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, trajectory

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.replay import replay, replayer
from trajtree.errors import DataError
from trajtree.trajectory import Origin, Outcome, Step, Trajectory
from trajtree.trees.merge import build_tree
from trajtree.trees.search import best_path, exact
from trajtree.trees.stitching import Proposal, best_sample, propose, shorten, stitch
from trajtree.trees.tree import TrajectoryTree


class Corridor(Environment):
    """Rooms 0 to 4 in a row, with a coin in rooms 2 and 4. The agent sees the room, not the coins that it has."""

    name: ClassVar[str] = "corridor"
    version: ClassVar[str] = "1"
    instruction: ClassVar[str] = "left, right, take, read"

    def reset(self, task: str) -> str:
        self.room, self.coins = 1, {2, 4}
        return self.view()

    def view(self) -> str:
        return f"Room {self.room}."

    def step(self, action: str) -> StepResult:
        reward = 0.0
        if action == "left":
            self.room = max(0, self.room - 1)
        elif action == "right":
            self.room = min(4, self.room + 1)
        elif action == "take" and self.room in self.coins:
            self.coins.remove(self.room)
            reward = 0.5
        elif action == "read":
            return StepResult(f"Room {self.room}. A sign: xyzzy", 0.0, False, False)
        elif action == "xyzzy":
            self.room = 4
        return StepResult(self.view(), reward, not self.coins, False)


def sampled(*runs: str) -> TrajectoryTree:
    names = {"l": "left", "r": "right", "t": "take", "d": "read", "x": "xyzzy"}
    played = [replay(Corridor(), "corridor/0", [names[c] for c in run], policy="weak") for run in runs]
    return build_tree(Trajectory(**{**fields(t), "sample": n}) for n, t in enumerate(played))


def fields(trajectory: Trajectory) -> dict[str, object]:
    return {name: getattr(trajectory, name) for name in Trajectory.__dataclass_fields__}


def actions(trajectory: Trajectory) -> list[str]:
    return [s.action for s in trajectory.steps]


def test_what_no_run_did_is_made_of_two() -> None:
    """One run takes the first coin and turns back, the other walks past it to the second coin."""
    tree = sampled("rtllll", "rrrt")
    assert max(t.score for t in tree.trajectories) == 0.5
    found = stitch(tree, replayer(Corridor()))
    assert actions(found.best) == ["right", "take", "right", "right", "take"]
    assert (found.best.score, found.best.outcome, found.sampled_score) == (1.0, Outcome.COMPLETED, 0.5)
    assert (found.improves_score, found.gained, found.best.policy, found.best.sample) == (True, True, "stitched", 2)


def test_proposals_are_not_believed() -> None:
    """In the graph of rooms the same coin can be taken twice, coming from two sides; in the game it is there once."""
    tree = sampled("rt", "rrlt")
    proposals = propose(tree)
    assert all(isinstance(p, Proposal) and p.task == "corridor/0" for p in proposals)
    found = stitch(tree, replayer(Corridor()))
    assert found.best.score == 0.5
    assert not found.improves_score


def test_proposals_are_no_samples_and_the_best_come_first() -> None:
    tree = sampled("rtllll", "rrrt")
    proposals = propose(tree, limit=20)
    known = {tuple(actions(t)) for t in tree.trajectories}
    assert not known & {p.actions for p in proposals}
    assert [p.expected for p in proposals] == sorted((p.expected for p in proposals), reverse=True)
    assert len({p.actions for p in proposals}) == len(proposals)
    assert propose(tree, limit=1) == proposals[:1]


def test_idle_steps_go_and_steps_that_reveal_something_stay() -> None:
    """Walking to and fro gains nothing. Nor does reading, but the word on the sign is used later."""
    (tree,) = [sampled("lrdlrxt")]
    (run,) = tree.trajectories
    shorter, played = shorten(run, replayer(Corridor()))
    assert actions(shorter) == ["read", "xyzzy", "take"]
    assert shorter.score == run.score == 0.5
    assert played > 0


class Till(Environment):
    """A coin to take, worth `coin`; `submit` ends the episode, and gains nothing."""

    coin = 1.0

    name: ClassVar[str] = "till"
    version: ClassVar[str] = "1"
    instruction: ClassVar[str] = "take, look, submit"

    def reset(self, task: str) -> str:
        self.taken = False
        return "A coin."

    def step(self, action: str) -> StepResult:
        gain = self.coin * (action == "take" and not self.taken)
        self.taken |= action == "take"
        return StepResult("Nothing." if self.taken else "A coin.", gain, action == "submit", False)


@pytest.mark.parametrize("coin", [1.0, 0.6])
def test_what_ends_an_episode_is_part_of_its_path(coin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is there before the end, but without the end the episode is not completed."""
    monkeypatch.setattr(Till, "coin", coin)
    runs = [replay(Till(), "till/0", said.split(), policy="weak") for said in ("take look submit", "look submit")]
    tree = build_tree(replace(run, sample=number) for number, run in enumerate(runs))
    assert best_path(tree, exact) == runs[0]
    found = stitch(tree, replayer(Till())).best
    assert actions(found) == ["take", "submit"] and found.outcome is Outcome.COMPLETED
    assert replay(Till(), "till/0", actions(found), policy="weak").outcome is Outcome.COMPLETED
    cut = replay(Till(), "till/0", ["take", "look"], policy="weak")
    assert best_sample(build_tree([cut, replace(runs[0], sample=1)])).outcome is Outcome.COMPLETED


def test_a_path_does_not_refer_to_the_run_that_it_branched_off() -> None:
    first = trajectory(("a", "b"), 0.0)
    branched = replace(trajectory(("a", "c"), 1.0, sample=1), origin=Origin(0, 1))
    tree = build_tree([first, branched])
    found = stitch(tree, lambda task, said: trajectory(said, 0.0)).best
    assert found == replace(branched, origin=None) == best_path(tree, exact)
    assert build_tree([found])


@pytest.mark.parametrize("equal", [1, 2, 5, 12])
def test_equal_runs_crowd_out_no_proposal(equal: int) -> None:
    """Each ends in a state of its own, so the graph has an edge for each of them."""

    def run(*steps: tuple[str, str, float]) -> Trajectory:
        taken = tuple(Step(seen, done, None, gain) for seen, done, gain in steps)
        return replace(trajectory((), sum(step.reward for step in taken)), steps=taken)

    ways = [(("A", way, gain), ("M", "y", 0.0)) for way, gain in (("b", 0.3), ("e", 0.2), ("f", 0.25))]
    runs = [run(("A", "a", 0.0), ("M", "x", 0.5))] * equal + [run(*way) for way in ways]
    runs += [run(("A", "c", 0.25), ("N", "w", 0.0)), run(("A", "d", 0.0), ("N", "z", 0.35))]
    proposals = propose(build_tree(replace(one, sample=number) for number, one in enumerate(runs)), limit=8)
    assert [("".join(one.actions), one.expected) for one in proposals][:4] == [
        ("bx", 0.8),
        ("fx", 0.75),
        ("ex", 0.7),
        ("cz", 0.6),
    ]
    assert len(proposals) == 8


def test_nothing_to_gain_leaves_the_sample() -> None:
    tree = sampled("rtrrt")
    found = stitch(tree, replayer(Corridor()))
    assert found.best == tree.trajectories[0].without_idle_end()
    assert not found.gained


def test_an_environment_that_breaks_is_no_failure_of_the_path() -> None:
    def broken(task: str, played: Sequence[str]) -> Trajectory:
        return Trajectory(task, 0, "x", "corridor", "1", None, None, (), (), 0.0, Outcome.ENV_ERROR, error="gone")

    with pytest.raises(DataError, match=r"corridor/0.*gone"):
        stitch(sampled("rtllll", "rrrt"), broken)


@quick
@given(st.lists(st.text("lrtdx", min_size=1, max_size=8), min_size=1, max_size=5))
def test_stitching_never_loses_and_scores_are_real(runs: list[str]) -> None:
    tree = sampled(*runs)
    found = stitch(tree, replayer(Corridor()))
    assert found.best.score >= max(t.score for t in tree.trajectories) - 1e-9
    again = replay(Corridor(), "corridor/0", actions(found.best), policy="test")
    assert again.score == pytest.approx(found.best.score)
    best = [t for t in tree.trajectories if t.score >= found.sampled_score - 1e-9]
    assert len(found.best.steps) <= min(len(t.steps) for t in best) or found.improves_score


def test_a_shorter_way_to_a_score_that_is_no_round_number_is_tried() -> None:
    """Expected scores are sums that were rounded: a third is not less than a third."""
    third = trajectory(["a", "b", "c"], 1 / 3)
    assert Proposal(third.task, ("a", "c"), round(1 / 3, 9)).could_beat(third)
    assert not Proposal(third.task, ("a", "b", "c"), round(1 / 3, 9)).could_beat(third)


def test_the_best_sample_is_the_shortest_of_those_whose_scores_differ_by_rounding() -> None:
    runs = [trajectory("abcdef", 1.0, sample=0), trajectory("abcd", 1.0 - 2**-53, sample=1)]
    assert best_sample(build_tree(runs)).sample == 1
