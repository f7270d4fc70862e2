"""A signal ends a coroutine between two steps, and not within one."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trajtree.policies.interruptible import run


class Ended(BaseException):
    """What the command's own handler raises."""


@contextmanager
def handled(number: int) -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise Ended

    before = signal.signal(number, end)
    try:
        yield
        assert signal.getsignal(number) is end, "it is as it was"
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_tasks_in_order(number: int, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []

    async def waits(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            said.append(f"{name} ended")

    async def signals() -> None:
        os.kill(os.getpid(), number)
        said.extend("not broken off" for _ in range(1))
        await waits("it")

    async def several() -> None:
        async with asyncio.TaskGroup() as group:
            for one in (waits("one"), signals(), waits("other")):
                group.create_task(one)

    with handled(number), pytest.raises(Ended):
        run(several())
    assert said[0] == "not broken off" and sorted(said[1:]) == ["it ended", "one ended", "other ended"]
    assert not caplog.records, "asyncio has nothing to report"


def test_what_it_returns_and_raises_is_the_coroutines() -> None:
    async def found() -> int:
        return 3

    async def lost() -> int:
        raise ValueError("lost")

    async def gives_up() -> int:
        raise asyncio.CancelledError

    with handled(signal.SIGINT):
        assert run(found()) == 3
        with pytest.raises(ValueError, match="lost"):
            run(lost())
        with pytest.raises(asyncio.CancelledError):
            run(gives_up())


def test_in_another_thread_signals_are_left_alone() -> None:
    async def handler() -> object:
        return signal.getsignal(signal.SIGINT)

    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(run(handler())))
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def in_a_notebook(main: Coroutine[Any, Any, Any]) -> Any:
    """What `run` gives where this thread's event loop is running, as it always is in a notebook's kernel."""

    async def cell() -> Any:
        return run(main)

    return asyncio.run(cell())


def test_in_a_notebook_it_runs_all_the_same() -> None:
    async def found() -> int:
        await asyncio.sleep(0.01)
        return 3

    async def lost() -> int:
        raise ValueError("lost")

    assert in_a_notebook(found()) == 3
    with pytest.raises(ValueError, match="lost"):
        in_a_notebook(lost())


def test_in_a_notebook_an_interrupt_ends_all_tasks_in_order(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []

    async def waits() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            said.append("ended")

    async def cell() -> None:
        with handled(signal.SIGINT):
            run(waits())

    with pytest.raises(Ended):
        asyncio.run(cell())
    assert said == ["ended"]
    assert not caplog.records, "asyncio has nothing to report"
