"""The files of an import, and the names by which a store identifies them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from trajtree.errors import DataError
from trajtree.formats.containers.finding import Finds
from trajtree.formats.import_report import LeftOut, Tally
from trajtree.formats.one_run import may_be_calls
from trajtree.formats.read.detect import FORMATS, beginning_of, format_named


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import.

    Attributes:
        path: where it is read from.
        shown: how it is named to the user: differently if it is in an archive.
        name: identifies the file: its own name, its first record, its folder.
        format: the format of its records.
        alone: whether it contains only one record.
        calls: whether several of its records may belong to one run.
    """

    path: Path
    shown: Path
    name: str
    format: str
    alone: bool
    calls: bool


def sources(finds: Finds, store: Path, tally: Tally, *, format: str | None, run: str | None) -> list[Source]:
    """Every file that can be read; the store may be in the folder, but is not one of them."""
    if format is not None:
        format_named(format)
    tally.others.update(finds.others)
    for shown, problem in finds.problems:
        tally.leave_out(LeftOut(shown, 1, 0, problem))
    known_files: list[Source] = []
    continuations: set[str] = set()
    for found in finds.files:
        path = found.path
        if path.resolve() == store.resolve():
            if found.named:
                raise DataError(f"{path}: a store cannot be imported into itself")
            continue
        try:
            beginning = beginning_of(path, format)
        except DataError as error:
            if found.named:
                raise
            tally.leave_out(LeftOut(found.shown, 1, 0, str(error).removeprefix(str(path)).lstrip(",: ")))
            continue
        known = FORMATS[beginning.format]
        if (following := known.goes_on_in(beginning.record)) is not None:
            continuations.add(os.path.normpath(path.resolve().parent / following))
        calls = run is not None or (not known.whole and not beginning.alone and may_be_calls(beginning.record))
        name = _source_name(found.shown, beginning.first)
        known_files.append(Source(path, found.shown, name, beginning.format, beginning.alone, calls))
    later = {source for source in known_files if str(source.path.resolve()) in continuations}
    tally.held += len(later)
    return [source for source in known_files if source not in later]


def _source_name(path: Path, first: bytes) -> str:
    name = path.name.encode("utf-8", "replace").decode()
    folder = os.fsencode(path.resolve().parent)
    return f"{name}#{hash_of(first):016x}@{hash_of(folder) >> 32:08x}"


def without_folder(source: str) -> str:
    """The name of a source in early stores."""
    return source.rpartition("@")[0]


def another_folder(source: str, other: str) -> bool:
    """Whether two sources are files with the same name in different folders."""
    (name, _, at), (other_name, _, other_at) = source.rpartition("#"), other.rpartition("#")
    return name == other_name and "@" in other_at and at.rpartition("@")[2] != other_at.rpartition("@")[2]


def hash_of(data: bytes) -> int:
    """The 64-bit hash by which stores identify records; it must never change."""
    return int.from_bytes(blake2b(data, digest_size=8).digest())


__all__ = ["Source", "another_folder", "hash_of", "sources", "without_folder"]
