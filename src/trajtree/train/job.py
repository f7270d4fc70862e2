"""A training that stands alone: a file of trees, runs or pairs in, a folder with an adapter out.

    from trajtree.train.job import train_file
    from trajtree.train.tuning import Training
    train_file("trees.jsonl", Training("HuggingFaceTB/SmolLM2-135M-Instruct", method="tree-dpo"), "tuned")

The folder remembers what it was made of (`train.json`). The same training again resumes after a kill, or does nothing
when it was finished; another training is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trajtree.errors import RunError
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef, adapter_fingerprint, fingerprint, load_model, pick_dtype, versions
from trajtree.store.files import UNFINISHED, write_atomically
from trajtree.store.progress import SILENT, Progress
from trajtree.train.material import material_of
from trajtree.train.model_card import write_card
from trajtree.train.settings import METHODS, resolved
from trajtree.train.tuning import Training, tune

_RECORD = "train.json"


def train_file(
    source: str | Path, training: Training, out: str | Path, *, merge: bool = False, progress: Progress = SILENT
) -> Path:
    """Train on a file, and return the folder of the adapter (or of the whole model).

    Args:
        source: trees, runs or pairs (see `material.material_of`).
        training: what to do.
        out: folder to fill: `model/` with its card, and `merged/` on request.
        merge: also save the model with its adapter merged in.
        progress: told of each optimiser step.

    Raises:
        RunError: the folder holds another training.
        TrajtreeError: whatever else the user can fix.
    """
    out = Path(out)
    record = _record(Path(source), training)
    if held := _claim(out, record):
        if merge and not (out / "merged").exists():
            _merge(out, training, held, held["metrics"])
        return out / "model"

    def save(model: Any, chat: ChatFormat, metrics: dict[str, float], examples: int) -> None:
        kept = {**record, "examples": examples}
        model.save_pretrained(out / "model")
        _describe(out / "model", chat, kept, metrics, beneath=training.adapters)
        if merge:
            _merge(out, training, kept, metrics)
        write_atomically(out / _RECORD, json.dumps({**kept, "metrics": metrics, "done": True}, indent=1) + "\n")

    weights = str(record["reference_weights"] or record["weights"])
    material = material_of(Path(source), training.paths)
    tune(training, material, out, save=save, fingerprint=weights, progress=progress)
    return out / "model"


def _record(source: Path, training: Training) -> dict[str, Any]:
    """Everything that decides the result."""
    try:
        with source.open("rb") as file:
            data = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{source}: cannot be read ({error.strerror})") from None
    described = asdict(training) | {
        "settings": asdict(resolved(training.settings, METHODS[training.method])),
        "source": source.name,
        "dtype": pick_dtype(training.dtype),
    }
    reference = None if training.reference is None else fingerprint(training.reference.base)
    record = {
        **described,
        "data": data,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "weights": " ".join([fingerprint(training.source), *map(adapter_fingerprint, training.adapters)]),
        "reference_weights": reference,
    }
    # As JSON gives it back, so that it can be compared with what was written.
    found: dict[str, Any] = json.loads(json.dumps(record))
    return found


def _claim(out: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Write down what the folder is for; what it holds, when that is done already.

    Raises:
        RunError: it holds, or work in it was begun for, something else.
    """
    file = out / _RECORD
    if file.exists():
        held: dict[str, Any] = json.loads(file.read_text())
        changed = sorted(_changed(held, record))
        if changed and any((out / part).exists() for part in ("model", "checkpoints")):
            raise RunError(f"{out}: holds a training with another {', '.join(changed)}; name another folder")
        if not changed:
            return held if held.get("done") else None
    if _first_process():
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(record, indent=1) + "\n")
    return None


def _changed(held: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Names of what differs; of settings each by its own name."""
    found = []
    for name, value in record.items():
        before = held.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            found += _changed(before, value)
        elif before != value:
            found.append(name)
    return found


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _describe(
    folder: Path,
    chat: ChatFormat,
    record: dict[str, Any],
    metrics: dict[str, float],
    *,
    beneath: tuple[str, ...] = (),
) -> None:
    """Tokenizer and card, beside weights."""
    flat = {
        **{name: value for name, value in record.items() if not isinstance(value, dict)},
        **{
            name: value
            for part in record.values()
            if isinstance(part, dict)
            for name, value in part.items()
            if value is not None
        },
        **versions(["trajtree", "torch", "transformers", "peft", "accelerate"]),
    }
    chat.tokenizer.save_pretrained(folder)
    write_card(folder, base=chat.name, settings=flat, metrics=metrics, beneath=beneath)


def _merge(out: Path, training: Training, record: dict[str, Any], metrics: dict[str, float]) -> None:
    """The tuned adapter merged in, in `merged/`; a model that was tuned as a whole has none."""
    if training.is_whole or not _first_process():
        return
    unfinished = out / f".merged{UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    ref = ModelRef(training.source, (*training.adapters, str(out / "model")))
    load_model(ref, dtype=training.dtype, device="cpu").save_pretrained(unfinished)
    _describe(unfinished, training.chat(), record, metrics)
    unfinished.rename(out / "merged")


__all__ = ["train_file"]
