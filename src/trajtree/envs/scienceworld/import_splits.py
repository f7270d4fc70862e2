"""Recording ETO's splits, which users bring: `trajtree data scienceworld --from ETO_FOLDER`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from trajtree.envs.domain import SPLITS
from trajtree.envs.scienceworld.env import Split, eto_split, plain_name
from trajtree.envs.splits import Splits
from trajtree.envs.user_data import data_folder
from trajtree.errors import DataError
from trajtree.store.files import write_atomically
from trajtree.store.progress import SILENT, Progress

_NUMBERS = "taskname2id.json"
"""The file with the numbers of task types that are in the ids of ETO's runs."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The file that was written, and what it holds."""

    path: Path
    splits: Splits

    @property
    def lines(self) -> list[str]:
        """A readable summary."""
        counts = ", ".join(f"{len(tasks):,} {split}" for split, tasks in self.splits.by_split.items())
        known = "known" if self.splits.names else f"unknown (no {_NUMBERS} there)"
        return [f"{self.path}: {counts} tasks; the ids of ETO's runs are {known}; in a recipe: tasks: {{splits: eto}}"]


def import_data(source: Path, progress: Progress = SILENT) -> Recorded:
    """Record ETO's splits as task ids in `scienceworld/eto.json` of the data folder.

    Args:
        source: the folder with `train_indices.json`, `dev_indices.json` and `test_indices.json`, or one around it, for
            example a checkout of ETO. If `taskname2id.json` is beside them, the ids of ETO's runs are recorded too.
        progress: counts the splits.

    Raises:
        DataError: the files are missing or damaged.
    """
    folders = sorted(path.parent for path in source.rglob("train_indices.json"))
    mine = [folder for folder in folders if (folder / _NUMBERS).exists()] or folders
    if len(mine) != 1:
        found = " and ".join(map(str, mine[:2])) or "none"
        raise DataError(f"{source}: one folder with train_indices.json was expected, found {found}; name that folder")
    (folder,) = mine
    progress.total(len(SPLITS))
    tasks: dict[str, tuple[str, ...]] = {}
    for split in SPLITS:
        tasks[split] = tuple(eto_split(cast(Split, split), folder))
        progress.advance(1)
    splits = Splits(**tasks, names=_names(folder, tasks))
    path = data_folder("scienceworld") / "eto.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, splits.model_dump_json(indent=1))
    return Recorded(path, splits)


def _names(folder: Path, tasks: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Maps the ids of ETO's runs, such as 8_12, to task ids."""
    file = folder / _NUMBERS
    if not file.exists():
        return {}
    try:
        numbers = {plain_name(name): int(number) for name, number in json.loads(file.read_text("utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{file}: must be an object of task names and numbers ({error})") from None
    return {
        f"{numbers[kind]}_{variation}": task
        for split in SPLITS
        for task in tasks[split]
        for kind, _, variation in [task.partition("/")]
        if kind in numbers
    }


__all__ = ["Recorded", "import_data"]
