"""The command `trajtree import`: other tools' logs become a store, with what was found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from trajtree.cli.options.choices import NEXT, described, option_of, with_options_of
from trajtree.cli.options.outputs import check_output
from trajtree.cli.options.reading import Reading, counts_of
from trajtree.cli.terminal import console, counting
from trajtree.errors import DataError, counted
from trajtree.formats.import_report import SheetUse
from trajtree.formats.importing import ImportReport, LeftOut
from trajtree.formats.read.benchmarks.reports import RESOLVED
from trajtree.formats.read.detect import known_formats
from trajtree.store import trajectory_store
from trajtree.store.lines import format_of


class _Unscored(NamedTuple):
    """What is done with runs that have no score."""

    keep: bool
    about: str


UNSCORED = {
    "leave-out": _Unscored(False, "they are listed"),
    "keep": _Unscored(True, "they are stored, and never compared or measured"),
}

_PLACES = 10
"""Number of records named per reason; further ones are counted."""

_FILES = 5
"""Number of files up to which each is named with a reason."""


@with_options_of(Reading)
def import_(
    reading: Reading,
    files: Annotated[list[Path], typer.Argument(help="Files, folders or archives.")],
    out: Annotated[Path, typer.Option("--out", help="Store to append to, for example runs.jsonl.")],
    unscored: Annotated[
        str, option_of(UNSCORED, "--unscored", help=f"Runs without a score: {described(UNSCORED)}.")
    ] = "leave-out",
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Processes that convert records; the store does not depend on it.")
    ] = 1,
) -> None:
    """Read agent runs of other tools into a store, from files, folders and archives as they are.

    Runs of the same task share a task field, or begin with the same prompt. Rows that cannot be used are listed; the
    rest are imported. Running the same command again, also after a kill, adds only what is new.
    """
    check_output(out, over=trajectory_store.FORMAT, adds=True)
    for file in files:
        if file.is_file() and (held := format_of(file)) in NEXT:
            raise DataError(f"{file}: already contains {held}; {NEXT[held]}")
    terminal = console()
    with counting(terminal, "import", "runs", out) as progress:
        done = reading.into(out, files, keep_unscored=UNSCORED[unscored].keep, jobs=jobs, progress=progress)
    left_out = list(_sentences(done.left_out))
    kinds = [f"left out, {counted(number, 'row')}: {kind}" for kind, number in done.kinds.items()]
    for sentence in (
        *left_out,
        *_summary(done),
        *(kinds if len(kinds) < len(left_out) else ()),
        *_hints(done, reading),
    ):
        terminal.print(sentence, soft_wrap=True, highlight=False)
    more = done.left_out_count - len(done.left_out)
    totals = (
        f"{counted(done.added, 'run')} added to {out}, {done.skipped:,} skipped as duplicates, "
        f"{done.left_out_count:,} left out" + (f" ({more:,} of them not listed)" if more else "")
    )
    terminal.print(totals, soft_wrap=True, highlight=False)
    if done.added + done.skipped == 0:
        raise DataError("no runs could be imported; the reasons are above")


def _summary(done: ImportReport) -> Iterator[str]:
    """How the runs were interpreted."""
    if done.others:
        yield f"skipped, not logs: {counts_of(done.others)}"
    if done.added:
        yield f"format: {counts_of(done.formats)}"
        others = [
            f"{name} is there too, in {counted(other.present, 'run')}, and differs in {other.differs:,}"
            for name, other in done.other_scores.items()
        ]
        yield "; ".join([f"score: from {counts_of(done.scores)}", *others])
        others = [
            f"{name} is there too, in {counted(other.present, 'run')}, and names {counted(other.values, 'task')}"
            for name, other in done.other_tasks.items()
        ]
        yield "; ".join([f"task: from {counts_of(done.task_fields)}", *others])
        yield f"outcome: {counts_of(done.outcomes)}"
    if done.spread is not None:
        spread = done.spread
        yield (
            f"scores: {spread.low:.3g} to {spread.high:.3g}, mean {spread.mean:.3g}; they differ in "
            f"{spread.differing:,} of {counted(spread.several, 'task')} with several runs"
        )
        yield f"steps: {done.steps:,}, of which {done.shared_steps:,} repeat the beginning of another run"
    if done.redacted:
        yield f"redacted: {counts_of(done.redacted)}"
    if done.sheet is not None:
        yield from _sheet(done.sheet)
    if done.tasks:
        low, middle, high = done.runs_per_task
        yield f"tasks: {done.tasks:,} in the store; runs per task: {low:,} to {high:,}, median {middle:g}"


def _sheet(sheet: SheetUse) -> Iterator[str]:
    """How the file of scores was used."""
    used = sheet.rows - sheet.unmatched_count
    yield f"{sheet.name}: {counted(used, 'row')} of {sheet.rows:,} used"
    for names, number, what in (
        (sheet.unmatched, sheet.unmatched_count, "rows that match no run"),
        (sheet.without, sheet.without_count, "runs that it does not name"),
    ):
        if number:
            more = f" and {number - len(names):,} more" if number > len(names) else ""
            yield f"check: {sheet.name}, {what}: {number:,}: {', '.join(names)}{more}"


def _hints(done: ImportReport, reading: Reading) -> Iterator[str]:
    """What may have been misinterpreted, and what to do about it."""
    scored = (reading.score, reading.scores, reading.score_range) != (None, None, (0.0, 1.0))
    if done.skipped and scored:
        yield (
            f"check: runs that the store had already keep the scores that they were imported with: {done.skipped:,}; "
            "if that was with another --score, --scores or --score-range, import everything into a new store"
        )
    if done.no_format:
        some = done.added + done.skipped
        known = "--from in trajtree import --help lists those known" if some else known_formats()
        yield f"{counted(done.no_format, 'file')} in no known format; {known}"
    if done.reports and done.sheet is None and RESOLVED not in done.scores:
        near = sorted(done.reports, key=lambda folder: -_levels_shared(folder, done.left_out))
        first, *more = [f"{folder} ({done.reports[folder]:,})" for folder in near]
        lie = ", ".join([first, *more[:2]]) + (f" and {len(more) - 2:,} more" if len(more) > 2 else "")
        yield f"check: reports of benchmarks lie in {lie}; give the folder that is about these runs with --scores"
    if done.held:
        yield f"rows contained in a longer row of the same run: {done.held:,}"
    if done.resumed:
        yield (
            f"sessions that a later one resumed and repeats: {done.resumed:,}; each was read once, as part of the run "
            "of the later one"
        )
    if done.joined:
        yield f"rows that were joined to the last part of the same run: {done.joined:,}"
    if done.disagreeing:
        yield (
            f"check: rows whose fields say that they are of one run but whose scores or models differ: "
            f"{done.disagreeing:,}; each was taken as a run, with --run FIELD they are left out"
        )
    if done.undecided:
        yield (
            f"check: rows whose fields say that they are of one run but that do not begin alike: {done.undecided:,}; "
            "each was taken as a run, with --run FIELD they are left out"
        )
    if done.errors:
        yield (
            f"check: runs whose rows have an error: {counts_of(done.errors)}; they count with their scores; if what "
            "failed was not the agent (a rate limit, a crash), import into a new store without those rows"
        )
    if done.beginnings:
        with_run = "import into a new store with --run FIELD, which tells the runs apart"
        remedy = "leave the shorter ones out" if set(done.formats) == {"message-list"} else with_run
        yield (
            f"check: runs that are the beginning of another run: {done.beginnings:,}; if a row is one call of the "
            f"model with all that came before, {remedy}"
        )
    for origin, number in done.prompts_differ.items():
        yield (
            f"check: tasks whose runs all begin with another prompt than the first: {number:,}, named by {origin}; if "
            "these are different tasks, import into a new store with --task FIELD; if they are the same, in other "
            "words, trajtree build says which option compares them"
        )
    if done.example_turns:
        yield (
            f"check: all runs are the same up to reply {done.example_turns}, whatever the task; if that is an example, "
            f"import into a new store with --context-turns {done.example_turns}"
        )
    if done.with_keys:
        yield (
            f"check: runs that hold what looks like a key or a token: {done.with_keys:,}; import into a new store with "
            "--redact before you pass anything on"
        )
    if done.repeated:
        yield (
            f"check: runs that equal one from a file of the same name in another folder: {done.repeated:,}; if that "
            "file was only moved, the store has them twice now: import into a new one"
        )


def _levels_shared(folder: Path, records: Sequence[LeftOut]) -> int:
    """How many leading parts of its path a folder shares with one of the first files that were left out."""
    pairs = (zip(folder.parts, record.file.parts, strict=False) for record in records[:20])
    return max((sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pair)) for pair in pairs), default=0)


def _sentences(records: Sequence[LeftOut]) -> Iterator[str]:
    """A sentence for each reason in each file, with the lines; one sentence if there are many files."""
    places: dict[tuple[Path, str], list[str]] = {}
    for record in records:
        place = f"line {record.line}" + (f" (row {record.number})" if record.number != record.line else "")
        places.setdefault((record.file, record.reason), []).append(place if record.number else "")
    files: dict[str, list[Path]] = {}
    for file, reason in places:
        files.setdefault(reason, []).append(file)
    many = {reason: found for reason, found in files.items() if len(found) > _FILES}
    for reason, found_in in many.items():
        first = ", ".join(map(str, found_in[:3]))
        yield f"left out, in {len(found_in):,} files ({first} and {len(found_in) - 3:,} more): {reason}"
    for (file, reason), found in places.items():
        if reason in many:
            continue
        where = ", ".join(filter(None, [str(file), *found[:_PLACES]]))
        yield f"left out: {where}{f' and {len(found) - _PLACES} more' if len(found) > _PLACES else ''}: {reason}"


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("import")(import_)


__all__ = ["add_to"]
