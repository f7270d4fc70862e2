"""Experiment trackers: while models play, the figures go where transformers' own reporting puts those of training.

A tracker is imported only when it is asked for. What goes wrong with one while models play stops nothing: a warning
says so, and the work goes on without it.
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from trajtree.errors import RunError
from trajtree.store.progress import Illustrated, Progress

PROJECT = "trajtree"
"""Project under which trackers file the figures; WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME override it."""
_SECONDS = 1.0
"""Shortest time between two reports."""


@dataclass(frozen=True, slots=True)
class Logbook:
    """Where one piece of work reports its figures.

    Attributes:
        folder: for TensorBoard's files.
        title: what trackers call the work.
    """

    folder: Path
    title: str


class Tracker(Protocol):
    """One tracker, open."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Report figures."""

    def close(self) -> None:
        """Report no more."""


@dataclass(frozen=True, slots=True)
class TrackerKind:
    """A tracker that can be asked for.

    Attributes:
        packages: one of them must be installed.
        open: opens it.
        about: a one-line description.
    """

    packages: tuple[str, ...]
    open: Callable[[Logbook], Tracker]
    about: str


class _TensorBoard:
    def __init__(self, logbook: Logbook) -> None:
        try:
            module = importlib.import_module("torch.utils.tensorboard")
        except ImportError:
            module = importlib.import_module("tensorboardX")
        self._writer: Any = module.SummaryWriter(log_dir=str(logbook.folder))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, logbook: Logbook) -> None:
        wandb = importlib.import_module("wandb")
        self._run: Any = wandb.init(project=os.environ["WANDB_PROJECT"], name=logbook.title)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, logbook: Logbook) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        self._trackio.init(project=PROJECT, name=logbook.title)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(figures), step=step)

    def close(self) -> None:
        self._trackio.finish()


class _Mlflow:
    def __init__(self, logbook: Logbook) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")
        self._mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
        self._mlflow.start_run(run_name=logbook.title)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind(("tensorboard", "tensorboardX"), _TensorBoard, "files beside the results"),
    "trackio": TrackerKind(("trackio",), _Trackio, "on this machine, or a Space"),
    "wandb": TrackerKind(("wandb",), _Wandb, "Weights & Biases"),
    "mlflow": TrackerKind(("mlflow",), _Mlflow, "MLflow, where MLFLOW_TRACKING_URI says"),
}
"""Trackers by the name that transformers has for them too."""


def check_trackers(names: Collection[str]) -> None:
    """Make sure that trackers can be opened, and say what their project is called unless the user has.

    Raises:
        RunError: a package is not installed.
    """
    for name in names:
        packages = TRACKERS[name].packages
        if not any(find_spec(package) for package in packages):
            raise RunError(f"report_to {name}: the package {packages[0]} is not installed: pip install {packages[0]}")
    if names:
        os.environ.setdefault("WANDB_PROJECT", PROJECT)
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", PROJECT)


@contextmanager
def reported(progress: Progress, names: Sequence[str], logbook: Logbook) -> Iterator[Progress]:
    """A progress whose figures are also reported to trackers, at most once a second.

    Raises:
        RunError: a package is not installed.
    """
    check_trackers(names)
    if not names:
        yield progress
        return
    with ExitStack() as stack:
        trackers = [stack.enter_context(closing(_Careful(name, logbook))) for name in names]
        found = _Reported(progress, trackers)
        try:
            yield found
        finally:
            found.report()


class _Careful:
    """A tracker; after its first error, which becomes a warning, it is left alone."""

    def __init__(self, name: str, logbook: Logbook) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        with self._careful():
            self._tracker = TRACKERS[name].open(logbook)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        with self._careful():
            if self._tracker is not None:
                self._tracker.log(figures, step)

    def close(self) -> None:
        with self._careful():
            if self._tracker is not None:
                self._tracker.close()

    @contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, it is no reason to stop playing
            self._tracker = None
            warnings.warn(f"{self._name}: {error}; the work goes on without it", stacklevel=2)


class _Reported:
    def __init__(self, progress: Progress, trackers: Sequence[_Careful]) -> None:
        self._progress, self._trackers = progress, trackers
        self._done = 0
        self._figures: dict[str, float] = {}
        self._last = time.monotonic()

    def total(self, amount: int) -> None:
        self._progress.total(amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self._progress.advance(amount, figures)
        self._done += amount
        if figures is not None:
            self._figures = dict(figures)
            if time.monotonic() - self._last >= _SECONDS:
                self.report()

    def illustrate(self, lines: Sequence[str]) -> None:
        if isinstance(self._progress, Illustrated):
            self._progress.illustrate(lines)

    def report(self) -> None:
        """Report the figures that came since the last time."""
        figures, self._figures, self._last = self._figures, {}, time.monotonic()
        if figures:
            for tracker in self._trackers:
                tracker.log(figures, self._done)


__all__ = ["PROJECT", "TRACKERS", "Logbook", "Tracker", "TrackerKind", "check_trackers", "reported"]
