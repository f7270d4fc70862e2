"""Reporting the progress of long-running work: what receives the reports, and receivers that ignore them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Receives the progress of a piece of work."""

    def total(self, amount: int) -> None:
        """Set the total number of units of work; not called if it is unknown."""

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        """Add units done since the last call, with figures to show beside them."""


@runtime_checkable
class Illustrated(Protocol):
    """A `Progress` that also shows what is being worked on."""

    def illustrate(self, lines: Sequence[str]) -> None:
        """Show a few lines in place of those shown before."""


class Stages(Protocol):
    """Receives what becomes of work that is done in stages; each stage has a `Progress` of its own."""

    def planned(self, names: Sequence[str]) -> None:
        """All stages, in order."""

    def ended(self, name: str, seconds: float, *, kept: bool) -> None:
        """A stage is done: after so many seconds, or `kept` from an earlier run."""


class _Silent:
    def total(self, amount: int) -> None:
        pass

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        pass


class _Unwatched:
    def planned(self, names: Sequence[str]) -> None:
        pass

    def ended(self, name: str, seconds: float, *, kept: bool) -> None:
        pass


SILENT: Progress = _Silent()
"""Ignores all progress."""

UNWATCHED: Stages = _Unwatched()
"""Ignores what becomes of stages."""

__all__ = ["SILENT", "UNWATCHED", "Illustrated", "Progress", "Stages"]
