"""Reporting the progress of long-running work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a piece of work."""

    def total(self, amount: int) -> None:
        """Set the total number of units of work; not called if it is unknown."""

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        """Add units done since the last call, with figures to show beside them."""


class _Silent:
    def total(self, amount: int) -> None:
        pass

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        pass


SILENT: Progress = _Silent()
"""Ignores all progress."""

__all__ = ["SILENT", "Progress"]
