"""Environments in workers of the cluster, for a policy that is asked from this process: one on model servers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from trajtree.cluster.nodes import CLOSING, Nodes, Takes, failure, options_of, reraise
from trajtree.cluster.players import without_main_file
from trajtree.envs.base import Environment
from trajtree.errors import EnvError, WorkerLost
from trajtree.explore.workers import LocalWorker


class FarWorker:
    """A worker of the cluster with its environments in a process beside it; see `trajtree.explore.workers.Worker`.

    It is started when it is first asked for something. One that is lost, alone or with its node, is started again when
    an episode begins there; the episodes that were under way in it are lost and can be played again.
    """

    def __init__(self, nodes: Nodes, takes: Takes, make: Callable[[], Environment], seconds: float) -> None:
        self._nodes, self._takes, self._make, self._seconds = nodes, takes, make, seconds
        self._lock = Lock()
        self._actor: Any = None
        self._started = 0

    def call(self, slot: int, method: str, argument: str, generation: tuple[int, int] | None) -> tuple[Any, Any]:
        """See `Worker.call`; a generation is the number of the worker, and that of the process beside it."""
        with self._lock:
            if generation is not None and (self._actor is None or generation[0] != self._started):
                raise WorkerLost("its worker on the cluster was lost")
            if self._actor is None:
                self._start()
            before = None if generation is None else generation[1]
            asked = self._actor.call.remote(slot, method, argument, before)
            self._nodes.wait([asked])
            try:
                raised, value = ray.get(asked)
            except RayTaskError as error:
                reraise(error)
            except RayError as error:
                with suppress(RayError):
                    ray.kill(self._actor)
                self._actor = None
                raise WorkerLost(f"its worker on the cluster was lost ({failure(error)})") from None
            if raised:
                raise value
            answer, now = value
            return answer, (self._started, now)

    def _start(self) -> None:
        if not self._nodes.room(self._takes):
            raise EnvError("no node is left in the cluster that can hold it")
        options = options_of(self._takes)
        self._actor = ray.remote(_World).options(**options, max_restarts=0).remote(self._make, self._seconds)
        self._started += 1

    def close(self) -> None:
        """See `Worker.close`."""
        if self._actor is not None:
            with suppress(RayError):  # a dead worker needs no closing
                ray.get(self._actor.close.remote(), timeout=CLOSING)
            ray.kill(self._actor)


class _World:
    """Environments on a node of the cluster, in a process of their own, which can be ended when it hangs."""

    def __init__(self, make: Callable[[], Environment], seconds: float) -> None:
        without_main_file()
        self._worker = LocalWorker(make, seconds)

    def call(self, slot: int, method: str, argument: str, generation: int | None) -> tuple[bool, Any]:
        """Whether something was raised, and what; else the answer and its generation."""
        try:
            return False, self._worker.call(slot, method, argument, generation)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller raises it
            return True, error

    def close(self) -> None:
        """End the process."""
        self._worker.close()


__all__ = ["FarWorker"]
