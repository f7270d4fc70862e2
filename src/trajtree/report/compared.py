"""Runs compared over their seeds, as a table for the terminal, as JSON and in sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby

from rich.console import Console
from rich.table import Table

from trajtree.errors import counted
from trajtree.report import text
from trajtree.report.tables import plain, table_of
from trajtree.statistics.comparing import Compared, Named, Recovered
from trajtree.statistics.results import FEW, Interval
from trajtree.statistics.seeds import FEWEST_SEEDS

FORMAT, VERSION = "trajtree.comparison", 1
_TOO_FEW_SEEDS = f"Fewer than {FEWEST_SEEDS} seeds: nothing can be claimed of a method."

LEGEND = (
    "Figures are on a scale from 0 to 100. Intervals are 95% and, like p, over situations and seeds; 'these models' "
    "holds for the models that were trained. Holm: p corrected for the number of comparisons, which were named "
    "beforehand. A difference is shown where Holm's p is below 0.05, the interval excludes 0, and there are at least "
    f"{FEW} situations and {FEWEST_SEEDS} seeds. {text.LEAST}. The t-test over seeds is the field's practice, which "
    "takes these tasks for all that there are.",
    "Reward is the best score so far, completed counts episodes that the environment ended: papers print one as the "
    "average reward and the other as the success rate. Their p-values are not corrected.",
)


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """A comparison of runs: the figures, the rows' labels, the split of the tasks, and caveats shown with them."""

    compared: Compared
    labels: dict[str, str] = field(default_factory=dict)
    split: str = "test"
    notes: tuple[str, ...] = ()

    def label(self, row: str) -> str:
        """Return the label of the row, which defaults to its name."""
        return self.labels.get(row, row)


def verdict_of(named: Named, runs: ComparedRuns) -> str:
    """Return one sentence that says what the data show about a named comparison."""
    found = named.success
    ours, theirs = runs.label(found.row), runs.label(found.against)
    held = f" in {text.situations(found.situations)} situations" if runs.compared.by_situation else ""
    figures = (
        f"{text.points(found.difference)} points of success on {found.n} tasks{held} with {_seeds(named.seeds)} "
        f"(Holm's p {text.p_value(named.holm)})"
    )
    if untrusted := text.distrust(found.situations, by_situation=runs.compared.by_situation):
        return f"{ours} against {theirs}: {figures}. {untrusted}"
    if len(named.seeds) < FEWEST_SEEDS:
        return f"{ours} against {theirs}: {figures}. {_TOO_FEW_SEEDS}"
    if not is_shown(named, runs):
        return f"No difference shown between {ours} and {theirs}: {figures}."
    verb = "beats" if found.difference.value > 0 else "does worse than"
    return f"{ours} {verb} {theirs}: {figures}."


def is_shown(named: Named, runs: ComparedRuns) -> bool:
    """Return whether a difference is shown: by Holm's p and the interval, from enough situations and seeds."""
    trusted = text.distrust(named.success.situations, by_situation=runs.compared.by_situation) is None
    enough = trusted and len(named.seeds) >= FEWEST_SEEDS
    return enough and text.excludes_zero(named.success.difference) and named.holm < text.ALPHA


def cautions(runs: ComparedRuns) -> list[str]:
    """Return what must be said with the figures, as sentences."""
    compared = runs.compared
    figures = [
        *((one.seeds, one.situations) for one in compared.rows),
        *((one.seeds, one.success.situations) for one in compared.named),
        *((one.seeds, one.situations) for one in compared.recovered),
    ]
    found = [f"Rows are measured on the {runs.split} split."]
    if not compared.by_situation:
        found.append(text.NO_SITUATIONS)
    if any(situations.few for _, situations in figures):
        found.append(text.TOO_FEW)
    if min(len(seeds) for seeds, _ in figures) < FEWEST_SEEDS:
        found.append(_TOO_FEW_SEEDS)
    if compared.missing:
        missing = ", ".join(f"{runs.label(row)} against {runs.label(other)}" for row, other in compared.missing)
        found.append(f"Named, but measured with no seed: {missing}; Holm's correction still counts them.")
    return [*found, *runs.notes]


def gap_of(found: Recovered) -> str:
    """Return the gap recovered with its interval, or why there is none; and the number of seeds, where they are few."""
    few = f" [{_seeds(found.seeds)}]" if len(found.seeds) < FEWEST_SEEDS else ""
    if found.value is None:
        return f"none: {'the ceiling is below the weak row' if found.gap.high < 0 else 'the gap may be 0'}{few}"
    return f"{text.recovered(found)} {text.recovered_spread(found)}{few}"


def print_comparison(runs: ComparedRuns, console: Console) -> None:
    """Print a verdict for each named comparison, the tables, and what must be said with them."""
    compared = runs.compared
    for named in compared.named:
        console.print(plain(verdict_of(named, runs)))
    if compared.named:
        console.print(_tests(runs))
        console.print(_beside(runs))
    console.print(_rows(runs))
    if compared.recovered:
        console.print(_gaps(runs))
    console.print(_types(runs))
    for sentence in (_types_key(runs), *LEGEND, *cautions(runs)):
        console.print(plain(sentence), style="dim")


