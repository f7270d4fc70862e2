"""Watching work: the progress that it reports is kept, for displays to draw and for a file to hold."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Literal

from trajtree.store.status import SIGN_OF_LIFE, StageState, StageStatus, Status, status_file, write_status
from trajtree.visible import visible

_TICK = 1.0
"""Shortest time between two writings of the file, in seconds, and between two moments of an estimate."""
_MOMENTS = 600
"""Number of moments that an estimate looks back."""
_ENOUGH = 0.1
"""Share of the work from which on its first report makes an estimate."""


class Watched:
    """One stage; a `Progress`."""

    def __init__(self, name: str, watch: Watch) -> None:
        self._name, self._watch = name, watch
        self.state: StageState = "to do"
        self.seconds = 0.0
        """How long it took, once it is done."""
        self._done = 0
        self._total: int | None = None
        self._figures: dict[str, float] = {}
        self._began = 0.0
        self._moments: deque[tuple[float, int]] = deque(maxlen=_MOMENTS)
        """(time, units done by then), for the estimate."""

    def begin(self) -> None:
        """It begins now."""
        with self._watch.lock:
            self.state, self._began = "running", time.monotonic()
            self._moments.append((self._began, 0))

    def total(self, amount: int) -> None:
        """See `Progress`."""
        with self._watch.lock:
            self._total = amount
        self._watch.moved()

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        """See `Progress`."""
        with self._watch.lock:
            self._done += amount
            if figures is not None:
                self._figures = {name: value for name, value in figures.items() if isfinite(value)}
            now, (then, _) = time.monotonic(), self._moments[-1]
            # When work is resumed, what it reports in its first second was done earlier.
            if now - then < _TICK:
                self._moments[-1] = (then, self._done)
            else:
                self._moments.append((now, self._done))
        self._watch.moved()

    def illustrate(self, lines: Sequence[str]) -> None:
        """See `Illustrated`."""
        with self._watch.lock:
            self._watch.picture = tuple(map(visible, lines))
        self._watch.moved()

    def status(self) -> StageStatus:
        """As it stands."""
        with self._watch.lock:
            now, running = time.monotonic(), self.state == "running"
            return StageStatus(
                name=self._name,
                state=self.state,
                done=self._done,
                total=self._total,
                seconds=round(now - self._began if running else self.seconds, 1),
                left=self._left(now) if running else None,
                figures=self._figures,
            )

    def _left(self, now: float) -> float | None:
        # What is reported first also took the loading of what it needs, which may be longer than many units. So an
        # estimate begins with it, unless there is nothing else yet and it is much, as where episodes end together.
        alone = len(self._moments) < 3
        then, done = self._moments[0 if alone else 1]
        if self._total is None or self._done <= done or now - then < _TICK:
            return None
        if alone and self._done - done < _ENOUGH * self._total:
            return None
        return round((now - then) * max(0, self._total - self._done) / (self._done - done), 1)


class Watch:
    """A command that is watched while the block lasts.

    The file is first written when the work first reports something. By then the work holds its lock, so the status of
    another process that works at the same place is never overwritten.

    Args:
        command: its name.
        place: the folder or file that the command writes, where its status is kept; None to keep none.
    """

    def __init__(self, command: str, place: Path | None = None) -> None:
        self.lock = RLock()
        self.picture: tuple[str, ...] = ()
        self.trouble: OSError | None = None
        """Why the file could not be written, after which it was not tried again."""
        self._command, self._place = command, place
        self._began = datetime.now(UTC)
        self._stages: dict[str, Watched] = {}
        self._state: Literal["running", "finished", "failed", "stopped"] = "running"
        self._reason = ""
        self._moved, self._over = Event(), Event()
        self._writer: Thread | None = None

    def __enter__(self) -> Watch:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep how it ended."""
        with self.lock:
            if error is None or (isinstance(error, SystemExit) and not error.code):
                self._state = "finished"
                for stage in self._stages.values():
                    if stage.state == "running":
                        stage.seconds, stage.state = stage.status().seconds, "done"
                    elif stage.state == "to do":
                        stage.state = "left out"
            elif isinstance(error, KeyboardInterrupt):
                self._state = "stopped"
            else:
                self._state = "failed"
                self._reason = visible(" ".join(str(error).split())) or type(error).__name__
        if self._writer is not None:
            self._over.set()
            self._moved.set()
            self._writer.join()
            self._write()

    def named(self, name: str) -> Watched:
        """The stage of this name, which begins now; nothing is written before it reports something."""
        with self.lock:
            stage = self._stages.setdefault(name, Watched(name, self))
        stage.begin()
        self._moved.set()
        return stage

    def planned(self, names: Sequence[str]) -> None:
        """See `Stages`."""
        with self.lock:
            for name in names:
                self._stages.setdefault(name, Watched(name, self))
        self.moved()

    def ended(self, name: str, seconds: float, *, kept: bool) -> None:
        """See `Stages`."""
        with self.lock:
            stage = self._stages.setdefault(name, Watched(name, self))
            stage.state, stage.seconds = "kept" if kept else "done", seconds
        self.moved()

    def status(self) -> Status:
        """As everything stands."""
        with self.lock:
            return Status(
                command=self._command,
                state=self._state,
                reason=self._reason,
                host=socket.gethostname(),
                pid=os.getpid(),
                began=self._began,
                updated=datetime.now(UTC),
                stages=tuple(stage.status() for stage in self._stages.values()),
                picture=self.picture,
            )

    def moved(self) -> None:
        """Something is new: it will be written."""
        if self._place is not None and self._writer is None:
            self._writer = Thread(target=self._write_until_over, daemon=True)
            self._writer.start()
        self._moved.set()

    def _write_until_over(self) -> None:
        while not self._over.is_set():
            self._moved.clear()
            self._write()
            self._over.wait(_TICK)
            self._moved.wait(SIGN_OF_LIFE - _TICK)

    def _write(self) -> None:
        if self.trouble is None and self._place is not None:
            try:
                write_status(self.status(), status_file(self._place))
            except OSError as error:
                self.trouble = error


__all__ = ["Watch", "Watched"]
