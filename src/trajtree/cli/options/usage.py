"""How help names what an option takes: by a short word, so that the texts beside it have room at 80 columns.

A shell's completion shows the same texts, without their markup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from trajtree.cli.options.completion import plain

_WORDS = {
    **dict.fromkeys(("bool", "boolean"), ""),
    **dict.fromkeys(("int", "integer"), "N"),
    "float": "X",
    **dict.fromkeys(("str", "text", "list[str]"), "TEXT"),
    "path": "PATH",
}
"""What an option takes, by the first word of typer's name for it, in its earlier versions too. A flag takes nothing."""


class PlainCommand(TyperCommand):
    """A command whose help says `--step-only`, not `--step-only <bool>`."""

    def get_params(self, ctx: Any) -> Any:
        """Its options and arguments, `--help` included."""
        return _named(super().get_params(ctx), ctx)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """What a shell offers: its options, and a group's commands."""
        return _in_plain(super().shell_complete(ctx, incomplete))


class PlainGroup(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> Any:
        """Its options and arguments, `--help` included."""
        return _named(super().get_params(ctx), ctx)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """What a shell offers: its options, and a group's commands."""
        return _in_plain(super().shell_complete(ctx, incomplete))


class Commands(typer.Typer):
    """A group of such commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"cls": PlainGroup, "rich_markup_mode": "markdown", **settings})

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a function as a command."""
        return super().command(name, **{"cls": PlainCommand, **settings})


def _named(parameters: list[Any], ctx: Any) -> list[Any]:
    for parameter in parameters:
        if parameter.param_type_name == "option" and parameter.metavar is None:
            kind = parameter.display_type(ctx) if hasattr(parameter, "display_type") else parameter.type.name
            words = kind.strip("<>").split()
            parameter.metavar = _WORDS.get(words[0]) if words else None
    return parameters


def _in_plain(items: list[Any]) -> list[Any]:
    for item in items:
        item.help = item.help and plain(item.help)
    return items


__all__ = ["Commands", "PlainCommand", "PlainGroup"]
