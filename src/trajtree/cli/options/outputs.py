"""Output files of commands: refused before any work if something would be lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import typer

from trajtree.errors import DataError, RunError
from trajtree.store.files import cannot_write, is_stream
from trajtree.store.lines import format_of, made_by

T = TypeVar("T")

_STDOUT = Path("/dev/stdout")


def out_option(*names: str, help: str) -> Any:
    """An option that names a file to write; `-` is standard output, and what the command says then goes to stderr."""
    return typer.Option(*names, help=f"{help} `-` is standard output.", parser=_file, metavar="FILE")


def out_argument(help: str) -> Any:
    """An argument that names a file to write, likewise."""
    return typer.Argument(help=f"{help} `-` is standard output.", parser=_file, metavar="OUT")


def _file(name: str | Path) -> Path:
    return _STDOUT if str(name) == "-" else Path(name)


def check_output(
    out: Path | None, *inputs: Path, over: str | None = None, by: str | None = None, adds: bool = False
) -> None:
    """Refuse an output that cannot be written, is an input, or holds what would be lost; its folder is made.

    A file of ours would be lost unless it is of the format `over` or was written by the command `by`. Where the command
    writes a format of ours (`over`), anything else would be lost too. A pipe, or a device such as /dev/stdout, has
    nothing to lose, but nothing can be added (`adds`) to what it holds either.

    Raises:
        DataError: it is one of the inputs.
        RunError: it cannot be written, or something would be lost.
    """
    if out is None:
        return
    if is_stream(out):
        if adds:
            raise RunError(f"cannot write {out}: it is not a file, and runs are added to what is there; name a file")
        return
    if any(out.resolve() == one.resolve() for one in inputs):
        raise DataError(f"{out}: is an input of this command and would be overwritten; name another file to write")
    try:
        Path(os.path.realpath(out)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    if out.is_dir():
        raise RunError(f"cannot write {out}: it is a folder; name a file")
    if out.exists() and not out.is_file():
        raise RunError(f"cannot write {out}: it is a device or a socket; name a file")
    if not os.access(os.path.realpath(out.parent), os.W_OK):
        raise RunError(f"cannot write {out}: its folder is not writable")
    if not out.is_file() or not out.stat().st_size:
        return
    held, maker = format_of(out), made_by(out)
    if over is not None and held is None:
        raise RunError(f"cannot write {out}: it exists and does not contain {over}; remove it or name another file")
    if maker is not None and maker != by:
        raise RunError(f"cannot write {out}: trajtree {maker} rewrites it each time; name another file")
    if held not in (None, over) and maker is None:
        raise RunError(f"cannot write {out}: it contains {held}, which would be lost; remove it or name another file")


def at_least_one(items: Iterable[T], otherwise: str | Callable[[], str]) -> Iterator[T]:
    """The items; raises DataError with `otherwise` if there are none. A costly message may be given as a function."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        raise DataError(otherwise if isinstance(otherwise, str) else otherwise())


__all__ = ["at_least_one", "check_output", "out_argument", "out_option"]
