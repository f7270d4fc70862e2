"""The command for other tools' logs: import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.choices import described, option_of
from trajtree.cli.outputs import check_output
from trajtree.cli.terminal import console, counting
from trajtree.errors import DataError
from trajtree.formats.importing import LeftOut, import_files
from trajtree.formats.read.detect import FORMATS
from trajtree.store import trajectory_store, tree_store
from trajtree.store.lines import format_of

NEXT = {
    trajectory_store.FORMAT: "go on with: trajtree build",
    tree_store.FORMAT: "go on with: trajtree pairs, paths or show",
}
"""What to do with a file of ours that was given to another command."""

_PLACES = 10
"""Records that are named for one reason; more are counted."""


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files or folders (their .json and .jsonl files).")],
    out: Annotated[Path, typer.Option("--out", help="Store to append to, for example runs.jsonl.")],
    from_: Annotated[
        str | None,
        option_of(FORMATS, "--from", help=f"Their format; found out by default. Known are {described(FORMATS)}."),
    ] = None,
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
    check_output(out, over=trajectory_store.FORMAT)
    for file in files:
        if file.is_file() and (held := format_of(file)) in NEXT:
            raise DataError(f"{file}: holds {held} already; {NEXT[held]}")
    terminal = console()
    with counting(terminal, "import", "runs") as progress:
        done = import_files(
            files, out, format=from_, score=score, score_range=score_range, task=task, progress=progress
        )
    for sentence in _sentences(done.left_out):
        terminal.print(f"left out: {sentence}", soft_wrap=True, markup=False, highlight=False)
    more = done.left_out_count - len(done.left_out)
    terminal.print(
        f"{done.added} runs added to {out}, {done.skipped} rows were there before, {done.left_out_count} left out"
        + (f" ({more} of them not listed)" if more else ""),
        soft_wrap=True,
    )
    if done.added + done.skipped == 0:
        raise DataError("no run could be imported; the reasons are above")


def _sentences(records: Sequence[LeftOut]) -> Iterator[str]:
    """A sentence for each reason in each file, with the places."""
    places: dict[tuple[Path, str], list[str]] = {}
    for record in records:
        place = f"line {record.line}" + (f" (row {record.number})" if record.number != record.line else "")
        places.setdefault((record.file, record.reason), []).append(place if record.number else "")
    for (file, reason), found in places.items():
        where = ", ".join(filter(None, [str(file), *found[:_PLACES]]))
        yield f"{where}{f' and {len(found) - _PLACES} more' if len(found) > _PLACES else ''}: {reason}"


def add_to(app: typer.Typer) -> None:
    """Put the command into the application."""
    app.command("import")(import_)


__all__ = ["NEXT", "add_to"]
