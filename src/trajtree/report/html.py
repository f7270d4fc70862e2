"""The report as a self-contained HTML page: no scripts, no network, no fonts.

Tasks, observations, actions and labels come from models and from the web. The template escapes all of them and makes
invisible characters visible; only the plots drawn by matplotlib are inserted as markup.
"""

from __future__ import annotations

import os
from importlib.resources import files
from typing import TYPE_CHECKING

from trajtree.errors import TrajtreeError
from trajtree.report import text
from trajtree.report.contents import ReportData
from trajtree.report.plots import difference_plot, task_plot, type_plot
from trajtree.report.tree_table import totals
from trajtree.store.files import write_whole
from trajtree.trees.quality import TreeQuality
from trajtree.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template


def write_html(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write the page.

    Raises:
        TrajtreeError: jinja2 or matplotlib is not installed.
        RunError: the file cannot be written; an existing file is left unchanged.
    """
    page = _template().render(
        data=data,
        results=data.results,
        text=text,
        task_plot=task_plot(data),
        type_plot=type_plot(data),
        difference_plot=difference_plot(data),
        totals=_totals(data.trees),
    )
    write_whole(path, page)


def _template() -> Template:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise TrajtreeError("the HTML report needs jinja2: pip install 'trajtree[report]'") from error

    def show(value: object) -> object:
        # A value with `__html__` is a plot, or text that has already been through here.
        return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    environment = Environment(
        autoescape=True, finalize=show, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("trajtree.report").joinpath("template.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _totals(trees: Sequence[TreeQuality]) -> dict[str, str]:
    """Figures of all trees together, as text; empty without trees."""
    if not trees:
        return {}
    whole = totals(trees)
    counts = ("trajectories", "nodes", "forks", "informative_forks")
    informed = sum((tree.informative_forks or 0) > 0 for tree in trees)
    return {
        "trees": str(len(trees)),
        **{name.replace("_", " "): str(whole[name]) for name in counts},
        "trees with an informative fork": f"{100 * informed / len(trees):.0f}%",
        "mean of the best scores": text.percent(whole["best"] or 0.0),
        "mean of the mean scores": text.percent(whole["mean"] or 0.0),
    }


__all__ = ["write_html"]
