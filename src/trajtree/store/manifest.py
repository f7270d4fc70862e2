"""The contents of a folder when it was finished, so that they can be verified before the folder is used again.

A file with the same size and time counts as unchanged; if only the time differs, as after copying, its content decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from trajtree.errors import counted
from trajtree.store.files import UNFINISHED


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's size in bytes, modification time in ns, and SHA-256 in hex."""

    size: int
    mtime_ns: int
    sha256: str


Manifest = Mapping[str, FileState]
"""Files by their path below a folder, separated by "/"."""


def manifest_of(folder: Path, *, without: Iterable[str] = (), hidden: bool = False) -> dict[str, FileState]:
    """All files below `folder` except those in `without`, unfinished ones, and hidden ones such as locks."""
    return {
        name: FileState(path.stat().st_size, path.stat().st_mtime_ns, _sha256(path))
        for name, path in files_below(folder, without, hidden).items()
    }


def digest_of(manifest: Manifest) -> str:
    """Hash of the files' names and contents, in hex."""
    digest = hashlib.sha256()
    for name in sorted(manifest, key=lambda name: name.split("/")):
        digest.update(f"{name}\n".encode() + bytes.fromhex(manifest[name].sha256))
    return digest.hexdigest()


def verified(
    folder: Path, manifest: Manifest, *, without: Iterable[str] = (), trust_times: bool = True
) -> dict[str, FileState]:
    """The manifest of a folder with unchanged contents, with the files' current times.

    Without `trust_times` every file is read: a file damaged by a machine crash may still have its old size and time.

    Raises:
        ValueError: the contents have changed; the message names the first file that differs, and how.
    """
    there = files_below(folder, without)
    for name in sorted(manifest.keys() - there.keys()):
        raise ValueError(f"{folder / name}: is missing")
    for name in sorted(there.keys() - manifest.keys()):
        raise ValueError(f"{there[name]}: was not there")
    return {name: _same(there[name], state, trust_times) for name, state in manifest.items()}


def as_json(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """A manifest in JSON form."""
    return {name: asdict(state) for name, state in manifest.items()}


def from_json(written: Any) -> dict[str, FileState]:
    """A manifest written by `as_json`. Raises ValueError if it is not one."""
    try:
        return msgspec.convert(written, dict[str, FileState])
    except msgspec.ValidationError as error:
        raise ValueError(f"no list of files: {error}") from None


def files_below(folder: Path, without: Iterable[str] = (), hidden: bool = False) -> dict[str, Path]:
    """All files below `folder`, by their path within it; not those in `without`, unfinished ones, or hidden ones."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path
        for name, path in found.items()
        if name not in without and path.suffix != UNFINISHED and (hidden or not path.name.startswith("."))
    }


def _same(path: Path, state: FileState, trust_times: bool) -> FileState:
    status = path.stat()
    if status.st_size != state.size:
        raise ValueError(f"{path}: has {counted(status.st_size, 'byte')}, not {counted(state.size, 'byte')}")
    touched = status.st_mtime_ns != state.mtime_ns
    if (touched or not trust_times) and _sha256(path) != state.sha256:
        raise ValueError(f"{path}: holds something else than before, in as many bytes")
    return FileState(state.size, status.st_mtime_ns, state.sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = ["FileState", "Manifest", "as_json", "digest_of", "files_below", "from_json", "manifest_of", "verified"]
