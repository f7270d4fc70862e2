"""Both sides of a pair say what a run each really saw and did: prompts, tools and observations are never mixed up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick, trajectory
from tests.cli.commands import done, invoke

from trajtree.errors import DataError
from trajtree.formats.importing import import_files
from trajtree.formats.pairs import pair_messages
from trajtree.store.lines import read_jsonl
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import write_trees
from trajtree.trajectory import Message, Step, Trajectory
from trajtree.trees.forks import MODES, PairSettings, pairs, pairs_of
from trajtree.trees.merge import build_tree
from trajtree.trees.pair import PASTS
from trajtree.trees.whole_runs import over_each_worse, prompts_apart

SYSTEMS = ("", "Act.", "Act well.")
TOOLS = ((), ('{"name": "look"}',))
EXAMPLES: tuple[tuple[Message, ...], ...] = (
    (),
    (Message("user", "Ready?"), Message("assistant", "OK.")),
    (Message("user", "Ready?"), Message("assistant", "Yes.")),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Trajectory]:
    """Runs of one task under a few prompts, with thoughts and spaces that merging does not look at."""
    found = []
    for sample in range(draw(st.integers(2, 7))):
        system, example = draw(st.sampled_from(SYSTEMS)), draw(st.sampled_from(EXAMPLES))
        messages = [*([Message("system", system)] if system else []), *example]
        steps, past = [], ""
        for _ in range(draw(st.integers(0, 3))):
            action, thought = draw(st.sampled_from("ab")), draw(st.sampled_from(("", "hm", "so")))
            seen = f"after {past}" + draw(st.sampled_from(("", "", "", " ", "; rain")))
            messages += [Message("user", seen), Message("assistant", f"{thought}\nAction: {action}")]
            steps.append(Step(seen, action, thought or None))
            past += action
        found.append(
            replace(
                trajectory("", draw(st.sampled_from((0.0, 0.5, 1.0))), sample=sample),
                messages=tuple(messages),
                steps=tuple(steps),
                context_turns=len(example) // 2,
                tools=draw(st.sampled_from(TOOLS)),
            )
        )
    return found


@quick
@given(runs(), st.sampled_from(list(MODES)), st.sampled_from(list(PASTS)), st.booleans())
def test_sides_are_real(given_: list[Trajectory], mode: str, past: str, step_only: bool) -> None:
    tree = build_tree(given_)
    found = pairs_of(tree, PairSettings(mode, past=past, per_fork=9, per_tree=99))
    for pair, written in zip(found, pair_messages(tree, found, step_only=step_only), strict=True):
        better, worse = pair.sides(tree)
        assert better.score > worse.score
        assert better.context == worse.context
        assert written.tools == better.tools == worse.tools
        chosen, rejected = written.prompt + written.chosen, written.prompt + written.rejected
        assert better.messages[: len(chosen)] == chosen
        equal = better.messages[: len(written.prompt)] == worse.messages[: len(written.prompt)]
        assert pair.past == ("equal" if equal else "similar")
        if equal:
            assert worse.messages[: len(rejected)] == rejected
        else:
            assert past != "equal"
            begin = worse.replies[pair.depth]
            assert worse.messages[begin : begin + len(written.rejected)] == written.rejected
            assert [m.content.split() for m in worse.messages[:begin] if m.role != "assistant"] == [
                m.content.split() for m in written.prompt if m.role != "assistant"
            ], "only spaces and replies may differ"


@quick
@given(runs())
def test_asking_for_equal_pasts_finds_them_where_they_are(given_: list[Trajectory]) -> None:
    """A fork is left out only when no two runs behind its two sides, better over worse, have one past."""
    tree = build_tree(given_)
    generous = PairSettings(min_gap=0, per_fork=99, per_tree=999)
    equal = {(p.node, p.chosen_value, p.rejected_value) for p in pairs_of(tree, replace(generous, past="equal"))}
    for node, options in tree.forks():
        for high in options:
            for low in options:
                if tree.mean[high] <= tree.mean[low]:
                    continue
                sides = [
                    (tree.trajectories[a], tree.trajectories[b]) for a in tree.through(high) for b in tree.through(low)
                ]
                depth = int(tree.depth[node])
                there = any(a.score > b.score and a.past(depth) == b.past(depth) for a, b in sides)
                assert ((node, tree.mean[high], tree.mean[low]) in equal) == there


@quick
@given(runs())
def test_an_expert_is_compared_under_one_prompt(given_: list[Trajectory]) -> None:
    better, *others = sorted(given_, key=lambda t: -t.score)
    for pair in over_each_worse(better, others, min_gap=0.1, most=9):
        assert others[[t.sample for t in others].index(pair.rejected_sample)].context == better.context


def log_of(path: Path, *runs: tuple[str | None, str, str, float]) -> Path:
    """A log of runs of one task: (system prompt, user's prompt, reply, score)."""
    rows = []
    for system, prompt, reply, score in runs:
        said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        said = [{"role": "system", "content": system}, *said] if system else said
        rows.append({"task": "refund", "messages": said, "score": score})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(folder: Path, log: Path, *options: str) -> str:
    """What `pairs` says of a log that gives none."""
    store, trees, out = (folder / name for name in ("runs.jsonl", "trees.jsonl", "pairs.jsonl"))
    done("import", log, "--out", store)
    done("build", store, "--out", trees)
    with pytest.raises(DataError) as error:
        invoke("pairs", trees, "--out", out, *options)
    assert not out.exists()
    return str(error.value)


@pytest.mark.parametrize("mode", MODES)
def test_runs_under_different_system_prompts_are_no_pair(tmp_path: Path, mode: str) -> None:
    log = log_of(tmp_path / "log.jsonl", ("Be brief.", "Refund it.", "Done.", 1), ("Be kind.", "Refund it.", "No.", 0))
    said = refused(tmp_path, log, "--mode", mode)
    assert "task refund, system prompt: 'Be brief.' against 'Be kind.'" in said


@pytest.mark.parametrize("mode", MODES)
def test_runs_that_a_user_began_differently_are_no_pair(tmp_path: Path, mode: str) -> None:
    log = log_of(tmp_path / "log.jsonl", (None, "Refund it.", "Done.", 1), (None, "Refund all.", "No.", 0))
    said = refused(tmp_path, log, "--mode", mode)
    assert "task refund, observation of step 1: 'Refund all.' against 'Refund it.'" in said


def test_the_command_counts_what_it_could_not_pair(tmp_path: Path) -> None:
    def run(sample: int, prompt: str, action: str, score: float, thought: str = "") -> Trajectory:
        messages = (Message("user", prompt), Message("assistant", f"{thought}{action}"))
        base = trajectory("", score, sample=sample)
        return replace(base, messages=messages, steps=(Step(prompt, action, thought or None),))

    tree = build_tree([run(0, "Go.", "a", 1), run(1, "Go. ", "b", 0), run(2, "Run.", "a", 0), run(3, "Go.", "c", 0.5)])
    assert prompts_apart(tree, min_gap=0.1) == 2
    trees, out = tmp_path / "trees.jsonl", tmp_path / "pairs.jsonl"
    write_trees([tree], trees)
    said = done("pairs", trees, "--out", out, "--mode", "whole")
    assert said == (
        f"3 pairs in {out}: 1 with equal pasts, 2 with similar pasts\n"
        "2 pairs left out: the two runs began with different prompts\n"
    )
    assert sorted(str(row["past"]) for row in read_jsonl(out)) == ["equal", "similar", "similar"]
    said = done("pairs", trees, "--out", out, "--past", "equal", "--per-fork", "9")
    assert said == f"1 pair in {out}: 1 with equal pasts\n"


@pytest.mark.parametrize("field", ["system", "system_prompt"])
def test_a_system_prompt_beside_the_messages_is_part_of_the_prompt(tmp_path: Path, field: str) -> None:
    rows = [
        {
            "task": "t",
            "score": score,
            field: prompt,
            "messages": [{"role": "user", "content": "Clean up."}, reply(said)],
        }
        for score, prompt, said in (
            (1, "Never delete.", "ask"),
            (0, "You may delete.", "rm"),
            (0, "Never delete.", "rm"),
        )
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert import_files(tmp_path / "log.jsonl", tmp_path / "runs.jsonl").added == 3
    tree = build_tree(TrajectoryStore(tmp_path / "runs.jsonl"))
    found = pairs(tree)
    assert [(pair.chosen_sample, pair.rejected_sample, pair.past) for pair in found] == [(0, 2, "equal")]
    (messages,) = pair_messages(tree, found)
    assert messages.prompt[0] == Message("system", "Never delete.")


def reply(said: str) -> dict[str, str]:
    return {"role": "assistant", "content": said}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"system": "B", "messages": [{"role": "system", "content": "A"}, reply("x")]}, "begin with another system"),
        ({"system": ["B"]}, "system.0: a part of type"),
        ({"functions": [{"name": "f"}]}, "functions: definitions in OpenAI's legacy form"),
        ({"conversations": [reply("y")]}, "messages, conversations: the record has both"),
    ],
)
def test_what_stands_beside_the_messages_is_never_dropped_without_a_word(
    tmp_path: Path, more: dict[str, object], said: str
) -> None:
    row = {"task": "t", "score": 1, "messages": [{"role": "user", "content": "q"}, reply("a")], **more}
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(row) + "\n")
    report = import_files(log, tmp_path / "runs.jsonl")
    assert report.added == 0 and said in report.left_out[0].reason


def test_messages_are_the_run_where_there_is_a_prompt_too(tmp_path: Path) -> None:
    row = {"task": "t", "score": 1, "messages": [{"role": "user", "content": "q"}, reply("a")]}
    (tmp_path / "log.jsonl").write_text(json.dumps({**row, "prompt": "Say hi", "completion": "hi"}) + "\n")
    import_files(tmp_path / "log.jsonl", tmp_path / "runs.jsonl")
    (run,) = TrajectoryStore(tmp_path / "runs.jsonl")
    assert [message.content for message in run.messages] == ["q", "a"]


def test_a_pair_has_no_sides_in_the_tree_of_another_task() -> None:
    first = build_tree([trajectory(["a"], 1.0, sample=0), trajectory(["b"], 0.0, sample=1)])
    other = build_tree([trajectory(["a"], 0.0, sample=0, task="x"), trajectory(["b"], 1.0, sample=1, task="x")])
    (pair,) = pairs(first)
    with pytest.raises(ValueError, match="a pair of task 'toy/0' has no sides in the tree of task 'x'"):
        pair.sides(other)
