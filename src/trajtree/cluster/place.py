"""A connected cluster as a place to play, and to do a piece of work on copies of folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from trajtree.cluster.folders import Packed, at_hand, packed, unpacked
from trajtree.cluster.nodes import MOST_LOST, Nodes, failure, reraise
from trajtree.cluster.players import Players, without_main_file
from trajtree.cluster.worlds import FarWorker
from trajtree.envs.base import Environment
from trajtree.envs.domain import load_domain
from trajtree.errors import RunError, TrajtreeError
from trajtree.explore.place import Elsewhere, Setting
from trajtree.explore.workers import Workers
from trajtree.policies.base import Policy
from trajtree.policies.opening import Opening, is_served
from trajtree.policies.spending import Spending

Task = Callable[[Path, Mapping[str, Path]], Any]
"""Takes a folder to fill and folders to read, by role; what it returns must be small."""


class Cluster:
    """See `trajtree.explore.place.Place`: models play on the cluster; model servers are asked from here.

    Attributes:
        nodes: what it consists of.
    """

    def __init__(self) -> None:
        self.nodes = Nodes()

    @property
    def threads(self) -> int:
        """As many as there can be workers with environments."""
        return max(2, self.nodes.room({"CPU": 1}))

    @contextmanager
    def policy(self, opening: Opening, setting: Setting, spending: Spending) -> Iterator[Policy[Any] | Elsewhere]:
        """The policy: in workers or, if it plays on servers, in this process.

        Then keys and limits stay here, and servers are asked in the order that suits them.
        """
        if is_served(opening.ref.base):
            yield opening.open(spending)
            return
        with closing(Players(self.nodes, opening, setting)) as players:
            yield players

    @contextmanager
    def environments(self, setting: Setting) -> Iterator[Callable[[], Environment]]:
        """A maker of environments in workers of the cluster."""
        takes = self.nodes.takes(setting.needs, processes=1, model=False)
        self.nodes.check(takes)
        workers = Workers(
            setting.make,
            load_domain(setting.make.name).environment,
            count=self.nodes.room(takes),
            seconds=setting.seconds,
            worker=partial(FarWorker, self.nodes, takes),
        )
        with closing(workers):
            yield workers.make

    def apart(self, task: Task, folder: Path, inputs: Mapping[str, Path]) -> Any:
        """Do a task in a worker, on copies of its inputs; write here what it wrote there, and return what it returned.

        Args:
            task: must be picklable.
            folder: to fill.
            inputs: folders to read, by role.

        Raises:
            TrajtreeError: from the task itself, with the names of the folders here.
            RunError: its worker was lost again and again.
        """
        sent = {str(path): packed(path) for path in inputs.values()}
        work = ray.remote(_in_copies).options(num_cpus=1, max_retries=MOST_LOST)
        asked = work.remote(task, str(folder), {role: str(path) for role, path in inputs.items()}, sent)
        self.nodes.wait([asked])
        try:
            returned, files = ray.get(asked)
        except RayTaskError as error:
            reraise(error)
        except RayError as error:
            raise RunError(
                f"{folder}: the worker that was to fill it was lost ({failure(error)}); run the same command again"
            ) from None
        unpacked(files, folder)
        return returned


def _in_copies(task: Task, folder: str, inputs: Mapping[str, str], sent: Mapping[str, Packed]) -> tuple[Any, Packed]:
    """Runs in a worker."""
    without_main_file()
    with TemporaryDirectory(prefix="trajtree-") as copies:
        there: dict[str, Path] = {}
        for number, (name, files) in enumerate(sent.items()):
            there[name] = Path(copies, str(number))
            there[name].mkdir()
            unpacked(files, there[name])
        filled = Path(copies, "filled")
        filled.mkdir()
        try:
            returned = task(filled, {role: there[name] for role, name in inputs.items()})
        except TrajtreeError as error:
            said = str(error)
            for name, copy in {**there, folder: filled}.items():
                said = said.replace(str(copy), name)
            error.args = (said, *error.args[1:])
            raise
        return returned, at_hand(filled)


__all__ = ["Cluster", "Task"]
