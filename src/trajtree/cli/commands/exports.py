"""Commands that write runs and trees for other tools: convert, and rewards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.options.cards import ROWS, CardOption, LicenseOption, check_card_options, write_card
from trajtree.cli.options.choices import GammaOption, described, discount_of, option_of, with_options_of
from trajtree.cli.options.outputs import at_least_one, check_output, out_argument, out_option
from trajtree.cli.options.reading import Reading, counts_of
from trajtree.cli.options.rendering import RenderCallsOption, RenderThoughtsOption, as_text_fact, parts_of, said_as_text
from trajtree.cli.options.tree_files import TreesArgument
from trajtree.cli.terminal import console, counting
from trajtree.errors import DataError, counted
from trajtree.formats.converting import rows_of, runs_in
from trajtree.formats.importing import ImportReport
from trajtree.formats.write import TRAJECTORY_TARGETS, check_as_text
from trajtree.formats.write.card import Provenance
from trajtree.formats.write.parquet import write_rows
from trajtree.formats.write.prm import step_rewards
from trajtree.store.lines import JsonObject
from trajtree.store.tree_store import read_scored_trees
from trajtree.trajectory import Trajectory
from trajtree.trees.forks import AGGREGATES, PairSettings

_PAIRS = PairSettings()
"""Defaults."""
_GOOD = 0.5
"""Default value from which a step is good."""


@with_options_of(Reading)
def convert(
    reading: Reading,
    source: Annotated[Path, typer.Argument(help="Runs: a log in any format, a store, or a file of trees.")],
    out: Annotated[Path, out_argument(ROWS)],
    to: Annotated[
        str, option_of(TRAJECTORY_TARGETS, help=f"The format of the rows: {described(TRAJECTORY_TARGETS)}.")
    ] = "trl",
    render_calls: RenderCallsOption = False,
    render_thoughts: RenderThoughtsOption = False,
    card: CardOption = None,
    license: LicenseOption = None,
) -> None:
    """Convert runs from any format to any other that can hold them, without loss.

    A run that cannot be read whole, or that the other format cannot hold, is refused with its line; then nothing is
    written. Task, score (if there is one), outcome and model are written beside the conversation, except to openai,
    which has no such fields.
    """
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder; name a log, a store or a file of trees")
    parts = parts_of(render_calls, render_thoughts)
    check_as_text(parts, to, TRAJECTORY_TARGETS[to])
    check_output(out, source)
    check_card_options(card, license, source, out)
    provenance, terminal = Provenance(), console(out)
    redacted: Mapping[str, int] = {}

    def read(store: Path) -> ImportReport:
        nonlocal redacted
        report = reading.into(store, source, keep_unscored=True)
        redacted = report.redacted
        return report

    def counted_in(runs: Iterable[Trajectory]) -> Iterator[Trajectory]:
        for found in runs:
            yield found
            provenance.add([found])
            progress.advance(1)

    with runs_in(source, read) as runs, counting(terminal, "convert", "runs") as progress:
        count = write_rows(at_least_one(rows_of(counted_in(runs), to, parts), f"{source}: contains no runs"), out)
    terminal.print(f"{counted(count, 'run')} in {out}{said_as_text(parts)}", soft_wrap=True)
    if redacted:
        terminal.print(f"redacted: {counts_of(redacted)}; --no-redact keeps them", soft_wrap=True)
    if to == "openai":
        terminal.print("task, score, outcome and model are not in it: openai has no fields for them", soft_wrap=True)
    write_card(terminal, card, license, out, count, provenance, {"format": to, **as_text_fact(parts)})


def rewards(
    trees: TreesArgument,
    out: Annotated[Path, out_option("--out", help=ROWS)],
    value: Annotated[str, option_of(AGGREGATES, help=f"A step's value: {described(AGGREGATES)}.")] = _PAIRS.aggregate,
    gamma: GammaOption = None,
    good_from: Annotated[float, typer.Option(help="Smallest value of a good step.", min=0, max=1)] = _GOOD,
    card: CardOption = None,
    license: LicenseOption = None,
) -> None:
    """Write step rewards for process reward models, as TRL reads them: prompt, completions, labels.

    A step is labelled good if the runs through it are worth at least --good-from. Its value and the number of runs
    behind it stand beside the labels.
    """
    discount = discount_of(value, gamma)
    check_output(out, trees)
    check_card_options(card, license, trees, out)
    settings = PairSettings(aggregate=value, gamma=discount)
    aggregate = AGGREGATES[value].aggregate(settings)
    provenance, terminal = Provenance(), console(out)
    good = steps = 0

    def rows() -> Iterator[JsonObject]:
        nonlocal good, steps
        for tree in read_scored_trees(trees):
            for row in step_rewards(tree, aggregate(tree), good_from):
                good += sum(row["labels"])
                steps += len(row["labels"])
                yield row
            provenance.add(tree.trajectories)
            progress.advance(1)

    with counting(terminal, "rewards", "trees") as progress:
        count = write_rows(at_least_one(rows(), f"{trees}: no run has any steps"), out)
    rows_of_runs = f"{counted(count, 'row')} of {counted(provenance.runs, 'run')} in {out}"
    terminal.print(f"{rows_of_runs}: {good:,} of {counted(steps, 'step')} are good", soft_wrap=True)
    made: dict[str, object] = {
        "contents": "step rewards: prompt, completions, labels",
        "rule": f"a step is good if the value of its node (--value {value}) is at least {good_from:g}",
    }
    write_card(terminal, card, license, out, count, provenance, made)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (rewards, convert):
        app.command()(command)


__all__ = ["add_to"]
