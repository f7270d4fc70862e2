"""How far a command is, as a table for the terminal: while it runs, and from another shell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trajtree.report.tables import plain
from trajtree.store.status import StageStatus, Standing, Status, standing
from trajtree.visible import visible

_BAR = 24
_RECENT = 4
"""Number of finished stages, and of coming ones, that are shown while a command runs."""


def figures_text(figures: Mapping[str, float]) -> str:
    """Figures in a line: `steps 1,234 score 0.43`."""
    return " ".join(f"{name} {number(value)}" for name, value in figures.items())


def number(value: float) -> str:
    """Whole numbers as they are, others with three digits: `1,234`, `0.43`."""
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:.3g}"


def duration(seconds: float) -> str:
    """`0:01:05`; no time at all where it is negative, as when the clocks of two machines differ."""
    return str(timedelta(seconds=max(0, round(seconds))))


def amount(stage: StageStatus) -> str:
    """`34/72`; only what is done where the total is not known."""
    if stage.total is None:
        return f"{stage.done:,}" if stage.done else ""
    return f"{stage.done:,}/{stage.total:,}"


def live_view(status: Status) -> RenderableType:
    """A running command: the stages around the running ones, and what is at hand."""
    ended = [stage for stage in status.stages if stage.state in ("done", "kept")]
    running = [stage for stage in status.stages if stage.state == "running"]
    coming = [stage for stage in status.stages if stage.state == "to do"]
    rest = [f"{len(ended) - _RECENT} more done"] if len(ended) > _RECENT else []
    rest += [f"{len(coming) - _RECENT} more to do"] if len(coming) > _RECENT else []
    table = _table([*ended[-_RECENT:], *running, *coming[:_RECENT]])
    more = [Text(f"and {', '.join(rest)}", style="dim")] if rest else []
    return Group(table, *more, *_details(running), *_picture(status))


def status_view(status: Status, now: datetime | None = None) -> RenderableType:
    """A command seen from another shell: how it stands, all its stages, and what it is, or was, working on."""
    now = datetime.now(UTC) if now is None else now
    found = standing(status, now)
    running = [stage for stage in status.stages if stage.state == "running"]
    parts: list[RenderableType] = [plain(sentence(status, found, now)), _table(status.stages)]
    return Group(*parts, *_details(running), *_picture(status))


def sentence(status: Status, found: Standing, now: datetime) -> str:
    """How a command stands, in a sentence."""
    where = f"process {status.pid} on {status.host}"
    ago = duration((now - status.updated).total_seconds())
    took = duration(status.seconds)
    return {
        "running": f"{status.command}: running for {took} ({where})",
        "finished": f"{status.command}: finished {ago} ago, after {took}",
        "failed": f"{status.command}: failed {ago} ago, after {took}: {status.reason}",
        "stopped": f"{status.command}: stopped {ago} ago, after {took}; the same command resumes it",
        "silent": f"{status.command}: no sign of life for {ago} ({where}); what follows is its last known state",
        "dead": f"{status.command}: dead: it ended {ago} ago without saying so, for example because it was killed "
        f"({where}); the same command resumes it",
    }[found]


def _table(stages: Iterable[StageStatus]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(6):
        table.add_column(no_wrap=True)
    for stage in stages:
        bar: RenderableType = ""
        if stage.state == "running" and stage.total:
            bar = ProgressBar(stage.total, min(stage.done, stage.total), width=_BAR)
        left = "" if stage.left is None else f"{duration(stage.left)} left"
        took = "" if stage.state in ("to do", "left out") else duration(stage.seconds)
        table.add_row(plain(stage.name), Text(stage.state, _STYLES[stage.state]), bar, amount(stage), took, left)
    return table


_STYLES = {"to do": "dim", "running": "bold", "done": "green", "kept": "dim green", "left out": "dim"}


def _details(running: Sequence[StageStatus]) -> list[Text]:
    """The figures of the running stages, each with the name of its stage where there are several."""
    return [
        plain(f"{f'{stage.name}: ' if len(running) > 1 else ''}{figures_text(stage.figures)}")
        for stage in running
        if stage.figures
    ]


def _picture(status: Status) -> list[Text]:
    return [Text(visible(line), style="dim", no_wrap=True, overflow="ellipsis") for line in status.picture]


__all__ = ["amount", "duration", "figures_text", "live_view", "number", "sentence", "status_view"]
