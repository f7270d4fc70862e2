"""Settings of the C library's memory allocator, without effect unless it is glibc, and the cores that torch uses."""

from __future__ import annotations

import ctypes
import gc
import os


def tame_memory() -> None:
    """Make the C library keep freed memory, and torch use huge pages for large tensors.

    Otherwise batches of changing shapes return memory and fault it in again all the time. On a noisy 2-core machine,
    five turns of 48 conversations took 57 and 65 s without this and 39 s with it (one run); 25 s and 6 s of that were
    system time.

    Call it before torch is imported.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    if (libc := _glibc()) is not None:
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def share_cores(processes: int) -> None:
    """Leave the other ones of so many processes their share of the cores on which torch computes."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def release_memory() -> None:
    """Return free memory to the system, for example a model's when its stage is over."""
    gc.collect()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


__all__ = ["release_memory", "share_cores", "tame_memory"]
