"""What `--redo` still has to do, kept in the run directory, so that the same command goes on after it was stopped."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from trajtree.store.files import write_atomically


class Redoing:
    """The stages that are redone, and which of them have not been begun yet.

    Args:
        run: the run directory, which this process has locked.
        asked: the stages that were asked for.
        every: these and all that read from them.
    """

    def __init__(self, run: Path, asked: Collection[str], every: Collection[str]) -> None:
        self._file, self._left = run / ".redo.json", set(every)
        self._asked = {"asked": sorted(asked), "every": sorted(every)}
        # A damaged file says nothing, so everything is redone. One of another --redo is over with this command.
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            held = json.loads(self._file.read_text(encoding="utf-8"))
            left = set(held.pop("left"))
            if held == self._asked:
                self._left &= left

    def __contains__(self, name: object) -> bool:
        return name in self._left

    def begin(self, name: str) -> None:
        """A stage's former results are gone, so what there will be of it is new."""
        self._left.discard(name)
        write_atomically(self._file, json.dumps({**self._asked, "left": sorted(self._left)}))

    def end(self) -> None:
        """The command has done all that it was asked for."""
        self._file.unlink(missing_ok=True)


__all__ = ["Redoing"]
