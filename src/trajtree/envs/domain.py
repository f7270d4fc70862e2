"""Domains, which recipes refer to: an environment, its tasks by split, and an expert; the built-in ones by name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trajtree.envs.base import Environment
from trajtree.errors import DataError, EnvError, RecipeError, TrajtreeError
from trajtree.store.progress import SILENT, Progress
from trajtree.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class NoDemonstration:
    """A task without a demonstration, and why."""

    task: str
    reason: str


SPLITS = ("train", "dev", "test")
"""Splits of a domain's tasks."""


def itself(task: str) -> str:
    """The situation of a task that shares its situation with no other."""
    return task


@dataclass(frozen=True, slots=True)
class Domain:
    """What a run needs to know about an environment.

    Attributes:
        environment: the class, for its name, version and canonical forms.
        make: makes one environment with the given step limit (None: its own).
        tasks: maps (task type, split) to the task ids of that split, which is train, dev or test.
        demonstrate: maps (environment, task) to an expert trajectory with full score, or why there is none.
        types: names of its task types.
        data: identifies the state of the tasks' data, for example by its hash, if the environment's version does not
            cover it; results are redone when it changes.
        situation: maps a task to a text that says what determines its outcome. Tasks of the same situation differ only
            in what hardly matters, such as the name of a room; they count as one piece of evidence, and tasks are drawn
            to cover many situations. By default every task is its own situation, which is wrong if a habit of a model
            wins or loses several tasks at once. It must give the same text in every process.
    """

    environment: type[Environment]
    make: Callable[[int | None], Environment]
    tasks: Callable[[str, str], Sequence[str]]
    demonstrate: Callable[[Any, str], Trajectory | NoDemonstration]
    types: tuple[str, ...] = ()
    data: Callable[[], str] = str
    situation: Callable[[str], str] = itself

    def situations(self, tasks: Iterable[str]) -> dict[str, str]:
        """Each task's situation.

        Raises:
            DataError: the domain does not know a task.
            EnvError: the domain's `situation` fails or does not return text; the message names the task.
        """
        return {task: self._situation(task) for task in tasks}

    def _situation(self, task: str) -> str:
        try:
            found: object = self.situation(task)
        except (TrajtreeError, ImportError):
            raise
        except KeyError as error:
            raise DataError(f"{task}: {error.args[0] if error.args else 'no such task'}") from error
        except Exception as error:
            raise EnvError(f"{task}: its situation cannot be determined: {type(error).__name__}: {error}") from error
        if not isinstance(found, str) or not found:
            raise EnvError(f"{task}: its situation must be non-empty text, got {found!r:.60}")
        return found


class Brought(Protocol):
    """The result of importing an environment's data."""

    @property
    def lines(self) -> Sequence[str]:
        """A readable summary of the data that is there now."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """An environment with a short name.

    Attributes:
        domain: its Domain, as `module:ATTRIBUTE`, imported at first use.
        install: the pip requirement that installs it.
        data: where its data comes from.
        licence: licence of the environment and its data.
        bring_in: if users bring the data, the function that imports it, as `module:FUNCTION` from (path, Progress) to
            Brought.
    """

    domain: str
    install: str
    data: str
    licence: str
    bring_in: str | None = None


BUILT_IN = {
    "scienceworld": BuiltIn(
        domain="trajtree.envs.scienceworld:DOMAIN",
        install="trajtree[scienceworld]",
        data="comes with the package",
        licence="Apache-2.0",
    ),
    "alfworld": BuiltIn(
        domain="trajtree.envs.alfworld:DOMAIN",
        install="trajtree",
        data="trajtree data alfworld --from PATH",
        licence="MIT",
        bring_in="trajtree.envs.alfworld:import_data",
    ),
    "webshop": BuiltIn(
        domain="trajtree.envs.webshop:DOMAIN",
        install="trajtree[webshop]",
        data="trajtree data webshop --from PATH",
        licence="MIT; product texts belong to their shops",
        bring_in="trajtree.envs.webshop:import_data",
    ),
    "textworldexpress": BuiltIn(
        domain="trajtree.envs.textworldexpress:DOMAIN",
        install="trajtree[textworldexpress]",
        data="comes with the package",
        licence="Apache-2.0",
    ),
}
"""Environments by short name."""


BRING_IN = {name: entry.bring_in for name, entry in BUILT_IN.items() if entry.bring_in is not None}
"""The functions that import data, for environments with data that users bring."""


def bring_in_data(name: str, source: Path, progress: Progress = SILENT) -> Brought:
    """Import the data of the environment called `name`, one of BRING_IN, from a file or folder.

    Raises:
        DataError: the data is missing or damaged.
        KeyError: the environment takes no data from users.
    """
    brought: Brought = found_at(BRING_IN[name])(source, progress)
    return brought


def load_domain(name: str) -> Domain:
    """The domain called `name`: one of BUILT_IN, or `module:ATTRIBUTE` for one of your own.

    Raises:
        RecipeError: there is no such domain.
    """
    where = BUILT_IN[name].domain if name in BUILT_IN else name
    try:
        domain = found_at(where)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and name in BUILT_IN:
            raise
        raise RecipeError(
            f"env.name {name!r}: {error}; use {', '.join(BUILT_IN)}, or module:DOMAIN with the module importable"
        ) from error
    if not isinstance(domain, Domain):
        raise RecipeError(f"env.name {name!r}: is a {type(domain).__name__}, not a trajtree.envs.domain.Domain")
    return domain


def found_at(where: str) -> Any:
    """What `module:ATTRIBUTE` names; the attribute is DOMAIN unless it is given.

    A module that Python does not find is looked for in the current folder: naming one is what allows code of that
    folder to run. Nothing else does, and nothing there comes before what is installed.

    Raises:
        ImportError, AttributeError, TypeError, ValueError: there is no such thing.
    """
    module, _, attribute = where.partition(":")
    here = os.getcwd()
    if here not in sys.path and importlib.util.find_spec(module.partition(".")[0]) is None:
        sys.path.append(here)
        importlib.invalidate_caches()
    return getattr(importlib.import_module(module), attribute or "DOMAIN")


__all__ = [
    "BRING_IN",
    "BUILT_IN",
    "SPLITS",
    "Brought",
    "BuiltIn",
    "Domain",
    "NoDemonstration",
    "bring_in_data",
    "found_at",
    "itself",
    "load_domain",
]
