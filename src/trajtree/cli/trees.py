"""Commands for trees: build, pairs, show. Without torch, Java or an environment."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from textwrap import indent
from typing import Annotated, NamedTuple, TypeVar

import msgspec
import typer

from trajtree.cli.cards import ROWS, CardOption, LicenseOption, check_card_options, write_card
from trajtree.cli.choices import NEXT, GammaOption, TreesArgument, described, discount_of, option_of
from trajtree.cli.completion import offering
from trajtree.cli.offers import environments
from trajtree.cli.outputs import at_least_one, check_output, out_option
from trajtree.cli.rendering import RenderCallsOption, RenderThoughtsOption, as_text_fact, parts_of, said_as_text
from trajtree.cli.terminal import console, counting
from trajtree.envs.domain import load_domain
from trajtree.envs.guard import canonical_forms
from trajtree.errors import DataError, counted
from trajtree.formats.pairs import PairMessages, pair_messages
from trajtree.formats.write import PAIR_TARGETS, check_as_text, pair_rows
from trajtree.formats.write.card import Provenance
from trajtree.formats.write.parquet import write_rows
from trajtree.store import trajectory_store, tree_store
from trajtree.store.files import is_stream, open_text, write_whole
from trajtree.store.lines import JsonObject, format_of
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_scored_trees, read_trees, write_trees
from trajtree.trees.embeddings import MODEL
from trajtree.trees.findings import Findings
from trajtree.trees.forks import AGGREGATES, MODES, PairSettings, pairs_of
from trajtree.trees.grafting import Ungraftable
from trajtree.trees.merge import MERGES, SIMILARITY, MergeOptions, Merger, MergeSettings
from trajtree.trees.overlooked import Overlooked
from trajtree.trees.pair import PASTS, Pair
from trajtree.trees.partings import SAME, why_no_pair
from trajtree.trees.quality import TreeQuality, quality
from trajtree.trees.sameness import ACTIONS, IGNORABLE
from trajtree.trees.tree import TrajectoryTree
from trajtree.trees.whole_runs import prompts_apart

OutOption = Annotated[Path, out_option("--out", help="File to write.")]

SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-unwritable", help="Leave out, and count, what the format cannot hold, instead of refusing it."
    ),
]
T = TypeVar("T")

_PAIRS = PairSettings()
"""Defaults."""


class _Unscored(NamedTuple):
    """What is done with runs that have no score."""

    keep: bool
    about: str


UNSCORED = {
    "leave-out": _Unscored(False, "they are counted"),
    "keep": _Unscored(True, "they are merged too, and trees that have any have no values and can only be shown"),
}

_REASONS = 3
"""Number of reasons listed why tasks have no fork with a gap."""


def build(
    store: Annotated[Path, typer.Argument(help="Store of trajectories, made by trajtree import or by a run.")],
    out: OutOption,
    merge_: Annotated[
        str,
        option_of(MERGES, "--merge", help="Which observations count as the same: equal ones, or similar ones."),
    ] = "exact",
    similarity: Annotated[
        float | None,
        typer.Option(help=f"Cosine from which two observations are similar; {SIMILARITY} by default.", min=0, max=1),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="sentence-transformers model for --merge semantic; by default the paper's (code)."),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            help="Compare texts as this environment normalises them: --env scienceworld", autocompletion=environments
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|REGEX",
            autocompletion=offering(IGNORABLE),
            help="What is not compared, by name or as a regular expression; may be given several times: "
            f"{described(IGNORABLE)}.",
        ),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FIELD|REGEX",
            autocompletion=offering(ACTIONS),
            help="Which part of a reply is compared, for agents that act in text: "
            f"{described(ACTIONS)}, a field of the calls' arguments, or a regular expression.",
        ),
    ] = None,
    unscored: Annotated[
        str, option_of(UNSCORED, "--unscored", help=f"Runs without a score: {described(UNSCORED)}.")
    ] = "leave-out",
) -> None:
    """Merge each task's runs into a tree, and say what pairs can be expected of them.

    --ignore and --action decide what is compared. Runs are always written as they are in the store.
    """
    _check_store(store)
    if merge_ == "exact" and (model, similarity) != (None, None):
        raise DataError("--model and --similarity need --merge semantic; add it, or leave them out")
    check_output(out, store, over=tree_store.FORMAT)
    settings: MergeOptions = {"ignore": tuple(dict.fromkeys(ignore or ())), "action": action}
    settings["keep_unscored"] = UNSCORED[unscored].keep
    if env is not None:
        settings = {**settings, **canonical_forms(load_domain(env).environment)}
    if merge_ == "semantic":
        from trajtree.models.sentences import merge_options

        model = model or MODEL
        settings |= merge_options(MergeSettings(merge_, SIMILARITY if similarity is None else similarity, model))
    merger, found = Merger(**settings), Findings()
    without = faults = 0

    def trees() -> Iterator[TrajectoryTree]:
        nonlocal without, faults
        for group in TrajectoryStore(store).by_task():
            without += sum(run.unscored for run in group if not merger.keep_unscored)
            faults += sum(run.outcome.is_fault for run in group)
            for tree in merger.trees(group):
                found.add(tree)
                yield replace(tree, merging=msgspec.structs.replace(tree.merging, model=model, env=env))
            progress.advance(len(group))
        if merger.acting.replies and merger.acting.without == merger.acting.replies:
            raise DataError(f"--action {action}: none of {merger.acting.replies:,} replies has it")

    def none() -> str:
        lost = f": {counted(faults, 'run')} lost to faults of the environment or the engine" if faults else ""
        lost = f": {counted(without, 'run')} without a score; import with --scores FILE" if without else lost
        lost += ", or only look at them: --unscored keep" if without else ""
        return f"{store}: contains no runs from which a tree could be built{lost}"

    terminal = console(out)
    with counting(terminal, "build", "runs") as progress:
        count = write_trees(at_least_one(trees(), none), out)
    for number, what in ((without, "without a score"), (faults, "lost to faults of the environment or the engine")):
        if number:
            terminal.print(f"left out: {counted(number, 'run')} {what}", soft_wrap=True, highlight=False)
    for sentence in (*_effects(merger), *_overlooked(found.overlooked, action), *_findings(found, out)):
        terminal.print(sentence, soft_wrap=True, highlight=False)
    built = f"{counted(count, 'tree')} of {counted(found.runs, 'run')} in {out}"
    terminal.print(f"{built}; look at {'it' if count == 1 else 'them'} with: trajtree show {out}", soft_wrap=True)


def _check_store(path: Path) -> None:
    """Refuse what is not a trajectory store, and say what to do with it."""
    if not path.is_file():
        name = "runs.jsonl" if path.exists() else path
        raise DataError(f"{path}: there is no such store; make one with: trajtree import FILES --out {name}")
    with open_text(path):  # raises an error that says what is wrong if it cannot be read
        held = format_of(path)
    if held != trajectory_store.FORMAT:
        to_do = f"trajtree import {path} --out runs.jsonl makes a store from other tools' runs"
        raise DataError(f"{path}: not a trajectory store; {NEXT.get(held, to_do) if held else to_do}")


def _effects(merger: Merger) -> Iterator[str]:
    """Options that had little or no effect."""
    for rule in merger.ignoring.unmatched:
        yield f"check: --ignore {rule} matched nothing"
    if merger.acting.without:
        whole = f"{merger.acting.without:,} of {merger.acting.replies:,} replies"
        yield f"check: --action {merger.merging.action} is not in {whole}; those are compared whole"


def _overlooked(found: Overlooked, action: str | None) -> Iterator[str]:
    """Steps that --action merged although they did different things."""
    if found.example is not None:
        what = f"{counted(found.steps, 'step')} merged by --action {action} whose whole actions differ"
        after = f", {found.apart:,} of them answered differently" if found.apart else ", none answered differently"
        yield f"{'check: ' if found.apart else ''}{what}{after}; for example in {found.example}"


def _findings(found: Findings, out: Path) -> Iterator[str]:
    """What there is to learn, and if there are no pairs, why."""
    sizes = list(found.runs_per_task.elements())
    tasks = f"tasks: {len(sizes):,}; runs per task: {min(sizes):,} to {max(sizes):,}, median {median(sizes):g}"
    yield f"{tasks}; steps: {found.steps:,}, of which {found.shared:,} repeat one of another run"
    if found.unscored:
        some = f"{found.unscored:,} of {counted(len(sizes), 'task')}"
        yield f"trees with runs without a score: {some}; they have no values and can only be shown"
        if found.unscored == len(sizes):
            return
    least = found.settings.min_gap
    yield f"forks: {found.divergence.forks:,}, of which {found.wide:,} have a gap of at least {least:g}"
    of_tasks = f"of {counted(found.divergence.tasks, 'task')}"
    if (reworded := found.divergence.reworded()) is not None:
        first = reworded.example.calls or "the same in other words"
        yield (
            f"check: in {reworded.tasks:,} {of_tasks} the first actions that differ are {first}, for example in "
            f"{reworded.example}; trajtree build {reworded.example.remedy} {SAME}"
        )
    if found.pairs:
        yield from _lacking(found, of_tasks)
        yield f"pairs to expect: {found.pairs:,}; write them with: trajtree pairs {out} --out pairs.jsonl"
        return
    reason, examples, remedy = found.divergence.verdict()
    yield f"pairs to expect: none, because {reason}"
    yield from map(str, examples)
    if remedy:
        yield f"what may help: {remedy}"


def _lacking(found: Findings, of_tasks: str) -> Iterator[str]:
    """Which tasks have nothing to learn from, and why."""
    if found.divergence.without:
        least = found.settings.min_gap
        yield f"{found.divergence.without:,} {of_tasks} have no fork with a gap of at least {least:g}:"
        for lack in found.divergence.lacking()[:_REASONS]:
            yield f"  {counted(lack.tasks, 'task')}: {lack.reason}, for example {lack.example}"


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
                except Ungraftable as error:
                    refused.append(error)
                    continue
                if skip_unwritable and (why := why_unwritable(written, made)) is not None:
                    unwritable.append(why)
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


def why_unwritable(write: Callable[[T], object], what: T) -> DataError | None:
    """Why something cannot be written in a format; None if it can."""
    try:
        write(what)
    except DataError as error:
        return error
    return None


def _options(settings: PairSettings) -> dict[str, object]:
    """Settings of pairs, for a card."""
    return {
        name: value
        for name, value in asdict(settings).items()
        if name != "gamma" or AGGREGATES[settings.aggregate].discounts
    }


def trees_in(path: Path) -> Iterator[TrajectoryTree]:
    """The trees in a file; raises DataError if there are none."""
    return at_least_one(read_trees(path), _no_trees(path))


def scored_trees_in(path: Path) -> Iterator[TrajectoryTree]:
    """The trees in a file, to learn from; raises DataError if there are none, or one has runs without a score."""
    return at_least_one(read_scored_trees(path), _no_trees(path))


def _no_trees(path: Path) -> str:
    return f"{path}: contains no trees; make it again with: trajtree build"


def show(
    trees: TreesArgument,
    html: Annotated[Path | None, out_option("--html", help="Write an HTML page that shows the trees.")] = None,
    json_: Annotated[Path | None, out_option("--json", help="Write the figures as JSON.")] = None,
) -> None:
    """Show how much the trees have to teach, as a table, as JSON, or as an HTML page to explore them."""
    from trajtree.report.tree_table import print_quality  # only this command needs reports

    check_output(html, trees)
    check_output(json_, trees, *([html] if html else []))
    figures = [quality(tree) for tree in trees_in(trees)]
    terminal = console(next((out for out in (html, json_) if out is not None and is_stream(out)), None))
    print_quality(figures, terminal)
    if json_ is not None:
        write_whole(json_, _figures_json(figures))
        terminal.print(f"figures: {json_}", soft_wrap=True)
    if html is not None:
        from trajtree.report.viewer import write_viewer

        write_viewer(read_trees(trees), html, title=trees.name)
        terminal.print(f"page: {html}", soft_wrap=True)


def _figures_json(figures: Sequence[TreeQuality]) -> Iterator[str]:
    """`{"total": ..., "trees": [...]}`, tree by tree."""
    from trajtree.report.tree_table import totals

    yield f'{{\n "total": {indent(json.dumps(totals(figures), indent=1), " ").lstrip()},\n "trees": [\n'
    for number, found in enumerate(figures, start=1):
        yield indent(json.dumps(asdict(found), indent=1), "  ") + (",\n" if number < len(figures) else "\n")
    yield " ]\n}\n"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (build, pairs, show):
        app.command()(command)


__all__ = ["SkipOption", "add_to", "scored_trees_in", "why_unwritable"]