def comparison_json(runs: ComparedRuns) -> str:
    """Return everything as JSON; scores, rates and differences are on a scale from 0 to 1."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "verdicts": [verdict_of(named, runs) for named in runs.compared.named],
        "shown": [is_shown(named, runs) for named in runs.compared.named],
        "notes": cautions(runs),
        "labels": runs.labels,
        "split": runs.split,
        **asdict(runs.compared),
    }
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=True) + "\n"


def _tests(runs: ComparedRuns) -> Table:
    table = _table(
        "named beforehand, in success", "seeds", "difference", "p", "Holm", "least", "these models", "t-test"
    )
    for named in runs.compared.named:
        found, practice = named.success, named.success.practice
        p_value = "" if practice.p_value is None else f" p {text.p_value(practice.p_value)}"
        _add(
            table,
            _against(named, runs),
            str(len(named.seeds)),
            text.points(found.difference),
            text.probability(found.p_value),
            text.probability(named.holm),
            text.smallest(found, by_situation=runs.compared.by_situation),
            text.spread(found.these_models),
            f"{text.spread(practice.difference)}{p_value}" if p_value else "n/a",
            bold=is_shown(named, runs),
        )
    return table


def _beside(runs: ComparedRuns) -> Table:
    table = _table("the same, described", "reward", "p", "completed", "p", "success with each seed")
    for named in runs.compared.named:
        cells = [
            cell
            for found in (named.reward, named.completed)
            for cell in (text.points(found.difference), text.probability(found.p_value))
        ]
        each = " ".join(f"{100 * value:+.1f}" for value in named.success.by_seed)
        _add(table, _against(named, runs), *cells, each)
    return table


def _rows(runs: ComparedRuns) -> Table:
    table = _table("row", "seeds", "tasks", "situations", "success", "reward", "score", "completed")
    for row in runs.compared.rows:
        known = text.situations(row.situations) if runs.compared.by_situation else "unknown"
        figures = [_mean(found) for found in (row.success, row.reward)]
        figures += [text.percent(found.value) for found in (row.score, row.completed)]
        _add(table, runs.label(row.row), str(len(row.seeds)), str(row.n), known, *figures)
    return table


def _gaps(runs: ComparedRuns) -> Table:
    table = _table("gap recovered, in success", "seeds", "PGR", "ceiling", "ceiling - weak")
    for ceiling, group in groupby(runs.compared.recovered, key=lambda found: found.ceiling_row):
        rows = list(group)
        gap = text.points(rows[0].gap)
        alike = all(found.seeds == rows[0].seeds and text.points(found.gap) == gap for found in rows)
        if alike and rows[0].value is None:
            _add(table, "every row", str(len(rows[0].seeds)), gap_of(rows[0]), runs.label(ceiling), gap)
            continue
        for found in rows:
            seeds, gap = str(len(found.seeds)), text.points(found.gap)
            _add(table, runs.label(found.row), seeds, gap_of(found), runs.label(ceiling), gap)
    return table


def _types(runs: ComparedRuns) -> Table:
    kinds = _kinds(runs)
    table = _table("success by type of task", *(str(number) for number in range(1, len(kinds) + 1)))
    for row in runs.compared.rows:
        found = [row.by_task_type.get(kind) for kind in kinds]
        _add(table, runs.label(row.row), *("" if one is None else text.percent(one.success) for one in found))
    return table


def _types_key(runs: ComparedRuns) -> str:
    """What the columns of the table of types stand for."""
    found = []
    for number, kind in enumerate(_kinds(runs), start=1):
        one = next(row.by_task_type[kind] for row in runs.compared.rows if kind in row.by_task_type)
        held = f", {counted(one.situations, 'situation')}" if runs.compared.by_situation else ""
        found.append(f"{number} {kind} ({counted(one.n, 'task')}{held})")
    return f"Types: {'; '.join(found)}."


def _kinds(runs: ComparedRuns) -> list[str]:
    return sorted({kind for row in runs.compared.rows for kind in row.by_task_type})


def _against(named: Named, runs: ComparedRuns) -> str:
    return f"{runs.label(named.success.row)} - {runs.label(named.success.against)}"


def _mean(found: Interval) -> str:
    return f"{text.percent(found.value)} {text.spread(found)}"


def _seeds(seeds: Sequence[int]) -> str:
    return counted(len(seeds), "seed")


def _table(first: str, *headers: str) -> Table:
    return table_of(first, *headers, min_width=16, fold=True)


def _add(table: Table, *cells: str, bold: bool = False) -> None:
    table.add_row(*map(plain, cells), style="bold" if bold else "")


__all__ = [
    "FORMAT",
    "ComparedRuns",
    "cautions",
    "comparison_json",
    "gap_of",
    "is_shown",
    "print_comparison",
    "verdict_of",
]
