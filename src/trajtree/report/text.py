"""Sentences and number formats shared by all kinds of report. Rates and scores are shown on a scale from 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.report.contents import ReportData, RowStatement
from trajtree.statistics.comparing import Recovered
from trajtree.statistics.results import FEW, Comparison, Interval, Metric, Pgr, Results, Situations
from trajtree.statistics.seeds import OverSeeds

ALPHA = 0.05
"""A difference counts as shown if its p-value is below this, its interval leaves out 0, and situations are known and
suffice. The p-value is the interval's own, but not in results that earlier versions stored."""
_LONG_NOTE = 230
"""Characters of a caveat that a page shows before it is unfolded."""

NO_SITUATIONS = (
    "The situations of the tasks are not known: every task counts as one of its own, and intervals are too narrow if "
    "tasks share situations."
)
TOO_FEW = f"Fewer than {FEW} situations: no interval can be trusted."
ONE_SEED = "One seed: this holds for these models, not for the method."
LEAST = "least: the smallest difference that could have been detected, with a power of about 80% (not corrected)"


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


def p_value(value: float) -> str:
    """Return a p-value for a sentence, after its name, as `= 0.012` or `< 0.001`."""
    said = probability(value)
    return f"< {said[1:]}" if said.startswith("<") else f"= {said}"


def recovered(pgr: Pgr | Recovered | None) -> str:
    """Return the gap recovered as `131%`, or `n/a` without one."""
    return "n/a" if pgr is None or pgr.value is None else f"{100 * pgr.value:.0f}%"


def recovered_spread(pgr: Pgr | Recovered) -> str:
    """Return the interval of the gap recovered as `[80%, 190%]`, or `[no end]` where it has none: see `Pgr`."""
    return "[no end]" if pgr.low is None or pgr.high is None else f"[{100 * pgr.low:.0f}%, {100 * pgr.high:.0f}%]"


def situations(found: Situations) -> str:
    """Return how many there are, as `12`, or as `12 (7.7)` where they are worth no more than 7.7 of equal size."""
    worth = f"{found.effective:.1f}"
    return str(found.count) if float(worth) == found.count else f"{found.count} ({worth})"


def ratio(value: float | None) -> str:
    """Return a correlation or a design effect as `0.42`, or `n/a` without one."""
    return "n/a" if value is None else f"{value:.2f}"


def smallest(compared: Comparison | OverSeeds, *, by_situation: bool) -> str:
    """Return the smallest difference that could have been detected, in points, as `24.1`; `n/a` where none could."""
    # Earlier versions stored one where nothing could show. No difference is larger than 1.
    trusted = distrust(compared.situations, by_situation=by_situation) is None
    found = compared.smallest if trusted else None
    return "n/a" if found is None or found > 1 else percent(found)


def excludes_zero(interval: Interval) -> bool:
    """Return whether the interval lies wholly above or wholly below 0."""
    return interval.low > 0 or interval.high < 0


def distrust(found: Situations, *, by_situation: bool) -> str | None:
    """Return why nothing can be shown with these situations, as a sentence; None where they are known and suffice."""
    if not by_situation:
        return NO_SITUATIONS
    return TOO_FEW if found.few else None


def shown(comparison: Comparison, results: Results) -> bool:
    """Return whether there is a difference by the interval and by the test, from enough situations to trust them."""
    trusted = distrust(comparison.situations, by_situation=results.by_situation) is None
    return trusted and comparison.p_value < ALPHA and excludes_zero(comparison.difference)


def unit(data: ReportData) -> list[str]:
    """Return what the intervals are over, whether they can be trusted, and what they hold for, as sentences."""
    results = data.results
    if not results.by_situation:
        sentence = NO_SITUATIONS
    else:
        row = results.row(results.primary)
        held = "one situation" if row.situations.count == 1 else f"{situations(row.situations)} situations"
        sentence = f"Intervals and tests take the situation as the unit: {row.n} tasks are {held}."
    few = any(row.situations.few for row in results.rows) or any(c.situations.few for c in results.comparisons)
    return [sentence, TOO_FEW, ONE_SEED] if few else [sentence, ONE_SEED]


