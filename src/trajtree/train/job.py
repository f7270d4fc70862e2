"""Standalone training: from a file of trees, runs or pairs to a folder with an adapter.

    from trajtree.train.job import train_file
    from trajtree.train.tuning import Training
    train_file("trees.jsonl", Training("HuggingFaceTB/SmolLM2-135M-Instruct", method="tree-dpo"), "tuned")

The folder records what it was made from (`train.json`). Running the same training again resumes after a kill, or does
nothing if it was finished and its results are unchanged; a different training is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trajtree.errors import RunError
from trajtree.models.transcript import ChatFormat
from trajtree.models.tuned import MODEL, RECORD
from trajtree.models.weights import ModelRef, adapter_fingerprint, fingerprint, load_model, pick_dtype, versions
from trajtree.store.files import open_input, write_atomically
from trajtree.store.full_disk import saving_into
from trajtree.store.lines import parsed
from trajtree.store.lock import locked
from trajtree.store.manifest import as_json, from_json, manifest_of, verified
from trajtree.store.progress import SILENT, Progress
from trajtree.store.unfinished import unfinished_folder
from trajtree.train.material import material_of
from trajtree.train.model_card import write_card
from trajtree.train.settings import METHODS, TrainSettings, resolved
from trajtree.train.trainable import save_weights
from trajtree.train.tuning import Training, tune

_MERGED = "merged"
_MAKE_ROOM = "make room and run the same command again"
_CARD = "README.md"
"""The model's card, which the user may edit."""


def train_file(
    source: str | Path, training: Training, out: str | Path, *, merge: bool = False, progress: Progress = SILENT
) -> Path:
    """Train on a file and return the folder of the adapter (or of the whole model).

    Args:
        source: trees, runs or pairs (see `material.material_of`).
        training: what to do.
        out: folder to fill: `model/` with its card, and `merged/` on request.
        merge: also save the model with its adapter merged in.
        progress: counts the optimiser steps.

    Raises:
        RunError: the folder contains a different training, another process works in it, or the results of a finished
            training in it were changed.
        TrajtreeError: anything else that the user can fix.
    """
    out = Path(out)
    record = _record(Path(source), training)
    taken = f"{out}: another training ({{holder}}) is working in it; wait for it, or name another folder"
    # The processes of a training share its folder; the first one holds the lock.
    with locked(out / ".lock", taken) if first_process() else nullcontext():
        _train(Path(source), training, out, record, merge, progress)
    return out / MODEL


def _train(
    source: Path, training: Training, out: Path, record: dict[str, Any], merge: bool, progress: Progress
) -> None:
    if held := _claim(out, record):
        if merge and first_process() and _MERGED not in held["files"] and not training.is_whole:
            with saving_into(out, _MAKE_ROOM):
                _merge(out, training, {**record, "examples": held["examples"]}, held["metrics"])
                _finish(out, held, [MODEL, _MERGED])
        return

    def save(model: Any, chat: ChatFormat, metrics: dict[str, float], examples: int) -> None:
        kept, parts = {**record, "examples": examples}, [MODEL]
        with _whole_folder(out / MODEL) as folder:
            save_weights(model, folder, training.source)
            _describe(folder, chat, kept, metrics, beneath=training.adapters)
        if merge and not training.is_whole:
            _merge(out, training, kept, metrics)
            parts.append(_MERGED)
        _finish(out, {**kept, "metrics": metrics}, parts)

    weights = str(record["reference_weights"] or record["weights"])
    material = material_of(source, training.paths)
    with saving_into(out, _MAKE_ROOM):
        tune(training, material, out, save=save, fingerprint=weights, progress=progress)


def _finish(out: Path, record: dict[str, Any], parts: Sequence[str]) -> None:
    """Record that the training is finished, and the contents of its parts."""
    files = {part: as_json(manifest_of(out / part, without=[_CARD])) for part in parts}
    write_atomically(out / RECORD, json.dumps({**record, "files": files, "done": True}, indent=1) + "\n")


