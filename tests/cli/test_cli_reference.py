"""The reference of the command line is what the commands say."""

from pathlib import Path

from trajtree.cli.main import app
from trajtree.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), (
        "make it again: python -m trajtree.cli.reference > docs/reference/command-line.md"
    )


def test_every_command_has_help() -> None:
    text = reference()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.rstrip("_")  # type: ignore[union-attr]
        if not command.hidden:
            told = text.partition(f"## trajtree {name}\n\n")[2].partition("\n")[0]
            assert told and not told.startswith("|"), name
