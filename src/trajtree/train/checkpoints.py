"""Checkpoints that count: one is whole when its contents are recorded, and is gone on from if they are unchanged."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trajtree.store.files import write_atomically
from trajtree.store.manifest import as_json, from_json, manifest_of, verified

_NOTE = "whole.json"
"""The file of a checkpoint that is written last: the checkpoint's contents, and the metrics of its step."""


def mark_whole(checkpoint: Path, metrics: Mapping[str, float], watched: Sequence[Mapping[str, float]]) -> None:
    """Record a checkpoint's contents; every process has written its part. Without the record it is ignored.

    Args:
        checkpoint: its folder.
        metrics: those of its step.
        watched: what is told of every step up to it.
    """
    note = {"files": as_json(manifest_of(checkpoint)), "metrics": metrics, "watched": watched}
    write_atomically(checkpoint / _NOTE, json.dumps(note, indent=1))


def last_whole(checkpoints: Path, *, clean_up: bool) -> tuple[str | None, dict[str, float], list[dict[str, float]]]:
    """The newest checkpoint with complete, unchanged contents, the metrics of its step, and what was watched up to it.

    Every part counts: without the optimiser's state, or with only part of it, the training would continue differently.
    Incomplete checkpoints are named in a warning, and removed if `clean_up`.
    """
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]), reverse=True)
    torn: list[str] = []
    for path in found:
        try:
            note = json.loads((path / _NOTE).read_text())
            verified(path, from_json(note["files"]), without=[_NOTE], trust_times=False)
            metrics = _figures(note["metrics"])
            watched = [_figures(step) for step in note.get("watched", ())]
        except FileNotFoundError:
            torn.append(f"{path}: was not written to its end, or by an earlier trajtree")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            torn.append(str(error))
        else:
            _say_torn(torn, f"goes on from {path.name}")
            return str(path), metrics, watched
        if clean_up:
            shutil.rmtree(path, ignore_errors=True)
    _say_torn(torn, "begins anew")
    return None, {}, []


def _figures(held: dict[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in held.items()}


def _say_torn(torn: Sequence[str], then: str) -> None:
    if torn:
        warnings.warn(f"{'; '.join(torn)}: the training {then}", stacklevel=3)


__all__ = ["last_whole", "mark_whole"]
