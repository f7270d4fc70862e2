"""The commands together: from anyone's runs to a page and a preference file, as the README shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.cli.commands import done, invoke
from tests.toy import TASKS

from trajtree.errors import DataError


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


def test_files_that_another_command_takes(tmp_path: Path, files: list[str], trees: Path) -> None:
    for command, file, next_ in (
        ("build", files[0], "trajtree import"),
        ("build", trees, "trajtree pairs, paths or show"),
        ("import", trees, "trajtree pairs, paths or show"),
        ("import", tmp_path / "runs.jsonl", "trajtree build"),
    ):
        with pytest.raises(DataError, match=next_):
            invoke(command, file, "--out", tmp_path / "out.jsonl")


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


def test_the_version_is_told() -> None:
    assert done("--version").strip() == version("trajtree")


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


DEMO = Path(__file__).parents[2] / "recipes" / "demo.yaml"
SLOW_TO_IMPORT = ("asyncio", "ssl", "yaml", "multiprocessing", "concurrent.futures", "jinja2", "torch", "transformers")


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (
            ["--help"],
            (
                *SLOW_TO_IMPORT,
                "numpy",
                "msgspec",
                "trajtree.trajectory",
                "trajtree.cli.commands",
                "trajtree.cli.options.choices",
            ),
        ),
        (
            ["pairs", "trees.jsonl", "--out", "pairs.jsonl"],
            (
                *SLOW_TO_IMPORT,
                "trajtree.explore",
                "trajtree.report",
                "trajtree.formats.importing",
                "trajtree.cli.commands.logs",
            ),
        ),
    ],
)
def test_commands_import_only_what_they_need(
    tmp_path: Path, trees: Path, arguments: list[str], absent: tuple[str, ...]
) -> None:
    """What is imported takes longer than the work on small files."""
    (tmp_path / "trees.jsonl").write_bytes(trees.read_bytes())
    script = (
        "import sys\n"
        "from trajtree.cli.main import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print('\\n'.join(['imported:', *sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    imported = done.stdout.partition("imported:\n")[2].split()
    assert "typer" in imported
    assert not {*imported} & {*absent}


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("torch", ["train", "trees.jsonl", "--model", "m", "--preview"], "train"),
        ("peft", ["run", str(DEMO), "--run", "no/where"], "train"),
        ("py4j", ["play", "scienceworld"], "scienceworld"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package: str, arguments: list[str], extra: str) -> None:
    pytest.importorskip(package)
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = {arguments!r}; import runpy; "
    code += "runpy.run_module('trajtree', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"pip install 'trajtree[{extra}]'" in done.stderr
    assert not Path("no").exists()


def test_a_class_beside_which_the_command_is_given(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tests.toy import Toy\n\n\nclass Mine(Toy):\n    pass\n")
    command = [sys.executable, "-m", "trajtree", "play", "mine:Mine", TASKS[0]]
    home = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    done = subprocess.run(command, cwd=tmp_path, env=home, input="look\n", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "score 0.000" in done.stdout


@pytest.mark.parametrize("asked", [["-h"], ["build", "-h"], ["env", "list", "-h"]])
def test_help_has_a_short_name(asked: list[str]) -> None:
    assert "Usage:" in done(*asked)
