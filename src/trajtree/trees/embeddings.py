"""Sentence embeddings for semantic merging; each text is embedded only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import TrajtreeError

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""The model used in the paper's code."""


class SentenceEmbeddings:
    """A sentence-transformers model as a function that caches its results.

    Args:
        model: hub id or folder of a model; an id without an owner is one of sentence-transformers' own.
        find: given that id or folder, says what to load; by default just that.

    Raises:
        TrajtreeError: sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, model: str = MODEL, *, find: Callable[[str], str] = str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise TrajtreeError("semantic merging needs sentence-transformers: pip install 'trajtree[semantic]'") from (
                error
            )
        model = whole_name(model)
        try:
            self._model: Any = SentenceTransformer(find(model), model_kwargs={"use_safetensors": True})
        except (OSError, ValueError) as error:
            raise TrajtreeError(f"{model}: no sentence-transformers model there ({error})") from error
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width] vectors of length 1."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            vectors = self._model.encode(new, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
            self._known.update(zip(new, np.asarray(vectors, np.float32), strict=True))
        return np.stack([self._known[text] for text in texts])


def whole_name(model: str) -> str:
    """The hub id, or the folder, that a model's name stands for."""
    return model if "/" in model or Path(model).exists() else f"{MODEL.partition('/')[0]}/{model}"


__all__ = ["MODEL", "SentenceEmbeddings", "whole_name"]
