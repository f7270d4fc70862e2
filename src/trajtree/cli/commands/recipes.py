"""Commands for recipes and their runs: run, stage, plan, report, compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trajtree.cli.options.choices import option_of, with_options_of
from trajtree.cli.options.outputs import check_output
from trajtree.cli.options.places import OnOption, cluster_named
from trajtree.cli.options.spending import CostOption, PriceOption, TokensOption, spending_of
from trajtree.cli.options.trackers import ReportOption
from trajtree.cli.options.usage import Commands
from trajtree.cli.terminal import StageProgress, console
from trajtree.errors import RunError
from trajtree.experiment.stage import KINDS, PRELOADED, Finished
from trajtree.planning.hardware import HARDWARE
from trajtree.store.files import is_stream, write_whole

if TYPE_CHECKING:
    from trajtree.experiment.recipe import Recipe

RecipeArgument = Annotated[Path, typer.Argument(help="Recipe file, for example recipes/demo.yaml.", metavar="RECIPE")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run directory; by default runs/ and the recipe's name.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: --set explore.rollouts=6")]

RedoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redo",
        help="Stage to do again, with everything that depends on it; repeatable. `all` does everything again.",
        metavar="STAGE",
    ),
]

JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        min=1,
        help="Stages done at the same time, each in a process of its own with its share of the cores; the results do "
        "not depend on it, except that sums are rounded in another order.",
    ),
]

_REPORTING = ("weak", "sft", "preference", "play")
"""Sections of a recipe whose stages can report to trackers."""

stage = Commands(help="Run a recipe up to one of its stages.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a recipe is run; every field is an option of `run` and of each `stage`."""

    recipe: RecipeArgument
    run_dir: RunOption = None
    set_: SetOption = None
    redo: RedoOption = None
    report_to: ReportOption = None
    limit_tokens: TokensOption = None
    limit_cost: CostOption = None
    price: PriceOption = None
    on: OnOption = None
    jobs: JobsOption = 1

    def stages(self, out: Console, *, until: str | None = None) -> tuple[Recipe, Path, Finished]:
        """Run it, whole or up to the stages of one kind; the recipe, its run directory and the finished stages."""
        from trajtree.experiment.recipe import load_recipe
        from trajtree.explore.trackers import check_trackers
        from trajtree.store.apart import preload

        if self.on is not None and self.jobs > 1:
            raise RunError(
                "--jobs: a cluster decides by itself what is done at the same time; leave out --jobs or --on"
            )
        spending = spending_of(self.limit_tokens, self.limit_cost, self.price)
        loaded = load_recipe(self.recipe, [*(self.set_ or ()), *self._reporting()])
        check_trackers({name for section in _REPORTING for name in getattr(loaded, section).report_to})
        folder = self.run_dir or Path("runs") / loaded.name
        models = [model for model in (loaded.weak.model, loaded.strong.model) if model is not None]
        if self.jobs > 1:
            preload(PRELOADED)  # while this process does something else
        from trajtree.experiment.execute import run_recipe

        with (
            cluster_named(self.on, out, environment=loaded.env.name, models=models, needs=loaded.play.needs) as cluster,
            StageProgress(out, "run", folder) as progress,
        ):
            done = run_recipe(
                loaded,
                folder,
                progress.named,
                watch=progress,
                until=until,
                redo=self.redo or (),
                say=lambda said: out.print(said, soft_wrap=True),
                spending=spending,
                cluster=cluster,
                jobs=self.jobs,
            )
        if spending.requests:
            out.print(f"model servers: {spending}", soft_wrap=True, highlight=False)
        return loaded, folder, done

    def _reporting(self) -> list[str]:
        """The changes to the recipe by which every stage reports to the trackers of --report-to."""
        if not self.report_to:
            return []
        return [f"{section}.report_to=[{', '.join(self.report_to)}]" for section in _REPORTING]


@with_options_of(Running)
def run(running: Running) -> None:
    """Run a whole recipe, then print the table and write the report.

    Finished stages are kept: run it again after a kill, and it resumes; change the recipe, and only what depends on the
    change is redone. What is kept is verified before it is used; where a file was changed or lost, --redo does its
    stage again. Every recipe has a report of its own, below `reports/` in the run directory: `results.json`,
    `report.html`, the resolved `recipe.yaml`, and `stages.json`, which says where each stage's files are.
    """
    from trajtree.experiment.report_folders import PAGE, write_report
    from trajtree.report import print_table

    out = console()
    loaded, folder, done = running.stages(out)
    data, where = write_report(loaded, folder, done)
    print_table(data, out)
    out.print(f"report: {where / PAGE}", soft_wrap=True)


