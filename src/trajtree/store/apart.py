"""Pieces of work in processes of their own, which report progress, warnings and results to this one.

The processes are forked from one that has done nothing but import modules. They leave signals to the process that
started them, and end when it ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Lock, Thread
from typing import Any, TypeVar

from trajtree.errors import RunError
from trajtree.store.progress import Illustrated, Progress

T = TypeVar("T")


def preload(modules: Sequence[str]) -> None:
    """Begin to import modules in the process that others are forked from, while this one does something else."""
    get_context("forkserver").set_forkserver_preload([*modules])
    forkserver.ensure_running()


class Apart:
    """Processes of this machine, one for each piece of work.

    Args:
        count: how many there are at a time; who calls `do` keeps to it.
        modules: what the process they are forked from imports first, so that none of them has to.
    """

    def __init__(self, count: int, modules: Sequence[str]) -> None:
        self.count = count
        self._context = get_context("forkserver")
        preload(modules)
        self._lock = Lock()
        self._running: set[Any] = set()
        self._stopped = False

    def do(self, work: Callable[[Progress], T], progress: Progress) -> T:
        """What the work returns, which is done in a process of its own; several threads may call this at once.

        Args:
            work: picklable, as must be what it returns and raises.
            progress: receives what the work reports.

        Raises:
            RunError: its process died, or was stopped.
            Exception: whatever the work raised.
        """
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_do, args=(work, theirs))
        with self._lock:
            if self._stopped:
                raise RunError("stopped")
            process.start()
            self._running.add(process)
        theirs.close()  # so that the connection ends with the process
        try:
            while (said := ours.recv())[0] in _REPORTS:
                _REPORTS[said[0]](progress, *said[1:])
        except EOFError:
            process.join()
            raise RunError(
                f"a process of --jobs ended with status {process.exitcode}, perhaps because the memory was full; "
                "nothing finished is lost: run the same command again, with fewer jobs"
            ) from None
        finally:
            ours.close()
            process.join()
            with self._lock:
                self._running.remove(process)
        raised, result = said[1:]
        if raised:
            raise result
        value: T = result
        return value

    def stop(self) -> None:
        """End all processes at once; what waits for them raises."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def _illustrate(progress: Progress, lines: Sequence[str]) -> None:
    if isinstance(progress, Illustrated):
        progress.illustrate(lines)


def _warn(progress: Progress, message: str, category: type[Warning], file: str, line: int) -> None:
    warnings.warn_explicit(message, category, file, line)


_REPORTS: dict[str, Callable[..., None]] = {
    "total": lambda progress, amount: progress.total(amount),
    "advance": lambda progress, amount, figures: progress.advance(amount, figures),
    "illustrate": _illustrate,
    "warn": _warn,
}
"""What a process reports while it works; it ends with the message "done"."""


class _Reported:
    """An `Illustrated` for the process that started this one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()

    def say(self, *what: Any) -> None:
        with self._lock:
            self._connection.send(what)

    def total(self, amount: int) -> None:
        self.say("total", amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self.say("advance", amount, figures)

    def illustrate(self, lines: Sequence[str]) -> None:
        self.say("illustrate", list(lines))


def _do(work: Callable[[Progress], Any], connection: Connection) -> None:
    """Runs in the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C reaches it too, but is its parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()
    reported = _Reported(connection)

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        reported.say("warn", str(message), category, filename, lineno)

    warnings.showwarning = show
    try:
        answer: tuple[bool, Any] = False, work(reported)
    except BaseException as error:  # noqa: BLE001 - it is raised in the process that waits for it
        answer = True, _as_sent(error)
    reported.say("done", *answer)


def _as_sent(error: BaseException) -> BaseException:
    """The error as it can be sent, or a RuntimeError that shows it."""
    shown = "".join(traceback.format_exception(error))
    try:
        sent = pickle.loads(pickle.dumps(error))
        if type(sent) is type(error) and str(sent) == str(error):
            error.add_note(shown)
            return error
    except Exception:  # noqa: BLE001 - an error of others may refuse to be pickled in any way
        pass
    return RuntimeError(shown)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


__all__ = ["Apart", "preload"]
