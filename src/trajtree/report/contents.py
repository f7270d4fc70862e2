"""What a report is made of: plain data, no file of a run and no model needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from trajtree.statistics.results import Results
from trajtree.trajectory import Step
from trajtree.trees.quality import TreeQuality


@dataclass(frozen=True, slots=True)
class ForkView:
    """Two continuations of one `prefix` that part at their first step; values are scores in [0, 1].

    `node` is the index, in the task's tree, of the node at which they part.
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
    """Everything a report shows.

    `labels` maps row names to what people read. `notes` are sentences that the figures must not be read
    without: the data splits used, what the exploration tasks were. `timings` are seconds a stage.
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
        """Return what people read for the row; its name when it has no label."""
        return self.labels.get(row, row)


__all__ = ["ForkView", "ReportData"]
