"""What a training tells of its steps, kept for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Told:
    """A Progress that keeps the figures of every step, and calls `on_step` with (steps done, steps in all, figures)."""

    def __init__(
        self, on_step: Callable[[int, int, dict[str, float]], object] = lambda done, total, figures: None
    ) -> None:
        self.steps = self.done = 0
        self.figures: list[dict[str, float]] = []
        self.on_step = on_step

    def total(self, amount: int) -> None:
        self.steps = amount

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self.done += amount
        self.figures.append(dict(figures or {}))
        self.on_step(self.done, self.steps, self.figures[-1])
