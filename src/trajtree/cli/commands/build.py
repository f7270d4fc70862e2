"""The command `trajtree build`: runs become trees, with what pairs can be expected of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import msgspec
import typer

from trajtree.cli.options.choices import NEXT, described, option_of
from trajtree.cli.options.completion import offering
from trajtree.cli.options.offers import environments
from trajtree.cli.options.outputs import at_least_one, check_output, out_option
from trajtree.cli.terminal import console, counting
from trajtree.envs.domain import load_domain
from trajtree.envs.guard import canonical_forms
from trajtree.errors import DataError, counted
from trajtree.store import trajectory_store, tree_store
from trajtree.store.files import open_text
from trajtree.store.lines import format_of
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import write_trees
from trajtree.trees.embeddings import MODEL
from trajtree.trees.findings import Findings
from trajtree.trees.merge import MERGES, SIMILARITY, MergeOptions, Merger, MergeSettings
from trajtree.trees.overlooked import Overlooked
from trajtree.trees.partings import SAME
from trajtree.trees.sameness import ACTIONS, IGNORABLE
from trajtree.trees.tree import TrajectoryTree

OutOption = Annotated[Path, out_option("--out", help="File to write.")]


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
    if found.contexts:
        several = sorted(found.policies)
        names = ", ".join(several[:_REASONS]) + (", ..." if len(several) > _REASONS else "")
        of = f" (by {names})" if len(several) > 1 else ""
        yield (
            f"tasks whose runs began with different instructions, tools or examples: {found.contexts:,} of "
            f"{len(sizes):,}{of}; such runs share no decision, so no pair joins them"
        )
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


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(build)


__all__ = ["add_to"]
