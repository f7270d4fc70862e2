"""The command that lists a domain's tasks, and counts their situations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from trajtree.cli.options.offers import environments, task_types
from trajtree.cli.terminal import console, counting, say
from trajtree.envs.domain import SPLITS, Domain, load_domain
from trajtree.errors import RunError, counted
from trajtree.store.progress import Progress

Groups = Mapping[str, Mapping[str, Sequence[str]]]
"""By split and situation, the tasks."""


def tasks(
    name: Annotated[str, typer.Argument(help="A listed name, or module:DOMAIN.", autocompletion=environments)],
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="Task type; repeatable. All by default.", autocompletion=task_types),
    ] = None,
    situations: Annotated[
        bool, typer.Option("--situations", help="Count situations; of a single --type, list them with their tasks.")
    ] = False,
) -> None:
    """List the tasks of each split by type, or count their situations."""
    domain = load_domain(name)
    kinds = kind or list(domain.types)
    if not kinds:
        raise RunError(f"{name}: does not list its task types; name some with --type")
    found = {one: {split: domain.tasks(one, split) for split in SPLITS} for one in kinds}
    if not situations:
        for one, by_split in found.items():
            _print_lines((split, one, task) for split in SPLITS for task in by_split[split])
        return
    with counting(console(), name, "tasks") as progress:
        progress.total(sum(len(by_split[split]) for by_split in found.values() for split in SPLITS))
        groups = {one: _grouped(domain, by_split, progress) for one, by_split in found.items()}
    _print_counts(groups)
    if len(kinds) == 1:
        of = groups[kinds[0]]
        _print_lines((split, what, " ".join(same)) for split in SPLITS for what, same in of[split].items())


def _grouped(domain: Domain, by_split: Mapping[str, Sequence[str]], progress: Progress) -> Groups:
    groups: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for task in by_split[split]:
            groups[split].setdefault(domain.situation(task), []).append(task)
            progress.advance(1)
    return groups


def _print_counts(groups: Mapping[str, Groups]) -> None:
    """A line per type with tasks and situations of each split, and how many situations are in several splits."""
    columns = [Column(title, justify="right") for title in (*SPLITS, "in several splits")]
    table = Table("tasks / situations", *columns, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for kind, by_split in groups.items():
        sizes = [(sum(map(len, by_split[split].values())), len(by_split[split])) for split in SPLITS]
        splits_of = Counter(situation for split in SPLITS for situation in by_split[split])
        several = sum(count > 1 for count in splits_of.values())
        table.add_row(kind, *(f"{tasks:,} / {situations:,}" for tasks, situations in sizes), f"{several:,}")
    console().print(table)
    if len(groups) > 1:
        whole = {split: {s for by_split in groups.values() for s in by_split[split]} for split in SPLITS}
        say("all types: " + ", ".join(f"{counted(len(whole[split]), 'situation')} in {split}" for split in SPLITS))


def _print_lines(rows: Iterable[tuple[str, ...]]) -> None:
    for row in rows:
        say("\t".join(row))


__all__ = ["tasks"]
