"""The command `trajtree paths`: each tree's best path, found by a search or made by stitching."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trajtree.cli.options.cards import ROWS, CardOption, LicenseOption, check_card_options, write_card
from trajtree.cli.options.choices import described, option_of
from trajtree.cli.options.offers import environments
from trajtree.cli.options.outputs import at_least_one, check_output, out_option
from trajtree.cli.options.rendering import RenderCallsOption, RenderThoughtsOption, as_text_fact, parts_of, said_as_text
from trajtree.cli.options.tree_files import SkipOption, TreesArgument, scored_trees_in, why_unwritable
from trajtree.cli.terminal import console, counting
from trajtree.envs.domain import load_domain
from trajtree.envs.guard import closed
from trajtree.envs.replay import replayer
from trajtree.errors import DataError, counted
from trajtree.formats.converting import row_of
from trajtree.formats.write import TRAJECTORY_TARGETS, check_as_text
from trajtree.formats.write.card import Provenance
from trajtree.formats.write.parquet import SUFFIX, write_rows
from trajtree.formats.write.rendering import Part
from trajtree.store.lines import JsonObject, write_jsonl
from trajtree.store.progress import Progress
from trajtree.store.trajectory_store import write_store
from trajtree.trajectory import Trajectory
from trajtree.trees.search import SEARCHES, PathSettings, Search, best_path, search_of
from trajtree.trees.stitching import best_sample, propose, stitch

_PATHS = PathSettings()
"""Defaults."""
_STITCH = "stitch"
"""A way to find paths that needs an environment and more than a tree, so it is not in SEARCHES."""
_STORE = "trajtree"
"""trajtree's own format for paths, beside those of other tools."""
_NAMED = 10
"""Number of tasks without a path that are named."""


