"""On a GPU, training that gives the same bits each time, so that one that was killed resumes to the very same model.

Some of torch's CUDA kernels add in whatever order their threads arrive, among them the gradients of attention and of
indexing. There are deterministic ones, which torch uses when told to; that of attention's gradient is slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trajtree.errors import PolicyError

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """A context in which torch computes deterministically on this device; without effect on a processor.

    Raises:
        PolicyError: the model uses an operation that has no deterministic form, or torch wants cuBLAS to have been told
            before the process used it.
    """
    if device.type != "cuda":
        yield
        return
    # Without it cuBLAS may choose another order of additions from call to call, and torch refuses matrix products.
    os.environ.setdefault(_CUBLAS, ":4096:8")
    details: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = details.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    details.fill_uninitialized_memory = False  # it is for finding faults, and takes time
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if _CUBLAS in said:  # some versions of torch read it when the process first multiplies matrices
            raise PolicyError(
                f"deterministic training: start again with {_CUBLAS}=:4096:8 in the environment"
            ) from error
        if "does not have a deterministic" in said:
            operation = said.partition(", but")[0]
            raise PolicyError(f"{operation}: leave out --deterministic (in a recipe: deterministic)") from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        details.fill_uninitialized_memory = filled


__all__ = ["repeatable"]
