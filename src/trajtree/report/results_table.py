"""The results as a table for the terminal. Nothing is conveyed by colour alone."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trajtree.report import text
from trajtree.report.contents import ReportData
from trajtree.report.tables import plain, print_fitting, table_of
from trajtree.statistics.results import RowMetrics

LEGEND = (
    "> primary row, w weak row, c ceiling row, - not measured. Figures are on a scale from 0 to 100, with 95% "
    "intervals; success is not completion; PGR = (row - weak) / (ceiling - weak) in success; p is not corrected for "
    "multiple comparisons.",
    "ICC: how far tasks of one situation agree (1: they are equal); deff, the design effect: the variance that this "
    f"gives the mean, as a multiple of that of independent tasks; {text.LEAST}. The last two columns are the field's "
    "practice, which takes tasks for independent.",
)

_REST = "report.html and results.json have them"


def print_table(data: ReportData, console: Console) -> None:
    """Print the verdict, the rows' figures and how far their tasks agree within situations, and the caveats."""
    results = data.results
    for sentence in (text.verdict(data), text.against_ceiling(data)):
        if sentence is not None:
            console.print(plain(sentence))
    headers = ("tasks", "success", "score", "best", "compl.", "PGR", "success - weak", "p")
    table = table_of("", *headers, min_width=12)
    for row in results.rows:
        style = "bold" if row.name == data.primary else ""
        table.add_row(*_cells(data, row), style=style)
    marks = {"primary": ">", "ceiling": "c"}
    for one in data.unmeasured:
        table.add_row(plain(f"{marks.get(one.role, ' ')} {data.label(one.row)}"), *["-"] * len(headers))
    print_fitting(table, console, (1, 6, 7, 2, 5, 0, 4, 3), _REST)
    for sentence in text.not_measured(data):
        console.print(plain(sentence))
    print_fitting(_agreement(data), console, (0, 6, 7, 5, 1, 2, 3, 4), _REST)
    for sentence in (*LEGEND, *text.unit(data), *text.lost_episodes(data), *data.notes):
        console.print(plain(sentence), style="dim")


def _agreement(data: ReportData) -> Table:
    """A line for each row: its tasks and situations, how far these agree, and the field's practice."""
    results = data.results
    table = table_of("", "situations", "ICC", "deff", "- weak: ICC", "deff", "least", "over tasks", "p", min_width=12)
    for row in results.rows:
        found, comparison = row.dependence["success"], results.compared(row.name, results.weak, "success")
        known = results.by_situation
        cells = [
            data.label(row.name),
            text.situations(row.situations) if known else "unknown",
            text.ratio(found.icc),
            text.ratio(found.design_effect) if known else "n/a",
        ]
        if comparison is not None:
            practice = comparison.practice
            cells += [
                text.ratio(comparison.dependence.icc),
                text.ratio(comparison.dependence.design_effect) if known else "n/a",
                text.smallest(comparison, by_situation=known),
                text.points(practice.difference),
                "" if practice.p_value is None else text.probability(practice.p_value),
            ]
        table.add_row(*map(plain, cells), style="bold" if row.name == data.primary else "")
    return table


def _cells(data: ReportData, row: RowMetrics) -> list[Text]:
    results = data.results
    marks = {data.primary: ">", results.weak: "w", results.ceiling: "c"}
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
    return [plain(cell) for cell in cells]


__all__ = ["print_table"]
