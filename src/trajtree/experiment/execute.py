"""Running a recipe's stages, one after another, in this process.

A stage's folder counts once its marker is in it, which is written last and atomically; a folder without one is
unfinished work that the stage resumes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trajtree.errors import RunError
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.provenance import provenance_of
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import KINDS, MARKER, Done, Stage, Work, digest_of, key_of, needed_for
from trajtree.models.allocator import release_memory
from trajtree.store.files import write_atomically
from trajtree.store.lock import locked
from trajtree.store.progress import Progress

_UNWRITABLE = re.compile(
    r"I/O error: .*\(os error \d+\)|inline_container.*unexpected pos|iostream error|PytorchStreamWriter failed"
)
"""What safetensors and torch say when the disk is full; theirs are no OSErrors."""


def run_recipe(
    recipe: Recipe,
    run: Path,
    progress_of: Callable[[str], Progress],
    *,
    until: str | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Done]:
    """Bring a run up to date, as a whole or only up to the stages of one kind.

    Args:
        recipe: what to run.
        run: the run directory.
        progress_of: from a stage's name to its display, called when the stage begins.
        until: a name in KINDS.
        say: told in one sentence what in the directory cannot be used.

    Raises:
        TrajtreeError: whatever the user can fix, in one sentence.
    """
    stages = stages_of(recipe)
    if until is not None:
        stages = needed_for(stages, until)
    if older := _of_older_versions(run):
        say(
            f"{run}: {older} stages in it were made by an earlier version of trajtree and cannot be reused; what is "
            "needed is redone beside them"
        )
    return run_stages(stages, run, progress_of, provenance_of(recipe))


def run_stages(
    stages: Sequence[Stage], run: Path, progress_of: Callable[[str], Progress], provenance: Mapping[str, str]
) -> dict[str, Done]:
    """Bring stages up to date, in order; each reads only from earlier ones.

    Raises:
        RunError: another process uses the directory.
    """
    done: dict[str, Done] = {}
    with locked(run / ".lock", _in_use(run)):
        for stage in stages:
            done[stage.name] = _bring_up_to_date(stage, run, done, progress_of, provenance)
    return done


def _in_use(run: Path) -> str:
    return f"{run}: in use by another process ({{holder}}); wait for it, or name another directory with --run"


def _bring_up_to_date(
    stage: Stage,
    run: Path,
    done: Mapping[str, Done],
    progress_of: Callable[[str], Progress],
    provenance: Mapping[str, str],
) -> Done:
    key = key_of(stage, done)
    if (found := _finished(run, stage, key)) is not None:
        return found
    folder = run / stage.name / key[:12]
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    inputs = {role: done[name].folder for role, name in stage.inputs.items()}
    try:
        stage.work(Work(folder, inputs, progress_of(stage.name)))
    except Exception as error:
        if not _UNWRITABLE.search(str(error)):
            raise
        raise RunError(
            f"{folder}: could not be written, is the disk full? ({str(error).splitlines()[0]}); "
            "nothing finished is lost: make room and run the same command again"
        ) from error
    release_memory()
    digest, seconds = digest_of(folder), round(time.monotonic() - began, 1)
    record = {
        "stage": stage.name,
        "kind": stage.kind,
        "version": KINDS[stage.kind].version,
        "key": key,
        "digest": digest,
        "seconds": seconds,
        "inputs": {role: done[name].digest for role, name in stage.inputs.items()},
        "settings": stage.settings,
        "provenance": provenance,
    }
    write_atomically(folder / MARKER, json.dumps(record, indent=2, default=str))
    return Done(folder, digest, seconds, False, record)


def _finished(run: Path, stage: Stage, key: str) -> Done | None:
    """The stage's finished folder, else that of any other stage which has done the same."""
    others = sorted(run.glob(f"*/{key[:12]}/{MARKER}"))
    own = run / stage.name / key[:12] / MARKER
    for marker in sorted(others, key=lambda path: path != own):
        record = _read_marker(marker)
        if record["key"] == key:
            return Done(marker.parent, record["digest"], record["seconds"], True, record)
    return None


def _read_marker(marker: Path) -> dict[str, Any]:
    try:
        record = json.loads(marker.read_text())
        known = {"key": str(record["key"]), "digest": str(record["digest"]), "seconds": float(record["seconds"])}
        return {**record, **known}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{marker}: damaged ({error}); delete the folder {marker.parent} to redo this stage") from None


def _of_older_versions(run: Path) -> int:
    """Finished stages that were made before kinds had versions, or under another version of their kind."""
    count = 0
    for marker in run.glob(f"*/*/{MARKER}"):
        try:
            record = json.loads(marker.read_text())
        except ValueError:
            continue  # named as damaged when a stage needs it
        kind = KINDS.get(str(record.get("kind")))
        count += kind is None or record.get("version") != kind.version
    return count


__all__ = ["run_recipe", "run_stages"]
