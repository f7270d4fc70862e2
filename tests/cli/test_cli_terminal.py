"""What a pipe or a log file gets: lines that are wide enough, and progress in plain words."""

from __future__ import annotations

import io

from rich.console import Console

from trajtree.cli.terminal import console, counting, progress_of
from trajtree.store.progress import Illustrated
from trajtree.visible import WIDTH


def test_a_pipe_is_as_wide_as_our_tables() -> None:
    assert console().width == WIDTH


def test_progress_without_a_terminal_is_told_in_lines() -> None:
    told = io.StringIO()
    with progress_of(Console(file=told), "train") as progress:
        progress.total(3)
        progress.advance(1)
        progress.advance(2, {"loss": 0.5})
    assert told.getvalue().splitlines() == ["train ...", "train 3/3 loss 0.5"]


def test_the_first_picture_of_a_stage_is_printed_without_a_terminal() -> None:
    told = io.StringIO()
    with progress_of(Console(file=told), "explore") as progress:
        assert isinstance(progress, Illustrated)
        progress.illustrate(["a tree", "  look"])
        progress.illustrate(["a tree", "  look", "  wait"])
    assert told.getvalue().splitlines() == ["explore ...", "a tree", "  look"]


def test_counting_without_a_terminal_is_silent() -> None:
    told = io.StringIO()
    with counting(Console(file=told), "import", "runs") as progress:
        progress.advance(1000)
    assert told.getvalue() == ""
