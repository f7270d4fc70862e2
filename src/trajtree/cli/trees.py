"""Commands for anyone's runs: import, build, pairs, paths, show. They need no torch, no Java, no environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from trajtree.cli.terminal import counting
from trajtree.envs.domain import load_domain
from trajtree.envs.replay import replayer
from trajtree.errors import DataError, RunError
from trajtree.formats.importing import LeftOut, import_files
from trajtree.formats.pairs import pair_messages
from trajtree.formats.write import PAIR_TARGETS, TRAJECTORY_TARGETS
from trajtree.report.tree_table import WIDE, print_quality, totals
from trajtree.store import trajectory_store as runs_store
from trajtree.store import tree_store
from trajtree.store.files import write_whole
from trajtree.store.lines import format_of, made_by, write_jsonl
from trajtree.store.progress import Progress
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Trajectory
from trajtree.trees.forks import (
    Aggregate,
    Pair,
    adjacent,
    best,
    discounted,
    every,
    extremes,
    mean,
    pairs,
    unstructured,
    whole,
)
from trajtree.trees.merge import build as merge_runs
from trajtree.trees.quality import quality
from trajtree.trees.search import Search, best_of_n, best_path, exact, mcts
from trajtree.trees.stitching import best_sample, propose, stitch
from trajtree.trees.tree import TrajectoryTree

TreesArgument = Annotated[Path, typer.Argument(help="File of trees, made by: trajtree build", metavar="TREES")]
OutOption = Annotated[Path, typer.Option("--out", help="File to write.")]

Format = Literal["atif", "sharegpt", "messages", "verifiers"]
PairFormat = Literal["trl", "ms-swift", "llamafactory", "axolotl", "openai"]
RunFormat = Literal[
    "trajtree", "trl", "trl-completion", "ms-swift", "sharegpt", "llamafactory", "axolotl", "openai", "atif"
]
Merge = Literal["exact", "semantic"]
Mode = Literal["every", "extremes", "adjacent", "whole", "unstructured"]
Value = Literal["mean", "best", "discounted"]
SearchName = Literal["exact", "mcts", "best-of-n", "stitch"]

_GAMMA = 0.95
"""A step's discount where none is given."""
_SIMILARITY = 0.9
"""Cosine from which on two observations are similar, where none is given."""
_NEXT = {
    runs_store.FORMAT: "go on with: trajtree build",
    tree_store.FORMAT: "go on with: trajtree pairs, paths or show",
}
"""What to do with a file of ours that was given to another command."""
_PLACES = 10
"""Records that are named for one reason; more are counted."""


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files or folders (their .json and .jsonl files).")],
    out: Annotated[Path, typer.Option("--out", help="Store to append to, for one runs.jsonl.")],
    from_: Annotated[Format | None, typer.Option("--from", help="Their format; found out by default.")] = None,
    score: Annotated[str | None, typer.Option(help="Field with the score, dotted: --score info.reward")] = None,
    score_range: Annotated[
        tuple[float, float], typer.Option(help="Values of the score that mean 0 and 1: --score-range 0 100")
    ] = (0.0, 1.0),
    task: Annotated[str | None, typer.Option(help="Field that names the task; its prompt by default.")] = None,
) -> None:
    """Read agent runs of other tools into a store: ATIF, ShareGPT, chat messages, verifiers traces.

    Runs of one task share a task field, or begin with the same prompt. Rows that cannot be used are listed, the rest
    goes in. The same command again adds only what is new, also after a kill.
    """
    _to_write(out, over=runs_store.FORMAT)
    for file in files:
        if file.is_file() and (held := format_of(file)) in _NEXT:
            raise DataError(f"{file}: holds {held} already; {_NEXT[held]}")
    console = Console()
    with counting(console, "import", "runs") as progress:
        done = import_files(
            files, out, format=from_, score=score, score_range=score_range, task=task, progress=progress
        )
    for sentence in _left_out(done.left_out):
        console.print(f"left out: {sentence}", soft_wrap=True, markup=False, highlight=False)
    more = done.left_out_count - len(done.left_out)
    console.print(
        f"{done.added} runs added to {out}, {done.skipped} rows were there before, {done.left_out_count} left out"
        + (f" ({more} of them not listed)" if more else ""),
        soft_wrap=True,
    )
    if done.added + done.skipped == 0:
        raise DataError("no run could be imported; the reasons are above")


