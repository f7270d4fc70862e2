"""What is ignored in comparison and what acts in a reply, and that nothing of it reaches what is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, trajectory

from trajtree.errors import DataError
from trajtree.formats.pairs import pair_messages
from trajtree.store.trajectory_store import line_of
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Message, Step, ToolCall, Trajectory
from trajtree.trees.findings import Findings
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.merge import Merger, build_tree
from trajtree.trees.pair import PASTS
from trajtree.trees.sameness import ACTIONS, FIRST_MESSAGE, IGNORABLE, Acting, Ignoring, Merging
from trajtree.trees.tree import TrajectoryTree
from trajtree.trees.whole_runs import prompts_apart

SAME = {
    "container-ids": [
        ("root@3fa1c0:/app# ls", "root@77bd02:/app# ls"),
        ("[agent@0a1b2c3d4e5f ~]$", "[agent@ffeedd001122 ~]$"),
        ("exec 4c01db0b339c sh", "exec 0123456789ab sh"),
    ],
    "timestamps": [
        ("at 2026-11-26 10:31:05,123 INFO", "at 2026-11-27 09:00:00,001 INFO"),
        ("2026-11-26T10:31:05.123456Z done", "2025-01-02T23:59:59Z done"),
        ("Thu Nov 26 11:15:05 UTC 2026", "Fri Jan  2 01:02:03 UTC 2026"),
        ("-rw-r--r-- 1 me me 5 Nov 26 11:15 a", "-rw-r--r-- 1 me me 5 Dec  1 09:02 a"),
        ("[26/Nov/2026:11:15:05 +0000] GET", "[01/Dec/2026:09:02:00 +0100] GET"),
    ],
    "dates": [("on 2026-11-26.", "on 2025-01-02.")],
    "clock-times": [("It is 10:31", "It is 9:02"), ("10:31:05.25 ok", "23:59:59.9 ok")],
    "durations": [
        ("1 passed in 0.03s", "1 passed in 12.41s"),
        ("real\t0m1.204s", "real\t2m0.001s"),
        ("took 35 ms", "took 4 ms"),
        ("3.2 seconds", "0.1 seconds"),
    ],
    "temp-paths": [
        ("/tmp/tmpa3f9x2kq/out.txt", "/tmp/tmp_0k2b9qz/out.txt"),
        ("/tmp/tmp.Xa3Fq9ZpLm", "/tmp/tmp.b4KQz0aAaa"),
        ("/tmp/pytest-of-root/pytest-3/test_a0", "/tmp/pytest-of-root/pytest-12/test_a0"),
        ("/tmp/npm-a1B2c3/x", "/tmp/npm-Zz09Yx/x"),
        ("/var/folders/ab/c1d2/T/x", "/var/folders/qq/e3f4/T/x"),
    ],
    "uuids": [("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-0000-4000-8000-00000000000A")],
    "commit-ids": [
        ("HEAD is now at 9fceb02", "HEAD is now at 1a2b3c4"),
        ("commit " + "a1" * 20, "commit " + "b2" * 20),
    ],
    "memory-addresses": [("<Foo at 0x7f3a5c0d2e80>", "<Foo at 0x7fffde001020>")],
    "process-ids": [("pid 4123 ended", "pid 7 ended"), ("PID=99", "PID=100")],
}
DIFFERENT = {
    "container-ids": [("order 123456789012", "order 999999999999"), ("a@facade: hi", "a@decade: hi")],
    "timestamps": [("fly on 2026-11-26", "fly on 2026-11-27"), ("ratio 10:31", "ratio 10:32"), ("Nov 26", "Nov 27")],
    "dates": [("4-11-26", "4-11-27")],
    "clock-times": [("John 3", "John 4"), ("port 8080", "port 8081")],
    "durations": [("wait 10 minutes", "wait 20 minutes"), ("5 s", "6 s"), ("2.5 stars", "3.5 stars")],
    "temp-paths": [("/tmp/a.py", "/tmp/b.py"), ("/tmp/my-script.python", "/tmp/my-script.backup")],
    "uuids": [("123e4567", "123e4568")],
    "commit-ids": [("defaced", "effaced"), ("1234567", "7654321")],
    "memory-addresses": [("0x10", "0x20")],
    "process-ids": [("stupid 5", "stupid 6"), ("5 apples", "6 apples")],
}
VOLATILE = st.sampled_from(
    ("root@3fa1c0:", "root@77bd02:", "at 10:31", "at 10:32", "in 0.03s", "in 12.41s", "2026-11-26 10:31", "", "x", "y")
)
RULES = st.lists(st.sampled_from([*IGNORABLE, r"root@\w+", "x|y"]), max_size=3, unique=True)
WORDS = (
    "so\n```\nls\n```",
    "well\n```\nls\n```\n",
    "```sh\ncat a\n```",
    "ls",
    "cat 10:31",
    '{"command": "ls", "why": "x"}',
)


def test_every_name_is_tried() -> None:
    assert set(SAME) == set(DIFFERENT) == set(IGNORABLE) - {FIRST_MESSAGE}


@pytest.mark.parametrize(("name", "one", "other"), [(name, *both) for name, found in SAME.items() for both in found])
def test_what_is_ignored_by_name(name: str, one: str, other: str) -> None:
    ignoring = Ignoring([name])
    assert one != other and ignoring(one) == ignoring(other)
    assert ignoring.unmatched == []


@pytest.mark.parametrize(("name", "one", "other"), [(n, *both) for n, found in DIFFERENT.items() for both in found])
def test_what_has_a_meaning_is_not_ignored(name: str, one: str, other: str) -> None:
    ignoring = Ignoring([name])
    assert ignoring(one) != ignoring(other)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("container-id", "did you mean 'container-ids'.*as a regular expression write .container-id."),
        ("[", r"--ignore '\[': not a regular expression"),
        ("x*", "matches the empty text"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rule: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        build_tree([trajectory("a")], ignore=[rule])


@pytest.mark.parametrize(
    ("action", "reply", "found"),
    [
        ("last-code-block", "Look:\n```\nls\n```\nthen\n```bash\ncat a\n```\nOK?", "cat a"),
        ("last-code-block", "~~~\nls\n~~~", "ls"),
        ("last-code-block", "````md\n```\na\n```\n````", "```\na\n```"),
        ("last-code-block", "```\r\nls\r\n```\r\n", "ls\r"),
        ("last-code-block", "```\nls\n```\nand\n```\nrm", "ls"),
        ("last-code-block", "```a\n" * 20_000, None),
        ("last-code-block", "a ``` b ``` c", None),
        (r"<run>(.*)</run>", "I think.\n<run>ls</run>", "ls"),
        (r"^\$.*", "$ ls", "$ ls"),
        ("command", '{"command": "ls", "thought": "hm"}', "ls"),
        ("run.command", '{"run": {"command": ["ls", 1]}}', '["ls", 1]'),
        ("command", '{"cmd": "ls"}', None),
        ("command", "ls", None),
    ],
)
def test_the_part_of_a_reply_that_acts(action: str, reply: str, found: str | None) -> None:
    acting = Acting(action)
    assert acting(trajectory([reply])) == [reply if found is None else found]
    assert (acting.replies, acting.without) == (1, int(found is None))


def test_a_field_of_the_calls_arguments_is_the_action() -> None:
    calls = (ToolCall("1", "sh", '{"keys": "ls\\n", "wait": 0.1}'), ToolCall("2", "look", '{"at": "x"}'))
    messages = (Message("user", "go"), Message("assistant", "hm", tool_calls=calls))
    run = replace(trajectory(["sh and look"], seen=["go"]), messages=messages)
    assert Acting("keys")(run) == ['sh(ls\n)\nlook({"at": "x"})']
    other = Acting("nothing")
    assert other(run) == ["sh and look"] and other.without == 1


@pytest.mark.parametrize(
    ("action", "said"),
    [("last-code-blok", "did you mean 'last-code-block'"), ("(", r"--action '\(': not a regular expression")],
)
def test_actions_that_cannot_be_meant_are_refused(action: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        build_tree([trajectory("a")], action=action)


def test_text_agents_share_what_they_do() -> None:
    """Without the option each wording is an action of its own; the pasts then differ in it."""
    said = [["I look.\n```\nls\n```", "```\ncat a\n```"], ["First:\n```\nls\n```", "So:\n```\nrm a\n```"]]
    runs = [trajectory(replies, n, sample=n, seen=["$", "a b"]) for n, replies in enumerate(said)]
    assert len(build_tree(runs)) == 5
    tree = build_tree(runs, action="last-code-block")
    assert tree.action == ("", "ls", "cat a", "rm a")
    (pair,) = pairs_of(tree, PairSettings())
    assert (pair.depth, pair.chosen_sample, pair.past) == (1, 1, "ignored")


def conversation(sample: int, score: float, system: str, said: list[tuple[str, str]], tool: str = "") -> Trajectory:
    messages = [Message("system", system)] if system else []
    for seen, done in said:
        messages += [Message("user", seen), Message("assistant", done)]
    steps = tuple(Step(*step) for step in said)
    tools = (tool,) if tool else ()
    return replace(
        trajectory("", score, sample=sample), messages=tuple(messages), steps=steps, tools=tools, context_turns=0
    )


@st.composite
def runs(draw: st.DrawFn) -> list[Trajectory]:
    """Runs of one task that agree, but for what is volatile."""
    found = []
    for sample in range(draw(st.integers(1, 6))):
        said = [
            (f"step {n} {draw(VOLATILE)}", draw(st.sampled_from(WORDS)) + draw(st.sampled_from(("", " "))))
            for n in range(draw(st.integers(0, 3)))
        ]
        system = draw(st.sampled_from(("", "Act.", "It is 10:31.", "It is 10:32.")))
        tool = draw(st.sampled_from(("", "", '{"at": "10:31"}', '{"at": "10:32"}')))
        found.append(conversation(sample, draw(st.sampled_from((0.0, 0.5, 1.0))), system, said, tool))
    return found


ACTIONS_TRIED = st.sampled_from([None, *ACTIONS, "command", r"```\w*\n(.*)"])


@quick
@given(runs(), RULES, ACTIONS_TRIED, st.sampled_from(list(PASTS)), st.booleans())
def test_what_is_written_is_what_the_runs_held(
    tmp_path_factory: pytest.TempPathFactory,
    given_: list[Trajectory],
    ignore: list[str],
    action: str | None,
    past: str,
    step_only: bool,
) -> None:
    """Byte for byte, and the tree that is read back is the tree that was written."""
    path: Path = tmp_path_factory.mktemp("trees") / "trees.jsonl"
    tree = build_tree(given_, ignore=ignore, action=action)
    write_trees([tree], path)
    (back,) = read_trees(path)
    assert {line_of(t) for t in back.trajectories} == {line_of(t) for t in given_}
    assert back.merging == tree.merging == Merging(tuple(ignore), action)
    assert (back.observation, back.action) == (tree.observation, tree.action)
    for name in ("parent", "depth", "decision", "first", "stop", "visits", "score_sum", "end"):
        assert np.array_equal(getattr(back, name), getattr(tree, name))
    found = pairs_of(back, PairSettings(past=past, per_fork=9, per_tree=99))
    for pair, written in zip(found, pair_messages(back, found, step_only=step_only), strict=True):
        assert list(PASTS).index(pair.past) <= list(PASTS).index(past)
        better, worse = pair.sides(back)
        begin, other = len(written.prompt), worse.replies[pair.depth]
        assert better.messages[: begin + len(written.chosen)] == written.prompt + written.chosen
        assert worse.messages[other : other + len(written.rejected)] == written.rejected
        if pair.past != "ignored":
            assert better.context == worse.context
        assert (pair.past == "equal") == (better.past(pair.depth) == worse.past(pair.depth))


@quick
@given(runs(), RULES, ACTIONS_TRIED)
def test_ignoring_more_merges_more_and_never_depends_on_the_order(
    given_: list[Trajectory], ignore: list[str], action: str | None
) -> None:
    tree = build_tree(given_, ignore=ignore, action=action)
    assert len(tree) <= len(build_tree(given_))
    again = build_tree(given_[::-1], ignore=ignore, action=action)
    assert [t.sample for t in again.trajectories] == [t.sample for t in tree.trajectories]
    assert np.array_equal(again.decision, tree.decision)


@quick
@given(runs(), RULES)
def test_what_is_found_is_what_pairs_gives(given_: list[Trajectory], ignore: list[str]) -> None:
    tree, found = build_tree(given_, ignore=ignore), Findings()
    found.add(tree)
    assert found.pairs == len(pairs_of(tree, PairSettings()))
    assert found.divergence.forks == len(list(tree.forks()))
    assert found.shared == sum(len(t.steps) for t in given_) - (len(tree) - 1)
    if not found.pairs:
        assert found.divergence.verdict().reason


def test_contexts_that_differ_in_what_is_ignored_are_the_same() -> None:
    given_ = [conversation(n, n, f"It is 10:3{n}.", [("go", "ab"[n])], f'{{"at": "10:3{n}"}}') for n in range(2)]
    assert not list(build_tree(given_).forks())
    tree = build_tree(given_, ignore=["clock-times"])
    assert len(list(tree.forks())) == 1 and prompts_apart(tree) == 0
    assert [pair.past for pair in pairs_of(tree, PairSettings("whole"))] == ["ignored"]
    assert pairs_of(tree, PairSettings("whole", past="similar")) == []


def test_a_simulated_user_may_word_the_first_message_anew() -> None:
    given_ = [conversation(n, n, "Policy", [(said, f"reply {n}")]) for n, said in enumerate(("Cancel.", "Please do."))]
    assert not list(build_tree(given_).forks())
    tree = build_tree(given_, ignore=[FIRST_MESSAGE])
    assert [pair.past for pair in pairs_of(tree, PairSettings())] == ["ignored"]
    later = [
        conversation(n, n, "Policy", [("Hi", "Yes?"), (said, "ab"[n])]) for n, said in enumerate(("Cancel.", "Do."))
    ]
    assert not list(build_tree(later, ignore=[FIRST_MESSAGE]).forks()), "later messages are compared"


def close(texts: list[str]) -> np.ndarray:
    """Texts with the same first word are similar."""
    words = sorted({text.split(maxsplit=1)[0] for text in texts if text})
    return np.array([[float(text.split(maxsplit=1)[:1] == [word]) for word in words] for text in texts], np.float32)


def test_merging_by_meaning_covers_contexts(tmp_path: Path) -> None:
    systems = ("Help the user.", "Help whoever asks.", "Never help.")
    given_ = [conversation(n, n / 2, system, [("go", "abc"[n])]) for n, system in enumerate(systems)]
    tree = build_tree(given_, embed=close)
    assert [[tree.action[child] for child in children] for _, children in tree.forks()] == [["a", "b"]]
    write_trees([tree], tmp_path / "trees.jsonl")
    (back,) = read_trees(tmp_path / "trees.jsonl")
    assert np.array_equal(back.decision, tree.decision)
    assert back.merging == Merging(similarity=0.9)
    assert [pair.past for pair in pairs_of(back, PairSettings())] == ["similar"]
    tools = [replace(run, tools=(tool,)) for run, tool in zip(given_[:2], ("{}", '{"a": 1}'), strict=True)]
    assert not list(build_tree(tools, embed=close).forks()), "tools must be equal"


def test_tasks_whose_runs_began_differently_are_counted() -> None:
    """What counts is what was given, not what was then seen; and what merging keeps apart."""
    apart = [conversation(n, n / 2, system, [("go", "ab"[n])]) for n, system in enumerate(("Be brief.", "Be kind."))]
    seen = [conversation(n, n / 2, "Be brief.", [("go" * n, "ab"[n])]) for n in range(2)]
    found = Findings()
    for given_ in (apart, seen):
        found.add(build_tree(given_))
    assert found.contexts == 1 and found.policies == {apart[0].policy}
    dated = [conversation(n, n / 2, f"It is {n}.", [("go" * (n + 1), "ab"[n])]) for n in range(2)]
    together = Findings()
    together.add(build_tree(dated, ignore=["It is .*"]))
    assert together.contexts == 0


def test_ids_of_calls_do_not_make_pasts_unequal() -> None:
    """They are drawn anew in every run; what they say is which result answers which call."""

    def run(sample: int, ids: tuple[str, str], answers: tuple[int, int], then: str) -> Trajectory:
        calls = tuple(ToolCall(name, "look", f'{{"at": "{name[-1]}"}}') for name in ids)
        results = [Message("tool", f"seen {n}", tool_call_id=ids[n]) for n in answers]
        said = (Message("user", "Go"), Message("assistant", "", tool_calls=calls), *results, Message("assistant", then))
        steps = (Step("Go", "look"), Step("seen", then))
        return replace(trajectory("ab", sample / 2, sample=sample), messages=said, steps=steps)

    runs = [run(0, ("call-1a", "call-1b"), (0, 1), "x"), run(1, ("call-2a", "call-2b"), (0, 1), "y")]
    (found,) = pairs_of(build_tree(runs), PairSettings())
    assert (found.depth, found.past) == (1, "equal")
    (found,) = pairs_of(build_tree([runs[0], run(1, ("call-2a", "call-2b"), (1, 0), "y")]), PairSettings())
    assert found.past == "similar"


def test_trees_without_options_are_written_as_before(tmp_path: Path) -> None:
    write_trees([build_tree([trajectory("a"), trajectory("b", sample=1)])], tmp_path / "trees.jsonl")
    text = (tmp_path / "trees.jsonl").read_text()
    assert "merging" not in text and "begun" not in text


def test_a_merger_knows_which_rules_did_nothing() -> None:
    merger = Merger(ignore=["uuids", "clock-times"], action="last-code-block")
    found: list[TrajectoryTree] = merger.trees([conversation(0, 1, "", [("10:31", "```\nls\n```"), ("ok", "bye")])])
    assert len(found) == 1
    assert merger.ignoring.unmatched == ["uuids"]
    assert (merger.acting.replies, merger.acting.without) == (2, 1)


def test_a_file_whose_situations_do_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write_trees([build_tree([trajectory("a")], ignore=["uuids"])], path)
    path.write_text(path.read_text().replace('"begun":[1]', '"begun":[1,1]'))
    with pytest.raises(DataError, match=r"trees.jsonl, line 2, field begun: 2 values, 1 were expected"):
        list(read_trees(path))