def verdict(data: ReportData, metric: Metric = "success") -> str:
    """Return one sentence that says exactly what the data show about the primary row and its teacher."""
    results = data.results
    lost = data.missing("primary")
    if lost is not None:
        return f"Nothing can be said about {data.label(lost.row)}, the primary row: it was not measured."
    name, teacher = data.label(results.primary), data.label(results.weak)
    comparison = results.compared(results.primary, results.weak, metric)
    if comparison is None:
        return f"{name} is the weak row itself: there is nothing to compare it with."
    difference = comparison.difference
    held = f" in {situations(comparison.situations)} situations" if results.by_situation else ""
    on = f"on {comparison.n} tasks{held} with this one seed"
    figures = f"{points(difference)} points of {metric} {on} (p {p_value(comparison.p_value)})"
    if untrusted := distrust(comparison.situations, by_situation=results.by_situation):
        return f"{name} against its teacher, {teacher}: {figures}. {untrusted}"
    if not shown(comparison, results):
        return f"No difference shown between {name} and its teacher, {teacher}: {figures}."
    verb = "beats" if difference.value > 0 else "does worse than"
    return f"{name} {verb} its teacher, {teacher}: {figures}."


def against_ceiling(data: ReportData, metric: Metric = "success") -> str | None:
    """Return how the primary row compares with the ceiling row, and its gap recovered; None without a ceiling."""
    results = data.results
    comparison = results.compared(results.primary, results.ceiling, metric)
    pgr = results.recovered(results.primary, metric)
    if results.ceiling is None or comparison is None or pgr is None or data.missing("primary") is not None:
        return None
    ceiling, difference = data.label(results.ceiling), comparison.difference
    standing = f"Against {ceiling}: {points(difference)} points of {metric} (p {p_value(comparison.p_value)})"
    if not shown(comparison, results):
        standing += ", no difference shown"
    return f"{standing}. {gap(data, pgr)}"


def gap(data: ReportData, pgr: Pgr) -> str:
    """Return a sentence with the gap recovered and its denominator, or with the reason why there is none."""
    ceiling, weak = data.label(pgr.ceiling_row), data.label(data.results.weak)
    if pgr.value is None:
        return (
            f"Gap recovered: none to recover, {ceiling} ({percent(pgr.ceiling)}) is not above "
            f"{weak} ({percent(pgr.weak)}) in {pgr.metric}."
        )
    return (
        f"Gap recovered: {recovered(pgr)} {recovered_spread(pgr)} of the {points(pgr.gap)} points of {pgr.metric} "
        f"from {weak} ({percent(pgr.weak)}) to {ceiling} ({percent(pgr.ceiling)})."
    )


def not_measured(data: ReportData) -> list[str]:
    """Return the rows that could not be measured and the reason, a sentence for each reason."""
    rows: dict[str, list[str]] = {}
    for one in data.unmeasured:
        rows.setdefault(one.why, []).append(data.label(one.row))
    return [
        f"{listed(names)} {'was' if len(names) == 1 else 'were'} not measured: {why}." for why, names in rows.items()
    ]


def listed(names: Sequence[str]) -> str:
    """Return names as `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


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


def beginning(note: str) -> tuple[str, str]:
    """Return a caveat's first sentences, up to about two lines of a page, and the others."""
    if len(note) <= _LONG_NOTE:
        return note, ""
    end = max(note.rfind(". ", 0, _LONG_NOTE), note.rfind("; ", 0, _LONG_NOTE))
    end = note.rfind(" ", 0, _LONG_NOTE) if end < 0 else end + 1
    return (note, "") if end < 0 else (note[:end], note[end + 1 :])


def known(value: int | None) -> str:
    """Return a number, or `unknown` where it was not recorded or not said."""
    return "unknown" if value is None else str(value)


def by_epoch(statement: RowStatement, side: str) -> str:
    """Return a side's log-ratio to the reference in each epoch, as `+0.10 -0.42`; nothing where there is none."""
    return " ".join(f"{epoch[side]:+.2f}" for epoch in statement.epochs if side in epoch)


__all__ = [
    "against_ceiling",
    "beginning",
    "by_epoch",
    "distrust",
    "excludes_zero",
    "gap",
    "known",
    "listed",
    "lost_episodes",
    "not_measured",
    "p_value",
    "percent",
    "points",
    "probability",
    "ratio",
    "recovered",
    "recovered_spread",
    "shown",
    "situations",
    "smallest",
    "spread",
    "unit",
    "verdict",
]
