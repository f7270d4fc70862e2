"""The same training twice gives the same bits, on a GPU too, so a training that was killed resumes to the same model.

Some of torch's CUDA kernels add in whatever order their threads arrive, among them the gradients of attention and of
indexing. For all that our own steps use there are deterministic ones, which torch uses when told to.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """A context in which torch computes deterministically on this device; without effect on a processor."""
    if device.type != "cuda":
        yield
        return
    # Without it cuBLAS may choose another order of additions from call to call, and torch refuses matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    details: Any = torch.utils.deterministic
    before, filled = torch.are_deterministic_algorithms_enabled(), details.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    details.fill_uninitialized_memory = False  # it is for finding faults, and takes time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        details.fill_uninitialized_memory = filled


def give_up_repeating(error: RuntimeError) -> bool:
    """Whether torch stopped because it has no deterministic form of an operation; if so, it goes on without, warned."""
    if not torch.are_deterministic_algorithms_enabled() or "deterministic" not in str(error):
        return False
    torch.use_deterministic_algorithms(False)
    warnings.warn(
        f"the same training twice can differ in the last digits, and one that is killed and resumed too: "
        f"{str(error).partition(', but')[0]}",
        stacklevel=2,
    )
    return True


__all__ = ["give_up_repeating", "repeatable"]