def _verify(out: Path, held: dict[str, Any]) -> None:
    """Compare the folder's contents with what the finished training left in it."""
    try:
        for part, files in held["files"].items():
            verified(out / part, from_json(files), without=[_CARD])
    except ValueError as error:
        raise RunError(
            f"{error}; it was changed since the training was finished: put it back, or remove {out} to train again"
        ) from None


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which replaces `folder` if the block ends without an error."""
    with unfinished_folder(folder) as unfinished:
        yield unfinished
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)


def _record(source: Path, training: Training) -> dict[str, Any]:
    """Everything that determines the result."""
    with open_input(source) as file:
        data = hashlib.file_digest(file, "sha256").hexdigest()
    described = asdict(training) | {
        "settings": asdict(resolved(training.settings, METHODS[training.method])),
        "source": source.name,
        "dtype": pick_dtype(training.dtype),
    }
    reference = training.reference
    record = {
        **described,
        "data": data,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "weights": _weights(training.source, training.adapters),
        "reference_weights": None if reference is None else _weights(reference.base, reference.adapters),
    }
    # Passed through JSON, so that it can be compared with what was written.
    found: dict[str, Any] = json.loads(json.dumps(record))
    return found


def _weights(base: str, adapters: Sequence[str]) -> str:
    """The fingerprints of a model and of the adapters merged into it, in order."""
    return " ".join([fingerprint(base), *map(adapter_fingerprint, adapters)])


def _claim(out: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Record what the folder is for; returns the record of its training if that is already finished.

    Raises:
        RunError: it contains, or was started for, something else.
    """
    file = out / RECORD
    if file.exists():
        held = _held(file)
        changed = sorted(_changed(held, record))
        if changed and any((out / part).exists() for part in ("model", "checkpoints")):
            raise RunError(f"{out}: contains a training with another {', '.join(changed)}; name another folder")
        if not changed:
            if not held.get("done"):
                return None
            if first_process():
                # Trainings of earlier versions did not record their results: these are accepted and recorded now.
                if "files" not in held:
                    _finish(out, held, [part for part in (MODEL, _MERGED) if (out / part).is_dir()])
                    held = _held(file)
                _verify(out, held)
                shutil.rmtree(out / "checkpoints", ignore_errors=True)
            return held
    if first_process():
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(record, indent=1) + "\n")
    return None


def _held(file: Path) -> dict[str, Any]:
    """What a folder says that it is for."""
    with open_input(file) as opened:
        text = opened.read()
    try:
        held = parsed(text)
        if not isinstance(held, dict) or (held.get("done") and not isinstance(held.get("metrics"), dict)):
            raise ValueError("it must hold an object, with metrics once it is done")
    except ValueError as error:
        raise RunError(f"{file}: damaged ({error}); remove {file.parent} or name another folder") from None
    held.setdefault("render", [])  # earlier versions wrote nothing as text
    if isinstance(settings := held.get("settings"), dict):
        # A setting that an earlier version did not know was at what is now its default.
        held["settings"] = {**json.loads(json.dumps(asdict(TrainSettings()))), **settings}
    return held


def _changed(held: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Names of what differs; settings are named individually."""
    found = []
    for name, value in record.items():
        if name == "report_to":  # where it is reported changes no result
            continue
        before = held.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            found += _changed(before, value)
        elif before != value:
            found.append(name)
    return found


def first_process() -> bool:
    """Whether this is the first of a training's processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _describe(
    folder: Path,
    chat: ChatFormat,
    record: dict[str, Any],
    metrics: dict[str, float],
    *,
    beneath: tuple[str, ...] = (),
) -> None:
    """Write tokenizer and card beside the weights.

    Settings of a part have its name before theirs, as in recipes: three parts have a `gamma`, and two a `seed`.
    """
    flat = {
        **{name: value for name, value in record.items() if not isinstance(value, dict)},
        **{
            name if part == "settings" else f"{part}.{name}": value
            for part, values in record.items()
            if isinstance(values, dict)
            for name, value in values.items()
            if value is not None
        },
        **versions(["trajtree", "torch", "transformers", "peft", "accelerate"]),
    }
    chat.tokenizer.save_pretrained(folder)
    write_card(folder, base=chat.name, settings=flat, metrics=metrics, beneath=beneath)


def _merge(out: Path, training: Training, record: dict[str, Any], metrics: dict[str, float]) -> None:
    """Write the model with the tuned adapter merged into `merged/`; a model tuned as a whole has no adapter."""
    ref = ModelRef(training.source, (*training.adapters, str(out / MODEL)))
    with _whole_folder(out / _MERGED) as folder:
        load_model(ref, dtype=training.dtype, device="cpu").save_pretrained(folder)
        _describe(folder, training.chat(), record, metrics)


__all__ = ["first_process", "train_file"]