def build(
    store: Annotated[Path, typer.Argument(help="Store of trajectories, made by trajtree import or by a run.")],
    out: OutOption,
    merge: Annotated[Merge, typer.Option(help="Observations are the same when equal, or when similar.")] = "exact",
    similarity: Annotated[
        float | None,
        typer.Option(help=f"Cosine from which on two are similar; {_SIMILARITY} by default.", min=0, max=1),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="sentence-transformers model of --merge semantic; the paper's by default.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Compare as this environment spells things: --env scienceworld")
    ] = None,
) -> None:
    """Merge each task's runs into a tree."""
    if not store.is_file():
        name = "runs.jsonl" if store.exists() else store
        raise DataError(f"{store}: there is no such store; make one with: trajtree import FILES --out {name}")
    if (held := format_of(store)) != runs_store.FORMAT:
        to_do = f"trajtree import {store} --out runs.jsonl makes a store of other tools' runs"
        raise DataError(f"{store}: not a trajectory store; {_NEXT.get(held, to_do) if held else to_do}")
    if merge == "exact" and (model, similarity) != (None, None):
        raise DataError("--model and --similarity: are for --merge semantic; leave them out, or add it")
    _to_write(out, store, over=tree_store.FORMAT)
    settings: dict[str, Any] = {}
    if env is not None:
        environment = load_domain(env).environment
        settings |= {
            "canonical_action": environment.canonical_action,
            "canonical_observation": environment.canonical_observation,
        }
    if merge == "semantic":
        from trajtree.trees.embeddings import MODEL, SentenceEmbeddings

        settings |= {
            "embed": SentenceEmbeddings(model or MODEL),
            "similarity": _SIMILARITY if similarity is None else similarity,
        }
    console, runs = Console(), 0

    def trees() -> Iterator[TrajectoryTree]:
        nonlocal runs
        for group in TrajectoryStore(store).by_task():
            for tree in merge_runs(group, **settings):
                runs += len(tree.trajectories)
                yield tree
            progress.advance(len(group))

    none = f"{store}: holds no run from which a tree could be built"
    with counting(console, "build", "runs") as progress:
        count = write_trees(_some(trees(), none), out)
    console.print(f"{count} trees of {runs} runs in {out}; look at them with: trajtree show {out}", soft_wrap=True)


