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
class ReportData:
    """Everything that a report shows.

    `labels` maps names of rows to display names. `notes` are caveats shown with the figures, for example which data
    splits were used and which tasks were explored. `timings` are seconds per stage.
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

    def label(self, row: str) -> str:
        """Return the label of the row, which defaults to its name."""
        return self.labels.get(row, row)


__all__ = ["ForkView", "ReportData"]
