"""The files that an import was given: named ones, those in folders, and those in archives."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from trajtree.errors import DataError
from trajtree.formats.containers.archives import is_tar, is_zip, unpack
from trajtree.formats.containers.streams import LONGEST_MAGIC
from trajtree.store.files import open_input

LOGS = (".json", ".jsonl", ".ndjson", ".traj", ".eval", ".parquet", ".arrow")
"""Suffixes of the files that are read from a folder or an archive, also within `.gz` and `.zst`."""

_COMPRESSED = (".gz", ".zst")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst")
_SAVED = {"state.json", "dataset_info.json"}
"""What `datasets` writes beside the tables in a folder."""

_SPLITS = "dataset_dict.json"

_OURS = (".lock", ".status.json")
"""Endings of the hidden files that trajtree puts beside a store."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read.

    Attributes:
        path: where it can be read.
        shown: how it is named to the user; a file of an archive is below the archive.
        named: whether the user named it, instead of a folder or an archive that contains it.
    """

    path: Path
    shown: Path
    named: bool


@dataclass(slots=True)
class Finds:
    """What was found: files to read, the number of others by suffix, and what could not be looked into, with why."""

    files: list[Found] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[Path, str]] = field(default_factory=list)


def find(paths: Iterable[Path], scratch: Callable[[], Path]) -> Finds:
    """All files, each once: a folder or an archive stands for the logs in it.

    Args:
        paths: files, archives and folders.
        scratch: makes an empty folder into which an archive can be unpacked.

    Raises:
        DataError: there is no such file or folder, it cannot be read, or a folder or archive contains no log.
    """
    finds = Finds()
    seen: dict[Path, int] = {}
    for path in paths:
        if path.is_dir():
            before = len(finds.problems)
            below = list(_in_folder(path, finds))
            if not below and len(finds.problems) == before:
                kinds = f" (but {_kinds(finds.others)})" if finds.others else ""
                raise DataError(f"{path}: no log in this folder{kinds}; logs end in {', '.join(LOGS)}")
        elif path.exists():
            below = [path]
        else:
            raise DataError(f"{path}: no such file or folder")
        for file in below:
            named = file is path
            real = file.resolve()
            if real in seen:
                if named and seen[real] >= 0:
                    first = finds.files[seen[real]]
                    finds.files[seen[real]] = Found(first.path, first.shown, True)
            elif _is_archive(file, named):
                seen[real] = -1
                members = list(_in_archive(file, scratch(), finds))
                if named and not members and not finds.problems:
                    kinds = f" (but {_kinds(finds.others)})" if finds.others else ""
                    raise DataError(f"{file}: no log in this archive{kinds}; logs end in {', '.join(LOGS)}")
                finds.files += members
            else:
                seen[real] = len(finds.files)
                finds.files.append(Found(file, file, named))
    return finds


def suffix_of(name: PurePath) -> str:
    """The suffix that says what a file is, in lower case; of a compressed one with that of what it contains."""
    suffixes = [suffix.lower() for suffix in name.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] and suffixes[-1] in _COMPRESSED else suffixes[-1:])


def _is_log(name: PurePath) -> bool:
    suffix = suffix_of(name)
    inner = suffix.removesuffix(".gz").removesuffix(".zst")
    return inner in LOGS or suffix in _COMPRESSED


def _in_folder(folder: Path, finds: Finds) -> Iterator[Path]:
    """The logs and archives below a folder, in order, through links too; counts the other files."""
    found: list[Path] = []
    entered = {folder.resolve()}

    def unreadable(error: OSError) -> None:
        finds.problems.append((Path(error.filename), f"cannot be read ({error.strerror})"))

    for here, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        inside = [Path(here, name) for name in sorted(folders)]
        folders[:] = [below.name for below in inside if below.resolve() not in entered]
        entered.update(below.resolve() for below in inside)
        saved = _SAVED if set(files) >= _SAVED else set()
        for name in files:
            path = Path(here, name)
            if name.startswith(".") and name.endswith(_OURS):
                continue
            if name in saved or (name == _SPLITS and any((below / "state.json").exists() for below in inside)):
                continue
            if not path.is_file():
                finds.others["broken link" if path.is_symlink() else "pipe or device"] += 1
            elif _is_log(path) or suffix_of(path) in _ARCHIVES:
                found.append(path)
            else:
                finds.others[suffix_of(path) or "without suffix"] += 1
    yield from sorted(found)


def _is_archive(path: Path, named: bool) -> bool:
    suffix = suffix_of(path)
    if not named or suffix == ".eval":
        return suffix in _ARCHIVES
    with open_input(path) as file:
        return is_zip(file.peek(LONGEST_MAGIC)) or is_tar(path)


def _in_archive(path: Path, into: Path, finds: Finds) -> Iterator[Found]:
    for member in unpack(path, into):
        shown = path / member.name
        if member.path is None:
            finds.problems.append((shown, member.problem))
        elif _is_log(member.path):
            yield Found(member.path, shown, False)
        else:
            finds.others[suffix_of(member.path) or "without suffix"] += 1


def _kinds(others: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in others.most_common(5))


__all__ = ["LOGS", "Finds", "Found", "find", "suffix_of"]
