"""Work as processes of their own that need not import torch first, which takes longer than most of what they do.

They are forked from a process that has imported what `trajtree run` imports, and nothing else. From there on they are
what a shell starts: with their own signals, limits, environment and streams. What a process does before its modules are
imported is tested with real ones, in tests/cli.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

IMPORTED = (
    "trajtree.cli.commands.recipes",
    "trajtree.experiment.execute",
    "trajtree.train.tuning",
    "trajtree.report.html",
    "trajtree.report.plots",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "matplotlib.pyplot",
)
"""What the process that they are forked from imports."""
_STREAMS = {"out": 1, "err": 2}
"""Files for what a process says, and their descriptors there."""


def command_line(words: Sequence[str]) -> Callable[[], None]:
    """The work of `trajtree` with these words after it."""
    return partial(_command_line, list(words))


def _command_line(words: list[str]) -> None:
    sys.argv = ["trajtree", *words]
    from trajtree.cli.start import main

    main()


class Started:
    """A process at work.

    Args:
        work: what it does; picklable.
        environment: variables, beside those of this process.
        largest_file: limit on the size of files, in bytes. Python ignores SIGXFSZ, so writes fail as on a full disk.
    """

    def __init__(
        self, work: Callable[[], Any], environment: Mapping[str, str], *, largest_file: int | None = None
    ) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTED))
        self._work, self._streams = work, TemporaryDirectory()
        for name in _STREAMS:
            Path(self._streams.name, name).touch()
        arguments = (work, {**os.environ, **environment}, largest_file, Path(self._streams.name))
        self._process = context.Process(target=_main, args=arguments)
        self._process.start()

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.exitcode is not None

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def end(self, seconds: float) -> subprocess.CompletedProcess[str]:
        """How it ends, and what it has said; one that does not end in time is killed, and the test fails."""
        self._process.join(seconds)
        late = not self.ended
        if late:
            self._process.kill()
            self._process.join()
        out, err = (Path(self._streams.name, name).read_text() for name in _STREAMS)
        self._streams.cleanup()
        assert not late, f"{self._work} did not end within {seconds} seconds:\n{err[-3000:]}"
        status: Any = self._process.exitcode
        return subprocess.CompletedProcess([], status, out, err)


def _main(work: Callable[[], Any], environment: dict[str, str], largest_file: int | None, streams: Path) -> None:
    """Runs in the process."""
    for name, number in _STREAMS.items():
        stream = os.open(streams / name, os.O_WRONLY | os.O_APPEND)
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    work()
