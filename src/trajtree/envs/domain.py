"""Domains, which recipes refer to: an environment, its tasks by split, and an expert; the built-in ones by name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from trajtree.envs.base import Environment
from trajtree.envs.guard import FOR_THE_USER, blamed, named, quoted
from trajtree.envs.user_data import data_folder
from trajtree.errors import EnvError, RecipeError
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

    Its functions are the author's own. In the domain that `load_domain` returns, each of them does what is said here or
    raises an EnvError that names the domain, the function and its arguments.

    Attributes:
        environment: the class, for its name, version and canonical forms.
        make: makes one environment with the given step limit (None: its own).
        tasks: maps (task type, split) to the task ids of that split, which is train, dev or test; raises KeyError if
            there is no such type.
        demonstrate: maps (environment, task) to an expert trajectory with full score, or why there is none. It is given
            what `make` returns, in the same process, so its calls have no time limit.
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
        """Each task's situation."""
        return {task: self.situation(task) for task in tasks}


class ImportedData(Protocol):
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
        modules: modules of other packages that it needs, which `install` installs.
        data_importer: if users bring data or splits, the function that imports them: `module:FUNCTION`, which takes a
            path and a Progress and returns ImportedData.
        folder: name of the folder of that data, for `trajtree.envs.user_data.data_folder`.
    """

    domain: str
    install: str
    data: str
    licence: str
    modules: tuple[str, ...] = ()
    data_importer: str | None = None
    folder: str | None = None

    @property
    def installed(self) -> bool:
        """Whether the packages that it needs are installed."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    @property
    def has_data(self) -> bool:
        """Whether its data is there: it comes with the package, or something is in the folder for it."""
        if self.folder is None:
            return True
        folder = data_folder(self.folder)
        return folder.is_dir() and any(folder.iterdir())


_WEBSHOP = BuiltIn(
    domain="trajtree.envs.webshop:DOMAIN",
    install="trajtree[webshop]",
    data="trajtree data webshop --from PATH",
    licence="MIT; product texts belong to their shops",
    modules=("bm25s", "Stemmer"),
    data_importer="trajtree.envs.webshop:import_data",
    folder="webshop",
)

BUILT_IN = {
    "scienceworld": BuiltIn(
        domain="trajtree.envs.scienceworld:DOMAIN",
        install="trajtree[scienceworld]",
        data="comes with the package; trajtree data scienceworld",
        licence="Apache-2.0",
        modules=("scienceworld",),
        data_importer="trajtree.envs.scienceworld.import_splits:import_data",
    ),
    "alfworld": BuiltIn(
        domain="trajtree.envs.alfworld:DOMAIN",
        install="trajtree",
        data="trajtree data alfworld --from PATH",
        licence="MIT",
        data_importer="trajtree.envs.alfworld:import_data",
        folder="alfworld",
    ),
    "webshop": _WEBSHOP,
    "webshop-short": replace(_WEBSHOP, domain="trajtree.envs.webshop:SHORT", data_importer=None),
    "textworldexpress": BuiltIn(
        domain="trajtree.envs.textworldexpress:DOMAIN",
        install="trajtree[textworldexpress]",
        data="comes with the package",
        licence="Apache-2.0",
        modules=("textworld_express",),
    ),
}
"""Environments by short name."""


DATA_IMPORTERS = {name: entry.data_importer for name, entry in BUILT_IN.items() if entry.data_importer is not None}
"""The functions that import data, for environments with data that users bring."""


def import_data(name: str, source: Path, progress: Progress = SILENT) -> ImportedData:
    """Import the data of the environment called `name`, one of DATA_IMPORTERS, from a file or folder.

    Raises:
        DataError: the data is missing or damaged.
        KeyError: the environment takes no data from users.
    """
    imported: ImportedData = found_at(DATA_IMPORTERS[name])(source, progress)
    return imported


