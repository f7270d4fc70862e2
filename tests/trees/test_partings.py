"""Where runs part, and one sentence on why there is no pair."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.builders import trajectory

from trajtree.trajectory import Message, Trajectory
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.merge import build_tree
from trajtree.trees.partings import Parting, first_parting, why_no_pair
from trajtree.trees.tree import TrajectoryTree


def tree_of(*runs: Trajectory) -> TrajectoryTree:
    return build_tree([replace(run, sample=n) for n, run in enumerate(runs)])


def under(prompt: str, tool: str = "") -> Trajectory:
    messages = (Message("system", prompt), Message("user", "go"), Message("assistant", "a"))
    return replace(trajectory("a", seen=["go"]), messages=messages, tools=(tool,) if tool else ())


def asked(words: str, score: float) -> Trajectory:
    """What a user asked in their own words."""
    return replace(trajectory("a", score, seen=[words]), messages=(Message("user", words), Message("assistant", "a")))


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (tree_of(trajectory("ab")), None),
        (tree_of(trajectory("ab"), trajectory("ab"), trajectory("a")), None),
        (tree_of(trajectory("ab"), trajectory("ac")), Parting("toy/0", 1, "action", ("b", "c"))),
        (
            tree_of(trajectory("ab", seen=["door", "10:31"]), trajectory("ab", seen=["door", "10:32"])),
            Parting("toy/0", 1, "observation", ("10:31", "10:32")),
        ),
        (
            tree_of(under("Be brief."), under("Be kind.")),
            Parting("toy/0", 0, "system prompt", ("Be brief.", "Be kind.")),
        ),
        (tree_of(under("Be.", "{}"), under("Be.")), Parting("toy/0", 0, "tools", ("{}", ""))),
    ],
)
def test_where_runs_part(tree: TrajectoryTree, expected: Parting | None) -> None:
    assert first_parting(tree) == expected


def test_long_texts_are_shown_where_they_differ() -> None:
    same = "word " * 1000
    tree = tree_of(trajectory("a", seen=[f"{same}one {same}"]), trajectory("a", seen=[f"{same}two {same}"]))
    found = first_parting(tree)
    assert found is not None
    assert found.texts == tuple(f"...{('word ' * 4)}{n} {'word ' * 9}"[:63] for n in ("one", "two"))


CLOCK = [trajectory("ab", n / 2, seen=["door", f"10:3{n}"]) for n in range(3)]


@pytest.mark.parametrize(
    ("trees", "settings", "said"),
    [
        ([tree_of(trajectory("a"))] * 2, {}, "there is one run per task (2 tasks), and a pair needs two"),
        ([tree_of(trajectory("a"), trajectory("b"))], {}, "all runs of each task score the same"),
        (
            [tree_of(*CLOCK)],
            {},
            "there is no fork, where the agent saw the same thing and acted differently: in 1 of 1 task the runs "
            "diverge in the observation, for example in task toy/0, observation of step 2: '10:30' against '10:31'; "
            "trajtree build --ignore clock-times would treat these texts as the same",
        ),
        (
            [tree_of(*(trajectory("ab", n, seen=["door", f"{'no ' * n}light"]) for n in range(2)))],
            {},
            "there is no fork, where the agent saw the same thing and acted differently: in 1 of 1 task the runs "
            "diverge in the observation, for example in task toy/0, observation of step 2: 'light' against 'no light'; "
            "if these mean the same, merge by meaning (trajtree build --merge semantic), or compare whole runs "
            "(--mode whole)",
        ),
        (
            [tree_of(*(asked(words, n) for n, words in enumerate(("Cancel it.", "Please cancel."))))],
            {},
            "there is no fork, where the agent saw the same thing and acted differently: in 1 of 1 task the runs "
            "diverge in the observation, for example in task toy/0, observation of step 1: 'Cancel it.' against "
            "'Please cancel.'; trajtree build --ignore first-message would treat these texts as the same",
        ),
        (
            [tree_of(replace(under("It is 10:31."), score=1.0), under("It is 10:32."))],
            {},
            "there is no fork, where the agent saw the same thing and acted differently: in 1 of 1 task the runs "
            "diverge in the system prompt, for example in task toy/0, system prompt: 'It is 10:31.' against "
            "'It is 10:32.'; trajtree build --ignore clock-times would treat these texts as the same",
        ),
        (
            [tree_of(replace(under("Be kind."), score=1.0), under("Be brief."))],
            {},
            "there is no fork, where the agent saw the same thing and acted differently: in 1 of 1 task the runs "
            "diverge in the system prompt, for example in task toy/0, system prompt: 'Be brief.' against 'Be kind.'; "
            "only runs that began with the same prompt can be compared; if the prompts mean the same, merge by meaning "
            "(trajtree build --merge semantic)",
        ),
        (
            [tree_of(trajectory("a"), trajectory("a", 1.0))],
            {},
            "there is no fork, where the agent saw the same thing and acted differently: the runs",
        ),
        (
            [tree_of(trajectory("a", 0.5), trajectory("b", 0.45))],
            {},
            "the widest gap of 1 fork is 0.05, less than 0.1; lower --min-gap",
        ),
        (
            [tree_of(trajectory("a", 0.5), trajectory("b", 0.0), trajectory("b", 1.0))],
            {},
            "on both sides of each fork (1 fork) the runs score the same on average",
        ),
        (
            [tree_of(trajectory("a", 1.0, seen=["x"]), trajectory("b", 0.0, seen=["x "]))],
            {"past": "equal"},
            "at no fork (1 fork) do a better and a worse run have equal pasts; omit --past equal",
        ),
        (
            [tree_of(trajectory("a", 1.0, seen=["x"]), trajectory("b", 0.0, seen=["y"]))],
            {"mode": "whole"},
            "runs whose scores differ by 0.1 began with different prompts, for example in task toy/0, observation of "
            "step 1: 'x' ",
        ),
        (
            [tree_of(trajectory("a", 0.5), trajectory("b", 0.45))],
            {"mode": "whole"},
            "no two scores of a task differ by 0.1, at most by 0.05; lower --min-gap",
        ),
        (
            [tree_of(trajectory("a", 1.0, seen=["x"]), trajectory("b", 0.0, seen=["x "]))],
            {"mode": "whole", "past": "equal"},
            "no two runs whose scores differ by 0.1 have equal pasts; omit --past equal",
        ),
        (
            [tree_of(trajectory("a", 1.0), trajectory("a", 0.0))],
            {"mode": "unstructured"},
            "of two runs whose scores differ by 0.1, both did the same throughout, or one took no step",
        ),
        (
            [tree_of(*CLOCK)],
            {"mode": "matched"},
            "--mode matched takes as many pairs as there are at forks: there is no fork, where the agent saw the same "
            "thing and acted differently: in 1 of 1 task the runs diverge in the observation, for example in ",
        ),
        (
            [tree_of(trajectory("a", 0.5), trajectory("b", 0.0), trajectory("b", 1.0))],
            {"mode": "matched"},
            "--mode matched takes as many pairs as there are at forks: on both sides of each fork (1 fork) the runs",
        ),
        (
            [tree_of(trajectory("a", 1.0, seen=["x"]), trajectory("b", 0.0, seen=["y"]))],
            {"mode": "matched"},
            "runs whose scores differ by 0.1 began with different prompts, for example in task toy/0, observation of ",
        ),
    ],
)
def test_why_there_is_no_pair(trees: list[TrajectoryTree], settings: dict[str, str], said: str) -> None:
    how = PairSettings(**settings)  # type: ignore[arg-type]
    assert [pair for tree in trees for pair in pairs_of(tree, how)] == []
    assert why_no_pair(trees, how).startswith(said)


def test_a_pair_leads_to_its_runs() -> None:
    """Samples are no indices: trees sort their trajectories."""
    tree = build_tree([trajectory("b", 1.0, sample=7), trajectory("a", 0.0, sample=9)])
    (pair,) = pairs_of(tree, PairSettings())
    assert (pair.chosen_sample, pair.rejected_sample) == (7, 9)
    better, worse = pair.sides(tree)
    assert (better.score, worse.score) == (1.0, 0.0)
    assert tree.trajectory(7) == better != tree.trajectories[0]
    with pytest.raises(KeyError):
        tree.trajectory(0)


def test_a_remedy_is_a_remedy() -> None:
    """Under the options that a parting names, its two texts are the same: the runs go on together."""
    runs = [
        trajectory("ab", n / 2, sample=n, seen=["door", f"root@3fa1c{n}:/app# took 0.{n}2s at 10:3{n}"])
        for n in range(2)
    ]
    found = first_parting(build_tree(runs))
    assert found is not None
    assert found.remedy == "--ignore container-ids --ignore clock-times --ignore durations"
    assert first_parting(build_tree(runs, ignore=found.remedy.split()[1::2])) is None


@pytest.mark.parametrize("command", ["ls", "cat a\ncat b", ""])
def test_replies_with_the_same_tag_are_told(command: str) -> None:
    """Also where it is not the first two options that are the same in other words."""
    said = ["Up, <b>not</b> down.\n<act>go</act>", f"First <act>{command}</act>", f"So <act>{command}</act> it is."]
    runs = [trajectory([reply], sample=n) for n, reply in enumerate(said)]
    found = first_parting(build_tree(runs))
    assert found is not None and found.what == "action"
    action = found.remedy.removeprefix("--action '").removesuffix("'")
    assert action == ("(?s)" if "\n" in command else "") + "<act>(.*?)</act>"
    assert len(build_tree(runs, action=action)) == len(build_tree(runs)) - 1


@pytest.mark.parametrize(
    "one", ["a <act>ls</act>", "</act>", "<act>", "<act>rm</act> ls", "</b>" * 50_000, "<b>" * 50_000]
)
def test_replies_with_another_tag_or_none_are_not(one: str) -> None:
    runs = [trajectory([reply], sample=n) for n, reply in enumerate((one, "ls <b>ls</b>"))]
    found = first_parting(build_tree(runs))
    assert found is not None and (found.what, found.remedy) == ("action", "")


def test_replies_with_the_same_command_are_told() -> None:
    runs = [trajectory([f"{said}\n```\nls\n```"], sample=n) for n, said in enumerate(("First", "So"))]
    found = first_parting(build_tree(runs))
    assert found is not None and (found.what, found.remedy) == ("action", "--action last-code-block")
    assert first_parting(build_tree(runs, action="last-code-block")) is None


@pytest.mark.parametrize(
    ("one", "other", "remedy"),
    [
        ("root@3fa1c0d2e4b5:/app# ", "root@9fceb02d2e4b:/app# ", "--ignore container-ids"),
        ("HEAD is now at 9fceb02", "HEAD is now at 1a2b3c4", "--ignore commit-ids"),
        ("2026-11-26 10:31:05 ok", "2026-11-27 11:00:00 ok", "--ignore timestamps"),
    ],
)
def test_the_narrowest_of_what_could_be_ignored_is_named(one: str, other: str, remedy: str) -> None:
    runs = [
        trajectory(["look", action], score, sample=sample, seen=["a room", seen])
        for sample, (seen, action, score) in enumerate([(one, "a", 1.0), (other, "b", 0.0)])
    ]
    parting = first_parting(build_tree(runs))
    assert parting is not None
    assert parting.remedy == remedy


def test_what_an_action_names_is_never_to_be_ignored() -> None:
    runs = [
        trajectory([f"git checkout {commit}"], score, sample=sample)
        for sample, (commit, score) in enumerate([("9fceb02", 1.0), ("1a2b3c4", 0.0)])
    ]
    parting = first_parting(build_tree(runs))
    assert parting is not None
    assert parting.remedy == ""
