"""Options and arguments that take their choices from a table, and what several commands share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Protocol, get_type_hints

import typer

from trajtree.cli.options.completion import offering
from trajtree.errors import DataError, one_of
from trajtree.store import trajectory_store, tree_store
from trajtree.trees.forks import AGGREGATES, PairSettings

_GAMMA = PairSettings().gamma

_ROOM = 14
"""Columns that the help of a command has for what an option takes, where a terminal has 80."""

NEXT = {
    trajectory_store.FORMAT: "continue with: trajtree build",
    tree_store.FORMAT: "continue with: trajtree pairs, paths or show",
}
"""What to do with a trajtree file that was given to the wrong command."""

GammaOption = Annotated[
    float | None,
    typer.Option(help=f"Discount per step, with --value discounted; {_GAMMA} by default.", min=0, max=1),
]


def discount_of(value: str, gamma: float | None) -> float:
    """The discount that --value and --gamma ask for.

    Raises:
        DataError: there is a discount, and the value does not use one.
    """
    if gamma is not None and not AGGREGATES[value].discounts:
        raise DataError(f"--gamma: --value {value} does not discount; add --value discounted, or leave out --gamma")
    return _GAMMA if gamma is None else gamma


class Described(Protocol):
    """A table entry with a description."""

    @property
    def about(self) -> str:
        """A short description."""


def described(table: Mapping[str, Described]) -> str:
    """The entries of a table with their descriptions, for a command's help."""
    return ", ".join(f"**{name}** ({entry.about})" for name, entry in table.items())


def option_of(choices: Collection[str], *names: str, help: str) -> Any:
    """An option that takes one of `choices`; `names` are the option's names, by default the parameter's.

    Its help shows them once: beside its name where a narrow terminal has room for them, else in the text.
    """
    listed = "|".join(choices)
    if len(listed) <= _ROOM:
        return typer.Option(*names, help=help, metavar=listed, **_taken_from(choices))
    told = help if all(choice in help for choice in choices) else f"{help.removesuffix('.')}: {', '.join(choices)}."
    return typer.Option(*names, help=told, metavar="NAME", **_taken_from(choices))


def argument_of(choices: Collection[str], *, help: str) -> Any:
    """An argument that is one of `choices`."""
    return typer.Argument(help=help, metavar="|".join(choices), **_taken_from(choices))


def with_options_of(shared: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command whose first parameter is a dataclass: each field of it becomes an option, as its annotation says.

    Several commands can share them, and each is written once. Help shows the required ones first, then the command's
    own, then the other shared ones.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(shared, include_extras=True)
        own = list(signature(command, eval_str=True).parameters.values())
        options = [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(shared)
        ]

        @wraps(command)
        def with_options(**given: Any) -> None:
            command(shared(**{one.name: given.pop(one.name) for one in options if one.name in given}), **given)

        required = [option for option in options if option.default is Parameter.empty]
        own = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own[1:]]
        parameters = [*required, *own, *(option for option in options if option not in required)]
        vars(with_options)["__signature__"] = Signature(parameters)
        with_options.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_options

    return decorate


def _taken_from(choices: Collection[str]) -> dict[str, Any]:
    return {"parser": _checked(choices), "autocompletion": offering(choices)}


def _checked(choices: Collection[str]) -> Callable[[str], str]:
    check = one_of(choices)

    def parse(name: str) -> str:
        try:
            return check(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


__all__ = [
    "NEXT",
    "Described",
    "GammaOption",
    "argument_of",
    "described",
    "discount_of",
    "option_of",
    "with_options_of",
]
