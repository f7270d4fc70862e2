"""One training: a model, what it learns from, and the method. Recipes and `trajtree train` both use this module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajtree.errors import DataError, PolicyError, RecipeError
from trajtree.explore.trackers import Logbook
from trajtree.formats.write.rendering import Part, as_text
from trajtree.models.transcript import ChatFormat
from trajtree.models.weights import ModelRef, context_length, load_model, load_tokenizer, pick_device, same_vocabulary
from trajtree.store.progress import SILENT, Progress
from trajtree.train.losses import objective_of
from trajtree.train.material import Material, Taking, examples_of
from trajtree.train.reference import with_reference
from trajtree.train.settings import METHODS, Lora, Scratch, TrainSettings, resolved
from trajtree.train.trainable import from_scratch, whole, with_adapter
from trajtree.train.trainer import Watch, train
from trajtree.train.vocabulary import restore, trim
from trajtree.trajectory import Message
from trajtree.trees.forks import PairSettings
from trajtree.trees.search import PathSettings


@dataclass(frozen=True, slots=True)
class Training:
    """What to tune and how; the material is passed separately.

    Attributes:
        model: hub id or folder, or a model to be trained from scratch.
        method: a name in METHODS.
        settings: settings of the loss and the optimisation.
        pairs, paths: which pairs and paths are taken if the material is trees.
        adapters: adapters merged into the model before it is tuned, in order.
        lora: the adapter to train; None tunes the whole model, as is always done from scratch.
        reference: the reference model; by default the model itself before tuning, which requires an adapter.
        dtype: dtype of the arithmetic (see `trajtree.models.weights.pick_dtype`).
        seed: seed for new weights and for the order of batches.
        render: what is written as text because the chat template has no place for it: "calls", "thoughts".
    """

    model: str | Scratch
    method: str = "tree-dpo"
    settings: TrainSettings = field(default_factory=TrainSettings)
    pairs: PairSettings = field(default_factory=PairSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    adapters: tuple[str, ...] = ()
    lora: Lora | None = field(default_factory=Lora)
    reference: ModelRef | None = None
    dtype: str = "auto"
    seed: int = 0
    render: tuple[Part, ...] = ()

    @property
    def source(self) -> str:
        """The model that provides vocabulary and chat template."""
        return self.model.tokenizer if isinstance(self.model, Scratch) else self.model

    @property
    def is_whole(self) -> bool:
        """Whether all weights are tuned instead of an adapter."""
        return self.lora is None or isinstance(self.model, Scratch)

    def chat(self) -> ChatFormat:
        """The model's chat format.

        Raises:
            DataError: its template has a place for what is to be written as text.
        """
        chat = ChatFormat(load_tokenizer(self.source), self.source, self._as_text if self.render else None)
        for part in self.render:
            if chat.has_place_for(part):
                raise DataError(f"--render-{part}: {self.source}'s chat template writes {part} itself; leave it out")
        return chat

    def _as_text(
        self, messages: Sequence[Message], tools: Sequence[str], name: str
    ) -> tuple[Sequence[Message], Sequence[str]]:
        return as_text(messages, tools, self.render, name, self.source)

    def taking(self, chat: ChatFormat, context: int) -> Taking:
        """How its examples are taken from the material."""
        return Taking(chat, context, self.pairs, self.paths, self.settings.weigh)


Save = Callable[[Any, ChatFormat, dict[str, float], int], None]
"""Called with the tuned model, its chat format, the last metrics, and the number of examples."""


def tune(
    training: Training,
    material: Material,
    folder: Path,
    *,
    save: Save,
    fingerprint: str = "",
    progress: Progress = SILENT,
    watch: Watch = lambda history: None,
    logbook: Logbook | None = None,
) -> None:
    """Tune a model; `folder` is for checkpoints, from which a killed training resumes, and for a cached reference.

    Args:
        training: what to do.
        material: what to learn from.
        folder: working folder.
        save: saves the model; called once, by the first process, before checkpoints are removed.
        fingerprint: fingerprint of the reference's weights, for its cache.
        progress: counts the optimiser steps.
        watch: called with how the training went, before `save`.
        logbook: where trackers report to; by default in `folder`.

    Raises:
        TrajtreeError: anything that the user can fix.
    """
    method = METHODS[training.method]
    settings = resolved(training.settings, method)
    objective = objective_of(method, settings)
    if settings.cache_reference and (objective.kl or not objective.reference):
        why = "needs the whole distribution" if objective.kl else "has no reference"
        raise RecipeError(f"cache_reference: the reference of {training.method} cannot be cached: the method {why}")
    model, chat = trainable(training), training.chat()
    examples = examples_of(material, training.method, training.taking(chat, context_length(model)))
    # Not beside a reference, whose logits are over the whole vocabulary.
    if isinstance(training.model, Scratch) and not objective.reference:
        trim(model, examples)
    # A model that is tuned as a whole is kept in float32, and its reference must compute in the same way.
    dtype = "float32" if training.is_whole else training.dtype
    reference = _reference(training, chat, dtype) if objective.reference else None
    if settings.cache_reference:
        examples = with_reference(
            examples,
            reference or model,
            fingerprint=fingerprint,
            cache=folder / "reference",
            dtype=training.dtype,
            pack_tokens=settings.pack_tokens,
            packed=settings.packed,
        )
        reference = None
    train(
        model,
        examples,
        objective,
        settings,
        folder,
        seed=training.seed,
        dtype=training.dtype,
        progress=progress,
        reference=reference,
        save=lambda metrics: save(restore(model), chat, metrics, len(examples)),
        watch=watch,
        logbook=logbook,
    )


def trainable(training: Training) -> Any:
    """The model to tune, including any new weights."""
    if isinstance(training.model, Scratch):
        return from_scratch(training.model, seed=training.seed)
    ref = ModelRef(training.model, training.adapters)
    if training.lora is None:
        return whole(ref, seed=training.seed)
    return with_adapter(ref, training.lora, dtype=training.dtype, seed=training.seed)


def _reference(training: Training, chat: ChatFormat, dtype: str) -> Any | None:
    if training.reference is None:
        return None
    if not same_vocabulary(training.reference.base, training.source):
        raise PolicyError(
            f"{training.reference.name}: its vocabulary differs from that of {training.source}, so it cannot score the "
            "trained tokens; use a reference with the same vocabulary, or the start"
        )
    return load_model(training.reference, dtype=dtype, device=pick_device())


__all__ = ["Save", "Training", "trainable", "tune"]
