"""Runs of any log format as rows of any target that can hold them: nothing is left out on the way.

What stands beside a conversation in a log and is not read into a run (times, costs, token ids of most formats) is not
part of it. Task, score, outcome and model are, and stand beside the conversation in the row where the target allows it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trajtree.errors import DataError
from trajtree.formats.importing import ImportReport
from trajtree.formats.write import TRAJECTORY_TARGETS, run_row
from trajtree.formats.write.card import file_of
from trajtree.formats.write.rendering import Part
from trajtree.store import trajectory_store, tree_store
from trajtree.store.lines import JsonObject, format_of
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.store.tree_store import read_trees
from trajtree.trajectory import Outcome, Trajectory

Import = Callable[[Path], ImportReport]
"""Imports the files into a store."""


@contextmanager
def runs_in(path: Path, import_into: Import) -> Iterator[Iterable[Trajectory]]:
    """The runs in a store, in a file of trees, or in a log, which is imported into a store that is removed afterwards.

    Raises:
        DataError: a record of the log cannot be kept whole; file, line and reason are named.
    """
    held = format_of(path) if path.is_file() else None
    if held == trajectory_store.FORMAT:
        yield TrajectoryStore(path)
    elif held == tree_store.FORMAT:
        yield (run for tree in read_trees(path) for run in tree.trajectories)
    else:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "runs.jsonl"
            _check_whole(import_into(store))
            yield TrajectoryStore(store)


def _check_whole(report: ImportReport) -> None:
    for record in report.left_out[:1]:
        where = f"{record.file}, line {record.line}" if record.number else f"{record.file}"
        more = f" ({report.left_out_count:,} in all)" if report.left_out_count > 1 else ""
        raise DataError(
            f"{where}: cannot be converted without loss: {record.reason}{more}; trajtree import keeps the other runs"
        )


def rows_of(runs: Iterable[Trajectory], to: str, parts: Sequence[Part] = ()) -> Iterator[JsonObject]:
    """Runs as rows of a target, with `parts` as text.

    Raises:
        DataError: the target cannot hold one; its line in the log is named, if it was imported.
    """
    for run in runs:
        try:
            yield row_of(run, to, parts)
        except DataError as error:
            file = file_of(run)
            raise DataError(f"{file}, line {run.metadata.get('line')}: {error}" if file else str(error)) from None


def row_of(run: Trajectory, to: str, parts: Sequence[Part] = ()) -> JsonObject:
    """A run as a row of a target, with `parts` as text.

    Task, score, outcome and model stand beside the conversation where that is possible.

    Raises:
        DataError: the target cannot hold the run.
    """
    row = run_row(run, to, parts)
    if not TRAJECTORY_TARGETS[to].beside:
        return row
    row |= {"task": run.task, "outcome": run.outcome.value, "model": run.policy}
    row |= {} if run.unscored else {"score": run.score}
    return row | ({"truncated": True} if run.outcome is Outcome.TRUNCATED else {})


__all__ = ["Import", "row_of", "rows_of", "runs_in"]
