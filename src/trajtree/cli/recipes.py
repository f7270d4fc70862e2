"""Commands for recipes: run, stage, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajtree.cli.terminal import StageProgress, console

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe file, for example recipes/demo.yaml.", metavar="RECIPE")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run directory.  [default: runs/<recipe name>]")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a knob: --set explore.rollouts=6")]

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
    terminal = console()
    with StageProgress(terminal) as progress:
        done = run_recipe(loaded, folder, progress.stage)
    data = report_of(loaded, done)
    write_results_json(data, folder / "results.json")
    print_table(data, terminal)
    write_html(data, folder / "report.html")
    terminal.print(f"report: {folder / 'report.html'}", soft_wrap=True)


stage = typer.Typer(help="Run a recipe up to one of its stages.", no_args_is_help=True, rich_markup_mode="markdown")


def _add(kind: str) -> None:
    def command(recipe: RecipeArgument, run_dir: RunOption = None, set_: SetOption = None) -> None:
        from trajtree.experiment.recipe import load_recipe
        from trajtree.experiment.run import run_recipe

        loaded = load_recipe(recipe, set_ or [])
        folder = run_dir or Path("runs") / loaded.name
        terminal = console()
        with StageProgress(terminal) as progress:
            done = run_recipe(loaded, folder, progress.stage, until=kind)
        for name, result in done.items():
            terminal.print(f"{name}: {result.folder}", soft_wrap=True)

    stage.command(kind, help=f"{HELP[kind]} Runs what it needs first.")(command)


for _kind in HELP:
    _add(_kind)


def report(recipe: RecipeArgument, run_dir: RunOption = None, set_: SetOption = None) -> None:
    """Write the report of a run, bringing it up to date first (the same as `run`)."""
    run(recipe, run_dir, set_)


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command()(run)
    app.add_typer(stage, name="stage")
    app.command()(report)


__all__ = ["add_to"]
