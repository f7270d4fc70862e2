"""Anyone's runs, from files to a page and a preference file, with the commands that the README shows."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner, Result

import trajtree
from trajtree.cli import trees as cli_trees
from trajtree.cli.main import app, main
from trajtree.errors import DataError, RunError
from trajtree.formats.read.detect import READERS
from trajtree.formats.write import PAIR_TARGETS, TRAJECTORY_TARGETS

SYSTEM = "You help in a shop."


def shop_run(searches: list[str], item: str, score: float) -> dict[str, Any]:
    """A scored ShareGPT run: searches, then a purchase."""
    turns = [{"from": "human", "value": f"{SYSTEM}\nFind a red lamp."}]
    for search in searches:
        turns.append({"from": "gpt", "value": f"Thought: look for {search}\nAction: search[{search}]"})
        turns.append({"from": "human", "value": f"Results for {search}: lamp A, lamp B"})
    turns.append({"from": "gpt", "value": f"Thought: this one\nAction: click[{item}]"})
    return {"conversations": turns, "score": score}


def ticket_run(name: str, tool: str, score: float) -> dict[str, Any]:
    """An ATIF document: one tool call, then an answer."""
    return {
        "schema_version": "ATIF-v1.8",
        "trajectory_id": name,
        "agent": {"name": "helper", "version": "1", "model_name": "small"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "The printer is silent."},
            {
                "step_id": 2,
                "source": "agent",
                "message": "",
                "reasoning_content": "let me see",
                "tool_calls": [{"tool_call_id": "c1", "function_name": tool, "arguments": {"printer": 3}}],
                "observation": {"results": [{"source_call_id": "c1", "content": f"{tool} done"}]},
            },
            {"step_id": 3, "source": "agent", "message": f"I did {tool}."},
        ],
        "extra": {"score": score},
    }


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    shop = tmp_path / "shop.json"
    runs = [(["red lamp"], "lamp A", 1.0), (["red lamp"], "lamp B", 0.25), (["lamp"], "lamp B", 0.5)]
    shop.write_text(json.dumps([shop_run(*run) for run in runs], indent=1))
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    for number, (tool, score) in enumerate([("restart", 1.0), ("replace", 0.0)]):
        (tickets / f"{number}.json").write_text(json.dumps(ticket_run(f"t{number}", tool, score), indent=1))
    return [str(shop), str(tickets)]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def done(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_three_commands_from_runs_to_a_page_and_pairs(tmp_path: Path, files: list[str]) -> None:
    store, trees, pairs, page = (tmp_path / n for n in ("runs.jsonl", "trees.jsonl", "pairs.jsonl", "trees.html"))
    assert "5 runs added" in done("import", *files, "--out", store)
    assert "2 trees of 5 runs" in done("build", store, "--out", trees)
    assert "3 pairs" in done("pairs", trees, "--out", pairs, "--to", "trl")
    shown = done("show", trees, "--html", page, "--json", tmp_path / "figures.json")
    assert "all 2 trees" in shown
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    for row in rows:
        assert row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant"
        assert row["chosen"][0] != row["rejected"][0]
        assert row["prompt"][-1]["role"] == "user"
    ticket = next(row for row in rows if "printer" in row["prompt"][-1]["content"])
    assert "restart" in json.dumps(ticket["chosen"])
    assert "replace" in json.dumps(ticket["rejected"])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["total"]["trajectories"] == 5
    assert figures["total"]["lost"] == 0
    assert page.read_text().startswith("<!")


def test_the_same_import_again_adds_nothing(tmp_path: Path, files: list[str]) -> None:
    store = tmp_path / "runs.jsonl"
    done("import", *files, "--out", store)
    before = store.read_bytes()
    assert "0 runs added" in done("import", *files, "--out", store)
    assert store.read_bytes() == before


def test_a_file_that_was_changed_is_refused(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, shop = tmp_path / "runs.jsonl", Path(files[0])
    done("import", shop, "--out", store)
    before = store.read_bytes()
    shop.write_text(shop.read_text().replace("0.5", "0.75"))
    monkeypatch.setattr(sys, "argv", ["trajtree", "import", str(shop), "--out", str(store)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert f"trajtree: {shop}, line " in (told := capsys.readouterr().err)
    assert "row 3 is not the one that was imported" in told
    assert store.read_bytes() == before


def test_rows_left_out_are_named(tmp_path: Path, files: list[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        json.dumps(shop_run(["x"], "y", 0.5)) + "\n" + json.dumps(shop_run(["x"], "z", 7.0)) + "\nnonsense\n"
    )
    output = done("import", bad, "--out", tmp_path / "runs.jsonl")
    assert "1 runs added" in output
    assert "bad.jsonl, line 2: " in output
    assert "bad.jsonl, line 3: " in output
    assert "--score-range" in output


def test_rows_left_out_for_one_reason_are_told_together(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([shop_run(["x"], "y", 0.5), *[shop_run(["x"], "y", 7.0)] * 12]))
    output = done("import", bad, "--out", tmp_path / "runs.jsonl")
    (told,) = [line for line in output.splitlines() if line.startswith("left out")]
    assert "bad.json, line 1 (row 2), line 1 (row 3)" in told
    assert "and 2 more: " in told


@pytest.fixture
def trees(tmp_path: Path, files: list[str]) -> Path:
    done("import", *files, "--out", tmp_path / "runs.jsonl")
    done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    return tmp_path / "trees.jsonl"


@pytest.mark.parametrize(
    ("command", "output"),
    [("build", "--out"), ("pairs", "--out"), ("paths", "--out"), ("show", "--html"), ("show", "--json")],
)
def test_no_command_overwrites_what_it_reads(tmp_path: Path, trees: Path, command: str, output: str) -> None:
    read = tmp_path / "runs.jsonl" if command == "build" else trees
    before = read.read_bytes()
    with pytest.raises(DataError, match="is read by this command"):
        invoke(command, read, output, read)
    assert read.read_bytes() == before


def test_outputs_that_cannot_be_written_are_named_before_any_work(tmp_path: Path, trees: Path) -> None:
    for arguments in (("pairs", trees, "--out", tmp_path), ("show", trees, "--json", tmp_path)):
        with pytest.raises(RunError, match="it is a folder"):
            invoke(*arguments)
    with pytest.raises(RunError, match="cannot write"):
        invoke("pairs", trees, "--out", trees / "inside" / "pairs.jsonl")
    done("pairs", trees, "--out", tmp_path / "new" / "folder" / "pairs.jsonl")


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


def test_nothing_to_build_from_leaves_the_trees_alone(tmp_path: Path, trees: Path) -> None:
    before = trees.read_bytes()
    (tmp_path / "empty.jsonl").write_bytes((tmp_path / "runs.jsonl").read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match="holds no run"):
        invoke("build", tmp_path / "empty.jsonl", "--out", trees)
    assert trees.read_bytes() == before


def test_raw_logs_are_not_built_over(tmp_path: Path, files: list[str], trees: Path) -> None:
    before = Path(files[0]).read_bytes()
    with pytest.raises(RunError, match=r"holds no trajtree\.trees"):
        invoke("build", tmp_path / "runs.jsonl", "--out", files[0])
    assert Path(files[0]).read_bytes() == before


def test_paths_are_written_over_paths_but_nothing_is_added_to_them(
    tmp_path: Path, files: list[str], trees: Path
) -> None:
    out = tmp_path / "best.jsonl"
    assert "2 paths" in done("paths", trees, "--out", out)
    assert "2 paths" in done("paths", trees, "--out", out, "--min-score", "0.9")
    for command in (("import", *files), ("pairs", trees)):
        with pytest.raises(RunError, match="trajtree paths makes it anew each time"):
            invoke(*command, "--out", out)
    assert len(list(trajtree.TrajectoryStore(out))) == 2


def test_files_that_another_command_takes(tmp_path: Path, files: list[str], trees: Path) -> None:
    for command, file, next_ in (
        ("build", files[0], "trajtree import"),
        ("build", trees, "trajtree pairs, paths or show"),
        ("import", trees, "trajtree pairs, paths or show"),
        ("import", tmp_path / "runs.jsonl", "trajtree build"),
    ):
        with pytest.raises(DataError, match=next_):
            invoke(command, file, "--out", tmp_path / "out.jsonl")


def test_no_command_overwrites_another_kind_of_ours(tmp_path: Path, files: list[str], trees: Path) -> None:
    store = tmp_path / "precious.jsonl"
    done("import", *files, "--out", store)
    before = store.read_bytes()
    for command in (["pairs", trees], ["paths", trees], ["paths", trees, "--to", "atif"]):
        with pytest.raises(RunError, match=r"holds trajtree\.trajectories, which would be lost"):
            done(*command, "--out", store)
    with pytest.raises(DataError, match="nobody has played yet"):
        done("paths", trees, "--search", "stitch", "--to", "trl", "--out", tmp_path / "stitched.jsonl")
    assert store.read_bytes() == before


@pytest.mark.parametrize("mode", get_args(cli_trees.Mode))
def test_every_mode_makes_pairs(tmp_path: Path, trees: Path, mode: str) -> None:
    done("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--mode", mode, "--value", "discounted")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) >= 2


def test_a_trainer_that_cannot_hold_the_pairs_is_refused_but_gets_single_steps(tmp_path: Path, trees: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    with pytest.raises(DataError, match="axolotl"):
        invoke("pairs", trees, "--out", out, "--to", "axolotl")
    assert not out.exists()


@pytest.mark.parametrize("search", ["exact", "mcts", "best-of-n"])
def test_paths_are_the_best_runs(tmp_path: Path, trees: Path, search: str) -> None:
    out = tmp_path / "paths.jsonl"
    assert "2 paths" in done("paths", trees, "--out", out, "--search", search)
    assert [t.score for t in trajtree.TrajectoryStore(out)] == [1.0, 1.0]
    out = tmp_path / "trl.jsonl"
    done("paths", trees, "--out", out, "--search", search, "--to", "trl")
    assert {json.loads(line)["messages"][0]["role"] for line in out.read_text().splitlines()} <= {"system", "user"}


def test_stitching_without_an_environment_writes_proposals(tmp_path: Path) -> None:
    """The detour over another search is left out, but nobody has played that."""
    runs = tmp_path / "runs.json"
    detour = shop_run(["lamp", "red lamp"], "lamp A", 1.0)
    detour["conversations"][2]["value"] = detour["conversations"][0]["value"]
    runs.write_text(json.dumps([detour]))
    done("import", runs, "--out", tmp_path / "store.jsonl")
    done("build", tmp_path / "store.jsonl", "--out", tmp_path / "trees.jsonl")
    output = done("paths", tmp_path / "trees.jsonl", "--search", "stitch", "--out", tmp_path / "proposals.jsonl")
    assert "nothing is known of them until they are played" in output
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "nowhere.jsonl", "--out", "x"), "nowhere.jsonl: there is no such store.*trajtree import"),
        (("pairs", "nowhere.jsonl", "--out", "x"), "nowhere.jsonl: cannot be read.*trajtree build"),
        (("show", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
        (("import", "nowhere.json", "--out", "x"), "nowhere.json"),
    ],
)
def test_what_is_missing_is_named(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        invoke(*arguments)


def test_no_pair_is_an_error_that_says_what_to_do(tmp_path: Path, trees: Path) -> None:
    with pytest.raises(DataError, match="--min-gap"):
        invoke("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--min-gap", "1", "--value", "discounted")
    assert not (tmp_path / "pairs.jsonl").exists()


def test_the_version_is_told() -> None:
    assert done("--version").strip() == version("trajtree")


def test_the_choices_on_the_command_line_are_all_there_are() -> None:
    assert set(get_args(cli_trees.Format)) == set(READERS)
    assert set(get_args(cli_trees.PairFormat)) == set(PAIR_TARGETS)
    assert set(get_args(cli_trees.RunFormat)) == {"trajtree", *TRAJECTORY_TARGETS}


def test_these_commands_need_neither_torch_nor_java(tmp_path: Path, files: list[str]) -> None:
    """In a process in which importing torch, transformers, py4j, matplotlib or jinja2 fails."""
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'transformers', 'py4j', 'matplotlib', 'jinja2', 'scienceworld'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from trajtree.cli.main import main\n"
        "sys.argv = ['trajtree', *sys.argv[1:]]\n"
        "main()\n"
    )
    for arguments in (
        ["import", *files, "--out", "runs.jsonl"],
        ["build", "runs.jsonl", "--out", "trees.jsonl"],
        ["pairs", "trees.jsonl", "--out", "pairs.jsonl"],
        ["show", "trees.jsonl", "--html", "trees.html"],
    ):
        subprocess.run([sys.executable, "-c", script, *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "trees.html").stat().st_size > 1000
