"""Fixtures of all tests of training."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect() -> Iterator[None]:
    """The Trainer collects garbage after each training, which takes longer than a tiny training: spare the imports."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
