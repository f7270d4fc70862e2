"""What is said of episodes while they are played agrees with what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from tests.builders import Told, quick, trajectories, trajectory

from trajtree.explore import tally as tally_module
from trajtree.explore.episode import sampled_tokens
from trajtree.explore.tally import Tally
from trajtree.trajectory import Cause, Origin, Outcome, Trajectory


class Shown(Told):
    """Also keeps the last figures and picture."""

    figures: Mapping[str, float]
    picture: Sequence[str] = ()

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:  # type: ignore[override]
        super().advance(amount)
        self.figures = self.figures if figures is None else figures

    def illustrate(self, lines: Sequence[str]) -> None:
        self.picture = lines


@quick
@given(trajectories(faults=True))
def test_figures_are_those_of_the_episodes(played: list[Trajectory]) -> None:
    shown = Shown()
    tally = Tally(shown)
    for one in played:
        tally.played([one])
    valid = [t for t in played if not t.outcome.is_fault]
    own = sum(len(t.steps) - (t.origin.steps if t.origin else 0) for t in played)
    assert shown.figures["steps"] == own and sum(shown.amounts) == len(played)
    if valid:
        assert shown.figures["score"] == pytest.approx(sum(t.score for t in valid) / len(valid))
        assert shown.figures["success"] == pytest.approx(sum(t.success for t in valid) / len(valid))
    else:
        assert "score" not in shown.figures
    errors = Counter(t.cause.value for t in played if t.cause is not None)
    assert {name: value for name, value in shown.figures.items() if name in set(Cause)} == errors


def test_tokens_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(tally_module.time, "monotonic", lambda: now[0])
    shown = Shown()
    tally = Tally(shown)
    now[0] = 4.0
    one = trajectory(["a", "b"])
    tally.played([one])
    assert shown.figures["tokens/s"] == sampled_tokens(one) / 4


def test_what_was_kept_is_counted_and_not_measured() -> None:
    told = Told()
    tally = Tally(told)
    tally.kept(0)
    tally.kept(5)
    assert told.amounts == [5] and tally.figures()["steps"] == 0


def test_the_picture_is_the_tree_of_the_last_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "_SECONDS", 0.0)
    shown = Shown()
    tally = Tally(shown)
    tally.played([trajectory(["x"], 1.0, task="other")])
    tally.played([trajectory(["a", "b"], 1.0), trajectory(["a", "c"], 0.0, sample=1)])
    assert shown.picture[0].startswith("'toy/0': 2 runs")
    assert any("a  0.50 of 2" in line for line in shown.picture)
    fault = replace(trajectory([], sample=2), outcome=Outcome.ENV_ERROR, cause=Cause.ENVIRONMENT_FAULT)
    branched = replace(trajectory(["a", "d"], 0.5, sample=900), origin=Origin(899, 1))
    tally.played([fault, branched])
    assert shown.picture[0].startswith("'toy/0': 3 runs"), "faults are no runs; a parent may have been forgotten"


def test_pictures_are_drawn_at_most_once_a_second() -> None:
    shown = Shown()
    tally = Tally(shown)
    tally.played([trajectory(["a"])])
    assert shown.picture == ()
