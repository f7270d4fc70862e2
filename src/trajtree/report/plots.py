"""A report's plots as SVG text that is inserted into a page and adopts its colours and font.

matplotlib draws with placeholder colours, which are then replaced by CSS variables, so that the same plot suits light
and dark pages. Text remains text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from trajtree.errors import TrajtreeError
from trajtree.report.compared import ComparedRuns, is_shown
from trajtree.report.contents import ReportData
from trajtree.report.text import percent, spread
from trajtree.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED, _LINE, _PAPER = "#010101", "#010102", "#010103", "#010104"
_SERIES = tuple(f"#0102{index:02x}" for index in range(8))
_MARKERS = "osD^vPX"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _PAPER: "var(--paper)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(_SERIES)},
}
_WIDTH = 7.6  # inches
_DOT = 9  # square points, area of the dot for one task
_LONGEST = 34  # characters; longer labels are cut


def type_plot(data: ReportData) -> str | None:
    """Return a plot of the rows' mean scores by task type, as SVG; None if there are fewer than two types.

    Raises:
        TrajtreeError: matplotlib is not installed.
    """
    rows = data.results.rows
    kinds = sorted({kind for row in rows for kind in row.by_task_type}, reverse=True)
    if len(kinds) < 2:
        return None
    with _style("type"):
        figure, axes = _canvas(0.8 + 0.34 * len(kinds) + 0.22 * ((len(rows) + 1) // 2))
        offsets = np.linspace(0.24, -0.24, len(rows)) if len(rows) > 1 else np.zeros(1)
        for index, row in enumerate(rows):
            # heights: the lines of the task types that this row has.
            heights = [height for height, kind in enumerate(kinds) if kind in row.by_task_type]
            scores = [100 * row.by_task_type[kinds[height]].score for height in heights]
            # The space is needed because matplotlib omits labels beginning with an underscore from the legend.
            label = " " + _short(data.label(row.name))
            dot = _dot(index, emphasised=row.name == data.primary)
            axes.plot(scores, np.array(heights) + offsets[index], linestyle="none", label=label, **dot)
        _lines(axes, [_type_name(data, kind) for kind in kinds])
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderaxespad=0.2)
        axes.set_xlabel("mean score")
        return _svg(figure, "type")


def task_plot(data: ReportData) -> str:
    """Return a plot with a line per row: scores of its tasks as dots, their mean and its 95% interval, as SVG.

    Raises:
        TrajtreeError: matplotlib is not installed.
    """
    rows = data.results.rows
    with _style("task"):
        figure, axes = _canvas(0.7 + 0.68 * len(rows))
        for index, row in enumerate(rows):
            height = len(rows) - 1 - index  # the first row is at the top
            # Tasks with about the same score share a dot; its area shows their number.
            counts = Counter(round(100 * task.score) for task in row.tasks)
            areas = [_DOT * count for count in counts.values()]
            mean, colour = row.score, _SERIES[index % len(_SERIES)]
            axes.scatter(list(counts), [height - 0.2] * len(counts), s=areas, color=colour, alpha=0.55, linewidths=0)
            axes.plot([100 * mean.low, 100 * mean.high], [height + 0.16] * 2, color=colour, linewidth=2.2)
            dot = _dot(index, emphasised=row.name == data.primary)
            axes.plot([100 * mean.value], [height + 0.16], **dot)
            axes.annotate(
                f"{percent(mean.value)} {spread(mean)}",
                (100 * mean.value, height + 0.16),
                (0, 9),
                textcoords="offset points",
                ha=_side(mean.value),
            )
        _lines(axes, [_short(data.label(row.name)) for row in reversed(rows)])
        axes.set_xlabel("score")
        return _svg(figure, "task")


def difference_plot(data: ReportData) -> str | None:
    """Return a plot of each row's success minus the weak row's, with its interval by situation and over tasks, as SVG.

    None if there is no other row than the weak one, or if the situations are not known.

    Raises:
        TrajtreeError: matplotlib is not installed.
    """
    results = data.results
    compared = [c for c in results.comparisons if (c.against, c.metric) == (results.weak, "success")]
    if not compared or not results.by_situation:
        return None
    # Each interval's place above its line, and its width.
    kinds = {"by situation": (0.14, 2.4), "over tasks, as papers print it": (-0.14, 1.1)}
    with _style("difference"):
        figure, axes = _canvas(1.1 + 0.56 * len(compared))
        for name, (_, width) in kinds.items():
            axes.plot([], [], color=_MUTED, linewidth=width, label=name)
        for index, comparison in enumerate(compared):
            height = len(compared) - 1 - index  # the first row is at the top
            colour = _SERIES[(index + 1) % len(_SERIES)]
            found = (comparison.difference, comparison.practice.difference)
            for one, (place, width) in zip(found, kinds.values(), strict=True):
                axes.plot([100 * one.low, 100 * one.high], [height + place] * 2, color=colour, linewidth=width)
            dot = _dot(index + 1, emphasised=comparison.row == data.primary)
            axes.plot([100 * found[0].value], [height + 0.14], **dot)
            axes.plot([100 * found[1].value], [height - 0.14], marker="|", color=colour, markersize=7)
        axes.axvline(0, color=_MUTED, linewidth=1)
        _lines(axes, [_short(data.label(comparison.row)) for comparison in reversed(compared)])
        axes.autoscale(axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderaxespad=0.2)
        axes.set_xlabel(f"success minus {_short(data.label(results.weak))}, points")
        return _svg(figure, "difference")


def comparison_plot(runs: ComparedRuns) -> str | None:
    """Return a plot of the named comparisons as a whole SVG file; None if no run measured any.

    A line for each: the difference in success with its interval over situations and seeds, a dot for each seed, and the
    t-test's interval over seeds.

    Raises:
        TrajtreeError: matplotlib is not installed.
    """
    compared = runs.compared.named
    if not compared:
        return None
    kinds = {"situations and seeds": (0.14, 2.4), "t-test over seeds, as papers print it": (-0.14, 1.1)}
    with _style("comparison"):
        figure, axes = _canvas(1.1 + 0.62 * len(compared))
        for name, (_, width) in kinds.items():
            axes.plot([], [], color=_MUTED, linewidth=width, label=name)
        for index, named in enumerate(compared):
            height, found = len(compared) - 1 - index, named.success  # the first is at the top
            colour, dot = _SERIES[index % len(_SERIES)], _dot(index, emphasised=is_shown(named, runs))
            for one, (place, width) in zip((found.difference, found.practice.difference), kinds.values(), strict=True):
                axes.plot([100 * one.low, 100 * one.high], [height + place] * 2, color=colour, linewidth=width)
            axes.plot([100 * found.difference.value], [height + 0.14], **dot)
            each = [100 * value for value in found.by_seed]
            axes.scatter(each, [height - 0.14] * len(each), s=_DOT * 2, color=colour, alpha=0.7, linewidths=0)
        axes.axvline(0, color=_MUTED, linewidth=1)
        names = [f"{_short(runs.label(n.success.row))}\n- {_short(runs.label(n.success.against))}" for n in compared]
        _lines(axes, names[::-1])
        axes.autoscale(axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderaxespad=0.2)
        axes.set_xlabel("difference in success, points")
        return standalone(_svg(figure, "comparison"))


def standalone(svg: str) -> str:
    """Return a plot with the colours of the report's page, light and dark, and its font, so that it is a whole file."""
    page = files("trajtree.report").joinpath("template.html").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)[:2]
    style = (
        f"<style>svg {{{light} background: var(--paper); font-family: system-ui, sans-serif }}"
        f"@media (prefers-color-scheme: dark) {{ svg {{{dark}}} }} text {{ font-family: inherit !important }}</style>"
    )
    opened = svg.index(">") + 1
    return svg[:opened] + style + svg[opened:] + "\n"


