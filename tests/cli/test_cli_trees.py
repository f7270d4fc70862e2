"""Commands for trees: pairs in every mode, paths by every search, stitching."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import trajectory
from tests.cli.commands import done, invoke, shop_run

import trajtree
from trajtree.errors import DataError
from trajtree.store.trajectory_store import write_store
from trajtree.store.tree_store import write_trees
from trajtree.trajectory import Outcome
from trajtree.trees.forks import MODES
from trajtree.trees.search import SEARCHES


@pytest.mark.parametrize(
    "arguments",
    [
        ("pairs", "--step-only", "--mode", "whole"),
        ("pairs", "--gamma", "0.9"),
        ("paths", "--env", "scienceworld"),
        ("paths", "--max-steps", "3"),
        ("build", "--similarity", "0.5"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(
    tmp_path: Path, trees: Path, arguments: tuple[str, ...]
) -> None:
    command, *options = arguments
    read = tmp_path / "runs.jsonl" if command == "build" else trees
    with pytest.raises(DataError, match=options[0]):
        invoke(command, read, "--out", tmp_path / "out.jsonl", *options)


def test_one_is_not_many_and_faults_are_counted(tmp_path: Path) -> None:
    store, trees = tmp_path / "runs.jsonl", tmp_path / "trees.jsonl"
    lost = trajectory("b", sample=1, outcome=Outcome.ENV_ERROR)
    unscored = replace(trajectory("a", sample=4), unscored=True)
    write_store([trajectory("a"), lost, unscored], store)
    said = done("build", store, "--out", trees)
    assert said.startswith("left out: 1 run without a score\nleft out: 1 run lost to faults of the environment or")
    assert said.endswith(f"1 tree of 1 run in {trees}; look at it with: trajtree show {trees}\n")
    assert "the tree " in done("show", trees) and "all 1" not in done("show", trees)
    write_store([lost, trajectory("c", sample=2, outcome=Outcome.ENGINE_ERROR)], store)
    with pytest.raises(DataError, match="no runs from which a tree could be built: 2 runs lost to faults"):
        done("build", store, "--out", trees)


@pytest.mark.parametrize("command", [("pairs", "--out"), ("paths", "--out"), ("show", "--json")])
def test_a_file_without_a_tree_is_named(tmp_path: Path, command: tuple[str, str]) -> None:
    trees = tmp_path / "trees.jsonl"
    write_trees([], trees)
    name, option = command
    with pytest.raises(DataError, match=r"trees.jsonl: contains no trees; make it again with: trajtree build$"):
        invoke(name, trees, option, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["trees.jsonl"]


@pytest.mark.parametrize("command", ["build", "pairs", "paths", "show", "pool", "upgrade"])
@pytest.mark.parametrize("pack", [gzip, lzma, bz2])
def test_what_is_compressed_is_to_be_unpacked_first(tmp_path: Path, trees: Path, command: str, pack: Any) -> None:
    source = tmp_path / "runs.jsonl" if command in ("build", "pool") else trees
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(pack.compress(source.read_bytes()))
    out = [] if command in ("show", "upgrade") else ["--out", tmp_path / "out"]
    with pytest.raises(DataError, match=rf"^{packed}: is compressed \(\w+\); unpack it first: \w+ -k {packed}$"):
        invoke(command, packed, *out)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_makes_pairs(tmp_path: Path, trees: Path, mode: str) -> None:
    done("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--mode", mode, "--value", "discounted")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) >= 2


def test_a_trainer_that_cannot_hold_the_pairs_is_refused_but_gets_single_steps(tmp_path: Path, trees: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    with pytest.raises(DataError, match="axolotl"):
        invoke("pairs", trees, "--out", out, "--to", "axolotl")
    assert not out.exists()


@pytest.mark.parametrize("search", SEARCHES)
def test_paths_are_the_best_runs(tmp_path: Path, trees: Path, search: str) -> None:
    out = tmp_path / "paths.jsonl"
    assert "2 paths" in done("paths", trees, "--out", out, "--search", search)
    assert [t.score for t in trajtree.TrajectoryStore(out)] == [1.0, 1.0]
    out = tmp_path / "trl.jsonl"
    done("paths", trees, "--out", out, "--search", search, "--to", "trl")
    assert {json.loads(line)["messages"][0]["role"] for line in out.read_text().splitlines()} <= {"system", "user"}


def test_tasks_without_a_path_are_named(tmp_path: Path) -> None:
    trees = tmp_path / "trees.jsonl"
    scores = {"good": 1.0, "fair": 0.4, **{f"poor {number:02}": 0.0 for number in range(12)}}
    write_trees(trajtree.build([trajectory("a", score, task=task) for task, score in scores.items()]), trees)
    said = done("paths", trees, "--out", tmp_path / "paths.jsonl")
    named = ", ".join(f"poor {number:02} (0.00)" for number in range(9))
    assert f"13 tasks left out because their paths score less than 0.5: fair (0.40), {named} and 3 more\n" in said
    said = done("paths", trees, "--out", tmp_path / "paths.jsonl", "--min-score", "0.3")
    assert "12 tasks left out because their paths score less than 0.3: poor 00 (0.00), " in said
    said = done("paths", trees, "--out", tmp_path / "paths.jsonl", "--min-score", "0")
    assert "14 paths" in said and "left out" not in said


def test_stitching_without_an_environment_writes_proposals(tmp_path: Path) -> None:
    """The detour over another search is left out, but nobody has played that."""
    runs = tmp_path / "runs.json"
    detour = shop_run(["lamp", "red lamp"], "lamp A", 1.0)
    detour["conversations"][2]["value"] = detour["conversations"][0]["value"]
    straight = shop_run(["blue lamp"], "lamp B", 1.0)
    straight["conversations"][0]["value"] = "Find a blue lamp."
    runs.write_text(json.dumps([detour, straight]))
    done("import", runs, "--out", tmp_path / "store.jsonl")
    done("build", tmp_path / "store.jsonl", "--out", tmp_path / "trees.jsonl")
    output = done("paths", tmp_path / "trees.jsonl", "--search", "stitch", "--out", tmp_path / "proposals.jsonl")
    assert "scores are unknown until they are played" in output
    assert "1 task left out, where nothing could beat the best sample: " in output
    (proposal,) = [json.loads(line) for line in (tmp_path / "proposals.jsonl").read_text().splitlines()]
    assert proposal["played"] is False
    assert proposal["actions"] == ["search[red lamp]", "click[lamp A]"]


def test_stitching_in_an_environment_counts_what_is_played(tmp_path: Path) -> None:
    from tests.trees.test_stitching import sampled

    trajtree.write_trees([sampled("rtllll", "rrrt")], tmp_path / "trees.jsonl")
    (tmp_path / "corridors.py").write_text(
        "from tests.trees.test_stitching import Corridor\nfrom trajtree.envs.domain import Domain\n"
        "DOMAIN = Domain(Corridor, lambda limit: Corridor(), lambda kind, split: [], lambda env, task: None)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        out = tmp_path / "paths.jsonl"
        done("paths", tmp_path / "trees.jsonl", "--search", "stitch", "--env", "corridors:DOMAIN", "--out", out)
    finally:
        sys.path.remove(str(tmp_path))
    (path,) = trajtree.TrajectoryStore(out)
    assert (path.score, path.policy, len(path.steps)) == (1.0, "stitched", 5)


def test_no_pair_is_an_error_that_says_what_to_do(tmp_path: Path, trees: Path) -> None:
    with pytest.raises(DataError, match="--min-gap"):
        invoke("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--min-gap", "1", "--value", "discounted")
    assert not (tmp_path / "pairs.jsonl").exists()


def write_log(path: Path, *runs: tuple[str, str, float]) -> Path:
    """Runs of one task: (what the user said, the reply, score)."""
    rows = [
        {
            "task": "t",
            "score": score,
            "messages": [{"role": "user", "content": said}, {"role": "assistant", "content": reply}],
        }
        for said, reply, score in runs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def volatile(tmp_path: Path) -> Path:
    """Runs whose prompt shows another container each time."""
    log = write_log(tmp_path / "log.jsonl", ("root@3fa1c0:/app#", "ls", 0), ("root@77bd02:/app#", "echo ok", 1))
    done("import", log, "--out", tmp_path / "runs.jsonl")
    return tmp_path / "runs.jsonl"


def test_build_says_why_there_will_be_no_pairs_and_what_helps(tmp_path: Path, volatile: Path) -> None:
    said = done("build", volatile, "--out", tmp_path / "trees.jsonl")
    assert "tasks: 1; runs per task: 2 to 2, median 2; steps: 2, of which 0 repeat one of another run" in said
    assert "forks: 0, of which 0 have a gap of at least 0.1" in said
    assert "pairs to expect: none, because there is no fork" in said
    assert "task t, observation of step 1: 'root@3fa1c0:/app#' against 'root@77bd02:/app#'" in said
    assert "what may help: trajtree build --ignore container-ids would treat these texts as the same" in said
    said = done("build", volatile, "--out", tmp_path / "trees.jsonl", "--ignore", "container-ids", "--ignore", "uuids")
    assert "check: --ignore uuids matched nothing" in said
    assert "pairs to expect: 1; write them with: trajtree pairs" in said
    assert "1 with ignored pasts" in done("pairs", tmp_path / "trees.jsonl", "--out", tmp_path / "pairs.jsonl")
    (row,) = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert row["prompt"] == [{"role": "user", "content": "root@77bd02:/app#"}], "nothing is removed"
    with pytest.raises(DataError, match="omit --past similar"):
        invoke("pairs", tmp_path / "trees.jsonl", "--out", tmp_path / "pairs.jsonl", "--past", "similar")


def test_three_tasks_are_shown_where_there_are_no_pairs(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        said = f"{'no ' * (number % 2)}light in {number // 2}"
        rows.append({"task": f"t{number // 2}", "score": number % 2, "messages": [{"role": "user", "content": "go"}]})
        for role, content in (("assistant", "look"), ("user", said), ("assistant", "ok")):
            rows[-1]["messages"].append({"role": role, "content": content})  # type: ignore[attr-defined]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done("import", tmp_path / "log.jsonl", "--out", tmp_path / "runs.jsonl")
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    assert "steps: 16, of which 4 repeat one of another run" in said
    assert "in 4 of 4 tasks the runs diverge in the observation" in said
    assert [f"task t{n}, observation of step 2: 'light in {n}' against" in said for n in range(4)] == [1, 1, 1, 0]


def test_build_says_that_runs_do_the_same_in_other_words(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", ("$", "So:\n```\nls\n```", 0), ("$", "Now:\n```\nls\n```", 1))
    done("import", log, "--out", tmp_path / "runs.jsonl")
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    assert "trajtree build --action last-code-block would treat these texts as the same" in said
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl", "--action", "last-code-block")
    assert "of which 1 repeat one of another run" in said and "check" not in said


def test_an_action_that_no_reply_has_is_refused_and_one_that_some_lack_is_told(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", ("$", "```\nls\n```", 0), ("$", "bye", 1))
    done("import", log, "--out", tmp_path / "runs.jsonl")
    out = tmp_path / "trees.jsonl"
    with pytest.raises(DataError, match="--action command: none of 2 replies has it"):
        invoke("build", tmp_path / "runs.jsonl", "--out", out, "--action", "command")
    assert not out.exists()
    said = done("build", tmp_path / "runs.jsonl", "--out", out, "--action", "last-code-block")
    assert "--action last-code-block is not in 1 of 2 replies; those are compared whole" in said


def test_the_file_of_trees_says_how_it_was_built(tmp_path: Path, volatile: Path) -> None:
    done("build", volatile, "--out", tmp_path / "trees.jsonl", "--ignore", "container-ids", "--env", "webshop")
    (tree,) = trajtree.read_trees(tmp_path / "trees.jsonl")
    assert (tree.merging.ignore, tree.merging.env, tree.merging.model) == (("container-ids",), "webshop", None)


def test_build_says_what_tasks_lack_where_others_have_a_fork(tmp_path: Path) -> None:
    def row(task: str, command: str, why: str, answer: str, score: float) -> dict[str, Any]:
        call = {"id": "c", "function": {"name": "Bash", "arguments": json.dumps({"command": command, "why": why})}}
        messages = [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": answer, "tool_call_id": "c"},
            {"role": "assistant", "content": "done"},
        ]
        return {"task": task, "score": score, "messages": messages}

    rows = [row("fork", "ls", "x", "a", 1), row("fork", "pwd", "x", "b", 0), row("one", "ls", "x", "a", 1)]
    rows += [row("words", "ls", words, "a", 1) for words in ("List.", "Look.")]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    done("import", tmp_path / "log.jsonl", "--out", tmp_path / "runs.jsonl")
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    assert "pairs to expect: 1" in said
    assert "2 of 3 tasks have no fork with a gap of at least 0.1:" in said
    assert "  1 task: there is only one run, for example task one" in said
    assert "  1 task: all runs score the same, for example task words: 2 runs score 1" in said
    assert "check: in 1 of 3 tasks the first actions that differ are calls of Bash that differ only in why, " in said
    assert "; trajtree build --action command would treat these texts as the same" in said
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl", "--action", "command")
    assert "1 step merged by --action command whose whole actions differ, none answered differently; " in said
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl", "--action", "why")
    assert (
        "check: 1 step merged by --action why whose whole actions differ, 1 of them answered differently; for example "
        "in task fork, action of step 1: "
    ) in said


def test_what_a_format_cannot_hold_may_be_left_out(tmp_path: Path) -> None:
    def run(task: str, score: float, *replies: str) -> dict[str, Any]:
        turns = [{"role": "assistant", "content": reply} for reply in replies]
        messages = [{"role": "user", "content": "go"}]
        for turn in turns:
            messages += [turn, {"role": "user", "content": "on"}]
        return {"task": task, "score": score, "messages": messages[:-1]}

    rows = [run("short", 1, "a"), run("short", 0, "b"), run("long", 1, "a", "c"), run("long", 0, "b", "d")]
    rows[2]["messages"][1]["reasoning_content"] = "hm"
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done("import", tmp_path / "log.jsonl", "--out", tmp_path / "runs.jsonl")
    done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    for command, target in (("pairs", "axolotl"), ("paths", "openai")):
        asked = (command, tmp_path / "trees.jsonl", "--to", target, "--out", tmp_path / "out.jsonl")
        with pytest.raises(DataError, match=r"task long.* cannot be written for"):
            invoke(*asked)
        said = done(*asked, "--skip-unwritable")
        assert f"1 {command[:-1]} left out, for example " in said and f"1 {command[:-1]} in " in said
        (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert "hm" not in json.dumps(row)


def test_a_pair_without_a_prompt_is_refused_and_may_be_left_out(tmp_path: Path) -> None:
    def run(task: str, score: int, greeting: str, *before: str) -> dict[str, Any]:
        asked = [{"role": "user", "content": text} for text in before]
        turns = [{"role": "user", "content": "help me"}, {"role": "assistant", "content": f"done after {greeting}"}]
        return {"task": task, "score": score, "messages": [*asked, {"role": "assistant", "content": greeting}, *turns]}

    rows = [run("begun", 1, "Hello!"), run("begun", 0, "Good day")]
    rows += [run("asked", 1, "Hello!", "go"), run("asked", 0, "Good day", "go")]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done("import", tmp_path / "log.jsonl", "--out", tmp_path / "runs.jsonl")
    done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    for mode in ("every", "whole"):
        asked = ("pairs", tmp_path / "trees.jsonl", "--mode", mode, "--out", tmp_path / "out.jsonl")
        with pytest.raises(DataError, match=r"task begun, sample 0: .* has no prompt; leave such pairs out"):
            invoke(*asked)
        said = done(*asked, "--skip-unwritable")
        assert "1 pair in " in said and "1 pair left out, for example task begun, sample 0: the run begins" in said
        (written,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert written["prompt"] == [{"role": "user", "content": "go"}]
