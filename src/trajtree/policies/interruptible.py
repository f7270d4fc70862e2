"""Running a coroutine so that a signal ends it cleanly, even in a notebook, whose thread already runs an event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result. A signal that has a handler cancels it; then the handler is called.

    A handler that raised in the middle of the event loop would break off whatever task is running there, and asyncio
    would print the tracebacks of tasks that nobody awaits any more. A second signal ends the process at once.

    Where this thread already runs an event loop, the coroutine gets one of its own in another thread, and this one
    waits for it.

    Raises:
        KeyboardInterrupt: or whatever the signal's own handler raises.
    """
    to_its_end = _in_another_thread if _runs_a_loop() else asyncio.run
    if threading.current_thread() is not threading.main_thread():
        return to_its_end(main)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    caught: list[int] = []
    cancels: list[Callable[[], object]] = []  # how to cancel the coroutine, while it runs

    def cancel(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        for each in handlers:
            signal.signal(each, signal.SIG_DFL)
        for now in cancels:
            now()

    async def cancelled_by_signals() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancels.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if caught:
            task.cancel()
        try:
            return await main
        finally:
            cancels.clear()

    for number in handlers:
        signal.signal(number, cancel)
    try:
        return to_its_end(cancelled_by_signals())
    except asyncio.CancelledError:
        if not caught:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if caught:
            handlers[signal.Signals(caught[0])](caught[0], None)
    raise KeyboardInterrupt


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_another_thread(main: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main).result()


__all__ = ["run"]
