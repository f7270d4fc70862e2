"""A policy in workers of the cluster: each has the model and environments of its own, and plays whole waves.

The waves are handed out in order and given back in order. A worker that is lost, alone or with its node, loses nothing
but time: its wave is played by another one.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from trajtree.cluster.folders import Packed, packed, unpacked
from trajtree.cluster.nodes import CLOSING, MOST_LOST, Nodes, failure, options_of, reraise
from trajtree.errors import EngineError, PolicyError, RunError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.place import Setting
from trajtree.explore.waves import Table
from trajtree.explore.workers import environments
from trajtree.models.weights import fingerprint
from trajtree.policies.opening import LOCAL, SCHEMES, Opening, Scheme, scheme_of
from trajtree.trajectory import Trajectory


@dataclass(eq=False)
class _Job:
    """A wave to be played: its number, and how often it has lost its worker."""

    number: int
    wave: Sequence[EpisodeSpec]
    lost: int = 0


class Players:
    """A policy that plays on the cluster; see `Elsewhere`.

    Args:
        nodes: where.
        opening: the policy. Folders with its weights travel to the workers; a hub's model they load themselves.
        setting: what it plays in.
    """

    def __init__(self, nodes: Nodes, opening: Opening, setting: Setting) -> None:
        self._nodes, self._opening = nodes, opening
        self._takes = nodes.takes(setting.needs, processes=setting.workers or 1, model=_is_model(opening))
        nodes.check(self._takes)
        workers = max(1, int(self._takes["CPU"])) if setting.workers is None else setting.workers
        self._setting = replace(setting, workers=workers)
        folders = [name for name in (opening.ref.base, *opening.ref.adapters) if Path(name).expanduser().is_dir()]
        self._folders: dict[str, Packed] = {name: packed(Path(name).expanduser()) for name in folders}
        base = opening.ref.base
        self._weights = fingerprint(base) if _is_model(opening) and base not in folders else base
        self._idle: list[Any] = []
        # What each worker is doing; None while it opens the policy.
        self._doing: dict[Any, tuple[Any, _Job | None]] = {}
        self._never_opened = 0

    def play(self, waves: Iterable[Sequence[EpisodeSpec]]) -> Iterator[tuple[Sequence[EpisodeSpec], list[Trajectory]]]:
        """See `Elsewhere.play`. Up to twice as many waves as there are workers are played ahead of the one due."""
        coming = enumerate(waves)
        due: deque[_Job] = deque()
        ended: dict[int, tuple[_Job, list[Trajectory]]] = {}
        taken = given = 0
        while True:
            room = self._nodes.room(self._takes)
            busy = sum(job is not None for _, job in self._doing.values())
            while len(due) + busy < room and taken - given < 2 * room:
                if (following := next(coming, None)) is None:
                    break
                taken += 1
                due.append(_Job(*following))
            if not due and not busy:
                return
            self._hire(min(room, len(due) + busy))
            while due and self._idle:
                self._send(self._idle.pop(), due.popleft())
            for reference in self._nodes.wait(list(self._doing)):
                worker, job = self._doing.pop(reference)
                try:
                    found = ray.get(reference)
                except RayTaskError as error:
                    reraise(error)
                except RayError as error:
                    self._lose(worker, job, error)
                    if job is not None:
                        due = deque(sorted([job, *due], key=lambda each: each.number))
                    continue
                self._idle.append(worker)
                if job is not None:
                    ended[job.number] = job, found
                else:
                    self._never_opened = 0
            while given in ended:
                job, found = ended.pop(given)
                given += 1
                yield job.wave, found

    def close(self) -> None:
        """End the workers and their environments."""
        workers = [*self._idle, *(worker for worker, _ in self._doing.values())]
        closing = [worker.close.remote() for worker in self._idle]
        with suppress(RayError):  # a dead worker needs no closing
            ray.get(closing, timeout=CLOSING)
        for worker in workers:
            ray.kill(worker)

    def _hire(self, wanted: int) -> None:
        """Start workers until there are as many as wanted; they open the policy meanwhile."""
        there = len(self._idle) + len(self._doing)
        if not there and not wanted:
            raise RunError("no node is left in the cluster that can hold a worker; add one and run the same command")
        for _ in range(wanted - there):
            scheme = scheme_of(self._opening.ref.base)
            player = ray.remote(_Player).options(**options_of(self._takes), max_restarts=0)
            worker = player.remote(self._opening, self._setting, scheme, SCHEMES[scheme])
            self._doing[worker.open.remote(self._folders, self._weights)] = worker, None

    def _send(self, worker: Any, job: _Job) -> None:
        self._doing[worker.play.remote(job.wave)] = worker, job

    def _lose(self, worker: Any, job: _Job | None, error: RayError) -> None:
        """Count a worker that is gone, or cannot be reached.

        Raises:
            EngineError: that happens again and again with the same wave, or before any wave.
        """
        with suppress(RayError):
            ray.kill(worker)
        if job is not None:
            job.lost += 1
            lost, what = job.lost, f"play {job.wave[0].task} and what follows"
        else:
            self._never_opened += 1
            lost, what = self._never_opened, f"open {self._opening.name}"
        if lost == MOST_LOST:
            raise EngineError(
                f"{MOST_LOST} workers of the cluster ended while they were to {what}, the last one because: "
                f"{failure(error)}; fix the cause and run the same command again: nothing finished is lost"
            )


class _Player:
    """A worker: the policy, and environments that are made as waves need them."""

    def __init__(self, opening: Opening, setting: Setting, name: str, scheme: Scheme) -> None:
        SCHEMES.setdefault(name, scheme)
        self._opening, self._setting, self._stack = opening, setting, ExitStack()

    def open(self, folders: Mapping[str, Packed], weights: str) -> None:
        """Open the policy; `weights` identifies those of a model that this worker finds by itself.

        Raises:
            PolicyError: it cannot be opened, or is another model here.
        """
        without_main_file()
        ref = self._opening.ref
        with TemporaryDirectory(prefix="trajtree-") as copies:
            there: dict[str, str] = {}
            for number, (name, files) in enumerate(folders.items()):
                there[name] = f"{copies}/{number}/{Path(name).name}"
                unpacked(files, Path(there[name]))
            adapters = tuple(there.get(name, name) for name in ref.adapters)
            here = replace(ref, base=there.get(ref.base, ref.base), adapters=adapters)
            self._policy = replace(self._opening, ref=here).open()
        if ref.base != weights and fingerprint(ref.base) != weights:
            raise PolicyError(f"{ref.base}: a node of the cluster has other weights of this name than this machine")
        how, workers = self._setting, self._setting.workers or 0
        make = self._stack.enter_context(environments(how.make, workers=workers, seconds=how.seconds))
        table = Table(make, threads=max(2, workers), seed=how.seed, parse=how.parse, suffix=how.suffix)
        self._table = self._stack.enter_context(table)

    def play(self, wave: Sequence[EpisodeSpec]) -> list[Trajectory]:
        """The wave's trajectories, in its order."""
        return self._table.play(wave, self._policy)

    def close(self) -> None:
        """Close the environments."""
        self._stack.close()


def _is_model(opening: Opening) -> bool:
    return scheme_of(opening.ref.base) == LOCAL


def without_main_file() -> None:
    """Keep processes with environments from importing Ray's script, and Ray with it, as their main module."""
    vars(sys.modules["__main__"]).pop("__file__", None)


__all__ = ["Players", "without_main_file"]
