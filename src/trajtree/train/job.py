"""A training that stands alone: a file of trees, runs or pairs in, a folder with an adapter out.

    from trajtree.train.job import Job, run
    run(Job("trees.jsonl", model="HuggingFaceTB/SmolLM2-135M-Instruct", method="tree-dpo"), "tuned")

The folder remembers what it was made of (`train.json`). The same job again goes on after a kill, or does nothing when
it was finished; another job is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trajtree.errors import RecipeError, RunError
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import (
    ModelRef,
    adapter_fingerprint,
    context_length,
    fingerprint,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    versions,
)
from trajtree.store.files import UNFINISHED, write_atomically
from trajtree.train.card import write_card
from trajtree.train.examples import Example
from trajtree.train.methods import Method, Settings, examples_of, objective_of
from trajtree.train.reference import with_reference
from trajtree.train.trainable import Lora, whole, with_adapter
from trajtree.train.trainer import Optimisation, Progress, train

_RECORD = "train.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on what, how.

    Attributes:
        source: trees, runs or pairs (see `methods.examples_of`).
        model: hub id or folder.
        method: one of `methods.METHODS`.
        settings: of the method.
        optimisation: rows, steps, learning rate.
        adapters: merged into the model before it is tuned, in order.
        lora: the adapter; None tunes the whole model.
        reference: a model to be held to; the model with its adapter off by default.
        cache_reference: compute the reference's log-probabilities once; only without an explicit KL.
        seed: of the adapter and of the order of rows.
    """

    source: str | Path
    model: str
    method: Method = "tree-dpo"
    settings: Settings = field(default_factory=Settings)
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(epochs=1, lr=5e-5, row_tokens=4096, accumulate=4, checkpoint_steps=20)
    )
    adapters: tuple[str, ...] = ()
    lora: Lora | None = field(default_factory=lambda: Lora(16, 32))
    reference: str | None = None
    cache_reference: bool = False
    seed: int = 0


def _quiet(done: int, total: int, metrics: dict[str, float]) -> None:
    pass


def examples(job: Job, *, context: int = sys.maxsize) -> tuple[list[Example], ChatFormat]:
    """What the job trains on, and the format in which it is written. Raises as `methods.examples_of`."""
    chat = ChatFormat(load_tokenizer(job.model), job.model)
    return examples_of(Path(job.source), job.method, job.settings, chat, context=context), chat


def run(job: Job, out: str | Path, *, merge: bool = False, progress: Progress = _quiet) -> Path:
    """Do the job, and return the folder of the adapter (or of the whole model).

    Args:
        job: what to do.
        out: folder to fill: `model/` with its card, and `merged/` on request.
        merge: also save the model with its adapter merged in.
        progress: told after each optimiser step.

    Raises:
        RunError: the folder holds another job; a cached reference is asked for where it cannot serve.
        TrajtreeError: whatever else the user can mend.
    """
    out = Path(out)
    objective = objective_of(job.method, job.settings)
    if job.cache_reference and (objective.kl or not objective.reference):
        why = "needs the whole distribution" if objective.kl else "has no reference"
        raise RecipeError(f"the reference of {job.method} cannot be cached: the method {why}")
    record = _record(job)
    if held := _claim(out, record):
        if merge and not (out / "merged").exists():
            _merge(out, job, held, held["metrics"])
        return out / "model"
    ref, dtype = ModelRef(job.model, job.adapters), job.optimisation.dtype
    model = whole(ref, seed=job.seed) if job.lora is None else with_adapter(ref, job.lora, dtype=dtype, seed=job.seed)
    found, chat = examples(job, context=context_length(model))
    # A model that is tuned as a whole is held in float32, and its reference is to compute alike.
    fixed_dtype = dtype if job.lora else "float32"
    fixed = job.reference and load_model(ModelRef(job.reference), dtype=fixed_dtype, device=pick_device())
    if job.cache_reference:
        weights = str(record["reference_weights" if job.reference else "weights"])
        found = with_reference(
            found,
            fixed or model,
            fingerprint=weights,
            cache=out / "reference",
            dtype=dtype,
            pack_tokens=job.optimisation.row_tokens or 4096,
            packed=job.optimisation.packed,
        )
        fixed = None
    record["examples"] = len(found)

    def save(metrics: dict[str, float]) -> None:
        model.save_pretrained(out / "model")
        _describe(out / "model", chat, job, record, metrics, beneath=job.adapters)
        if merge:
            _merge(out, job, record, metrics)
        write_atomically(out / _RECORD, json.dumps({**record, "metrics": metrics, "done": True}, indent=1) + "\n")

    train(
        model,
        found,
        objective,
        job.optimisation,
        out,
        seed=job.seed,
        progress=progress,
        reference=fixed or None,
        save=save,
    )
    return out / "model"


def _record(job: Job) -> dict[str, Any]:
    """Everything that decides the result."""
    try:
        with Path(job.source).open("rb") as file:
            data = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{job.source}: cannot be read ({error.strerror})") from None
    described = {**asdict(job), "source": Path(job.source).name, "adapters": list(job.adapters)}
    described["optimisation"]["dtype"] = pick_dtype(job.optimisation.dtype)
    described["optimisation"]["report_to"] = list(job.optimisation.report_to)
    return {
        **described,
        "data": data,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "weights": " ".join([fingerprint(job.model), *map(adapter_fingerprint, job.adapters)]),
        "reference_weights": None if job.reference is None else fingerprint(job.reference),
    }


def _claim(out: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Write down what the folder is for; what it holds, when that is done already.

    Raises:
        RunError: it holds, or work in it was begun for, something else.
    """
    file = out / _RECORD
    if file.exists():
        held: dict[str, Any] = json.loads(file.read_text())
        changed = sorted(key for key in record if held.get(key) != record[key])
        if changed and any((out / part).exists() for part in ("model", "checkpoints")):
            raise RunError(f"{out}: holds a training with another {', '.join(changed)}; name another folder")
        if not changed:
            return held if held.get("done") else None
    if _first_process():
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(record, indent=1) + "\n")
    return None


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _describe(
    folder: Path,
    chat: ChatFormat,
    job: Job,
    record: dict[str, Any],
    metrics: dict[str, float],
    *,
    beneath: tuple[str, ...] = (),
) -> None:
    """Tokenizer and card, beside weights."""
    flat = {
        **{name: value for name, value in record.items() if not isinstance(value, dict)},
        **{name: value for part in ("settings", "optimisation") for name, value in record[part].items()},
        **versions(["trajtree", "torch", "transformers", "peft", "accelerate"]),
    }
    chat.tokenizer.save_pretrained(folder)
    write_card(folder, base=job.model, settings=flat, metrics=metrics, beneath=beneath)


def _merge(out: Path, job: Job, record: dict[str, Any], metrics: dict[str, float]) -> None:
    """The tuned adapter merged in, in `merged/`; a model that was tuned as a whole has none."""
    if job.lora is None or not _first_process():
        return
    unfinished = out / f".merged{UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    ref = ModelRef(job.model, (*job.adapters, str(out / "model")))
    load_model(ref, dtype=job.optimisation.dtype, device="cpu").save_pretrained(unfinished)
    _describe(unfinished, ChatFormat(load_tokenizer(job.model), job.model), job, record, metrics)
    unfinished.rename(out / "merged")


__all__ = ["Job", "examples", "run"]