def plan(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe file.", metavar="[RECIPE]", show_default=False)] = None,
    run_dir: RunOption = None,
    set_: SetOption = None,
    on: Annotated[
        str | None,
        option_of(HARDWARE, "--on", help="Hardware; by default this machine as it was measured, or CPU if it was not."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine first, about ten seconds, and keep the result.")
    ] = False,
) -> None:
    """Say what a recipe takes before it runs: stages, episodes, tokens, memory and hours, and what is missing.

    Nothing is played or trained, apart from a few demonstrations, which show how long episodes are.
    """
    from trajtree.planning.hardware import calibrate, this_machine
    from trajtree.planning.table import print_plan

    out = console()
    measured = calibrate() if measure else this_machine()
    if recipe is None:
        if not measure:
            raise RunError("plan: name a recipe, or measure this machine with --calibrate")
        out.print(f"this machine: {measured}", soft_wrap=True, highlight=False)
        return
    from trajtree.experiment.recipe import load_recipe
    from trajtree.planning.plan import plan_of

    loaded = load_recipe(recipe, set_ or [])
    hardware = HARDWARE[on] if on is not None else measured or HARDWARE["CPU"]
    folder = run_dir or Path("runs") / loaded.name
    print_plan(plan_of(loaded, hardware, folder), hardware, out)
    if on is None and measured is None:
        out.print("this machine was not measured: trajtree plan --calibrate", soft_wrap=True)


def report(
    run_dir: Annotated[Path, typer.Argument(help="Run directory, for example runs/demo.", metavar="RUN")],
) -> None:
    """Print a finished run's table again and rewrite its page; nothing is played or trained.

    If a stage's results were changed after the figures were computed from them, a caveat below the table says so.
    Where a run directory holds the reports of several recipes, the newest is printed and the others are named.
    """
    from trajtree.experiment.report_folders import PAGE, caveats_of, read_reports
    from trajtree.report import print_table, write_html

    if run_dir.is_file():
        raise RunError(f"{run_dir}: report takes a run directory; to run a recipe: trajtree run {run_dir}")
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: there is no such run directory")
    out = console()
    *others, newest = read_reports(run_dir)
    caveats = caveats_of(newest, run_dir)
    print_table(newest.data, out)
    for sentence in caveats:
        out.print(f"caveat: {sentence}", soft_wrap=True)
    write_html(newest.data, newest.folder / PAGE)
    out.print(f"report: {newest.folder / PAGE}", soft_wrap=True)
    for other in others:
        out.print(f"also: {other.folder / PAGE} ({other.data.title})", soft_wrap=True)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories or results.json files, seeds or blocks.", metavar="RUN...")
    ],
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the named comparisons as SVG.")] = None,
) -> None:
    """Compare rows over runs with several seeds: the comparisons named in the recipe, with p-values corrected by Holm.

    Runs with the same seed are blocks, whose rows are put together. All recipes must agree in what is compared; a
    difference is named. Nothing is played or trained.
    """
    from trajtree.experiment.comparing import compare_runs
    from trajtree.report import comparison_json, print_comparison
    from trajtree.report.plots import comparison_plot

    for out in (json_, plot):
        check_output(out, *runs, *(other for other in (json_, plot) if other is not None and other is not out))
    compared = compare_runs(runs)
    terminal = console(next((out for out in (json_, plot) if out is not None and is_stream(out)), None))
    print_comparison(compared, terminal)
    drawn = None if plot is None else comparison_plot(compared)
    for what, out, content in (("figures", json_, comparison_json(compared)), ("plot", plot, drawn)):
        if out is not None and content is not None:
            write_whole(out, content)
            terminal.print(f"{what}: {out}", soft_wrap=True)
    if plot is not None and drawn is None:
        terminal.print(f"plot: nothing to draw in {plot}, since no named comparison was measured", soft_wrap=True)


def _add_stage(kind: str) -> None:
    @with_options_of(Running)
    def command(running: Running) -> None:
        out = console()
        _, _, done = running.stages(out, until=kind)
        for name, result in done.items():
            out.print(f"{name}: {result.folder}", soft_wrap=True)

    stage.command(kind, help=f"{KINDS[kind].about} Runs what it needs first.")(command)


for _kind in KINDS:
    _add_stage(_kind)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(run)
    app.add_typer(stage, name="stage")
    app.command()(plan)
    app.command()(report)
    app.command()(compare)


__all__ = ["add_to"]
