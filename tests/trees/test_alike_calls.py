"""Calls that are worded differently, and what merging by a part of the actions overlooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick

from trajtree.chat import action_of
from trajtree.trajectory import Message, Outcome, Step, ToolCall, Trajectory
from trajtree.trees.findings import Findings
from trajtree.trees.merge import build_tree
from trajtree.trees.partings import first_parting
from trajtree.trees.tree import TrajectoryTree

Turn = tuple[str, dict[str, Any], str]
"""(tool, arguments, what it answered) of a call."""


def calling(sample: int, score: float, *turns: Turn, task: str = "t") -> Trajectory:
    """A run that calls a tool in each step."""
    messages, steps, seen = [Message("user", "go")], [], "go"
    for number, (tool, arguments, answer) in enumerate(turns):
        said = Message("assistant", "", tool_calls=(ToolCall(f"c{sample}{number}", tool, json.dumps(arguments)),))
        messages += [said, Message("tool", answer, tool_call_id=f"c{sample}{number}")]
        steps.append(Step(seen, action_of(said)))
        seen = answer
    last = Message("assistant", "done")
    return Trajectory(
        task=task,
        sample=sample,
        policy="p",
        env="e",
        env_version="",
        seed=None,
        sampling=None,
        messages=(*messages, last),
        steps=(*steps, Step(seen, "done", reward=score)),
        score=score,
        outcome=Outcome.COMPLETED,
    )


def bash(command: str, description: str, answer: str = "ok") -> Turn:
    return "Bash", {"command": command, "description": description}, answer


def edit(path: str, view: list[int], answer: str) -> Turn:
    return "edit", {"command": "view", "path": path, "view_range": view}, answer


@pytest.mark.parametrize(
    ("one", "other", "remedy", "calls"),
    [
        (
            bash("ls", "List"),
            bash("ls", "List files"),
            "--action command",
            "calls of Bash that differ only in description",
        ),
        (
            bash("ls", "List", "10:31"),
            bash("ls", "Look", "10:32"),
            "--action command",
            "calls of Bash that differ only",
        ),
        (bash("ls", "List"), bash("pwd", "List", "no"), "", ""),
        (bash("ls", "List"), ("Shell", {"command": "ls"}, "ok"), "", ""),
        (edit("a", [1, 9], "one"), edit("a", [9, 20], "two"), "", ""),
        (("find", {"q": "x", "top": 5}, "none"), ("find", {"q": "x", "top": 9}, "none"), "--action q", "calls of find"),
        (("find", {"q": "x", "top": 5}, "none"), ("find", {"q": "y", "top": 5}, "none"), "", ""),
    ],
)
def test_calls_worded_differently(one: Turn, other: Turn, remedy: str, calls: str) -> None:
    runs = [calling(0, 0.0, one), calling(1, 1.0, other)]
    found = first_parting(build_tree(runs))
    assert found is not None
    assert (found.what, found.remedy) == ("action", remedy)
    assert found.calls.startswith(calls) and bool(found.calls) == bool(calls)


def test_two_of_many_options_are_enough() -> None:
    turns = [bash("pwd", "Where", "/"), bash("ls", "List"), bash("cat a", "Read", "a"), bash("ls", "Look")]
    found = first_parting(build_tree([calling(n, n / 3, turn) for n, turn in enumerate(turns)]))
    assert found is not None and found.remedy == "--action command"
    assert sorted(word for text in found.texts for word in ("List", "Look", "Read", "Where") if word in text) == [
        "List",
        "Look",
    ]


WORDS = st.sampled_from(["List", "Look", "Show"])


@quick
@given(st.lists(st.tuples(st.sampled_from(["ls", "pwd"]), WORDS), min_size=2, max_size=6))
def test_the_option_that_is_named_makes_them_one(told: list[tuple[str, str]]) -> None:
    runs = [calling(n, 0.5, bash(*turn, answer=turn[0])) for n, turn in enumerate(told)]
    found = first_parting(build_tree(runs))
    if found is not None and found.remedy:
        merged = build_tree(runs, action=found.remedy.removeprefix("--action "))
        assert len(merged) < len(build_tree(runs))
    reworded = {command: {words for other, words in told if other == command} for command, _ in told}
    assert bool(found and found.remedy) == any(len(words) > 1 for words in reworded.values())


def found_in(*trees: TrajectoryTree) -> Findings:
    findings = Findings()
    for tree in trees:
        findings.add(tree)
    return findings


def test_steps_that_did_different_things_are_counted() -> None:
    runs = [calling(0, 0.0, edit("a", [1, 9], "one")), calling(1, 1.0, edit("b", [1, 9], "two"))]
    whole, merged = build_tree(runs), build_tree(runs, action="command")
    assert found_in(whole).overlooked.steps == 0
    found = found_in(merged).overlooked
    assert (found.steps, found.apart) == (1, 1)
    assert found.example is not None
    assert str(found.example).startswith("task t, action of step 1: '...")


def test_the_example_is_one_that_was_answered_differently() -> None:
    quiet = [calling(n, n, bash("ls", words)) for n, words in enumerate(("List", "Look"))]
    loud = [calling(n, n, bash("ls", words, words), task="u") for n, words in enumerate(("List", "Look"))]
    found = found_in(*(build_tree(runs, action="command") for runs in (quiet, loud))).overlooked
    assert (found.steps, found.apart) == (2, 1)
    assert found.example is not None and found.example.task == "u"
    assert found_in(build_tree(loud, action="command", ignore=["List|Look"])).overlooked.steps == 0


def test_why_tasks_have_no_fork_with_a_gap() -> None:
    fork = [calling(n, n, bash("ls" if n else "pwd", "x", str(n))) for n in range(2)]
    alone = [calling(0, 0.5, bash("pwd", "x", "0"), task="even0")]
    equal = [
        build_tree([calling(n, 0.5, bash(str(n), "x"), task=f"equal{which}") for n in range(2)]) for which in range(2)
    ]
    clock = build_tree([calling(n, n, bash("ls", "x", f"10:3{n}"), task="clock") for n in range(2)])
    same = build_tree([calling(n, n, bash("ls", "x"), task="same") for n in range(2)])
    found = found_in(build_tree(fork), build_tree(alone), *equal, clock, same).divergence
    assert (found.tasks, found.without) == (6, 5)
    assert [(lack.tasks, lack.reason, lack.example) for lack in found.lacking()] == [
        (2, "all runs score the same", "task equal0: 2 runs score 0.5"),
        (1, "there is only one run", "task even0"),
        (
            1,
            "the runs diverge in the observation",
            "task clock, observation of step 2: '10:30' against '10:31'; "
            "trajtree build --ignore clock-times would treat these texts as the same",
        ),
        (1, "the runs do the same as far as each goes", "task same"),
    ]
