"""Work in processes of its own: results, errors, progress and warnings arrive; stopping ends what is under way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from trajtree.errors import NoLog, RecipeError, RunError
from trajtree.store.apart import Apart
from trajtree.store.progress import SILENT, Progress

SOON = 120.0
"""Seconds in which processes must have started, on a machine that is busy with other work."""


class Heard:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def total(self, amount: int) -> None:
        self.said.append(amount)

    def advance(self, amount: int, figures: Mapping[str, float] | None = None) -> None:
        self.said.append((amount, figures))

    def illustrate(self, lines: Sequence[str]) -> None:
        self.said.append(lines)


@pytest.fixture
def apart() -> Iterator[Apart]:
    made = Apart(2, ["trajtree.store.progress"])
    yield made
    made.stop()


def works(progress: Progress) -> int:
    progress.total(3)
    progress.advance(2, {"loss": 0.5})
    progress.illustrate(["a", "b"])  # type: ignore[attr-defined]
    warnings.warn("be careful", stacklevel=1)
    return os.getpid()


def raises(error: Exception, progress: Progress) -> None:
    raise error


def dies(progress: Progress) -> None:
    os._exit(3)


def meets(folder: Path, name: str, other: str, progress: Progress) -> None:
    (folder / name).touch()
    while not (folder / other).exists():
        time.sleep(0.01)


def test_what_it_returns_and_reports_arrives(apart: Apart) -> None:
    heard = Heard()
    with pytest.warns(UserWarning, match="be careful") as warned:
        assert apart.do(works, heard) != os.getpid()
    assert heard.said == [3, (2, {"loss": 0.5}), ["a", "b"]]
    assert warned[0].filename == __file__, "a warning is shown as if it were from here"


def test_a_progress_without_pictures_gets_none(apart: Apart) -> None:
    with pytest.warns(UserWarning):
        apart.do(works, SILENT)


@pytest.mark.parametrize(
    "error", [RecipeError("tasks: none"), OSError(errno.ENOSPC, "No space left", "f"), KeyError(3)]
)
def test_an_error_is_raised_here_as_it_was_there(apart: Apart, error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        apart.do(partial(raises, error), SILENT)
    assert raised.value.args == error.args
    assert getattr(raised.value, "errno", None) == getattr(error, "errno", None)
    assert any("in raises" in note for note in raised.value.__notes__), "it says where it was raised"


def test_an_error_that_cannot_be_sent_is_shown(apart: Apart) -> None:
    with pytest.raises(RuntimeError, match=r"in raises(.|\n)*unreadable"):
        apart.do(partial(_raises_no_log), SILENT)


def _raises_no_log(progress: Progress) -> None:
    raises(NoLog("unreadable", "settings"), progress)  # pickled without its second argument


def test_a_process_that_dies_is_one_sentence(apart: Apart) -> None:
    with pytest.raises(RunError, match=r"a process of --jobs ended with status 3.*the same command again"):
        apart.do(dies, SILENT)


def test_two_work_at_the_same_time(apart: Apart, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=apart.do, args=(partial(meets, tmp_path, name, other), SILENT))
        for name, other in (("a", "b"), ("b", "a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def test_stopping_ends_what_is_under_way_and_lets_nothing_begin(apart: Apart, tmp_path: Path) -> None:
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            apart.do(partial(meets, tmp_path, "here", "nobody"), SILENT)
        except RunError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    began = time.monotonic()
    while not (tmp_path / "here").exists() and time.monotonic() - began < SOON:
        time.sleep(0.01)
    apart.stop()
    thread.join(SOON)
    assert len(ended) == 1
    with pytest.raises(RunError, match="stopped"):
        apart.do(works, SILENT)


def test_what_is_forked_from_imports_while_this_process_does_something_else() -> None:
    script = (
        "import psutil\nfrom trajtree.store.apart import preload\n"
        "preload(['colorsys'])\nprint([' '.join(one.cmdline()) for one in psutil.Process().children()])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=SOON)
    assert "forkserver" in done.stdout and "colorsys" in done.stdout
