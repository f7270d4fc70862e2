"""Training a row, and finding a row's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trajtree.errors import DataError
from trajtree.experiment.lessons import TREES, read_pairs
from trajtree.experiment.recipe import Recipe, chain_of
from trajtree.experiment.rows import SOURCES, Row
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import store_in
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef
from trajtree.store.pooling import pooled
from trajtree.train.material import Material, Trajectories, TrajectoryPairs, Trees
from trajtree.train.trainable import save_weights
from trajtree.train.trainer import History
from trajtree.train.tuning import Training, tune

MODEL = "model"
"""The tuned model, or its adapter, in a stage's folder."""


def train_row(recipe: Recipe, row: Row, work: Work) -> None:
    """Tune the model that the row starts from and save it in MODEL; the figures say how the training went."""
    scratch = is_scratch(recipe, row)
    below = model_of(recipe, row.starts_from, work.inputs) if row.starts_from is not None else _root(recipe, row.name)
    reference = None
    if row.reference != "start":
        roles = {role.removeprefix("reference "): path for role, path in work.inputs.items() if "reference" in role}
        reference = model_of(recipe, row.reference, roles)
    training = Training(
        recipe.scratch if scratch else below.base,
        row.method,
        settings=recipe.train_settings(row),
        pairs=recipe.pair_settings(row),
        paths=recipe.path_settings(row),
        adapters=below.adapters,
        lora=None if scratch else recipe.strong.lora,
        reference=reference,
        dtype=recipe.play.dtype,
        seed=recipe.seed,
    )

    def save(model: Any, chat: ChatFormat, metrics: dict[str, float], examples: int) -> None:
        work.figures["examples"] = examples
        save_weights(model, work.folder / MODEL, training.source)
        if training.is_whole:
            chat.tokenizer.save_pretrained(work.folder / MODEL)

    def watch(history: History) -> None:
        work.figures.update(asdict(history))

    material = _material(recipe, row, work)
    tune(training, material, work.folder, save=save, progress=work.progress, watch=watch)


def is_scratch(recipe: Recipe, row: Row) -> bool:
    """Whether the row's model is trained from scratch."""
    return row.name == "weak" and recipe.weak.model is None


def model_of(recipe: Recipe, name: str, inputs: Mapping[str, Path]) -> ModelRef:
    """The model of a row; its trained parts are in `inputs` as "model 0", "model 1", ..., bottom first."""
    rows = chain_of(recipe, name)
    folders = [str(inputs[f"model {number}"] / MODEL) for number in range(sum(row.trained for row in rows))]
    if is_scratch(recipe, rows[0]):
        return ModelRef(folders[0], tuple(folders[1:]))
    return ModelRef(_root(recipe, rows[0].name).base, tuple(folders))


def _root(recipe: Recipe, name: str) -> ModelRef:
    return ModelRef((recipe.weak.model or recipe.weak.tokenizer) if name == "weak" else recipe.strong.model)


def _material(recipe: Recipe, row: Row, work: Work) -> Material:
    name = ", ".join(row.learns_from)
    if row.learns_from == ("trees",):
        return Trees(name, work.inputs["trees"] / TREES)
    for source in row.learns_from:
        if SOURCES[source].holds == "pairs":
            pairs = read_pairs(work.inputs[source])
            if not pairs:
                raise DataError(_no_pair(recipe, row))
            store = store_in(work.inputs["explored" if source == "pairs" else source])
            return TrajectoryPairs(name, pairs, {t.key: t for t in store})
    trajectories = list(pooled(store_in(work.inputs[source]) for source in row.learns_from))
    if not trajectories:
        raise DataError(
            f"{row.name}: no trajectory scored at least {recipe.path_settings(row).min_score}, so there is nothing to "
            "learn from; lower paths.min_score, raise explore.rollouts, or train the weak model longer (weak.epochs)"
        )
    return Trajectories(name, trajectories)


def _no_pair(recipe: Recipe, row: Row) -> str:
    how = recipe.pair_settings(row)
    return (
        f"{row.name}: no two runs that began alike differ by pairs.min_gap ({how.min_gap}): there is no pair to learn "
        "from; raise explore.rollouts or the temperatures in explore.grid, or drop the row"
    )


__all__ = ["MODEL", "is_scratch", "model_of", "train_row"]
