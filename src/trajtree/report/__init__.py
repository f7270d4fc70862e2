"""Reports of a run: a terminal table, a self-contained HTML page, and results.json."""

from trajtree.report.compared import ComparedRuns, comparison_json, print_comparison
from trajtree.report.contents import ForkView, ReportData, RowStatement, Unmeasured
from trajtree.report.html import write_html
from trajtree.report.json_file import read_results_json, write_results_json
from trajtree.report.results_table import print_table
from trajtree.report.text import verdict

__all__ = [
    "ComparedRuns",
    "ForkView",
    "ReportData",
    "RowStatement",
    "Unmeasured",
    "comparison_json",
    "print_comparison",
    "print_table",
    "read_results_json",
    "verdict",
    "write_html",
    "write_results_json",
]