@contextmanager
def _style(name: str) -> Iterator[None]:
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise TrajtreeError("the HTML report needs matplotlib: pip install 'trajtree[report]'") from error
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "text.color": _INK,
        "font.size": 10,
        "axes.labelcolor": _MUTED,
        "xtick.color": _MUTED,
        "ytick.color": _INK,
    }
    with rc_context(settings), warnings.catch_warnings():
        # The page's font renders the text, so it does not matter if matplotlib's font lacks a glyph.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def _canvas(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes


def _lines(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xlim(-5, 105)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _dot(index: int, *, emphasised: bool) -> dict[str, Any]:
    return {
        "marker": _MARKERS[index % len(_MARKERS)],
        "color": _SERIES[index % len(_SERIES)],
        "markersize": 9 if emphasised else 7.5,
        "markeredgecolor": _INK if emphasised else _PAPER,
        "markeredgewidth": 1.1,
    }


def _side(value: float) -> str:
    return "left" if value < 0.15 else "right" if value > 0.85 else "center"


def _type_name(data: ReportData, kind: str) -> str:
    metrics = data.results.row(data.results.primary).by_task_type.get(kind)
    return _short(kind) if metrics is None else f"{_short(kind)} ({metrics.n})"


def _short(label: str) -> str:
    line = " ".join(visible(label).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    # All plots are on one page, so the ids that matplotlib gives to their elements must differ.
    svg = re.sub(r'(<[^>]*? id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
    return re.sub("|".join(_VARIABLES), lambda colour: _VARIABLES[colour.group()], svg)


__all__ = ["comparison_plot", "difference_plot", "standalone", "task_plot", "type_plot"]
