"""The quick look without models: the runs that the package ships, and what the command makes of them."""

import runpy
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

import trajtree
from trajtree.cli.commands import demo
from trajtree.cli.main import app

ROOT = Path(__file__).parents[2]


def test_runs_become_trees_pairs_and_a_page(tmp_path: Path) -> None:
    out = tmp_path / "look"
    for _ in range(2):  # a second look does the same
        shown = CliRunner().invoke(app, ["demo", "--out", str(out)])
        assert shown.exit_code == 0, shown.output
        trees = list(trajtree.read_trees(out / "trees.jsonl"))
        assert sum(len(tree.trajectories) for tree in trees) == 18
        assert all(any(True for _ in tree.forks()) for tree in trees)
        assert len((out / "pairs.jsonl").read_text().splitlines()) >= len(trees)
        assert "make-tea" in (out / "trees.html").read_text()


@pytest.mark.parametrize("works", [True, False])
def test_opens_the_page_or_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(demo.webbrowser, "open", lambda page: asked.append(page) or works)
    shown = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--open"])
    assert asked == [(tmp_path / "trees.html").as_uri()]
    assert ("no browser found" in shown.output) is not works


def test_the_shipped_runs_are_those_that_the_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made.jsonl"
    monkeypatch.setattr("sys.argv", ["demo_runs.py", "--out", str(made)])
    runpy.run_path(str(ROOT / "benchmarks" / "demo_runs.py"), run_name="__main__")
    assert made.read_text() == (files("trajtree.cli") / "demo_runs.jsonl").read_text(encoding="utf-8")
