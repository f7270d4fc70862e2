"""The reference of the command line is what the commands say."""

from pathlib import Path

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
