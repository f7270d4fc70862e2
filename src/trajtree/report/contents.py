"""The contents of a report: plain data, independent of models and of an experiment's files."""

from __future__ import annotations

from dataclasses import dataclass, field

from trajtree.statistics.results import Results
from trajtree.trajectory import Step
from trajtree.trees.quality import TreeQuality


@dataclass(frozen=True, slots=True)
class ForkView:
    """Two continuations of one `prefix` that differ from their first step on; values are scores in [0, 1].

    `node` is the fork's node in the tree of the task.
    """

    task: str
    prefix: tuple[Step, ...]
    chosen: tuple[Step, ...]
    rejected: tuple[Step, ...]
    chosen_value: float
    rejected_value: float
    node: int


@dataclass(frozen=True, slots=True)
class RowStatement:
    """What a row is made from, and what it took.

    Attributes:
        row: its name.
        start, reference, data, loss: in words; `none` where there is none.
        demonstrations: demonstrations behind it, also those behind the models whose runs it learns from.
        episodes, agent_tokens: episodes explored for it and for the rows that it starts from, and the tokens sampled.
        examples, steps: examples and optimiser steps of its own training; None where that was not recorded.
        all_steps: the steps of its own training and of those that it starts from.
        settings_tried: settings that were tried on dev, as the recipe says; None where it does not.
        epochs: means of loss and of either side's log-ratio to the reference, for each epoch of its training.
    """

    row: str
    start: str
    reference: str
    data: str
    loss: str
    demonstrations: int
    episodes: int
    agent_tokens: int
    examples: int | None
    steps: int | None
    all_steps: int | None
    settings_tried: int | None
    epochs: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A row that the recipe names and that could not be measured: `why`, and its `role`.

    The role is `primary` or `ceiling`, or nothing. The results then have the weak row as their primary one, or no
    ceiling.
    """

    row: str
    why: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that a report shows.

    `labels` maps names of rows to display names. `notes` are caveats shown with the figures, for example which data
    splits were used and which tasks were explored. `timings` are seconds per stage. `statements` say of each row what
    it is made from. `unmeasured` are the rows that the results lack.
    """

    title: str
    results: Results
    recipe_yaml: str
    labels: dict[str, str] = field(default_factory=dict)
    trees: tuple[TreeQuality, ...] = ()
    forks: tuple[ForkView, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    statements: tuple[RowStatement, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()

    def label(self, row: str) -> str:
        """Return the label of the row, which defaults to its name."""
        return self.labels.get(row, row)

    @property
    def primary(self) -> str | None:
        """Name of the primary row; None if it could not be measured, and another stands in for it in the results."""
        return None if self.missing("primary") is not None else self.results.primary

    def missing(self, role: str) -> Unmeasured | None:
        """Return the row with this role if it could not be measured."""
        return next((one for one in self.unmeasured if one.role == role), None)


__all__ = ["ForkView", "ReportData", "RowStatement", "Unmeasured"]
