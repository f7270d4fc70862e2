"""Commands about environments, on the toy: list, check, play; and data that is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.toy import TASKS, Toy, solution
from typer.testing import CliRunner, Result

from trajtree.cli.main import app
from trajtree.envs.base import Environment, StepResult
from trajtree.envs.domain import BUILT_IN
from trajtree.errors import DataError, EnvError, RunError, UnknownTask


def invoke(*arguments: object, said: str = "") -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=said)


def test_every_built_in_environment_is_listed_with_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJTREE_DATA", str(tmp_path))
    monkeypatch.setitem(BUILT_IN, "webshop", replace(BUILT_IN["webshop"], modules=("no_such_module",)))
    (tmp_path / "alfworld").mkdir()
    (tmp_path / "alfworld" / "train.jsonl.xz").touch()
    listed = invoke("env", "list")
    assert listed.exit_code == 0, listed.output
    lines = listed.output.splitlines()
    assert [line.partition(":")[0] for line in lines[::4]] == list(BUILT_IN)
    told = {name: lines[4 * index + 2 : 4 * index + 4] for index, name in enumerate(BUILT_IN)}
    assert told["alfworld"] == ["  installed", "  data: there"]
    assert told["webshop"] == [
        "  not installed: pip install 'trajtree[webshop]'",
        "  data: not there: trajtree data webshop --from PATH",
    ]
    assert told["scienceworld"][1] == "  data: comes with the package; trajtree data scienceworld"
    assert max(map(len, lines)) <= 60


class Half(Environment):
    def reset(self, task: str) -> str:
        return task


class Unnamed(Half):
    def step(self, action: str) -> StepResult:
        return {}[action]


class Levelled(Toy):
    def __init__(self, level: int) -> None:
        super().__init__()


class Raising(Toy):
    def step(self, action: str) -> StepResult:
        return {}[action]


def test_task_types_are_listed() -> None:
    listed = invoke("env", "list", "tests.toy:PARTLY")
    assert listed.exit_code == 0, listed.output
    assert "120" in listed.output and "toy/0" in listed.output and "nothing" in listed.output
    assert isinstance(invoke("env", "list", "tests.toy:DOMAIN").exception, RunError)


def test_tasks_are_listed_by_split() -> None:
    listed = invoke("env", "tasks", "tests.toy:COLOURED")
    assert listed.exit_code == 0, listed.output
    lines = listed.output.splitlines()
    assert len(lines) == len(TASKS) and lines[0] == "train\ttoy\ttoy/0" and lines[-1] == "test\ttoy\ttoy/199"


def test_situations_are_counted_and_listed() -> None:
    counted = invoke("env", "tasks", "tests.toy:COLOURED", "--situations", "--type", "toy")
    assert counted.exit_code == 0, counted.output
    assert "120 / 3" in counted.output and "30 / 3" in counted.output and "50 / 3" in counted.output
    assert "dev\tred\ttoy/120 toy/123" in counted.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tests.toy:DOMAIN",), "does not list its task types; name some with --type"),
        (
            ("tests.toy:DOMAIN", "--type", "tow"),
            "tests.toy:DOMAIN has no task type 'tow' (no task type 'tow': there",
        ),
    ],
)
def test_tasks_that_cannot_be_listed(arguments: tuple[str, ...], said: str) -> None:
    error = invoke("env", "tasks", *arguments).exception
    assert isinstance(error, RunError | UnknownTask) and said in str(error)


def test_a_class_and_a_domain_are_checked() -> None:
    said = [part for action in solution(TASKS[0]) for part in ("--action", action)]
    checked = invoke("env", "check", "tests.toy:Toy", "--task", TASKS[0], *said)
    assert checked.exit_code == 0 and "keeps the contract on 1 task:" in checked.output
    checked = invoke("env", "check", "tests.toy:DOMAIN", "--task", TASKS[0], "--task", TASKS[1])
    assert checked.exit_code == 0 and "keeps the contract on 2 tasks:" in checked.output
    checked = invoke("env", "check", "tests.toy:PARTLY")
    assert checked.exit_code == 0 and "keeps the contract on 1 task:" in checked.output
    for arguments, what in {
        ("tests.toy:Toy",): "does not list its tasks",
        ("tests.toy:Nothing",): "Nothing",
        ("tests.toy:solution",): "neither a trajtree.Environment nor a Domain; derive the class",
        ("tests.cli.test_cli_envs:Half", "--task", TASKS[0]): "lacks step",
        ("tests.cli.test_cli_envs:Unnamed", "--task", TASKS[0]): "lacks the class attribute name, version, instruction",
        (
            "tests.cli.test_cli_envs:Levelled",
            "--task",
            TASKS[0],
        ): "making one without arguments raised TypeError",
        ("tests.envs.test_check_env:Raises", "--task", TASKS[0]): "breaks the contract",
        ("tests.toy:TWICE", "--task", TASKS[0]): "tasks('no such type', 'train') returned tasks",
    }.items():
        failed = invoke("env", "check", *arguments)
        assert isinstance(failed.exception, RunError | EnvError) and what in str(failed.exception)


def test_a_person_plays() -> None:
    won = invoke("play", "tests.toy:Toy", TASKS[0], said="\n".join(solution(TASKS[0])) + "\n")
    assert won.exit_code == 0, won.output
    assert f"{TASKS[0]}: score 1.000" in won.output and "reward +0.500" in won.output
    left = invoke("play", "tests.toy:DOMAIN", TASKS[0], said="look\n")
    assert left.exit_code == 0 and f"{TASKS[0]}: score 0.000" in left.output
    raising = invoke("play", "tests.cli.test_cli_envs:Raising", TASKS[0], said="look\n")
    assert isinstance(raising.exception, EnvError) and "step 1 ('look'): raised KeyError" in str(raising.exception)
    unknown = invoke("play", "tests.toy:Toy", "toy/none")
    assert isinstance(unknown.exception, DataError) and "has no task 'toy/none'" in str(unknown.exception)


@pytest.mark.parametrize("which", ["webshop", "alfworld"])
def test_data_that_is_not_there(tmp_path: Path, which: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TRAJTREE_DATA", raising=False)
    missing = invoke("data", which, "--from", tmp_path / "nothing")
    assert isinstance(missing.exception, DataError) and "no such file" in str(missing.exception)
    (tmp_path / "empty").mkdir()
    empty = invoke("data", which, "--from", tmp_path / "empty")
    assert isinstance(empty.exception, DataError)