def paths(
    trees: TreesArgument,
    out: Annotated[Path, out_option("--out", help=ROWS)],
    search: Annotated[
        str,
        option_of(
            [*SEARCHES, _STITCH],
            help=f"How a tree's path is found: {described(SEARCHES)}, **{_STITCH}** (paths that were never sampled).",
        ),
    ] = _PATHS.search,
    to: Annotated[
        str,
        option_of(
            [_STORE, *TRAJECTORY_TARGETS],
            help=f"Format: **{_STORE}** (a store of trajectories), {described(TRAJECTORY_TARGETS)}.",
        ),
    ] = _STORE,
    min_score: Annotated[float, typer.Option(help="Leave out paths that score less.", min=0, max=1)] = _PATHS.min_score,
    env: Annotated[
        str | None, typer.Option(help="With --search stitch: where proposals are played.", autocompletion=environments)
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Step limit of that environment.", min=1)] = None,
    render_calls: RenderCallsOption = False,
    render_thoughts: RenderThoughtsOption = False,
    skip_unwritable: SkipOption = False,
    card: CardOption = None,
    license: LicenseOption = None,
) -> None:
    """Write each tree's best path, for imitation.

    exact, mcts and best-of-n find sampled paths. stitch makes new ones: it joins runs and removes idle steps. With
    --env its paths are played and count with the score they really get; without it, proposals are written.
    """
    if search != _STITCH and (env is not None or max_steps is not None):
        raise DataError("--env and --max-steps: only --search stitch plays anything; leave them out")
    if out.suffix == SUFFIX and to == _STORE:
        others = ", ".join(TRAJECTORY_TARGETS)
        raise DataError(f"{out}: --to {_STORE} writes a store, which is not Parquet; name a format with --to: {others}")
    parts = parts_of(render_calls, render_thoughts)
    if parts and to == _STORE:
        raise DataError(
            f"--render-{parts[0]}: a store holds runs as they are; name a format with --to, or leave it out"
        )
    if parts:
        check_as_text(parts, to, TRAJECTORY_TARGETS[to])
    check_output(out, trees, by="paths")
    check_card_options(card, license, trees, out)
    terminal, provenance = console(out), Provenance()
    if search == _STITCH and env is None:
        if card is not None:
            raise DataError("--card: without --env, stitching writes proposals and no data set; leave it out")
        if to != _STORE:
            raise DataError(f"--to {to}: without --env, stitching writes proposals, which have not been played yet")
        _propose(terminal, trees, out)
        return
    with counting(terminal, "paths", "trees") as progress:
        if search == _STITCH and env is not None:
            found = _stitched(trees, env, max_steps, progress)
        else:
            found = _searched(trees, search_of(PathSettings(search)), progress)
        left_out: list[Trajectory] = []
        kept = _good(found, min_score, left_out)
        unwritable: list[DataError] = []
        if skip_unwritable and to != _STORE:
            kept = _writable(kept, lambda path: row_of(path, to, parts), unwritable)
        none = f"{trees}: no path scores at least {min_score}; lower --min-score"
        count = _write_paths(_counted(at_least_one(kept, none), provenance), out, to, parts)
    terminal.print(f"{counted(count, 'path')} in {out}{said_as_text(parts)}", soft_wrap=True)
    if left_out:
        best_first = sorted(left_out, key=lambda path: (-path.score, path.task))
        named = _named([f"{path.task} ({path.score:.2f})" for path in best_first])
        terminal.print(
            f"{counted(len(left_out), 'task')} left out because their paths score less than {min_score}: {named}",
            soft_wrap=True,
        )
    if unwritable:
        terminal.print(f"{counted(len(unwritable), 'path')} left out, for example {unwritable[0]}", soft_wrap=True)
    made = {
        "contents": f"the best path of each task, for {to}",
        "search": search,
        "min score": min_score,
        **as_text_fact(parts),
    }
    write_card(terminal, card, license, out, count, provenance, made)


def _good(found: Iterable[Trajectory], min_score: float, left_out: list[Trajectory]) -> Iterator[Trajectory]:
    """The paths that score enough; the others are added to `left_out`."""
    for path in found:
        if path.reaches(min_score):
            yield path
        else:
            left_out.append(path)


def _named(tasks: Sequence[str]) -> str:
    """The first of the tasks, and how many more there are."""
    more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
    return ", ".join(tasks[:_NAMED]) + more


def _writable(
    paths: Iterable[Trajectory], write: Callable[[Trajectory], object], unwritable: list[DataError]
) -> Iterator[Trajectory]:
    """The paths that a format can hold; of the others, why not."""
    for path in paths:
        if (why := why_unwritable(write, path)) is None:
            yield path
        else:
            unwritable.append(why)


def _counted(paths: Iterable[Trajectory], provenance: Provenance) -> Iterator[Trajectory]:
    for path in paths:
        provenance.add([path])
        yield path


def _searched(trees: Path, find: Search, progress: Progress) -> Iterator[Trajectory]:
    for tree in scored_trees_in(trees):
        yield best_path(tree, find)
        progress.advance(1)


def _stitched(trees: Path, env: str, max_steps: int | None, progress: Progress) -> Iterator[Trajectory]:
    with closed(load_domain(env).make(max_steps)) as environment:
        for tree in scored_trees_in(trees):
            yield stitch(tree, replayer(environment)).best
            progress.advance(1)


def _propose(terminal: Console, trees: Path, out: Path) -> None:
    without: list[str] = []

    def rows() -> Iterator[JsonObject]:
        for tree in scored_trees_in(trees):
            best = best_sample(tree)
            better = [p for p in propose(tree) if p.could_beat(best)]
            if not better:
                without.append(tree.task)
            yield from ({**asdict(p), "played": False} for p in better)

    count = write_jsonl(at_least_one(rows(), f"{trees}: nothing to stitch that could beat the best samples"), out)
    terminal.print(
        f"{counted(count, 'proposal')} in {out}: scores are unknown until they are played (--env)", soft_wrap=True
    )
    if without:
        terminal.print(
            f"{counted(len(without), 'task')} left out, where nothing could beat the best sample: {_named(without)}",
            soft_wrap=True,
        )


def _write_paths(paths: Iterable[Trajectory], out: Path, to: str, parts: Sequence[Part]) -> int:
    if to == _STORE:
        return write_store(paths, out, made_by="paths")
    return write_rows((row_of(path, to, parts) for path in paths), out)


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(paths)


__all__ = ["add_to"]
