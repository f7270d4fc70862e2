"""Stages cached by content.

A stage's key is the hash of its settings and of what its inputs hold. Its folder is named after the key and counts
once `stage.json` is in it, which is written last and atomically; a folder without one is unfinished work that the
stage goes on with. Changing a setting changes the keys of that stage and of those that read from it, no others.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajtree.errors import RunError
from trajtree.models.memory import release_memory
from trajtree.store.files import UNFINISHED, write_atomically
from trajtree.store.progress import Progress

LAYOUT = 3
"""Version of the run directory; part of every key."""

_UNWRITABLE = re.compile(
    r"I/O error: .*\(os error \d+\)|inline_container.*unexpected pos|iostream error|PytorchStreamWriter failed"
)
"""What safetensors and torch say when the disk is full; theirs are no OSErrors."""


@dataclass(frozen=True)
class Work:
    """What a stage's function gets: where to write, where its inputs are, whom to tell."""

    folder: Path
    inputs: Mapping[str, Path]
    progress: Progress


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: unique in a run; the folder under which its results are kept.
        kind: the command that runs it.
        inputs: names of the stages that it reads.
        settings: everything else that its result depends on, as JSON.
        work: does it; resumable, and writes only below `Work.folder`.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]
    work: Callable[[Work], None]


@dataclass(frozen=True)
class Done:
    """A finished stage: its folder, the digest of what it holds, and what it took."""

    folder: Path
    digest: str
    seconds: float
    cached: bool
    record: Mapping[str, Any] = field(default_factory=dict)


def run_stages(
    stages: Sequence[Stage], run: Path, progress_of: Callable[[Stage], Progress], provenance: Mapping[str, str]
) -> dict[str, Done]:
    """Bring stages up to date, in order; each reads only from earlier ones.

    Raises:
        RunError: another process uses the directory.
    """
    done: dict[str, Done] = {}
    with locked(run):
        for stage in stages:
            done[stage.name] = _bring_up_to_date(stage, run, done, progress_of, provenance)
    return done


def needed_for(stages: Sequence[Stage], kind: str) -> list[Stage]:
    """The stages of one kind and everything that they read from, in order."""
    wanted = {s.name for s in stages if s.kind == kind}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.inputs)
    return [s for s in stages if s.name in wanted]


def key_of(stage: Stage, done: Mapping[str, Done]) -> str:
    """Hash of everything that the stage's result depends on."""
    content = {
        "layout": LAYOUT,
        "name": stage.name,
        "settings": stage.settings,
        "inputs": {name: done[name].digest for name in stage.inputs},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _bring_up_to_date(
    stage: Stage,
    run: Path,
    done: Mapping[str, Done],
    progress_of: Callable[[Stage], Progress],
    provenance: Mapping[str, str],
) -> Done:
    key = key_of(stage, done)
    folder = run / stage.name / key[:12]
    marker = folder / "stage.json"
    if marker.exists():
        record = _read_marker(marker)
        return Done(folder, record["digest"], record["seconds"], True, record)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        stage.work(Work(folder, {name: done[name].folder for name in stage.inputs}, progress_of(stage)))
    except Exception as error:
        if not _UNWRITABLE.search(str(error)):
            raise
        raise RunError(
            f"{folder}: could not be written, is the disk full? ({str(error).splitlines()[0]}); "
            "nothing finished is lost: make room and run the same command again"
        ) from error
    release_memory()
    record = {
        "stage": stage.name,
        "key": key,
        "digest": digest_of(folder),
        "seconds": round(time.monotonic() - began, 1),
        "inputs": {name: done[name].digest for name in stage.inputs},
        "settings": stage.settings,
        "provenance": provenance,
    }
    write_atomically(marker, json.dumps(record, indent=2, default=str))
    return Done(folder, record["digest"], record["seconds"], False, record)


def _read_marker(marker: Path) -> Any:
    try:
        record = json.loads(marker.read_text())
        return {**record, "digest": str(record["digest"]), "seconds": float(record["seconds"])}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{marker}: damaged ({error}); delete the folder {marker.parent} to redo this stage") from None


def digest_of(folder: Path) -> str:
    """Hash of names and contents of all files below `folder`, but for stage.json and what a kill left half-written."""
    digest = hashlib.sha256()
    counted = (p for p in folder.rglob("*") if p.is_file() and p.name != "stage.json" and p.suffix != UNFINISHED)
    for path in sorted(counted):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run directory; the lock goes with the process, however it ends.

    Raises:
        RunError: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"{run}: in use by another process ({file.read().strip() or 'unknown'}); "
                "wait for it, or name another directory with --run"
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()}")
        file.flush()
        yield


__all__ = [
    "Done",
    "Progress",
    "Stage",
    "Work",
    "digest_of",
    "key_of",
    "locked",
    "needed_for",
    "run_stages",
]
