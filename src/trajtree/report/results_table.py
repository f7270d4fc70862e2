"""The results as a table for the terminal, 100 columns wide. Nothing is shown by colour alone."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trajtree.report import text
from trajtree.report.contents import ReportData
from trajtree.statistics.results import RowMetrics

LEGEND = (
    "> primary row, w weak row, c ceiling row. Figures are on a scale from 0 to 100, with 95% intervals over tasks; "
    "success is not completion; PGR = (row - weak) / (ceiling - weak) in success; p is not corrected for the number of "
    "comparisons."
)


def print_table(data: ReportData, console: Console) -> None:
    """Print the verdict, a line for each row, and the caveats."""
    results = data.results
    for sentence in (text.verdict(data), text.against_ceiling(data)):
        if sentence is not None:
            console.print(_plain(sentence))
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", min_width=12)
    for header in ("tasks", "success", "score", "best", "compl.", "PGR", "success - weak", "p"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in results.rows:
        style = "bold" if row.name == results.primary else ""
        table.add_row(*_cells(data, row), style=style)
    console.print(table)
    for sentence in (LEGEND, *text.lost_episodes(data), *data.notes):
        console.print(_plain(sentence), style="dim")


def _cells(data: ReportData, row: RowMetrics) -> list[Text]:
    results = data.results
    marks = {results.primary: ">", results.weak: "w", results.ceiling: "c"}
    comparison = results.compared(row.name, results.weak, "success")
    cells = [
        f"{marks.get(row.name, ' ')} {data.label(row.name)}",
        str(row.n),
        text.percent(row.success_rate.value),
        text.percent(row.score.value),
        text.percent(row.best_score.value),
        text.percent(row.completion_rate),
        text.recovered(results.recovered(row.name, "success")),
        "" if comparison is None else text.points(comparison.difference),
        "" if comparison is None else text.probability(comparison.p_value),
    ]
    return [_plain(cell) for cell in cells]


def _plain(sentence: str) -> Text:
    return Text(text.visible(sentence))


__all__ = ["print_table"]
