"""The reference of the command line is what the commands say."""

from pathlib import Path

import pytest
from tests.cli.commands import done

from trajtree.cli.main import COMMANDS, Command, loaded
from trajtree.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), (
        "make it again: python -m trajtree.cli.reference > docs/reference/command-line.md"
    )


def test_every_command_has_help() -> None:
    text = reference()
    for name in COMMANDS:
        told = text.partition(f"## trajtree {name}\n\n")[2].partition("\n")[0]
        assert told and not told.startswith("|"), name


def test_every_option_has_help() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert rows and [row for row in rows if not row.split("|")[2].strip()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_room_for_its_texts_at_80_columns(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag takes nothing, and what another option takes is a short word."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)  # typer reads its width once, when it is first needed
    lines = done(command, "--help").splitlines()
    assert max(map(len, lines)) <= 80
    _, _, options = "\n".join(lines).partition("─ Options ─")
    for line in options.splitlines()[1:]:
        assert "<" not in line.replace("<=", ""), line


def test_choices_are_in_the_help_or_beside_the_option() -> None:
    for module in {command.module for command in COMMANDS.values()}:
        for command in loaded(module).values():
            for option in getattr(command, "params", []):
                if option.metavar == "NAME":
                    assert option.help and ", " in option.help, f"{command.name} {option.opts}"


def test_a_default_of_zero_is_shown() -> None:
    train = reference().partition("## trajtree train\n")[2].partition("\n## ")[0]
    (line,) = [line for line in train.splitlines() if line.startswith("| `--seed` ")]
    assert line.endswith("| `0` |")


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    """Help lists them without importing them."""
    found = {}
    for module in dict.fromkeys(command.module for command in COMMANDS.values()):
        for name, command in loaded(module).items():
            found[name] = Command(module, " ".join(command.help.split("\n\n")[0].split()))
    assert found == COMMANDS
