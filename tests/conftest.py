"""Tiny models, made once for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama, a token a character."""
    from tests.tiny import characters, save_model

    return save_model(tmp_path_factory.mktemp("models") / "tiny", characters())


@pytest.fixture(scope="session")
def tiny_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama whose tokens are the toy's words; short of nothing that training needs."""
    from tests.tiny import save_model, toy_words

    return save_model(tmp_path_factory.mktemp("models") / "words", toy_words(), spread=0.2, hidden_size=64)
