"""Sentences and figures that all kinds of report share. Rates and scores are shown on a scale from 0 to 100."""

from __future__ import annotations

import re

from trajtree.report.contents import ReportData
from trajtree.statistics.results import Comparison, Interval, Metric, Pgr

ALPHA = 0.05
"""A difference counts as shown if its p-value is below this and its interval leaves out 0."""
WIDTH = 120
"""Columns in which every table of ours fits; what is written to a pipe or a log file is that wide."""

# Control characters, bidirectional marks, lone surrogates: invisible, and some reorder or hide the text around them.
_UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    """Return the text with all invisible characters spelled out, as in `<U+202E>`."""
    return _UNSEEN.sub(lambda match: f"<U+{ord(match.group()):04X}>", text.replace("\r\n", "\n"))


def percent(value: float) -> str:
    """Return 0.4713 as `47.1`."""
    return f"{100 * value:.1f}"


def spread(interval: Interval) -> str:
    """Return the interval as `[40.0, 54.2]`."""
    return f"[{percent(interval.low)}, {percent(interval.high)}]"


def points(interval: Interval) -> str:
    """Return a difference in points with its interval, as `+7.1 [0.0, 14.2]`."""
    return f"{100 * interval.value:+.1f} {spread(interval)}"


def probability(p_value: float) -> str:
    """Return a p-value as `0.012` or `<0.001`."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def recovered(pgr: Pgr | None) -> str:
    """Return the gap recovered as `131%`, or `n/a` without one."""
    return "n/a" if pgr is None or pgr.value is None else f"{100 * pgr.value:.0f}%"


def shown(comparison: Comparison) -> bool:
    """Return whether the interval and the test agree that there is a difference."""
    interval = comparison.difference
    return comparison.p_value < ALPHA and (interval.low > 0 or interval.high < 0)


def verdict(data: ReportData, metric: Metric = "success") -> str:
    """Return in one sentence what the data show about the primary row and its teacher, and no more."""
    results = data.results
    name, teacher = data.label(results.primary), data.label(results.weak)
    comparison = results.compared(results.primary, results.weak, metric)
    if comparison is None:
        return f"{name} is the weak row itself: there is nothing to compare it with."
    difference = comparison.difference
    figures = f"{points(difference)} points of {metric} on {comparison.n} tasks ({_p(comparison)})"
    if not shown(comparison):
        return f"No difference shown between {name} and its teacher, {teacher}: {figures}."
    verb = "beats" if difference.value > 0 else "does worse than"
    return f"{name} {verb} its teacher, {teacher}: {figures}."


def against_ceiling(data: ReportData, metric: Metric = "success") -> str | None:
    """Return how the primary row compares with the ceiling row, and the gap it recovers; None without a ceiling."""
    results = data.results
    comparison = results.compared(results.primary, results.ceiling, metric)
    pgr = results.recovered(results.primary, metric)
    if results.ceiling is None or comparison is None or pgr is None:
        return None
    ceiling, difference = data.label(results.ceiling), comparison.difference
    standing = f"Against {ceiling}: {points(difference)} points of {metric} ({_p(comparison)})"
    if not shown(comparison):
        standing += ", no difference shown"
    return f"{standing}. {gap(data, pgr)}"


def gap(data: ReportData, pgr: Pgr) -> str:
    """Return the gap recovered and its denominator, or why there is none, as a sentence."""
    ceiling, weak = data.label(pgr.ceiling_row), data.label(data.results.weak)
    if pgr.value is None:
        return (
            f"Gap recovered: none to recover, {ceiling} ({percent(pgr.ceiling)}) is not above "
            f"{weak} ({percent(pgr.weak)}) in {pgr.metric}."
        )
    return (
        f"Gap recovered: {recovered(pgr)} of the {points(pgr.gap)} points of {pgr.metric} "
        f"from {weak} ({percent(pgr.weak)}) to {ceiling} ({percent(pgr.ceiling)})."
    )


def lost_episodes(data: ReportData) -> list[str]:
    """Return a sentence for each row that lost episodes to faults."""
    sentences = []
    for row in data.results.rows:
        if row.faults:
            what = "episodes lost to faults of the environment or the engine, not counted"
            sentence = f"{data.label(row.name)}: {what}: {row.faults}"
            left = f"; tasks with no other episode: {len(row.lost)}" if row.lost else ""
            sentences.append(f"{sentence}{left}.")
    return sentences


def _p(comparison: Comparison) -> str:
    value = probability(comparison.p_value)
    return f"p {value[0]} {value[1:]}" if value.startswith("<") else f"p = {value}"


__all__ = [
    "against_ceiling",
    "gap",
    "lost_episodes",
    "percent",
    "points",
    "probability",
    "recovered",
    "shown",
    "spread",
    "verdict",
    "visible",
]