def load_domain(name: str) -> Domain:
    """The domain called `name`: one of BUILT_IN, or `module:ATTRIBUTE` for one of your own.

    Raises:
        RecipeError: there is no such domain, or one of its attributes has the wrong type.
    """
    where = BUILT_IN[name].domain if name in BUILT_IN else name
    try:
        domain = found_at(where)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and name in BUILT_IN:
            raise
        raise RecipeError(
            f"env.name {name!r}: {error}; use {', '.join(BUILT_IN)}, or module:DOMAIN, with the module in the current "
            "folder or where Python finds modules"
        ) from error
    if not isinstance(domain, Domain):
        raise RecipeError(f"env.name {name!r}: is a {type(domain).__name__}, not a trajtree.envs.domain.Domain")
    if problem := _problem(domain):
        raise RecipeError(f"env.name {name!r}: {problem}")
    guarded: dict[str, Any] = {each: _guarded(name, each, getattr(domain, each)) for each in _CONTRACTS}
    return replace(domain, **guarded)


def _problem(domain: Domain) -> str | None:
    """What is wrong with the domain's attributes; None if nothing is."""
    kind: object = domain.environment
    if not (isinstance(kind, type) and issubclass(kind, Environment)):
        return f"environment is {quoted(kind)}, not a class derived from trajtree.Environment"
    for attribute in ("name", "version", "instruction"):
        if not _is_text(value := getattr(kind, attribute, None)):
            return f"{kind.__name__}.{attribute} is {quoted(value)}, not a non-empty string"
    if not _are_texts(domain.types):
        return f"types is {quoted(domain.types)}, not names of task types"
    for function in _CONTRACTS:
        if not callable(value := getattr(domain, function)):
            return f"{function} is {quoted(value)}, not a function"
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _are_texts(values: object) -> bool:
    """Whether they are distinct, non-empty strings, in a sequence."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        return False
    return all(map(_is_text, values)) and len(set(values)) == len(values)


@dataclass(frozen=True, slots=True)
class _Contract:
    """What a function of a domain may return for its arguments, and what a KeyError from it says does not exist."""

    allows: Callable[..., bool]
    expected: str
    unknown: str | None = None


def _is_shown(found: object, env: object, task: str) -> bool:
    return isinstance(found, Trajectory | NoDemonstration) and found.task == task


_CONTRACTS = {
    "make": _Contract(lambda found, limit: isinstance(found, Environment), "an Environment"),
    "tasks": _Contract(lambda found, kind, split: _are_texts(found), "a list of distinct task ids", "task type"),
    "demonstrate": _Contract(_is_shown, "a Trajectory or NoDemonstration of this task"),
    "data": _Contract(lambda found: isinstance(found, str), "text"),
    "situation": _Contract(lambda found, task: _is_text(found), "a non-empty string", "task"),
}
"""By function."""


def _guarded(domain: str, function: str, authors_own: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a domain that returns what it should, or raises an EnvError, or UnknownTask for a KeyError."""
    contract = _CONTRACTS[function]

    def guarded(*asked: Any) -> Any:
        said = [quoted(value) for value in asked if not isinstance(value, Environment)]
        what = f"{domain}: {function}({', '.join(said)})"
        unknown = f"{domain} has no {contract.unknown} {said[0]}" if contract.unknown is not None else None
        with blamed(what, unknown=unknown, place=True):
            found = authors_own(*asked)
        if not contract.allows(found, *asked):
            raise EnvError(f"{what} returned {quoted(found)}, not {contract.expected}")
        return found

    return guarded


def found_at(where: str) -> Any:
    """The object that `module:ATTRIBUTE` names; ATTRIBUTE is DOMAIN if it is left out.

    A module that Python does not find is looked for in the current folder: naming one is what allows code of that
    folder to run. Nothing else does, and nothing there comes before what is installed.

    Raises:
        ImportError, AttributeError, TypeError, ValueError: there is no such object, or its module cannot be imported.
    """
    module, _, attribute = where.partition(":")
    here = os.getcwd()
    if here not in sys.path and importlib.util.find_spec(module.partition(".")[0]) is None:
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        return getattr(importlib.import_module(module), attribute or "DOMAIN")
    except (ImportError, AttributeError, *FOR_THE_USER):
        raise
    except BaseException as error:
        raise ImportError(f"importing {module} raised {named(error, place=True)}") from error


__all__ = [
    "BUILT_IN",
    "DATA_IMPORTERS",
    "SPLITS",
    "BuiltIn",
    "Domain",
    "ImportedData",
    "NoDemonstration",
    "found_at",
    "import_data",
    "itself",
    "load_domain",
]
