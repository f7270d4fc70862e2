"""How one policy's episodes went, as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from trajtree.errors import counted
from trajtree.report import text
from trajtree.report.tables import plain, print_fitting, table_of
from trajtree.statistics.results import RowMetrics
from trajtree.statistics.summary import summarise
from trajtree.trajectory import Trajectory

_LEGEND = "Figures are on a scale from 0 to 100, with 95% intervals over tasks; success is not completion."


def print_played(name: str, played: Iterable[Trajectory], console: Console) -> None:
    """Print success rate and score, by task type too, and how the episodes ended; they are read once.

    Raises:
        TrajtreeError: no episode says anything about the policy.
    """
    ends: Counter[str] = Counter()
    (row,) = summarise({name: _counted(played, ends)}, weak=name, ceiling=None, primary=name).rows
    table = table_of("", "tasks", "success", "score", "best", "compl.", "steps")
    table.add_row(*map(plain, _whole(row)), style="bold")
    if len(row.by_task_type) > 1:
        for kind, metrics in row.by_task_type.items():
            cells = (kind, str(metrics.n), text.percent(metrics.success), text.percent(metrics.score), "", "", "")
            table.add_row(*map(plain, cells))
    print_fitting(table, console, (1, 2, 0, 5, 4, 3), "make the terminal wider, or send the output to a file")
    console.print(Text(f"{counted(ends.total(), 'episode')}: {_said(ends)}."), style="dim")
    console.print(Text(_LEGEND), style="dim")


def _whole(row: RowMetrics) -> list[str]:
    return [
        row.name,
        str(row.n),
        f"{text.percent(row.success_rate.value)} {text.spread(row.success_rate)}",
        f"{text.percent(row.score.value)} {text.spread(row.score)}",
        text.percent(row.best_score.value),
        text.percent(row.completion_rate),
        f"{row.steps_mean:.1f}",
    ]


def _counted(played: Iterable[Trajectory], ends: Counter[str]) -> Iterator[Trajectory]:
    """The trajectories; how they ended is counted on the way."""
    for t in played:
        ends[t.outcome.value if t.cause is None else f"{t.outcome.value} ({t.cause.value})"] += 1
        yield t


def _said(ends: Counter[str]) -> str:
    """The outcomes and their causes, the most frequent first."""
    return ", ".join(f"{count} {end}" for end, count in ends.most_common())


__all__ = ["print_played"]
