"""Work shared among processes, with its results in order.

The processes are forked from one that has done nothing but import modules, so Python's hashes are the same in all of
them. They leave signals to the process that started them, and end when it ends.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import TypeVar

from trajtree.errors import RunError

T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R")

_AHEAD = 3
"""Pieces per process that are under way at any time: one being worked on, the others waiting before or after that."""


def in_order(work: Callable[[T, C], R], pieces: Iterable[T], common: C, *, jobs: int) -> Iterator[tuple[T, R]]:
    """Every piece of work with its result, in order.

    Args:
        work: does a piece of work; with several jobs it must be a module's function, and its arguments and result
            must be picklable.
        common: its second argument.
        pieces: taken one at a time, not much earlier than they are needed.
        jobs: number of processes; 1 does the work in this one.

    Raises:
        RunError: a process died.
    """
    if jobs == 1:
        yield from ((piece, work(piece, common)) for piece in pieces)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    pool = ProcessPoolExecutor(jobs, context, _leave_signals)
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for piece in pieces:
            waiting.append((piece, pool.submit(work, piece, common)))
            if len(waiting) == _AHEAD * jobs:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool:
        raise RunError(
            "a process of --jobs died, perhaps because the memory was full; nothing finished is lost: run the same "
            "command again, with fewer jobs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    piece, future = waiting.popleft()
    return piece, future.result()


def _leave_signals() -> None:
    """What a process does first: Control-C reaches it too, but is its parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


__all__ = ["in_order"]
