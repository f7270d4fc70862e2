"""What is named on the command line, or lies beside it, does no harm."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import done, invoke
from tests.toy import TASKS

import trajtree
from trajtree.cli.terminal import complain, console
from trajtree.errors import RunError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ESCAPE = "\x1b[31mred\x1b]0;title\x07\x9b2J"

STRAY = ("kernels", "json", "typing", "torch", "msgspec", "numpy", "rich", "yaml")
"""Names of modules that Python, trajtree or the libraries below it import, or try to."""


def command(*arguments: str, cwd: Path, module: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-m", "trajtree"] if module else ["-c", "from trajtree.cli.main import main; main()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_HUB_OFFLINE": "1"}
    if not module:  # as the script `trajtree` is, which does not begin its path with the current folder
        environment["PYTHONSAFEPATH"] = "1"
    line = [sys.executable, *start, *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, input=text, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder full of modules that must not run."""
    there = tmp_path / "folder"
    there.mkdir()
    for name in STRAY:
        (there / f"{name}.py").write_text("import sys\nsys.stderr.write('STRAY CODE RAN\\n')\n")
    return there


@pytest.mark.parametrize("module", [True, False])
def test_no_command_runs_what_lies_in_the_current_folder(folder: Path, trees: Path, module: bool) -> None:
    for arguments in (
        ["--version"],
        ["show", str(trees)],
        ["train", str(trees), "--model", "./nowhere", "--out", "out"],
    ):
        ran = command(*arguments, cwd=folder, module=module)
        assert "STRAY" not in ran.stderr and "Traceback" not in ran.stderr, ran.stderr


@pytest.mark.parametrize("module", [True, False])
def test_a_name_of_the_form_module_and_class_brings_the_current_folder_in(tmp_path: Path, module: bool) -> None:
    (tmp_path / "mine.py").write_text("from helper import Toy\n\n\nclass Mine(Toy):\n    pass\n")
    (tmp_path / "helper.py").write_text("from tests.toy import Toy\n")
    ran = command("play", "mine:Mine", TASKS[0], cwd=tmp_path, module=module, text="look\n")
    assert ran.returncode == 0 and "score 0.000" in ran.stdout, ran.stderr


def test_help_says_whence_modules_come() -> None:
    assert "current folder" in " ".join(done("play", "--help").replace("│", " ").split())


def hostile_log(path: Path) -> Path:
    """Runs whose task, actions and fields hold escapes."""
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"Find {ESCAPE} the lamp."},
                {"from": "gpt", "value": f"Thought: x\nAction: go {ESCAPE}{number}"},
            ],
            "score": score,
            "task": f"lamp {ESCAPE}",
        }
        for number, score in enumerate((1.0, 0.0))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + json.dumps({ESCAPE: 1}) + "\n{torn\n")
    return path


def test_escapes_of_logs_and_of_file_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    log = hostile_log(tmp_path / f"log {ESCAPE} [red].jsonl")
    store, trees = tmp_path / f"{ESCAPE}[/b].jsonl", tmp_path / f"trees {ESCAPE}.jsonl"
    said = done("import", log, "--out", store, "--task", "task")
    said += done("build", store, "--out", trees) + done("show", trees, "--html", tmp_path / "page.html")
    said += done("pairs", trees, "--out", tmp_path / f"pairs{ESCAPE}[bold].jsonl")
    assert not CONTROL.search(said) and "<U+001B>" in said
    assert "[bold]" in said and "[/b]" in said
    ran = command("import", str(log), "--from", "verifiers", "--out", str(tmp_path / "none.jsonl"), cwd=tmp_path)
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(json.dumps({ESCAPE: 1}) + "\n")
    other = command("import", str(unknown), "--out", str(tmp_path / "none.jsonl"), cwd=tmp_path)
    assert ran.returncode == other.returncode == 1 and "<U+001B>" in ran.stderr + ran.stdout
    assert "its fields: <U+001B>" in other.stderr
    assert not CONTROL.search(ran.stderr + ran.stdout + other.stderr + other.stdout)


def test_escapes_of_an_environment_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(
        f"from trajtree import Environment, StepResult\nESCAPE = {ESCAPE!r}\n"
        "class Hostile(Environment):\n"
        "    name, version, instruction = 'hostile', '1', 'do ' + ESCAPE\n"
        "    def reset(self, task):\n        return 'you see ' + ESCAPE\n"
        "    def step(self, action):\n        return StepResult('and ' + ESCAPE, 1.0, True, False)\n"
    )
    ran = command("play", "hostile:Hostile", f"task {ESCAPE}", cwd=tmp_path, text="look\n")
    assert ran.returncode == 0 and ran.stdout.count("<U+001B>") >= 6
    assert not CONTROL.search(ran.stdout + ran.stderr)


def test_errors_are_printed_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    complain(RunError(f"{ESCAPE}\ud800: cannot be read"))
    assert not CONTROL.search(capsys.readouterr().err)


def test_colours_are_rich_s_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console().print(f"text {ESCAPE}", style="red", highlight=False)
    assert capsys.readouterr().out.startswith("\x1b[31mtext <U+001B>")


@pytest.mark.parametrize("name", ["/dev/stdout", "-"])
@pytest.mark.parametrize("arguments", [("pairs",), ("paths",), ("show", "--json")])
def test_output_can_go_to_a_pipe_and_is_alone_there(trees: Path, arguments: tuple[str, ...], name: str) -> None:
    command_, *option = arguments
    ran = command(command_, str(trees), *(option or ["--out"]), name, cwd=trees.parent)
    assert ran.returncode == 0 and "/dev/stdout" in ran.stderr
    for line in [ran.stdout] if option else ran.stdout.splitlines():
        json.loads(line)


def test_a_store_must_be_a_file(tmp_path: Path, files: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for out in ("/dev/stdout", "/dev/null", tmp_path / "pipe"):
        with pytest.raises(RunError, match="runs are added"):
            invoke("import", *files, "--out", out)


def test_a_link_given_as_output_stays_a_link(tmp_path: Path, trees: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "pairs.jsonl"
    link.symlink_to(tmp_path / "disk" / "pairs.jsonl")
    done("pairs", trees, "--out", link)
    assert link.is_symlink() and (tmp_path / "disk" / "pairs.jsonl").stat().st_size


@pytest.mark.timeout(60)
def test_pipes_folders_and_devices_are_no_inputs(tmp_path: Path, trees: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "out")
    for name in (str(tmp_path / "pipe"), str(tmp_path / "empty"), "/dev/zero"):
        for arguments in (
            ["import", name, "--out", out],
            ["pool", name, name, "--out", out],
            ["upgrade", name],
            ["build", name, "--out", out],
            ["pairs", name, "--out", out],
            ["paths", name, "--out", out],
            ["show", name],
            ["train", name, "--model", "./nowhere", "--out", out],
            ["run", name],
            ["report", name],
            ["data", "webshop", "--from", name],
            ["data", "alfworld", "--from", name],
        ):
            with pytest.raises((trajtree.TrajtreeError, OSError)) as caught:
                invoke(*arguments)
            assert "\n" not in str(caught.value)
