"""The terminal: everything is printed through here, so that nothing in it can command the terminal.

Also how wide it is, and the progress displays, or plain lines where there is no terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.segment import Segment

from trajtree.store.files import is_stream
from trajtree.store.progress import Progress
from trajtree.visible import WIDTH, visible

_QUIET_SECONDS = 10.0


class _Careful(Console):
    """Makes control characters in all text visible; colours are rich's own, and no text is treated as markup."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See Console.render."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console(out: Path | None = None) -> Console:
    """The terminal; a pipe or a log file gets lines wide enough for our tables.

    It is stderr where the command's output `out` goes on to somebody and must be alone there.
    """
    apart = out is not None and is_stream(out)
    there = sys.stderr if apart else sys.stdout
    return _Careful(width=None if there.isatty() else WIDTH, stderr=apart, markup=False, emoji=False)


def say(line: str) -> None:
    """Print a line unchanged, for programs: tabs stay tabs, and nothing is wrapped."""
    print(visible(line))


def complain(sentence: object) -> None:
    """Print on stderr why a command ends."""
    print(visible(f"trajtree: {sentence}"), file=sys.stderr)


class StageProgress:
    """A display for all stages of a run; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> StageProgress:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self._bars.stop()

    def named(self, name: str) -> Progress:
        """The display of a stage that begins now."""
        return _Bar(name, self._console, self._bars)


class _Bar:
    def __init__(self, name: str, console: Console, bars: Bars) -> None:
        self._name, self._console, self._bars = name, console, bars
        self._task = bars.add_task(name, total=None, note="")
        self._done, self._total, self._told = 0, 0, time.monotonic()
        if not console.is_terminal:
            console.print(f"{name} ...")

    def total(self, amount: int) -> None:
        self._total = amount
        self._bars.update(self._task, total=amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        note = " ".join(f"{name} {value:.3g}" for name, value in (figures or {}).items())
        self._done += amount
        self._bars.update(self._task, advance=amount, note=note)
        finished = self._done >= self._total
        if not self._console.is_terminal and (finished or time.monotonic() - self._told > _QUIET_SECONDS):
            self._told = time.monotonic()
            self._console.print(f"{self._name} {self._done}/{self._total} {note}".rstrip())


@contextmanager
def progress_of(console: Console, name: str) -> Iterator[Progress]:
    """A progress display for one piece of work of known size."""
    with StageProgress(console) as bars:
        yield bars.named(name)


@contextmanager
def counting(console: Console, name: str, unit: str) -> Iterator[Progress]:
    """A progress display for work of unknown size."""
    bars = Bars(
        TextColumn("{task.description:<8}"),
        SpinnerColumn(),
        TextColumn(f"{{task.completed:,.0f}} {unit}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        yield _Counter(bars, bars.add_task(name, total=None))


class _Counter:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def total(self, amount: int) -> None:
        self._bars.update(self._task, total=amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self._bars.advance(self._task, amount)


__all__ = ["StageProgress", "complain", "console", "counting", "progress_of", "say"]