def pairs_(
    trees: TreesArgument,
    out: OutOption,
    to: Annotated[PairFormat, typer.Option(help="Format of the trainer.")] = "trl",
    mode: Annotated[
        Mode, typer.Option(help="Options of a fork to compare; whole and unstructured pair runs without forks.")
    ] = "every",
    value: Annotated[Value, typer.Option(help="An option's value, from the scores behind it.")] = "mean",
    gamma: Annotated[
        float | None, typer.Option(help=f"Discount a step, with --value discounted; {_GAMMA} by default.", min=0, max=1)
    ] = None,
    min_gap: Annotated[float, typer.Option(help="Least difference of value.", min=0, max=1)] = 0.1,
    per_fork: Annotated[int, typer.Option(help="Most pairs a fork.", min=1)] = 1,
    per_tree: Annotated[int, typer.Option(help="Most pairs a tree.", min=1)] = 8,
    step_only: Annotated[bool, typer.Option("--step-only", help="Only the reply at which the sides part.")] = False,
) -> None:
    """Write preference pairs: one shared past, a better and a worse continuation."""
    if step_only and mode in ("whole", "unstructured"):
        raise DataError(f"--step-only: --mode {mode} compares whole runs, which may begin alike; leave one of them out")
    if gamma is not None and value != "discounted":
        raise DataError(f"--gamma: --value {value} discounts nothing; add --value discounted, or leave --gamma out")
    _to_write(out, trees)
    discount = _GAMMA if gamma is None else gamma
    aggregate: Aggregate = {"mean": mean, "best": best, "discounted": discounted(discount)}[value]
    caps = {"min_gap": min_gap, "per_tree": per_tree}
    find: dict[str, Callable[..., list[Pair]]] = {
        "every": partial(pairs, select=every, aggregate=aggregate, per_fork=per_fork),
        "extremes": partial(pairs, select=extremes, aggregate=aggregate, per_fork=per_fork),
        "adjacent": partial(pairs, select=adjacent, aggregate=aggregate, per_fork=per_fork),
        "whole": whole,
        "unstructured": unstructured,
    }
    console, row = Console(), PAIR_TARGETS[to].row

    def rows() -> Iterator[dict[str, Any]]:
        for tree in read_trees(trees):
            yield from (row(pair) for pair in pair_messages(tree, find[mode](tree, **caps), step_only=step_only))
            progress.advance(1)

    none = f"{trees}: no fork with a gap of {min_gap}; lower --min-gap, or see what there is: trajtree show {trees}"
    with counting(console, "pairs", "trees") as progress:
        count = write_jsonl(
            _some(
                rows(),
                none,
            ),
            out,
        )
    console.print(f"{count} pairs in {out}", soft_wrap=True)


def paths(
    trees: TreesArgument,
    out: OutOption,
    search: Annotated[SearchName, typer.Option(help="How a tree's path is found.")] = "exact",
    to: Annotated[RunFormat, typer.Option(help="Format; trajtree writes a store.")] = "trajtree",
    min_score: Annotated[float, typer.Option(help="Leave out paths that score less.", min=0, max=1)] = 0.5,
    env: Annotated[str | None, typer.Option(help="With --search stitch: where proposals are played.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Step limit of that environment.", min=1)] = None,
) -> None:
    """Write each tree's best path, to be imitated.

    exact, mcts and best-of-n find what was sampled. stitch makes what was not: it joins runs and leaves out idle
    steps. With --env its paths are played and count with what they really score; without, it writes proposals.
    """
    if search != "stitch" and (env is not None or max_steps is not None):
        raise DataError("--env and --max-steps: only --search stitch plays anything; leave them out")
    _to_write(out, trees, by="paths")
    console = Console()
    if search == "stitch" and env is None:
        if to != "trajtree":
            raise DataError(f"--to {to}: without --env stitching writes proposals, which nobody has played yet")
        _propose(console, trees, out)
        return
    with counting(console, "paths", "trees") as progress:
        if search == "stitch" and env is not None:
            found = _stitched(trees, env, max_steps, progress)
        else:
            searches: dict[str, Search] = {"exact": exact, "mcts": mcts, "best-of-n": best_of_n}
            found = _searched(trees, searches[search], progress)
        kept = _some(
            (t for t in found if t.reaches(min_score)), f"{trees}: no path scores {min_score}; lower --min-score"
        )
        count = _write_runs(kept, out, to)
    console.print(f"{count} paths in {out}", soft_wrap=True)


