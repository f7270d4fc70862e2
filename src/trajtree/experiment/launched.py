"""A row's training in processes of its own, which accelerate or torchrun starts: on several devices or machines.

`train.launch: accelerate launch --num_processes 8` runs

    accelerate launch --num_processes 8 -m trajtree.experiment.launched FOLDER/.launched.json

The processes read from that file what to train. The first of them writes into the stage's folder, and reports its
progress, figures and errors to this one as lines on its standard output. All of them end when this process does.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from trajtree import errors
from trajtree.errors import RunError, TrajtreeError
from trajtree.experiment.learn import train_row
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Work
from trajtree.store.files import write_atomically
from trajtree.store.full_disk import saving_into
from trajtree.store.progress import SILENT

_ORDER = ".launched.json"
_MARK = "trajtree-launched: "
"""Prefix of the lines that are meant for the process that launched them."""
_SHOWN = 5
"""How many of the processes' last lines are shown if they end without a report."""
_PATIENCE = 30.0
"""Seconds that the processes have to end."""


def launch(recipe: Recipe, row: Row, work: Work) -> None:
    """Train a row as the recipe's `train.launch` says; see `trajtree.experiment.learn.train_row`.

    Raises:
        TrajtreeError: what the first process raised.
        RunError: there is no such launcher, or the processes ended without a report.
    """
    words = shlex.split(recipe.train.launch)
    # Python's own folder comes second: a virtual environment need not be activated.
    launcher = shutil.which(words[0]) or shutil.which(words[0], path=str(Path(sys.executable).parent))
    if launcher is None:
        raise RunError(f"train.launch: there is no command {words[0]!r}; for example accelerate launch, or torchrun")
    order = {
        "recipe": recipe.model_dump(mode="json"),
        "row": row.name,
        "folder": str(work.folder.resolve()),
        "inputs": {role: str(path.resolve()) for role, path in work.inputs.items()},
    }
    write_atomically(work.folder / _ORDER, json.dumps(order))
    command = [launcher, *words[1:], "-m", __name__, str(work.folder.resolve() / _ORDER)]
    heard, printed = _Heard(work), deque[str](maxlen=_SHOWN)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for line in process.stdout:
            _, mark, said = line.partition(_MARK)
            if mark:
                heard.hear(json.loads(said))
            elif line.strip():
                printed.append(line.strip())
    finally:
        process.stdin.close()  # what is still running ends
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
    if heard.error is not None:
        raise heard.error
    if process.returncode or not heard.done:
        raise RunError(
            f"train.launch: {shlex.join(words)} ended with status {process.returncode} before the training did; its "
            f"last lines: {' | '.join(printed) or 'none'}"
        )


class _Heard:
    """What the first process said so far."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.error: TrajtreeError | None = None
        self.done = False

    def hear(self, said: Mapping[str, Any]) -> None:
        match said:
            case {"total": amount}:
                self._work.progress.total(amount)
            case {"advance": amount, "figures": figures}:
                self._work.progress.advance(amount, figures)
            case {"error": kind, "message": message}:
                self.error = getattr(errors, kind, RunError)(message)
            case {"done": figures}:
                self.done = True
                self._work.figures.update(figures)


class _Reported:
    """Progress of the first process, as lines for the process that launched it."""

    def total(self, amount: int) -> None:
        _say({"total": amount})

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        _say({"advance": amount, "figures": figures})


def main(order: Path) -> None:
    """Train, as one of the processes that were launched."""
    from trajtree.train.job import first_process  # needs torch, which the process that launches does not

    Thread(target=_end_with_launcher, daemon=True).start()
    asked = json.loads(order.read_text())
    recipe = Recipe.model_validate(asked["recipe"])
    first = first_process()
    inputs = {role: Path(path) for role, path in asked["inputs"].items()}
    work = Work(Path(asked["folder"]), inputs, _Reported() if first else SILENT)
    try:
        with saving_into(work.folder, "make room and run the same command again"):
            train_row(recipe, recipe.all_rows[asked["row"]], work)
    except TrajtreeError as error:
        if first:
            _say({"error": type(error).__name__, "message": str(error)})
        sys.exit(1)
    if first:
        _say({"done": work.figures})


def _say(what: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{_MARK}{json.dumps(what)}\n")
    sys.stdout.flush()


def _end_with_launcher() -> None:
    """End when the process that launched is gone, however it went: nobody else may work in the folder then."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))


__all__ = ["launch", "main"]
