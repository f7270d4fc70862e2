"""A stand-in for sentence-transformers."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class Letters:
    """A model that embeds a text by counting its letters, and records what it was asked."""

    asked: list[str]

    def __init__(self, name: str, *, model_kwargs: dict[str, Any]) -> None:
        assert model_kwargs == {"use_safetensors": True}, "no weights that could run code"
        if name == "nobody/nowhere":
            raise OSError("no such model")
        Letters.asked = []

    def encode(self, texts: list[str], **how: Any) -> Any:
        assert how["normalize_embeddings"] is True
        Letters.asked += texts
        counts = np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the package."""
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = Letters  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
