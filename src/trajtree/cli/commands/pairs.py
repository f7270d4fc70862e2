"""The command `trajtree pairs`: preference pairs of trees, in the formats of trainers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.options.cards import ROWS, CardOption, LicenseOption, check_card_options, write_card
from trajtree.cli.options.choices import GammaOption, described, discount_of, option_of
from trajtree.cli.options.outputs import at_least_one, check_output, out_option
from trajtree.cli.options.rendering import RenderCallsOption, RenderThoughtsOption, as_text_fact, parts_of, said_as_text
from trajtree.cli.options.tree_files import SkipOption, TreesArgument, scored_trees_in
from trajtree.cli.terminal import console, counting
from trajtree.errors import DataError, counted
from trajtree.formats.pairs import PairMessages, pair_messages
from trajtree.formats.write import PAIR_TARGETS, check_as_text, pair_rows
from trajtree.formats.write.card import Provenance
from trajtree.formats.write.parquet import write_rows
from trajtree.store.lines import JsonObject
from trajtree.store.tree_store import read_trees
from trajtree.trees.forks import AGGREGATES, MODES, PairSettings, pairs_of
from trajtree.trees.grafting import Ungraftable
from trajtree.trees.pair import PASTS, Pair
from trajtree.trees.partings import why_no_pair
from trajtree.trees.whole_runs import prompts_apart

_PAIRS = PairSettings()
"""Defaults."""


def pairs(
    trees: TreesArgument,
    out: Annotated[Path, out_option("--out", help=ROWS)],
    to: Annotated[str, option_of(PAIR_TARGETS, help=f"The trainer's format: {described(PAIR_TARGETS)}.")] = "trl",
    mode: Annotated[str, option_of(MODES, help=f"What is compared: {described(MODES)}.")] = _PAIRS.mode,
    value: Annotated[
        str, option_of(AGGREGATES, help=f"An option's value: {described(AGGREGATES)}.")
    ] = _PAIRS.aggregate,
    gamma: GammaOption = None,
    min_gap: Annotated[float, typer.Option(help="Smallest difference in value.", min=0, max=1)] = _PAIRS.min_gap,
    per_fork: Annotated[int, typer.Option(help="Largest number of pairs per fork.", min=1)] = _PAIRS.per_fork,
    per_tree: Annotated[int, typer.Option(help="Largest number of pairs per tree.", min=1)] = _PAIRS.per_tree,
    step_only: Annotated[bool, typer.Option("--step-only", help="Only the reply at which the sides diverge.")] = False,
    render_calls: RenderCallsOption = False,
    render_thoughts: RenderThoughtsOption = False,
    skip_unwritable: SkipOption = False,
    past: Annotated[
        str, option_of(PASTS, help=f"How similar the sides' pasts must be: {described(PASTS)}.")
    ] = _PAIRS.past,
    card: CardOption = None,
    license: LicenseOption = None,
) -> None:
    """Write preference pairs: a shared past with a better and a worse continuation.

    Each row's column `past` says whether the two runs' pasts were equal, similar, or the same only under what build
    ignored. If they were not equal, the worse continuation follows the better run's past.
    """
    if step_only and not MODES[mode].at_forks:
        raise DataError(f"--step-only: --mode {mode} compares whole runs, which may begin alike; use only one of them")
    discount, parts = discount_of(value, gamma), parts_of(render_calls, render_thoughts)
    check_as_text(parts, to, PAIR_TARGETS[to])
    check_output(out, trees)
    check_card_options(card, license, trees, out)
    settings = PairSettings(mode, value, discount, min_gap, per_fork, per_tree, past)
    pasts: Counter[str] = Counter()
    provenance, apart = Provenance(), 0
    merged: set[str] = set()
    refused: list[Ungraftable] = []
    unwritable: list[DataError] = []

    def written(messages: Sequence[PairMessages]) -> list[JsonObject]:
        return pair_rows(messages, to, parts)

    def rows() -> Iterator[JsonObject]:
        nonlocal apart
        for tree in scored_trees_in(trees):
            found: list[Pair] = []
            messages: list[PairMessages] = []
            for pair in pairs_of(tree, settings):
                try:
                    made = list(pair_messages(tree, [pair], step_only=step_only))
                    if skip_unwritable:
                        written(made)
                except Ungraftable as error:
                    refused.append(error)
                    continue
                except DataError as error:
                    if not skip_unwritable:
                        raise
                    unwritable.append(error)
                    continue
                messages += made
                found.append(pair)
            pasts.update(pair.past for pair in found)
            merged.add(tree.merging.options)
            provenance.add({t.sample: t for pair in found for t in pair.sides(tree)}.values())
            yield from written(messages)
            if not MODES[mode].at_forks:
                apart += prompts_apart(tree, min_gap=min_gap)
            progress.advance(1)

    def none() -> str:
        if refused or unwritable:
            return f"{trees}: no pairs: {[*refused, *unwritable][0]}"
        return f"{trees}: no pairs: {why_no_pair(read_trees(trees), settings)}; see: trajtree show {trees}"

    terminal = console(out)
    with counting(terminal, "pairs", "trees") as progress:
        count = write_rows(at_least_one(rows(), none), out)
    alike = ", ".join(f"{pasts[name]} with {name} pasts" for name in PASTS if pasts[name])
    rows_too = "" if PAIR_TARGETS[to].apart is None else f"{counted(count, 'row')} of "
    terminal.print(f"{rows_too}{counted(pasts.total(), 'pair')} in {out}: {alike}{said_as_text(parts)}", soft_wrap=True)
    for errors in (refused, unwritable):
        if errors:
            terminal.print(f"{counted(len(errors), 'pair')} left out, for example {errors[0]}", soft_wrap=True)
    if apart:
        terminal.print(f"{counted(apart, 'pair')} left out: the two runs began with different prompts", soft_wrap=True)
    made: dict[str, object] = {"contents": f"preference pairs for {to}", **_options(settings), "step only": step_only}
    made |= {
        "pasts": alike,
        **as_text_fact(parts),
        **({"left out, as the format cannot hold them": len(unwritable)} if unwritable else {}),
    }
    made |= {"trees built with": "; ".join(sorted(merged - {""}))} if merged - {""} else {}
    write_card(terminal, card, license, out, count, provenance, made)


def _options(settings: PairSettings) -> dict[str, object]:
    """Settings of pairs, for a card."""
    return {
        name: value
        for name, value in asdict(settings).items()
        if name != "gamma" or AGGREGATES[settings.aggregate].discounts
    }


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(pairs)


__all__ = ["add_to"]