def show(
    trees: TreesArgument,
    html: Annotated[Path | None, typer.Option(help="Write a page to look at the trees.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Say what the trees have to teach, as a table, as JSON, or as a page on which to walk through them."""
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    _to_write(html, trees)
    _to_write(json_, trees, *([html] if html else []))
    figures = [quality(tree) for tree in read_trees(trees)]
    if not figures:
        raise DataError(f"{trees}: holds no tree")
    print_quality(figures, console)
    if json_ is not None:
        record = {"total": totals(figures), "trees": [asdict(q) for q in figures]}
        write_whole(json_, json.dumps(record, indent=1) + "\n")
        console.print(f"figures: {json_}", soft_wrap=True)
    if html is not None:
        from trajtree.report.viewer import write_viewer

        write_viewer(read_trees(trees), html, title=trees.name)
        console.print(f"page: {html}", soft_wrap=True)


def _left_out(records: Sequence[LeftOut]) -> Iterator[str]:
    """A sentence for each reason in each file, with the places."""
    places: dict[tuple[Path, str], list[str]] = {}
    for record in records:
        place = f"line {record.line}" + (f" (row {record.number})" if record.number != record.line else "")
        places.setdefault((record.file, record.reason), []).append(place if record.number else "")
    for (file, reason), found in places.items():
        where = ", ".join(filter(None, [str(file), *found[:_PLACES]]))
        yield f"{where}{f' and {len(found) - _PLACES} more' if len(found) > _PLACES else ''}: {reason}"


def _to_write(out: Path | None, *inputs: Path, over: str | None = None, by: str | None = None) -> None:
    """Refuse, before any work, an output that cannot be written, is an input, or holds what would be lost.

    That is a file of ours, unless of the format `over` or written by the command `by`; and, where the command writes a
    format of ours, anything else. Its folder is made.
    """
    if out is None:
        return
    if any(out.resolve() == one.resolve() for one in inputs):
        raise DataError(f"{out}: is read by this command and would be overwritten; name another file to write")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror}") from None
    if out.is_dir():
        raise RunError(f"cannot write {out}: it is a folder; name a file")
    if not os.access(out.parent, os.W_OK):
        raise RunError(f"cannot write {out}: its folder is not writable")
    if not out.is_file() or not out.stat().st_size:
        return
    held, maker = format_of(out), made_by(out)
    if over is not None and held is None:
        raise RunError(f"cannot write {out}: it is there and holds no {over}; remove it or name another file")
    if maker is not None and maker != by:
        raise RunError(f"cannot write {out}: trajtree {maker} makes it anew each time; name another file")
    if held not in (None, over) and maker is None:
        raise RunError(f"cannot write {out}: it holds {held}, which would be lost; remove it or name another file")


def _some(rows: Iterable[Any], otherwise: str) -> Iterator[Any]:
    """The rows; DataError when there is none."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(otherwise)


def _searched(trees: Path, find: Search, progress: Progress) -> Iterator[Trajectory]:
    for tree in read_trees(trees):
        yield best_path(tree, find)
        progress.advance(1)


def _stitched(trees: Path, env: str, max_steps: int | None, progress: Progress) -> Iterator[Trajectory]:
    environment = load_domain(env).make(max_steps)
    try:
        for tree in read_trees(trees):
            try:
                yield stitch(tree, replayer(environment)).best
            except KeyError as error:
                raise DataError(f"{trees}, task {tree.task}: {env} has no such task ({error})") from None
            progress.advance(1)
    finally:
        environment.close()


def _propose(console: Console, trees: Path, out: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for tree in read_trees(trees):
            best = best_sample(tree)
            yield from ({**asdict(p), "played": False} for p in propose(tree) if p.could_beat(best))

    count = write_jsonl(_some(rows(), f"{trees}: nothing to stitch that could beat the best samples"), out)
    console.print(f"{count} proposals in {out}: nothing is known of them until they are played (--env)", soft_wrap=True)


def _write_runs(runs: Iterable[Trajectory], out: Path, to: RunFormat) -> int:
    if to != "trajtree":
        return write_jsonl(map(TRAJECTORY_TARGETS[to].row, runs), out)
    return write_store(runs, out, made_by="paths")


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    for name, command in (("import", import_), ("build", build), ("pairs", pairs_), ("paths", paths), ("show", show)):
        app.command(name)(command)


__all__ = ["add_to"]
