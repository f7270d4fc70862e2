"""Stages, and the keys under which their results are stored.

A stage's key is the hash of its kind and the kind's version, of its settings that differ from the defaults, and of the
contents of its inputs. So a new setting at its default changes no key, a changed setting changes the keys of that stage
and of those that read from it, and a stage whose code was corrected is redone everywhere by raising its kind's version.
Keys contain no names: two stages that would do the same thing share one result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trajtree.explore.place import HERE, Place
from trajtree.explore.trackers import Logbook
from trajtree.policies.spending import Spending
from trajtree.store.progress import Progress

MARKER = "stage.json"
"""The file that marks a stage as finished; it is written last."""
PRELOADED = ("trajtree.experiment.pipeline", "trajtree.train.tuning")
"""What the process from which those of `--jobs` are forked imports; it takes seconds."""


Where = Literal["here", "beside", "apart"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of stage, and a command.

    Attributes:
        version: raised when the same settings and inputs lead to a different result.
        about: a one-line description.
        early: whether such stages are done as soon as they can be, because what they find may make others needless.
        where: where it is done if there is a cluster: here, one at a time, as what trains or needs an environment's
            data; beside the others, driven from here while others compute; or apart, on copies of its inputs.
    """

    version: int
    about: str
    early: bool = False
    where: Where = "here"


KINDS: dict[str, Kind] = {
    "tasks": Kind(3, "Choose demonstration, exploration, dev and test tasks.", early=True),
    "demonstrations": Kind(1, "Collect expert demonstrations that reach the full score.", early=True),
    "weak": Kind(2, "Train the weak model on the demonstrations."),
    "explore": Kind(2, "Play: the weak model, or another that explores, several episodes per task.", True, "beside"),
    "pool": Kind(1, "Put an exploration's trajectories with those of the one that it adds to.", True, "apart"),
    "trees": Kind(2, "Merge each task's trajectories into a tree.", True, "apart"),
    "pairs": Kind(3, "Take preference pairs, at the trees' forks or of whole trajectories.", True, "apart"),
    "paths": Kind(1, "Find each tree's best path.", True, "apart"),
    "stitch": Kind(
        1, "Join runs of each tree, play what comes out, and keep the best path that was really played.", True, "apart"
    ),
    "train": Kind(1, "Tune the strong model: on demonstrations, on paths, on pairs."),
    "guarantee": Kind(1, "Measure how far the trees' best paths are from the reference of each row that DPO tunes."),
    "evaluate": Kind(2, "Play the held-out tasks with every row's model.", where="beside"),
}
"""Kinds of stages by the name of their command, in the order in which data flows."""


@dataclass(frozen=True)
class Work:
    """Arguments of a stage's function: where to write, its inputs by role, its progress and spending, where to play.

    What it puts into `figures` is written to the marker, for reports, and is not part of the result.
    """

    folder: Path
    inputs: Mapping[str, Path]
    progress: Progress
    spending: Spending = field(default_factory=Spending)
    place: Place = HERE
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def logbook(self) -> Logbook:
        """Where its trackers report to, outside of the results: in the run directory, under the stage's name."""
        stage, run = self.folder.parent.name, self.folder.parent.parent
        return Logbook(run / "tensorboard" / stage, f"{run.name}/{stage}")


@dataclass(frozen=True)
class Check:
    """Whether a stage has anything to work on.

    Attributes:
        reads: the roles of the inputs that decide it.
        why_not: from these inputs' folders, why there is nothing; None if there is something.
    """

    reads: tuple[str, ...]
    why_not: Callable[[Mapping[str, Path]], str | None]


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: unique in a run; the folder under which its results are kept.
        kind: a name in KINDS.
        inputs: the name of the stage that is read, by role.
        settings: everything else that its result depends on, without defaults, as JSON.
        work: does the work; resumable, and writes only below `Work.folder`.
        labels: settings that only name things in the result. A stage that differs from a finished one in nothing else
            takes over its result.
        check: whether there is anything to do; None for a stage that always has something.
        here: whether it is done here, one at a time, even if its kind is not.
    """

    name: str
    kind: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    work: Callable[[Work], None]
    labels: tuple[str, ...] = ()
    check: Check | None = None
    here: bool = False

    @property
    def where(self) -> Where:
        """See `Kind`."""
        return "here" if self.here else KINDS[self.kind].where


@dataclass(frozen=True)
class Done:
    """A finished stage: its folder, the digest of its contents, and what it took."""

    folder: Path
    digest: str
    seconds: float
    cached: bool
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """Why a stage was left out: `stage`, it or one that it reads from, has nothing to work on, and `why`."""

    stage: str
    why: str


class Finished(dict[str, Done]):
    """The finished stages by name; `missing` holds those that could not be done."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: dict[str, Missing] = {}


def early_first(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, each after what it reads as before, and early ones as soon as what they read is there."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.name not in found and all(name in found for name in stage.inputs.values()):
            found[stage.name] = stage

    for stage in stages:
        for early in stages:
            if KINDS[early.kind].early:
                add(early)
        add(stage)
    return list(found.values())


def still_needed(stages: Sequence[Stage], missing: Collection[str], kind: str | None) -> set[str]:
    """The names of the stages, without the missing ones and those that only missing ones read.

    Those of the given kind are needed for themselves, and without a kind those from which none reads.
    """
    found: set[str] = set()
    for stage in reversed(stages):
        readers = [other.name for other in stages if stage.name in other.inputs.values()]
        asked = stage.kind == kind if kind is not None else not readers
        if stage.name not in missing and (asked or not found.isdisjoint(readers)):
            found.add(stage.name)
    return found


def needed_for(stages: Sequence[Stage], kind: str) -> list[Stage]:
    """The stages of one kind and all stages that they read from, in order."""
    wanted = {s.name for s in stages if s.kind == kind}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.inputs.values())
    return [s for s in stages if s.name in wanted]


def with_dependents(stages: Sequence[Stage], names: Collection[str]) -> set[str]:
    """The names, together with those of all stages that read from them, directly or indirectly."""
    found: set[str] = set()
    for stage in stages:
        if stage.name in names or not found.isdisjoint(stage.inputs.values()):
            found.add(stage.name)
    return found


def key_of(stage: Stage, done: Mapping[str, Done], *, labelled: bool = True) -> str:
    """Hash of everything that the stage's result depends on; with `labelled` false, without what only names things."""
    settings = stage.settings
    if not labelled:
        settings = {name: value for name, value in settings.items() if name not in stage.labels}
    content = {
        "kind": stage.kind,
        "version": KINDS[stage.kind].version,
        "settings": settings,
        "inputs": {role: done[name].digest for role, name in stage.inputs.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


__all__ = [
    "KINDS",
    "MARKER",
    "PRELOADED",
    "Check",
    "Done",
    "Finished",
    "Kind",
    "Missing",
    "Stage",
    "Work",
    "early_first",
    "key_of",
    "needed_for",
    "still_needed",
    "with_dependents",
]
