"""A domain: an environment, its tasks by split, and an expert; all that a recipe needs to name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trajtree.envs.base import Environment
from trajtree.errors import RecipeError
from trajtree.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class NoDemonstration:
    """A task without a demonstration, and why."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class Domain:
    """What a run needs to know of an environment.

    Attributes:
        environment: the class, for its name, version and canonical forms.
        make: one environment with the given step limit (None: its own).
        tasks: (task type, split) to the task ids of that split, split being train, dev or test.
        demonstrate: (environment, task) to an expert trajectory with full score, or why there is none.
        types: names of its task types.
        data: what tells one state of the tasks' data from another, such as its hash, where the data is not in the
            environment's own version; results are redone when it changes.
    """

    environment: type[Environment]
    make: Callable[[int | None], Environment]
    tasks: Callable[[str, str], Sequence[str]]
    demonstrate: Callable[[Any, str], Trajectory | NoDemonstration]
    types: tuple[str, ...] = ()
    data: Callable[[], str] = str


BUILT_IN = {
    "scienceworld": "trajtree.envs.scienceworld:DOMAIN",
    "alfworld": "trajtree.envs.alfworld:DOMAIN",
    "webshop": "trajtree.envs.webshop:DOMAIN",
    "textworldexpress": "trajtree.envs.textworldexpress:DOMAIN",
}
"""Domains by short name, and where each is."""


def load_domain(name: str) -> Domain:
    """The domain called `name`: one of BUILT_IN, or `module:ATTRIBUTE` for one of your own.

    Raises:
        RecipeError: there is no such domain.
    """
    module, _, attribute = BUILT_IN.get(name, name).partition(":")
    try:
        domain = getattr(importlib.import_module(module), attribute or "DOMAIN")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and name in BUILT_IN:
            raise
        raise RecipeError(
            f"env.name {name!r}: {error}; use {', '.join(BUILT_IN)}, or module:DOMAIN with the module importable"
        ) from error
    if not isinstance(domain, Domain):
        raise RecipeError(f"env.name {name!r}: {attribute} is a {type(domain).__name__}, not a trajtree.envs.Domain")
    return domain


__all__ = ["BUILT_IN", "Domain", "NoDemonstration", "load_domain"]
