"""Recorded runs as demonstrations: played again, with their thoughts and what they were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.toy import Toy, demonstrate, solution

from trajtree.envs.domain import NoDemonstration
from trajtree.envs.recorded import in_lines, opening_of, recorded_expert
from trajtree.errors import DataError
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Step, Trajectory

GIVEN = (Message("user", "You leave rooms. An example: ..."), Message("assistant", "OK"))


def run(
    task: str, actions: Sequence[str], score: float = 1.0, *, unscored: bool = False, sample: int = 0
) -> Trajectory:
    """A run as a log has it: other observations, thoughts, an acknowledgement before its own first reply."""
    said = [
        message
        for number, action in enumerate(actions)
        for message in (
            Message("user", f"Observation: {number}"),
            Message("assistant", f"Thought: t{number}\nAction: {action}"),
        )
    ]
    shown = demonstrate(Toy(), task)
    assert isinstance(shown, Trajectory)
    return replace(
        shown,
        sample=sample,
        messages=(*GIVEN, *said),
        steps=tuple(Step(f"Observation: {n}", action, f"t{n}") for n, action in enumerate(actions)),
        score=0.0 if unscored else score,
        unscored=unscored,
        context_turns=1,
    )


def store(folder: Path, *runs: Trajectory) -> Path:
    path = folder / "expert.jsonl"
    TrajectoryStore(path).append(runs)
    return path


def test_a_run_is_played_again_with_its_thoughts_and_its_opening(tmp_path: Path) -> None:
    path = store(tmp_path, replace(run("toy/0", solution("toy/0"), unscored=True), task="8_0"))
    shown = recorded_expert(path, {"8_0": "toy/0"}, "Think.")(Toy(), "toy/0")
    assert isinstance(shown, Trajectory)
    assert shown.success and shown.task == "toy/0" and shown.context_turns == 1
    assert shown.messages[:2] == GIVEN and shown.messages[2].content == Toy().reset("toy/0")
    assert shown.messages[3].content == f"Thought: t0\nAction: {solution('toy/0')[0]}"
    assert [step.thought for step in shown.steps] == ["t0", "t1"]
    bare = recorded_expert(path, {"8_0": "toy/0"}, "")(Toy(), "toy/0")
    assert isinstance(bare, Trajectory) and bare.messages[3].content == solution("toy/0")[0]


def test_the_best_run_counts_and_must_reach_its_score(tmp_path: Path) -> None:
    first = solution("toy/0")[:1]
    path = store(tmp_path, run("toy/0", ["look"], 0.0), run("toy/0", first, 0.5, sample=1), run("toy/1", ["look"], 0.5))
    expert = recorded_expert(path, {}, "")
    shown = expert(Toy(), "toy/0")
    assert isinstance(shown, Trajectory) and shown.score == 0.5
    assert expert(Toy(), "toy/1") == NoDemonstration("toy/1", f"its run in {path} scores 0 here, not 0.5")
    assert expert(Toy(), "toy/2") == NoDemonstration("toy/2", f"{path} has no run of it")


def test_runs_that_were_given_different_things_are_refused(tmp_path: Path) -> None:
    other = replace(run("toy/1", ["look"]), messages=(Message("user", "Else."), *run("toy/1", ["look"]).messages[1:]))
    path = store(tmp_path, run("toy/0", ["look"]), other)
    with pytest.raises(DataError, match=r"toy/0 \(sample 0\) and toy/1 \(sample 0\) were given different messages"):
        opening_of(path)


def test_a_system_message_is_an_opening_too(tmp_path: Path) -> None:
    shown = demonstrate(Toy(), "toy/0")
    assert isinstance(shown, Trajectory)
    assert opening_of(store(tmp_path, shown)) == (Message("system", Toy.instruction),)


def test_bare_demonstrations_of_models_that_think_are_lines(tmp_path: Path) -> None:
    shown = demonstrate(Toy(), "toy/0")
    assert isinstance(shown, Trajectory)
    said = in_lines(shown, "Think.").messages
    assert said[0].content == f"{Toy.instruction} Think." and said[2].content == f"Action: {solution('toy/0')[0]}"
