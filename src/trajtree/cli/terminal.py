"""The terminal: everything is printed through here, so that nothing in it can command the terminal.

Also how wide it is, and the progress displays, or plain lines where there is no terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from trajtree.store.files import is_stream
from trajtree.store.progress import Progress
from trajtree.visible import WIDTH, visible

if TYPE_CHECKING:
    from trajtree.store.watching import Watch, Watched

_QUIET_SECONDS = 10.0
_FRAMES = 4.0
"""Number of times per second that a terminal is redrawn."""


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
    """A display for all stages of a command; use it as a context manager.

    A terminal shows them as they stand, and the latest episode or tree; elsewhere a line says how far a stage is every
    ten seconds, and the first episode or tree of a stage is printed. The same figures are kept in a file, for
    `trajtree status`.

    Args:
        console: where to.
        command: its name.
        place: the folder or file that the command writes, where its status is kept; None to keep none.
    """

    def __init__(self, console: Console, command: str, place: Path | None = None) -> None:
        from trajtree.report.status_table import live_view  # most commands show no stages

        self._console = console
        self._watch = _watch(command, place)
        self._live = Live(
            console=console,
            get_renderable=lambda: live_view(self._watch.status()),
            refresh_per_second=_FRAMES,
        )

    def __enter__(self) -> StageProgress:
        """Start drawing."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self._watch.__exit__(kind, error, trace)
        if self._console.is_terminal:
            self._live.stop()
        if error is None:
            _mention(self._watch)

    def named(self, name: str) -> Progress:
        """The display of a stage that begins now."""
        stage = self._watch.named(name)
        if self._console.is_terminal:
            return stage
        self._console.print(f"{name} ...")
        return _Lines(stage, self._console)

    def planned(self, names: Sequence[str]) -> None:
        """See `Stages`."""
        self._watch.planned(names)

    def ended(self, name: str, seconds: float, *, kept: bool) -> None:
        """See `Stages`."""
        self._watch.ended(name, seconds, kept=kept)


class _Lines:
    """Says how far a stage is, where there is no terminal."""

    def __init__(self, stage: Watched, console: Console) -> None:
        self._stage, self._console = stage, console
        self._printed = time.monotonic()
        self._illustrated = False

    def total(self, amount: int) -> None:
        self._stage.total(amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self._stage.advance(amount, figures)
        status = self._stage.status()
        finished = status.total is not None and status.done >= status.total
        if finished or time.monotonic() - self._printed > _QUIET_SECONDS:
            from trajtree.report.status_table import amount as amount_of
            from trajtree.report.status_table import duration, figures_text

            self._printed = time.monotonic()
            left = "" if finished or status.left is None else f"({duration(status.left)} left)"
            line = f"{status.name} {amount_of(status)} {figures_text(status.figures)} {left}"
            self._console.print(" ".join(line.split()), soft_wrap=True, highlight=False)

    def illustrate(self, lines: Sequence[str]) -> None:
        self._stage.illustrate(lines)
        if not self._illustrated:
            self._illustrated = True
            self._console.print("\n".join(lines), soft_wrap=True, highlight=False)


@contextmanager
def progress_of(console: Console, name: str, place: Path | None = None) -> Iterator[Progress]:
    """A progress display for one piece of work, whose status is kept at `place`."""
    with StageProgress(console, name, place) as stages:
        yield stages.named(name)


@contextmanager
def counting(console: Console, name: str, unit: str, place: Path | None = None) -> Iterator[Progress]:
    """A progress display for work of unknown size, whose status is kept at `place`."""
    bars = Bars(
        TextColumn("{task.description:<8}"),
        SpinnerColumn(),
        TextColumn(f"{{task.completed:,.0f}} {unit}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with _watch(name, place) as watch, bars:
        yield _Counter(bars, bars.add_task(name, total=None), watch.named(name))
    _mention(watch)


class _Counter:
    def __init__(self, bars: Bars, task: TaskID, stage: Watched) -> None:
        self._bars, self._task, self._stage = bars, task, stage

    def total(self, amount: int) -> None:
        self._stage.total(amount)
        self._bars.update(self._task, total=amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self._stage.advance(amount, figures)
        self._bars.advance(self._task, amount)


def _watch(command: str, place: Path | None) -> Watch:
    """What a command tells of its progress, kept at `place` unless that is a stream."""
    from trajtree.store.watching import Watch

    return Watch(command, None if place is None or is_stream(place) else place)


def _mention(watch: Watch) -> None:
    """Say if the file for `trajtree status` could not be written: no reason to stop the work."""
    if watch.trouble is not None:
        complain(f"the status of this command could not be kept ({watch.trouble.strerror}); its work is complete")


__all__ = ["StageProgress", "complain", "console", "counting", "progress_of", "say"]
