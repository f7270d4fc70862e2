"""Running a coroutine so that a signal ends it cleanly."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result. A signal that has a handler cancels it; then the handler is called.

    A handler that raised in the middle of the event loop would break off whatever task is running there, and asyncio
    would print the tracebacks of tasks that nobody awaits any more. A second signal ends the process at once.

    Raises:
        KeyboardInterrupt: or whatever the signal's own handler raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(main)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    caught: list[int] = []

    async def cancelled_by_signals() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(number: int, frame: FrameType | None) -> None:
            caught.append(number)
            for each in handlers:
                signal.signal(each, signal.SIG_DFL)
            loop.call_soon_threadsafe(task.cancel)

        for number in handlers:
            signal.signal(number, cancel)
        return await main

    try:
        return asyncio.run(cancelled_by_signals())
    except asyncio.CancelledError:
        if not caught:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if caught:
            handlers[signal.Signals(caught[0])](caught[0], None)
    raise KeyboardInterrupt


__all__ = ["run"]
