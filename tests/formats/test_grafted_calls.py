"""The rejected side of a pair names the calls of the conversation that it is in, whatever ids the runs gave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, trajectory
from tests.cli.commands import done

from trajtree.errors import DataError
from trajtree.formats.pairs import PairMessages, pair_messages
from trajtree.formats.write import PAIR_TARGETS
from trajtree.store.lines import read_jsonl
from trajtree.store.tree_store import write_trees
from trajtree.trajectory import Message, Step, ToolCall, Trajectory
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.grafting import Ungraftable
from trajtree.trees.merge import build_tree


def run(
    sample: int,
    score: float,
    said: Sequence[tuple[str, Sequence[tuple[str, str]], Sequence[tuple[str, str]]]],
) -> Trajectory:
    """A run of replies: (thought, [(id, tool)] calls, [(id, text)] results)."""
    messages, steps, seen = [Message("user", "Go.")], [], "Go."
    for thought, calls, results in said:
        made = tuple(ToolCall(id, tool, "{}") for id, tool in calls)
        messages.append(Message("assistant", thought, None, made))
        steps.append(Step(seen, "\n".join(f"{tool}({{}})" for _, tool in calls), thought or None))
        messages += [Message("tool", text, tool_call_id=id) for id, text in results]
        seen = "\n".join(text for _, text in results)
    base = trajectory("", score, sample=sample)
    return replace(base, messages=tuple(messages), steps=tuple(steps))


@st.composite
def runs(draw: st.DrawFn) -> list[Trajectory]:
    """Runs that agree often, but for their thoughts, and number their calls each in its own way.

    Most results come at once; some come later, and some a second time.
    """
    found = []
    for sample in range(draw(st.integers(2, 6))):
        ids = draw(st.permutations([f"c{n}" for n in range(12)]))
        late: list[tuple[str, str]] = []
        said = []
        for turn in range(draw(st.integers(1, 3))):
            tools = draw(st.sampled_from((["look"], ["look", "go"], ["go"])))
            calls = [(ids[3 * turn + n], tool) for n, tool in enumerate(tools)]
            results = [(id, f"{tool} {turn}") for id, tool in calls]
            if late and draw(st.booleans()):
                results += late
                late = []
            if draw(st.integers(0, 4)) == 0:
                late = [results.pop(0)]
            elif draw(st.integers(0, 4)) == 0:
                late = [results[0]]
            said.append((draw(st.sampled_from(("", "", "hm"))), calls, results))
        found.append(run(sample, draw(st.sampled_from((0.0, 0.5, 1.0))), said))
    return found


def faults(messages: Sequence[Message]) -> tuple[int, int, int]:
    """Results that answer no call before them, ids that occur twice, calls that are never answered."""
    made: list[str] = []
    orphans = 0
    answered = set()
    for message in messages:
        made += [call.id for call in message.tool_calls]
        if message.role == "tool":
            orphans += message.tool_call_id not in made
            answered.add(message.tool_call_id)
    return orphans, len(made) - len(set(made)), len(set(made) - answered)


@quick
@given(runs(), st.booleans())
def test_a_rejected_side_has_no_fault_that_its_run_has_not(given_: list[Trajectory], step_only: bool) -> None:
    tree = build_tree(given_)
    for pair in pairs_of(tree, PairSettings(per_fork=9, per_tree=99)):
        worse = pair.sides(tree)[1]
        try:
            (written,) = pair_messages(tree, [pair], step_only=step_only)
        except Ungraftable as error:
            assert pair.past == "similar" and f"sample {worse.sample} cannot go on" in str(error)
            continue
        rejected = (*written.prompt, *written.rejected)
        end = worse.replies[pair.depth if step_only else -1] + 1
        assert faults(rejected) == faults(worse.messages[:end])
        texts = [m.content for m in worse.messages[worse.replies[pair.depth] : end]]
        assert [m.content for m in written.rejected] == texts
        for target in PAIR_TARGETS.values():
            exported(target.row, written)


def exported(row, written: PairMessages) -> None:  # type: ignore[no-untyped-def]
    """What is exported has no result without a call; or it is refused, with what helps."""
    try:
        made = row(written)
    except DataError as error:
        assert "cannot be written for" in str(error)
        return
    if "rejected" in made and isinstance(made["rejected"], list):
        rows = made["prompt"] + made["rejected"]
        known = {call["id"] for row in rows for call in row.get("tool_calls", [])}
        assert {row["tool_call_id"] for row in rows if row["role"] == "tool"} <= known


GOOD = run(0, 1.0, [("hm", [("a", "look")], [("a", "A key.")]), ("", [("b", "go")], [("b", "Out.")])])


def rejected_of(worse: Trajectory) -> tuple[Message, ...]:
    tree = build_tree([GOOD, worse])
    (pair,) = pairs_of(tree, PairSettings())
    assert pair.depth == 1 and pair.past == "similar"
    (written,) = pair_messages(tree, [pair])
    assert written.prompt == GOOD.messages[:3]
    return written.rejected


def test_an_id_of_the_other_past_is_not_used_again() -> None:
    worse = run(1, 0.0, [("", [("b", "look")], [("b", "A key.")]), ("", [("a", "eat")], [("a", "No.")]), ("", [], [])])
    call, result, last = rejected_of(worse)
    assert call.tool_calls == (ToolCall("a_2", "eat", "{}"),)
    assert result == Message("tool", "No.", tool_call_id="a_2") and last == Message("assistant", "")


def test_a_result_of_the_past_names_the_call_of_the_past_that_it_is_in() -> None:
    again = [("y", "No."), ("x", "A key, still.")]
    worse = run(1, 0.0, [("", [("x", "look")], [("x", "A key.")]), ("", [("y", "eat")], again), ("", [], [])])
    _, first, second, _ = rejected_of(worse)
    assert (first.tool_call_id, second.tool_call_id) == ("y", "a")


def test_runs_that_number_the_calls_of_every_reply_alike_stay_as_they_are() -> None:
    worse = run(1, 0.0, [("", [("a", "look")], [("a", "A key.")]), ("", [("a", "eat")], [("a", "No.")]), ("", [], [])])
    assert [m.tool_call_id for m in rejected_of(worse)] == [None, "a", None]


def test_a_call_that_is_open_in_one_past_only_is_counted(tmp_path: Path) -> None:
    """Both saw "A key.", one of them as the result of a call that the other's past does not wait for."""
    open_call = run(1, 0.0, [("", [("x", "look")], [("z", "A key.")]), ("", [("y", "eat")], [("y", "No.")])])
    trees, out = tmp_path / "trees.jsonl", tmp_path / "pairs.jsonl"
    reason = "sample 1 cannot go on from the past of sample 0: their pasts have different tool calls that no result"
    write_trees([build_tree([GOOD, open_call])], trees)
    with pytest.raises(DataError, match=f"no pairs: task toy/0, step 2: {reason}"):
        done("pairs", trees, "--out", out)
    other = run(2, 0.0, [("", [("q", "go")], [])])
    write_trees([build_tree([GOOD, open_call, other])], trees)
    said = done("pairs", trees, "--out", out)
    assert said.startswith(f"1 pair in {out}: ")
    assert f"1 pair left out, for example task toy/0, step 2: {reason}" in said
    assert json.dumps(list(read_jsonl(out))).count('"x"') == 0
