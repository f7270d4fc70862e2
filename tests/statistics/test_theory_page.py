"""The figures of docs/theory.md are those that the simulation's command makes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from benchmarks.guarantee import RESULTS
from benchmarks.guarantee_page import blocks, written

PAGE = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()
DONE = json.loads(RESULTS.read_text())
FIGURE = re.compile(r"\d*\.?\d+ ± \.\d+|\d[\d,]*(?:\.\d+)? %|\d[\d,]*\.?\d*|\.\d+")
"""A figure with its interval, a share, or a number."""


def figures(text: str) -> set[str]:
    """The figures of a text, each with its parts: `.1 ± .02` also counts as `.1`."""
    whole = {found.rstrip(".,") for found in FIGURE.findall(text)}
    return whole | {part for one in whole for part in (one.split(" ± ")[0], one.removesuffix(" %"))}


def quoted(page: str) -> set[str]:
    """The figures that the prose about a run and about the simulation quotes, outside the tables."""
    _, _, rest = page.partition("## In a run\n")
    prose = re.sub(r"<!-- guarantee .*?:begin -->.*?:end -->|```.*?```|`[^`]*`|\(\d+\)", "", rest, flags=re.DOTALL)
    return {found.rstrip(".,") for found in FIGURE.findall(" ".join(prose.split()))}


def test_the_tables_of_the_page_are_what_was_measured() -> None:
    assert written(PAGE, DONE) == PAGE


def test_every_figure_that_the_page_quotes_is_printed_by_the_command() -> None:
    printed = figures("\n".join(blocks(DONE).values()))
    assert quoted(PAGE) and not quoted(PAGE) - printed
    # A figure of another measurement would be found.
    assert quoted(PAGE.replace("## In a run\n", "## In a run\nIt gains .987 ± .654 in 3.21 %.\n")) - printed


def test_a_page_without_a_block_for_its_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no block for the figures of 'returns'"):
        written(PAGE.replace("<!-- guarantee returns:begin -->", ""), DONE)
