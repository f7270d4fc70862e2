"""Choosing tasks of a domain by name: whole types, or single tasks."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from trajtree.envs.domain import SPLITS, Domain
from trajtree.errors import RunError, UnknownTask


def tasks_named(domain: Domain, names: Sequence[str], split: str, first: int | None = None) -> list[str]:
    """Tasks by their own names or by their types, each once.

    Args:
        domain: whose tasks.
        names: task types, of which the tasks of `split` are meant, or task ids of any split.
        split: one of SPLITS.
        first: most tasks of each type.

    Raises:
        RunError: a name is neither, or a type has no task in the split.
    """
    found: list[str] = []
    ids: set[str] | None = None
    for name in names:
        tasks = list(_listed(domain, name, split))[:first]
        if not tasks and name not in domain.types:
            # All ids are listed once at most; a domain that lists no types has to be believed.
            ids = _all_ids(domain) if ids is None else ids
            if domain.types and name not in ids:
                near = get_close_matches(name, [*domain.types, *ids], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise RunError(f"--tasks {name}: neither a task type nor a task{hint}")
            tasks = [name]
        if not tasks:
            raise RunError(f"--tasks {name}: has no task in the {split} split; choose another with --split")
        found += tasks
    return list(dict.fromkeys(found))


def _all_ids(domain: Domain) -> set[str]:
    return {task for kind in domain.types for split in SPLITS for task in _listed(domain, kind, split)}


def _listed(domain: Domain, kind: str, split: str) -> Sequence[str]:
    try:
        return domain.tasks(kind, split)
    except UnknownTask:
        return ()


__all__ = ["tasks_named"]
