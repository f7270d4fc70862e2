"""convert, rewards, Parquet and cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.commands import done, invoke, shop_run, ticket_run

import trajtree
from trajtree.errors import DataError, RunError
from trajtree.formats.write import TRAJECTORY_TARGETS
from trajtree.store.lines import read_jsonl


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(path))


def as_parquet(path: Path) -> list[dict[str, Any]]:
    datasets = pytest.importorskip("datasets", reason="datasets comes with the dev extra")
    found = datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))
    return [{name: value for name, value in row.items() if value is not None} for row in found]


@pytest.mark.parametrize(
    "arguments", [("pairs",), ("pairs", "--to", "trl-kto"), ("paths", "--to", "trl"), ("rewards",)]
)
def test_parquet_holds_what_json_lines_hold(tmp_path: Path, trees: Path, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    for name in ("out.jsonl", "out.parquet"):
        done(command, trees, "--out", tmp_path / name, *options)
    written = rows_of(tmp_path / "out.jsonl")
    assert written and as_parquet(tmp_path / "out.parquet") == written


def test_a_store_of_paths_is_no_parquet(tmp_path: Path, trees: Path) -> None:
    with pytest.raises(DataError, match="name a format with --to: trl"):
        invoke("paths", trees, "--out", tmp_path / "paths.parquet")


def test_step_rewards(tmp_path: Path, trees: Path) -> None:
    said = done("rewards", trees, "--out", tmp_path / "prm.jsonl", "--value", "best", "--good-from", "1")
    assert "5 rows of 5 runs in" in said and "are good" in said
    rows = rows_of(tmp_path / "prm.jsonl")
    assert {row["task"] for row in rows} == {tree.task for tree in trajtree.read_trees(trees)}
    assert sum(all(row["labels"]) for row in rows) == 2, "the run of each task that succeeded"
    with pytest.raises(DataError, match="--gamma: --value mean does not discount"):
        invoke("rewards", trees, "--out", tmp_path / "prm.jsonl", "--gamma", "0.5")


def test_kto_rows_are_counted(tmp_path: Path, trees: Path) -> None:
    said = done("pairs", trees, "--out", tmp_path / "kto.jsonl", "--to", "trl-kto")
    rows = rows_of(tmp_path / "kto.jsonl")
    assert f"{len(rows)} rows of 3 pairs in" in said
    assert {row["label"] for row in rows} == {True, False}


HOLDERS = {"trl", "trl-completion", "axolotl", "openai", "atif", "sharegpt", "llamafactory"}
"""Targets that `import` reads again."""


@pytest.mark.parametrize("to", TRAJECTORY_TARGETS)
def test_what_is_converted_is_imported_as_the_same_runs(tmp_path: Path, files: list[str], to: str) -> None:
    log = files[0]  # no thoughts beside the text, which openai could not hold
    said = done("convert", log, tmp_path / "out.jsonl", "--to", to)
    assert "3 runs in" in said
    assert ("openai has no fields for them" in said) == (to == "openai")
    if to not in HOLDERS:
        return
    done("import", log, "--out", tmp_path / "before.jsonl")
    if to == "openai":
        scored = [json.dumps({**row, "score": 0}) + "\n" for row in rows_of(tmp_path / "out.jsonl")]
        (tmp_path / "out.jsonl").write_text("".join(scored))
    done("import", tmp_path / "out.jsonl", "--out", tmp_path / "after.jsonl")
    before, after = (list(trajtree.TrajectoryStore(tmp_path / f"{name}.jsonl")) for name in ("before", "after"))
    assert [t.messages for t in after] == [t.messages for t in before]
    if to != "openai":
        assert [(t.task, t.score, t.outcome) for t in after] == [(t.task, t.score, t.outcome) for t in before]


def test_stores_and_trees_are_converted_too(tmp_path: Path, files: list[str], trees: Path) -> None:
    done("convert", tmp_path / "runs.jsonl", tmp_path / "a.jsonl", "--to", "atif")
    done("convert", trees, tmp_path / "b.jsonl", "--to", "atif")
    documents = [sorted(json.dumps(row) for row in rows_of(tmp_path / name)) for name in ("a.jsonl", "b.jsonl")]
    assert documents[0] == documents[1] and len(documents[0]) == 5


def test_loss_is_refused_with_the_row(tmp_path: Path) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    log.write_text(json.dumps(ticket_run("t0", "restart", 1.0)) + "\n")
    with pytest.raises(DataError, match=r"log.jsonl, line 1: task .* cannot be written for openai: .*thoughts"):
        invoke("convert", log, out, "--to", "openai")
    image = {"task": "t", "score": 1, "messages": [{"role": "user", "content": [{"type": "image"}]}]}
    log.write_text(json.dumps(shop_run(["lamp"], "lamp B", 0.5)) + "\n" + json.dumps(image) + "\n")
    with pytest.raises(DataError, match=r"log.jsonl, line 2: "):
        invoke("convert", log, out)
    assert not out.exists()
    with pytest.raises(DataError, match="no such file or folder"):
        invoke("convert", tmp_path / "none.jsonl", out)


@pytest.mark.parametrize("to", ["trl", "atif"])
def test_runs_without_a_score_are_converted_and_make_no_trees(tmp_path: Path, to: str) -> None:
    run = ticket_run("t0", "restart", 1.0)
    del run["extra"]
    (tmp_path / "log.jsonl").write_text(json.dumps(run) + "\n" + json.dumps(ticket_run("t1", "replace", 1.0)) + "\n")
    done("convert", tmp_path / "log.jsonl", tmp_path / "out.jsonl", "--to", to)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row if to == "trl" else row["extra"]).get("score") for row in rows] == [None, 1.0]
    done("import", tmp_path / "out.jsonl", "--out", tmp_path / "runs.jsonl", "--unscored", "keep")
    assert [t.unscored for t in trajtree.TrajectoryStore(tmp_path / "runs.jsonl")] == [True, False]
    said = done("build", tmp_path / "runs.jsonl", "--out", tmp_path / "trees.jsonl")
    assert "left out: 1 run without a score" in said and "1 tree of 1 run" in said
    (tmp_path / "one.jsonl").write_text(json.dumps(run) + "\n")
    done("import", tmp_path / "one.jsonl", "--out", tmp_path / "none.jsonl", "--unscored", "keep")
    with pytest.raises(DataError, match=r"no runs from which a tree could be built: 1 run without a score; .*--scores"):
        invoke("build", tmp_path / "none.jsonl", "--out", tmp_path / "no-trees.jsonl")


@pytest.mark.parametrize(
    "arguments", [("pairs",), ("paths", "--to", "trl"), ("rewards",), ("convert",)], ids=lambda value: value[0]
)
def test_a_card_says_what_the_rows_are(tmp_path: Path, trees: Path, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    card = tmp_path / "README.md"
    given_ = (trees, tmp_path / "out.jsonl") if command == "convert" else (trees, "--out", tmp_path / "out.jsonl")
    for license in ((), ("--license", "cc-by-4.0")):  # a card may be written again
        said = done(command, *given_, *options, "--card", card, *license)
        assert f"card: {card}" in said
        _, header, text = card.read_text().split("---\n", 2)
        found = yaml.safe_load(header)
        assert found["license"] == (license[1] if license else "unknown")
        assert found["configs"][0]["data_files"] == [{"split": "train", "path": "out.jsonl"}]
        assert found["size_categories"] == ["n<1K"]
        assert f"| rows | {len(rows_of(tmp_path / 'out.jsonl'))} |" in text and "| tasks | 2 |" in text
        assert "shop.json" in text and ("Nobody has named a licence" in text) == (not license)


def test_a_readme_that_is_no_card_is_kept(tmp_path: Path, trees: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(RunError, match="it is not a card written by trajtree"):
        invoke("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--card", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "# Mine\n" and not (tmp_path / "pairs.jsonl").exists()
    with pytest.raises(DataError, match=r"--license: .*add --card"):
        invoke("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--license", "mit")
    with pytest.raises(DataError, match="proposals and no data set"):
        invoke("paths", trees, "--search", "stitch", "--out", tmp_path / "p.jsonl", "--card", tmp_path / "card.md")


def test_a_card_names_how_the_trees_were_built(tmp_path: Path, trees: Path) -> None:
    done("build", tmp_path / "runs.jsonl", "--out", trees, "--ignore", "first-message", "--env", "webshop")
    done("pairs", trees, "--out", tmp_path / "pairs.jsonl", "--card", tmp_path / "README.md")
    assert "| trees built with | --ignore first-message --env webshop |" in (tmp_path / "README.md").read_text()


def test_calls_and_thoughts_as_text(tmp_path: Path, files: list[str]) -> None:
    tickets, out, card = files[1], tmp_path / "rows.jsonl", tmp_path / "README.md"
    done("import", tickets, "--out", tmp_path / "tickets.jsonl")
    done("build", tmp_path / "tickets.jsonl", "--out", tmp_path / "tickets_trees.jsonl")
    asked = ("pairs", tmp_path / "tickets_trees.jsonl", "--to", "axolotl", "--step-only", "--out", out)
    with pytest.raises(DataError, match=r"no field for thoughts .*--render-thoughts"):
        invoke(*asked)
    with pytest.raises(DataError, match=r"no tools, calls or names; .*--render-calls"):
        invoke(*asked, "--render-thoughts")
    said = done(*asked, "--render-thoughts", "--render-calls", "--card", card)
    assert said.splitlines()[0].endswith("; written as text: calls, thoughts")
    (row,) = rows_of(out)
    assert row["rendered"] == ["calls", "thoughts"]
    call = '<tool_call>\n{"name": "restart", "arguments": {"printer": 3}}\n</tool_call>'
    assert row["chosen"]["content"] == f"<think>\nlet me see\n</think>\n\n{call}"
    assert "| written as text | calls (&lt;tools>, &lt;tool_call>, " in card.read_text()

    for command in ("convert", "paths"):
        source = tickets if command == "convert" else tmp_path / "tickets_trees.jsonl"
        options = [source, out] if command == "convert" else [source, "--out", out]
        done(command, *options, "--to", "trl", "--render-calls")
        for row in rows_of(out):
            assert row["rendered"] == ["calls"] and [m["role"] for m in row["messages"]][1::2] == ["assistant"] * 2
            assert row["messages"][1]["reasoning_content"] == "let me see"
        with pytest.raises(DataError, match="--render-calls: openai has a place for tool calls"):
            invoke(command, *options, "--to", "openai", "--render-calls")
    with pytest.raises(DataError, match="--render-thoughts: a store holds runs as they are; name a format with --to"):
        invoke("paths", source, "--out", out, "--render-thoughts")
