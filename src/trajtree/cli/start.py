"""Where every command begins: a signal that arrives while modules are still being imported ends it with one line.

Nothing heavy may be imported here, nor in the packages above: until `main` has set its handlers, Python's own
would answer Control-C with a traceback.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a command in order."""


def main() -> None:
    """Entry point of the command line."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from trajtree.cli.main import main as command_line

    command_line()


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once. Nothing has begun; and an exception could be swallowed by whatever is being imported."""
    os.write(2, b"trajtree: stopped before it began\n")
    os._exit(128 + number)


__all__ = ["SIGNALS", "main"]
