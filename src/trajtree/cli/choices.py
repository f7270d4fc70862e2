"""Options and arguments that take their choices from a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import typer

from trajtree.errors import one_of


class Described(Protocol):
    """A table entry with a description."""

    @property
    def about(self) -> str:
        """A short description."""


def described(table: Mapping[str, Described]) -> str:
    """The entries of a table with their descriptions, for a command's help."""
    return ", ".join(f"**{name}** ({entry.about})" for name, entry in table.items())


def option_of(choices: Collection[str], *names: str, help: str) -> Any:
    """An option that takes one of `choices`; `names` are the option's names, by default the parameter's."""
    return typer.Option(*names, help=help, metavar=f"[{'|'.join(choices)}]", parser=_checked(choices))


def argument_of(choices: Collection[str], *, help: str) -> Any:
    """An argument that is one of `choices`."""
    return typer.Argument(help=help, metavar="|".join(choices), parser=_checked(choices))


def _checked(choices: Collection[str]) -> Callable[[str], str]:
    check = one_of(choices)

    def parse(name: str) -> str:
        try:
            return check(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


__all__ = ["Described", "argument_of", "described", "option_of"]
