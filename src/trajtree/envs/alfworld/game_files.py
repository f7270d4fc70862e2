"""Where the games are stored, which there are, and which of them are for training, development and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from trajtree.envs import user_data
from trajtree.envs.alfworld.packed import TASK_TYPES, PackedFile, PackedGame
from trajtree.envs.alfworld.scene import Scene
from trajtree.errors import DataError
from trajtree.store.files import digest_of_files

FILES = ("valid_seen", "valid_unseen", "train")
"""Splits of ALFWorld, those that are fast to search first."""

_SPLITS = ("train", "dev", "test")


def data_folder() -> Path:
    """Folder of the packed games."""
    return user_data.data_folder("alfworld")


class Games:
    """The games of a folder. Each file is opened once, when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, PackedFile] = {}

    def tasks(self, task_type: str, split: str) -> Sequence[str]:
        """Task ids of a type in the split `train`, `dev` or `test`.

        `dev` is valid_seen and `test` is valid_unseen. If there is no valid_unseen file, valid_seen serves as
        both: per type, ordered by a hash of the task id, every second game is `test`.

        Raises:
            KeyError: there is no such type or split.
            DataError: the games are missing or damaged.
        """
        if task_type not in TASK_TYPES:
            raise KeyError(f"ALFWorld has no task type {task_type!r}: use {', '.join(TASK_TYPES)}")
        if split not in _SPLITS:
            raise KeyError(f"no split {split!r}: use {', '.join(_SPLITS)}")
        if split == "train":
            return self._of("train", task_type)
        if self._path("valid_unseen").exists():
            return self._of({"dev": "valid_seen", "test": "valid_unseen"}[split], task_type)
        mixed = sorted(self._of("valid_seen", task_type), key=lambda task: hashlib.sha256(task.encode()).digest())
        return sorted(mixed[{"dev": 0, "test": 1}[split] :: 2])

    def game(self, task: str) -> PackedGame:
        """The stored game of a task.

        Raises:
            KeyError: there is no such task.
            DataError: the games are missing or damaged.
        """
        self._need_some()
        for name in FILES:
            if self._path(name).exists() and task in self._file(name):
                return self._file(name).read(task)
        raise KeyError(f"{self.folder} has no ALFWorld task {task!r}; ids look like {TASK_TYPES[0]}/TRIAL")

    def _of(self, name: str, task_type: str) -> list[str]:
        self._need_some()
        return [task for task in self._file(name).tasks if task.startswith(f"{task_type}/")]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl.xz"

    def _file(self, name: str) -> PackedFile:
        if name not in self._files:
            if not self._path(name).exists():
                raise DataError(f"{self._path(name)}: missing; import games that include the split {name}")
            self._files[name] = PackedFile(self._path(name))
        return self._files[name]

    def _need_some(self) -> None:
        if not any(self._path(name).exists() for name in FILES):
            raise DataError(
                f"{self.folder}: no ALFWorld games; import them with `trajtree data alfworld --from PATH` (PATH: "
                "the json_2.1.1 folder that alfworld-download makes, or .jsonl.xz files), or set TRAJTREE_DATA"
            )


def data_digest() -> str:
    """Hash of the packed games that exist."""
    return digest_of_files(path for name in FILES if (path := data_folder() / f"{name}.jsonl.xz").exists())


@lru_cache(maxsize=8)
def games_in(folder: Path) -> Games:
    """The games of a folder, shared by all environments of the process."""
    return Games(folder)


@lru_cache(maxsize=512)
def scene_of(folder: Path, task: str) -> Scene:
    """The scene of a task, shared by all environments of the process that play it.

    Raises:
        KeyError: there is no such task.
        DataError: the games are missing or damaged.
    """
    game = games_in(folder).game(task)
    return Scene.parse(game.pddl_problem, game.goal, f"{folder}, game {task}")


__all__ = ["FILES", "Games", "data_digest", "data_folder", "games_in", "scene_of"]
