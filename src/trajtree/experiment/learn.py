"""Training a row, and finding a row's model.

What needs torch is imported where it is used: plans and reports need this module, but none of that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajtree.errors import NothingToLearn
from trajtree.experiment.lessons import TREES, read_pairs
from trajtree.experiment.recipe import Recipe, chain_of, is_scratch
from trajtree.experiment.rows import SOURCES, Row
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import store_in
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef
from trajtree.store.pooling import pooled
from trajtree.train.material import Material, Trajectories, TrajectoryPairs, Trees, examples_of

if TYPE_CHECKING:
    from trajtree.train.trainer import History
    from trajtree.train.tuning import Training

MODEL = "model"
"""The tuned model, or its adapter, in a stage's folder."""


def train_row(recipe: Recipe, row: Row, work: Work) -> None:
    """Tune the model that the row starts from and save it in MODEL; the figures say how the training went."""
    from trajtree.train.trainable import save_weights
    from trajtree.train.tuning import tune

    training = _training(recipe, row)
    if row.starts_from is not None:
        below = model_of(recipe, row.starts_from, work.inputs)
        training = replace(training, model=below.base, adapters=below.adapters)
    if row.reference != "start":
        roles = {role.removeprefix("reference "): path for role, path in work.inputs.items() if "reference" in role}
        training = replace(training, reference=model_of(recipe, row.reference, roles))

    def save(model: Any, chat: ChatFormat, metrics: dict[str, float], examples: int) -> None:
        work.figures["examples"] = examples
        save_weights(model, work.folder / MODEL, training.source)
        if training.is_whole:
            chat.tokenizer.save_pretrained(work.folder / MODEL)

    def watch(history: History) -> None:
        work.figures.update(asdict(history))

    material = _material(recipe, row, work.inputs)
    tune(training, material, work.folder, save=save, progress=work.progress, watch=watch, logbook=work.logbook)


def why_nothing(recipe: Recipe, row: Row, inputs: Mapping[str, Path]) -> str | None:
    """Why there is nothing to learn in those of the `inputs` that the row learns from; None if there is something."""
    training = _training(recipe, row)
    try:
        material = _material(recipe, row, inputs)
        examples_of(material, row.method, training.taking(training.chat(), sys.maxsize))
    except NothingToLearn as error:
        return str(error)
    return None


def why_no_pair(recipe: Recipe, row: Row, inputs: Mapping[str, Path]) -> str | None:
    """Why there are no pairs in the folder of `inputs["pairs"]`; None if there are some."""
    return None if read_pairs(inputs["pairs"]) else _no_pair(recipe, row)


def _training(recipe: Recipe, row: Row) -> Training:
    """The training of a row, from the untuned model below it and without a reference other than its start."""
    from trajtree.train.tuning import Training

    scratch = is_scratch(recipe, row)
    return Training(
        recipe.scratch if scratch else _root(recipe, chain_of(recipe, row.name)[0].name).base,
        row.method,
        settings=recipe.train_settings(row),
        pairs=recipe.pair_settings(row),
        paths=recipe.path_settings(row),
        lora=None if scratch else recipe.strong.lora,
        dtype=recipe.play.dtype,
        seed=recipe.seed,
    )


def model_of(recipe: Recipe, name: str, inputs: Mapping[str, Path]) -> ModelRef:
    """The model of a row; its trained parts are in `inputs` as "model 0", "model 1", ..., bottom first."""
    rows = chain_of(recipe, name)
    folders = [str(inputs[f"model {number}"] / MODEL) for number in range(sum(row.trained for row in rows))]
    if is_scratch(recipe, rows[0]):
        return ModelRef(folders[0], tuple(folders[1:]))
    return ModelRef(_root(recipe, rows[0].name).base, tuple(folders))


def _root(recipe: Recipe, name: str) -> ModelRef:
    return ModelRef(recipe.untuned(name) or recipe.weak.tokenizer)


def _material(recipe: Recipe, row: Row, inputs: Mapping[str, Path]) -> Material:
    """What the row learns from.

    Raises:
        NothingToLearn: there are no trajectories, or no pairs.
    """
    name = ", ".join(row.learns_from)
    if row.learns_from == ("trees",):
        return Trees(name, inputs["trees"] / TREES)
    for source in row.learns_from:
        if SOURCES[source].holds == "pairs":
            pairs = read_pairs(inputs[source])
            if not pairs:
                raise NothingToLearn(_no_pair(recipe, row))
            store = store_in(inputs["explored" if source == "pairs" else source])
            return TrajectoryPairs(name, pairs, {t.key: t for t in store})
    trajectories = list(pooled(store_in(inputs[source]) for source in row.learns_from))
    if not trajectories:
        raise NothingToLearn(
            f"no trajectory scored at least {recipe.path_settings(row).min_score}, so there is nothing to "
            "learn from; lower paths.min_score, raise explore.rollouts, or train the weak model longer (weak.epochs)"
        )
    return Trajectories(name, trajectories)


def _no_pair(recipe: Recipe, row: Row) -> str:
    how = recipe.pair_settings(row)
    return (
        f"no two runs that began alike differ by pairs.min_gap ({how.min_gap}): there are no pairs to learn "
        "from; raise explore.rollouts or the temperatures in explore.grid, or drop the row"
    )


__all__ = ["MODEL", "model_of", "train_row", "why_no_pair", "why_nothing"]
