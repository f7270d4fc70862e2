"""The command line as a whole: its commands, each imported when it is asked for, and how errors are reported."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from trajtree.cli.interrupts import ended_in_order
from trajtree.cli.options.usage import Commands, PlainCommand, PlainGroup
from trajtree.cli.terminal import complain
from trajtree.errors import TrajtreeError, with_its_extra
from trajtree.models.allocator import tame_memory
from trajtree.store.full_disk import is_full
from trajtree.visible import visible


class Command(NamedTuple):
    """A command or a group of commands: its module in `trajtree.cli.commands`, and the first paragraph of its help."""

    module: str
    about: str


COMMANDS = {
    "demo": Command(
        "demo",
        "Have a quick look: runs that come with the package become trees, preference pairs and a page of trees.",
    ),
    "plan": Command(
        "recipes",
        "Say what a recipe takes before it runs: stages, episodes, tokens, memory and hours, and what is missing.",
    ),
    "run": Command("recipes", "Run a whole recipe, then print the table and write the report."),
    "report": Command(
        "recipes", "Print a finished run's table again and rewrite its page; nothing is played or trained."
    ),
    "compare": Command(
        "recipes",
        "Compare rows over runs with several seeds: the comparisons named in the recipe, with p-values corrected by "
        "Holm.",
    ),
    "status": Command(
        "status",
        "Say how far a running command is, or how the last one ended: its stages, figures and estimated time left.",
    ),
    "explore": Command("play", "Let a policy play, several episodes per task, and keep them all, failures included."),
    "evaluate": Command(
        "play",
        "Measure a policy: success rate and score with their intervals over tasks, greedy unless --sampling says more.",
    ),
    "import": Command(
        "logs", "Read agent runs of other tools into a store, from files, folders and archives as they are."
    ),
    "pool": Command("stores", "Merge several stores into one in which every run has its own number."),
    "upgrade": Command(
        "stores",
        "Rewrite stores and trees of an earlier version in the current one, which takes less than half the space.",
    ),
    "build": Command("build", "Merge each task's runs into a tree, and say what pairs can be expected of them."),
    "pairs": Command("pairs", "Write preference pairs: a shared past with a better and a worse continuation."),
    "paths": Command("paths", "Write each tree's best path, for imitation."),
    "show": Command(
        "show", "Show how much the trees have to teach, as a table, as JSON, or as an HTML page to explore them."
    ),
    "rewards": Command(
        "exports", "Write step rewards for process reward models, as TRL reads them: prompt, completions, labels."
    ),
    "convert": Command("exports", "Convert runs from any format to any other that can hold them, without loss."),
    "train": Command(
        "train",
        "Tune a model on trees: no shared token is computed twice, and only the agent's own tokens are trained.",
    ),
    "play": Command("envs", "Play a task by hand, to see what an agent sees. End with control-D."),
    "data": Command("envs", "Import an environment's data: check it, pack it, and record its size and hash."),
    "doctor": Command(
        "doctor",
        "Print the facts that a bug report needs: versions, Java, dtypes, data, caches, disks. Changes nothing.",
    ),
    "stage": Command("recipes", "Run a recipe up to one of its stages."),
    "env": Command("envs", "Environments: list them and their tasks, check that one keeps the contract."),
}
"""The commands, in the order in which help lists them."""


class _Commands(PlainGroup):
    """All commands: until one is asked for, only its name and the first paragraph of its help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: PlainCommand(name, help=known.about) for name, known in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments ask for, and the rest of the arguments."""
        if args and args[0] in COMMANDS:
            self.commands.update(loaded(COMMANDS[args[0]].module))
        return super().resolve_command(ctx, args)


def loaded(module: str) -> Mapping[str, Any]:
    """The commands of a module, by name."""
    one = Commands()
    import_module(f"trajtree.cli.commands.{module}").add_to(one)
    return typer.main.get_group(one).commands


app = Commands(
    cls=_Commands,
    help="Teach a strong model from a weak agent's runs, failures included.",
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # takes a moment

        print(version("trajtree"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


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
        complain(f"this needs {with_its_extra(error.name or package)}")
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
