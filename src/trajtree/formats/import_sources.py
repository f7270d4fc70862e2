"""The files of an import, and the names by which a store identifies them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from trajtree.errors import DataError, NoFormat, NoLog
from trajtree.formats.containers.finding import Finds
from trajtree.formats.import_report import LeftOut
from trajtree.formats.import_tally import Tally
from trajtree.formats.one_run import may_be_calls
from trajtree.formats.read.benchmarks.reports import folder_of_reports
from trajtree.formats.read.detect import FORMATS, beginning_of, format_named, runs_of
from trajtree.formats.read.not_runs import REPORTS, lies_beside_runs
from trajtree.formats.read.vendors.resumed import Place


@dataclass(frozen=True)
class Source:
    """A file to import.

    Attributes:
        path: where it is read from.
        shown: how it is named to the user: differently if it is in an archive.
        name: identifies the file: its own name, its first record, its folder.
        format: the format of its records.
        single: whether it contains only one record.
        calls: whether several of its records may belong to one run.
        held: the numbers of its runs that are not read, because a run of another file contains them.
        holds: for the numbers of its runs that contain such runs of other files, the names of the files and their
            numbers there.
    """

    path: Path
    shown: Path
    name: str
    format: str
    single: bool
    calls: bool
    held: frozenset[int] = frozenset()
    holds: Mapping[int, Sequence[tuple[str, int]]] = field(default_factory=dict, hash=False)

    @cached_property
    def alone(self) -> bool:
        """Whether it contains only one run; where a format makes runs of records itself, the file is read for it."""
        if not FORMATS[self.format].makes_runs:
            return self.single
        return len(list(islice(runs_of(self.path, self.format), 2))) < 2


def sources(
    finds: Finds, own: list[Path], tally: Tally, *, format: str | None, run: str | None
) -> tuple[list[Source], list[Path]]:
    """Every file that can be read, and the benchmarks' reports that the user named among them.

    `own` is the store and, if there is one, the file of scores: they may be in the folder, but are not read.
    """
    if format is not None:
        format_named(format)
    tally.others.update(finds.others)
    for shown, problem in finds.problems:
        tally.leave_out(LeftOut(shown, 1, 0, problem))
    mine = {path.resolve() for path in own}
    known_files: list[Source] = []
    reports: list[Path] = []
    continuations: set[str] = set()
    for found in finds.files:
        path = found.path
        if path.resolve() in mine:
            if found.named:
                what = "a store cannot be imported into itself" if path.resolve() == own[0].resolve() else "has scores"
                raise DataError(f"{path}: {what}; name the logs to import")
            continue
        if not found.named and (kind := lies_beside_runs(path)) is not None:
            tally.others[kind] += 1
            continue
        try:
            beginning = beginning_of(path, format)
        except DataError as error:
            if found.named and isinstance(error, NoLog) and error.kind == REPORTS:
                reports.append(path)
                continue
            if found.named:
                raise
            if isinstance(error, NoLog):
                tally.others[error.kind] += 1
                if error.kind == REPORTS:
                    tally.reports[folder_of_reports(found.shown)] += 1
                continue
            tally.no_format += isinstance(error, NoFormat)
            reason = error.reason if isinstance(error, NoFormat) else str(error).removeprefix(str(path)).lstrip(",: ")
            tally.leave_out(LeftOut(found.shown, 1, 0, reason))
            continue
        known = FORMATS[beginning.format]
        if (following := known.goes_on_in(beginning.record)) is not None:
            continuations.add(os.path.normpath(path.resolve().parent / following))
        calls = run is not None or (not known.whole and not beginning.alone and may_be_calls(beginning.record))
        name = _source_name(found.shown, beginning.first)
        known_files.append(Source(path, found.shown, name, beginning.format, beginning.alone, calls))
    later = {source for source in known_files if str(source.path.resolve()) in continuations}
    tally.joined += len(later)
    return _with_held([source for source in known_files if source not in later], tally), reports


def _with_held(files: list[Source], tally: Tally) -> list[Source]:
    """The files, with what is known of runs that a run of another file contains."""
    holders: dict[Place, Place] = {}
    for name in dict.fromkeys(source.format for source in files):
        holders |= FORMATS[name].held([source.path for source in files if source.format == name])
    names = {source.path: source.name for source in files}
    held: dict[Path, set[int]] = {}
    holds: dict[Path, dict[int, list[tuple[str, int]]]] = {}
    for (path, number), (holder, there) in holders.items():
        held.setdefault(path, set()).add(number)
        holds.setdefault(holder, {}).setdefault(there, []).append((names[path], number))
    tally.resumed += len(held)
    return [
        replace(source, held=frozenset(held.get(source.path, ())), holds=holds.get(source.path, {})) for source in files
    ]


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
