"""Control-C and SIGTERM: the command ends cleanly and says how to resume."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trajtree.cli.start import SIGNALS
from trajtree.cli.terminal import complain


class Stopped(KeyboardInterrupt):
    """A signal ends the command.

    Not KeyboardInterrupt itself: when one escapes from code that `exec` runs, as when a dataclass is defined, Python
    remembers it and ends the process by SIGINT, whatever its exit status should have been.
    """


@contextmanager
def ended_in_order() -> Iterator[None]:
    """If a signal ends the block, print one line with the command to resume, and exit with 128 + the signal's number.

    Either signal raises Stopped inside, so that files are closed, locks released and environments shut down.
    Any other error on the way out is printed in a line of its own. A second signal ends the process at once. A signal
    that the process was started to ignore stays ignored.
    """
    caught: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped

    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, end)
    try:
        yield
    except BaseException as error:
        if not caught or (isinstance(error, SystemExit) and not error.code):
            raise
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            complain(f"{type(error).__name__} while stopping: {error}")
        again = shlex.join(["trajtree", *sys.argv[1:]])
        complain(f"stopped; nothing finished is lost: go on with: {again}")
        raise SystemExit(128 + caught[0]) from None
    finally:
        for each, handler in before.items():
            # The command is over. Python's own handler would answer a signal that arrives now with a traceback.
            signal.signal(each, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)


__all__ = ["Stopped", "ended_in_order"]
