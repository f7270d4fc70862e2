"""Commands for environments: list, check, play, and importing their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from trajtree.cli.commands import tasks
from trajtree.cli.options.choices import argument_of
from trajtree.cli.options.offers import environments
from trajtree.cli.options.usage import Commands
from trajtree.cli.terminal import console, counting
from trajtree.envs.base import Environment
from trajtree.envs.check import EnvCheckError, check_env
from trajtree.envs.domain import (
    BUILT_IN,
    DATA_IMPORTERS,
    SPLITS,
    Domain,
    NoDemonstration,
    found_at,
    import_data,
    load_domain,
)
from trajtree.envs.guard import Guarded, blamed, closed
from trajtree.errors import DataError, EnvError, RunError, UnknownTask, counted

_CHECKED_TYPES = 3
"""Number of task types from which a check plays one task each."""
_NO_TYPE = "no such type"

_NAME_HELP = "A listed name; or module:DOMAIN or module:Class of your own, also in the current folder."

env = Commands(help="Environments: list them and their tasks, check that one keeps the contract.", no_args_is_help=True)


@env.command("list")
def list_(
    name: Annotated[
        str | None,
        typer.Argument(help="One of them, or module:DOMAIN, to list its task types.", autocompletion=environments),
    ] = None,
) -> None:
    """List the built-in environments with what is installed and what data is there, or the task types of one."""
    if name is not None:
        _list_types(name)
        return
    terminal = console()
    for name, entry in BUILT_IN.items():
        types = counted(len(load_domain(name).types), "task type")
        said = "installed" if entry.installed else f"not installed: pip install '{entry.install}'"
        there = entry.data if entry.folder is None else "there" if entry.has_data else f"not there: {entry.data}"
        for line in (f"{name}: {types}", f"  licence: {entry.licence}", f"  {said}", f"  data: {there}"):
            terminal.print(line, soft_wrap=True, highlight=False)


def _table(*headers: str) -> Table:
    return Table(*headers, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def _list_types(name: str) -> None:
    domain = load_domain(name)
    if not domain.types:
        raise RunError(f"{name}: does not list its task types")
    table = _table("task type", *SPLITS, "example")
    for kind in domain.types:
        tasks = [_tasks(domain, kind, split) for split in SPLITS]
        first = next((found[0] for found in tasks if found), "")
        table.add_row(kind, *(str(len(found)) for found in tasks), first)
    console().print(table)


@env.command()
def check(
    name: Annotated[str, typer.Argument(help=_NAME_HELP, autocompletion=environments)],
    task: Annotated[list[str] | None, typer.Option(help="Task to play; repeatable. Some of each by default.")] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="A sensible action; repeatable, in order. The expert's by default.")
    ] = None,
) -> None:
    """Check the contract: types, ends of episodes, scores, replay, snapshots, hostile actions, unknown tasks."""
    try:
        make, tasks, actions = _subject(name, task or [], action or [])
        report = check_env(make, tasks, actions=actions)
        if _environment(name) is None:
            _check_types(load_domain(name))
    except EnvCheckError as error:
        raise EnvError(f"{name} breaks the contract: {error}") from None
    console().print(
        f"{report.name} {report.version}: keeps the contract on {counted(report.tasks, 'task')}: "
        f"{counted(report.episodes, 'episode')}, {counted(report.steps, 'step')}, {report.terminated:,} ended by "
        f"themselves, {report.truncated:,} at the step limit",
        soft_wrap=True,
    )


def _subject(
    name: str, tasks: list[str], given: list[str]
) -> tuple[Callable[[], Environment], list[str], Callable[[str], Sequence[str]]]:
    """How to make the environment, the tasks to play, and how to play each."""
    made = _environment(name)
    if made is not None:
        if not tasks:
            raise RunError(f"{name}: a class does not list its tasks; name some with --task")
        return made, tasks, lambda task: given
    domain = load_domain(name)
    if not tasks:
        some = (_first(domain, kind) for kind in domain.types)
        tasks = list(islice((found for found in some if found), _CHECKED_TYPES))
    if not tasks:
        raise RunError(f"{name}: lists no train tasks; name tasks with --task")

    @cache
    def expert(task: str) -> Sequence[str]:
        with closed(domain.make(None)) as environment:
            shown = domain.demonstrate(environment, task)
        return () if isinstance(shown, NoDemonstration) else [step.action for step in shown.steps]

    return lambda: domain.make(None), tasks, (lambda task: given) if given else expert


def _check_types(domain: Domain) -> None:
    """Raise EnvCheckError if the domain has tasks of a type that it cannot have: a misspelt type would go unnoticed."""
    for split in SPLITS:
        if _tasks(domain, _NO_TYPE, split):
            raise EnvCheckError(
                f"tasks({_NO_TYPE!r}, {split!r}) returned tasks; it must raise KeyError for a type that does not "
                "exist, or a misspelt type in a recipe goes unnoticed"
            )


def _first(domain: Domain, kind: str) -> str | None:
    """The first train task of a type, or None: its data may contain none."""
    return next(iter(_tasks(domain, kind, "train")), None)


def _tasks(domain: Domain, kind: str, split: str) -> Sequence[str]:
    try:
        return domain.tasks(kind, split)
    except UnknownTask:
        return ()


def _environment(name: str) -> Callable[[], Environment] | None:
    """The class at module:Class; None when the name is a domain's, or nothing's."""
    if name in BUILT_IN or not name.partition(":")[2]:
        return None
    try:
        found = found_at(name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise RunError(
            f"{name}: {error}; write module:Class, the module without .py, and in the current folder or where Python "
            "finds modules"
        ) from error
    if isinstance(found, Domain):
        return None
    if not (isinstance(found, type) and issubclass(found, Environment)):
        raise RunError(
            f"{name}: neither a trajtree.Environment nor a Domain; derive the class from trajtree.Environment, or "
            "wrap it with a function from trajtree.envs.adapters"
        )
    if left := sorted(found.__abstractmethods__):
        raise RunError(f"{name}: lacks {', '.join(left)}; an environment needs both reset and step")
    if lacking := [what for what in ("name", "version", "instruction") if not hasattr(found, what)]:
        raise RunError(f"{name}: lacks the class attribute {', '.join(lacking)}")
    return partial(_made, name, found)


def _made(name: str, environment: type[Environment]) -> Environment:
    with blamed(f"{name}: making one without arguments", place=True):
        return environment()


def play(
    name: Annotated[str, typer.Argument(help=_NAME_HELP, autocompletion=environments)],
    task: Annotated[str | None, typer.Argument(help="Task id; the first of the train split by default.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Step limit; the environment's own by default.", min=1)] = None,
) -> None:
    """Play a task by hand, to see what an agent sees. End with control-D."""
    make, chosen = _environment(name), task
    if make is None:
        domain = load_domain(name)
        make = partial(domain.make, max_steps)
        chosen = task or next(filter(None, (_first(domain, kind) for kind in domain.types)), None)
    elif max_steps is not None:
        raise RunError("--max-steps: a class sets its own limit; leave it out")
    if chosen is None:
        raise RunError(f"{name}: does not list its tasks; name one")
    terminal = console()
    with closed(make()) as environment:
        terminal.print(environment.instruction, style="dim")
        game = Guarded(environment)
        observation, over = game.reset(chosen), False
        while not over:
            terminal.print(observation, highlight=False)
            try:
                said = input("> ")
            except EOFError:
                terminal.print()
                break
            observation, reward, terminated, truncated = game.step(said)
            over = terminated or truncated
            if reward:
                terminal.print(f"reward {reward:+.3f}, score {game.score:.3f}", style="green" if reward > 0 else "red")
        if over:
            terminal.print(observation, highlight=False)
        terminal.print(f"{chosen}: score {game.score:.3f}")


def data(
    which: Annotated[str, argument_of(DATA_IMPORTERS, help="The environment.")],
    source: Annotated[Path, typer.Option("--from", help="File or folder that you downloaded.")],
) -> None:
    """Import an environment's data: check it, pack it, and record its size and hash."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    terminal = console()
    with counting(terminal, which, "rows") as progress:
        imported = import_data(which, source, progress)
    for line in imported.lines:
        terminal.print(line, soft_wrap=True, highlight=False)
    terminal.print(f"see what there is: trajtree env list {which}; play: trajtree play {which}", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    env.command("tasks")(tasks.tasks)
    app.add_typer(env, name="env")
    app.command()(play)
    app.command()(data)


__all__ = ["add_to"]
