"""Custom splits: a file that lists the task ids of each split, instead of the splits of the domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from trajtree.envs.domain import SPLITS, Domain
from trajtree.envs.user_data import data_folder
from trajtree.errors import DataError
from trajtree.store.files import open_input


class Splits(BaseModel):
    """What a file of splits says.

    Attributes:
        train, dev, test: task ids; no task is in two splits.
        names: maps other names of tasks, such as those in logs, to their ids.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    names: dict[str, str] = {}

    @property
    def by_split(self) -> Mapping[str, Sequence[str]]:
        """The task ids by split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def split_file(said: str, env: str) -> Path:
    """The file that a recipe means: a path, or a bare name, which is a file that `trajtree data` recorded for `env`."""
    recorded = data_folder(env) / f"{said}.json"
    return recorded if said.isidentifier() and not Path(said).is_file() else Path(said).expanduser()


def read_splits(path: Path) -> Splits:
    """What the file says.

    Raises:
        DataError: it cannot be read, is not of this form, or names a task twice.
    """
    with open_input(path) as file:
        text = file.read()
    try:
        found = Splits.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}: {where + ': ' if where else ''}{first['msg']}; a file of splits is a JSON object with lists of "
            "task ids under train, dev and test, and optionally names"
        ) from None
    counts = Counter(task for tasks in found.by_split.values() for task in tasks)
    if twice := [task for task, count in counts.items() if count > 1]:
        raise DataError(f"{path}: {twice[0]} is named twice; every task belongs to one split")
    return found


def with_splits(domain: Domain, splits: Splits) -> Domain:
    """The domain with these splits: a type's tasks are those of the file that the domain lists in any of its splits."""

    @cache
    def own(kind: str) -> frozenset[str]:
        return frozenset(task for split in SPLITS for task in domain.tasks(kind, split))

    return replace(domain, tasks=lambda kind, split: [task for task in splits.by_split[split] if task in own(kind)])


def unknown_tasks(domain: Domain, splits: Splits, types: Sequence[str]) -> list[str]:
    """The file's tasks that belong to none of the domain's types or, if the domain lists none, of the given ones."""
    known = {task for kind in domain.types or types for split in SPLITS for task in domain.tasks(kind, split)}
    return [task for tasks in splits.by_split.values() for task in tasks if task not in known]


__all__ = ["Splits", "read_splits", "split_file", "unknown_tasks", "with_splits"]
