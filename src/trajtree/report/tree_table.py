"""How much trees have to teach, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from trajtree.report import text
from trajtree.report.tables import plain, table_of
from trajtree.trees.quality import TreeQuality

_Cell = Callable[[Mapping[str, Any]], str]

_NO_SCORE = "no score"
"""Stands for a figure that needs scores in the line of a tree that has runs without one."""

_SHOWN = 30
"""Largest number of trees with a line of their own; the total and the JSON cover all of them."""


def totals(figures: Sequence[TreeQuality]) -> dict[str, float | None]:
    """Sums over all trees, and means over trees for figures that are means in each.

    What needs scores is taken over the trees whose runs all have one, and None if there are none.
    """
    sums = ("trajectories", "nodes", "leaves", "forks", "informative_forks", "pairs", "lost")
    means = ("spread", "branching", "merged", "best", "mean", "token_ratio")
    return {
        "trees": len(figures),
        **{name: sum(found) if (found := _known(figures, name)) else None for name in sums},
        "depth": max(q.depth for q in figures),
        **{name: float(np.mean(found)) if (found := _known(figures, name)) else None for name in means},
    }


def _known(figures: Sequence[TreeQuality], name: str) -> list[float]:
    return [value for q in figures if (value := getattr(q, name)) is not None]


def print_quality(figures: Sequence[TreeQuality], console: Console) -> None:
    """Print a line per tree, those with the most informative forks first, and a total.

    As many columns are shown as the terminal is wide, the most telling ones first; JSON has all of them.
    """
    total = totals(figures)
    shown = sorted(figures, key=lambda q: (-(q.informative_forks or 0), -(q.spread or 0.0), q.task))[:_SHOWN]
    columns = _fitting([*map(asdict, shown), total], console.width)
    table = table_of("task", *columns, min_width=_TASK)
    for q in shown:
        table.add_row(plain(q.task), *(cell(asdict(q)) for cell in columns.values()))
    name = "the tree" if len(figures) == 1 else f"all {len(figures):,} trees"
    name += f" ({_SHOWN} shown)" if len(figures) > _SHOWN else ""
    table.add_section()
    table.add_row(name, *(cell(total) for cell in columns.values()), style="bold")
    console.print(table)
    meanings = [f"{name}: {meaning}" for name, meaning in _MEANINGS.items() if name in columns]
    if any(q.mean is None for q in figures):
        meanings.append(f"{_NO_SCORE}: some runs of the tree have none, so it has no values")
    if meanings:
        console.print(f"{'; '.join(meanings)}.", style="dim")


def _count(name: str) -> _Cell:
    return lambda values: _NO_SCORE if values[name] is None else f"{values[name]:,.0f}"


def _number(name: str, digits: int, unit: str = "") -> _Cell:
    return lambda values: _NO_SCORE if values[name] is None else f"{values[name]:.{digits}f}{unit}"


_COLUMNS: dict[str, _Cell] = {
    "runs": _count("trajectories"),
    "nodes": _count("nodes"),
    "leaves": _count("leaves"),
    "forks": _count("forks"),
    "inform.": _count("informative_forks"),
    "spread": _number("spread", 2),
    "depth": _count("depth"),
    "branching": _number("branching", 1),
    "merged": lambda values: text.percent(values["merged"]) + "%",
    "best": _number("best", 2),
    "mean": _number("mean", 2),
    "pairs": _count("pairs"),
    "lost": _count("lost"),
    "tokens": _number("token_ratio", 1, "x"),
}
_FIRST = ("runs", "forks", "inform.", "spread", "pairs", "mean", "best", "nodes", "merged", "tokens")
"""The most telling columns, in this order; then the others."""

_MEANINGS = {
    "inform.": "forks whose options have different mean scores",
    "spread": "how much they differ",
    "merged": "share of steps that merging saved",
    "pairs": "pairs of options that differ",
    "tokens": "those of all runs divided by those of the tree with shared beginnings",
}

_TASK = 12
"""Smallest width of the column with the task."""


def _fitting(rows: Sequence[Mapping[str, Any]], width: int) -> dict[str, _Cell]:
    """The columns that fit a width, in the order of the table; each has two more characters around it."""
    left = width - _TASK - 2
    chosen = set()
    for name in (*_FIRST, *(name for name in _COLUMNS if name not in _FIRST)):
        left -= 2 + max(len(name), *(len(_COLUMNS[name](row)) for row in rows))
        if left < 0:
            break
        chosen.add(name)
    return {name: cell for name, cell in _COLUMNS.items() if name in chosen}


__all__ = ["print_quality", "totals"]
