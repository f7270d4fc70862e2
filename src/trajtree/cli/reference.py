"""The reference of the command line as Markdown, made from the commands themselves.

Run: python -m trajtree.cli.reference > docs/reference/command-line.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from trajtree.cli.main import COMMANDS, app, loaded


def reference() -> str:
    """The page: every command with its help, arguments and options, in the order of `trajtree --help`."""
    whole: Any = typer.main.get_command(app)
    for module in {command.module for command in COMMANDS.values()}:
        whole.commands.update(loaded(module))
    opening = [
        "# Command line",
        "Made from the code. `trajtree COMMAND --help` says the same.",
        "| exit status | |\n|---|---|\n"
        "| 0 | done; `trajtree run` also where rows had nothing to learn from, which its table says |\n"
        "| 1 | an error that you can fix, described in one sentence on stderr |\n"
        "| 2 | wrong usage: an unknown option, a missing argument |\n"
        "| 130, 143 | ended by Ctrl-C or by SIGTERM; stderr has the command to go on with |",
    ]
    return "\n\n".join([*opening, *_commands(whole, "trajtree")]) + "\n"


def _commands(group: Any, name: str) -> Iterator[str]:
    for word, command in group.commands.items():
        called = f"{name} {word}"
        if command.hidden:
            continue
        yield f"{'#' * called.count(' ')}# {called}"
        yield _unwrapped(command.help or "")
        if hasattr(command, "commands"):
            yield from _commands(command, called)
            continue
        yield from _table("argument", [p for p in command.params if p.param_type_name == "argument"])
        yield from _table("option", [p for p in command.params if p.param_type_name == "option" and not p.hidden])


def _unwrapped(text: str) -> str:
    """Paragraphs, each on a line of its own."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _table(kind: str, parameters: list[Any]) -> Iterator[str]:
    shown = [parameter for parameter in parameters if parameter.name != "help"]
    if not shown:
        return
    lines = [f"| {kind} | | default |", "|---|---|---|"]
    for parameter in shown:
        spelt = _spelt(parameter) if kind == "option" else f"`{parameter.name}`"
        default = "required" if parameter.required else _default(parameter)
        lines.append(f"| {spelt} | {_cell(parameter.help or '')} | {_cell(default)} |")
    yield "\n".join(lines)


def _spelt(option: Any) -> str:
    """Its names, and its choices where its help does not describe them."""
    names = ", ".join(f"`{spelling}`" for spelling in option.opts)
    return f"{names} {_cell(option.metavar)}" if "|" in (option.metavar or "") else names


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or value in ((), [], ""):
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple | list) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(reference(), end="")

__all__ = ["reference"]
