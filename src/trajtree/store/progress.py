"""Telling how far a long piece of work has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Whoever is told how far a piece of work has come."""

    def total(self, amount: int) -> None:
        """How many units of work there are in all; not called where nobody knows."""

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        """How many units were done since the last call, and figures to show beside them."""


class _Silent:
    def total(self, amount: int) -> None:
        pass

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        pass


SILENT: Progress = _Silent()
"""Tells nobody."""

__all__ = ["SILENT", "Progress"]
