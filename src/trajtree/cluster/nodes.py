"""The nodes of a connected cluster: what they have, what workers take of it, and waiting for workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from threading import Event
from typing import Any, NoReturn

import ray
from ray.exceptions import RayTaskError

from trajtree.errors import RunError, TrajtreeError, counted

MOST_LOST = 5
"""How often the same piece of work may lose its worker before it counts as the cause."""
CLOSING = 5.0
"""Seconds that a worker gets to close its environments."""
_POLL = 0.5
"""Seconds between looks at whether the command has been stopped."""
_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
"""Ray's options for the resources that every cluster knows."""

Takes = Mapping[str, float]
"""Amounts of resources, by Ray's names for them."""


class Nodes:
    """What is alive in the cluster.

    Attributes:
        stopped: set when the command ends; whoever waits then raises.
    """

    def __init__(self) -> None:
        self.stopped = Event()

    def __str__(self) -> str:
        """For people: `2 nodes, 16 CPUs, 8 GPUs`."""
        alive = self.alive()
        amounts = {name: sum(node["Resources"].get(name, 0.0) for node in alive) for name in ("CPU", "GPU")}
        found = [counted(int(amount), name) for name, amount in amounts.items() if amount]
        return ", ".join([counted(len(alive), "node"), *found])

    @staticmethod
    def alive() -> list[dict[str, Any]]:
        """Ray's descriptions of the nodes."""
        return [node for node in ray.nodes() if node["Alive"]]

    def takes(self, needs: Mapping[str, float], *, processes: int, model: bool) -> Takes:
        """What a worker takes: what the user specified and, beyond that, a CPU per process and a GPU for a model.

        Args:
            needs: what the user specified.
            processes: processes that compute in it at the same time.
            model: whether a model is in it; it gets a GPU if the cluster has any.
        """
        gpus = {"GPU": 1.0} if model and any(node["Resources"].get("GPU") for node in self.alive()) else {}
        return {"CPU": float(max(1, processes)), **gpus, **needs}

    def room(self, takes: Takes) -> int:
        """How many workers fit into the cluster while it does nothing else."""
        wanted = {name: amount for name, amount in takes.items() if amount}
        if not wanted:
            return len(self.alive())
        return sum(
            min(floor(node["Resources"].get(name, 0.0) / amount) for name, amount in wanted.items())
            for node in self.alive()
        )

    def check(self, takes: Takes) -> None:
        """Refuse what no node can hold.

        Raises:
            RunError: a resource is unknown or too scarce; the message says what the nodes have.
        """
        for name, amount in takes.items():
            if amount > 1 and amount != int(amount) and name != "memory":
                raise RunError(f"play.needs.{name}: {amount:g} is neither whole nor below 1, as Ray wants it")
        if not self.room(takes):
            had = [_listed(dict(sorted(node["Resources"].items()))) for node in self.alive()]
            raise RunError(
                f"no node of the cluster has what a worker takes ({_listed(takes)}); the nodes have "
                f"{'; '.join(dict.fromkeys(had)) or 'nothing'}: lower play.needs, or add a node"
            )

    def wait(self, references: Sequence[Any]) -> list[Any]:
        """Those of the references that are ready, at least one.

        Raises:
            RunError: the command has been stopped.
        """
        while True:
            ready, _ = ray.wait(list(references), timeout=_POLL)
            if self.stopped.is_set():
                raise RunError("stopped")
            if ready:
                found: list[Any] = ready
                return found


def options_of(takes: Takes) -> dict[str, Any]:
    """The options by which Ray places a worker."""
    own = {option: takes.get(name, 0) for name, option in _OPTIONS.items() if name in takes or name != "memory"}
    return {**own, "resources": {name: amount for name, amount in takes.items() if name not in _OPTIONS}}


def failure(error: BaseException) -> str:
    """What went wrong, in one line without Ray's explanations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def reraise(error: RayTaskError) -> NoReturn:
    """Raise what a worker raised.

    Raises:
        TrajtreeError: what the user can fix, in the worker's words.
        RunError: a package is missing where the worker is.
        RayTaskError: anything else, with the worker's traceback.
    """
    if isinstance(error.cause, TrajtreeError):
        raise error.cause from None
    if isinstance(error.cause, ModuleNotFoundError):
        raise RunError(f"a node of the cluster lacks the package {error.cause.name}; install it there") from None
    raise error


def _listed(takes: Takes) -> str:
    """For people, without the resources that Ray adds for itself: one for every node's address, and its own memory."""
    asked = [(name, amount) for name, amount in takes.items() if not name.startswith(("node:", "object_store"))]
    return ", ".join(
        f"{name} {amount:,.0f} bytes" if name == "memory" else f"{name} {amount:g}" for name, amount in asked
    )


__all__ = ["CLOSING", "MOST_LOST", "Nodes", "Takes", "failure", "options_of", "reraise"]
