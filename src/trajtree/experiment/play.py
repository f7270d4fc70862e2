"""Playing: an exploration's rollouts, and the greedy episodes by which rows are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trajtree.chat import REACT, parse_act, parse_react
from trajtree.envs.domain import load_domain
from trajtree.errors import PolicyError
from trajtree.experiment.learn import model_of
from trajtree.experiment.recipe import Exploration, Recipe
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import domain_of, opening, read_tasks, store_in
from trajtree.explore.branching import tree_maker
from trajtree.explore.made_with import claim
from trajtree.explore.rollout import explore as play_passes
from trajtree.explore.strategies import STRATEGIES, ExploreSettings, Passes, independent, one_pass
from trajtree.explore.trackers import reported
from trajtree.explore.workers import EnvMaker, cores, environments
from trajtree.models.weights import ModelRef
from trajtree.policies.base import Policy, ServedPolicy
from trajtree.policies.opening import open_policy
from trajtree.policies.spending import Spending
from trajtree.trajectory import Cause, Sampling

OVERFLOW_SHARE = 0.01
"""Largest share of episodes that may end because the model's context is full."""


def explore(recipe: Recipe, how: Exploration, work: Work) -> None:
    """Play an exploration's rollouts."""
    tasks: list[str] = []
    if "demonstrations" in work.inputs:
        tasks += [t.task for t in store_in(work.inputs["demonstrations"])]
    if "unseen" in work.inputs:
        tasks += read_tasks(work.inputs["unseen"])
    settings = ExploreSettings(how.rollouts, how.grid, how.budget, how.branches)
    tree_of = tree_maker(load_domain(recipe.env.name).environment)
    _play(recipe, work, how.players, STRATEGIES[how.strategy].passes(tasks, settings, tree_of), "train")


def evaluate(recipe: Recipe, row: Row, work: Work) -> None:
    """Play one greedy episode per held-out task."""
    by_type = read_tasks(work.inputs["tasks"])[recipe.evaluate.split]
    tasks = [task for tasks in by_type.values() for task in tasks]
    _play(recipe, work, [row.name], one_pass(independent(tasks, 1, [Sampling()])), recipe.evaluate.split)


def _open(recipe: Recipe, row: str, inputs: Mapping[str, Path], spending: Spending) -> Policy[Any]:
    server = recipe.play.servers.get(row)
    return open_policy(
        ModelRef(server) if server is not None else model_of(recipe, row, inputs),
        max_new_tokens=recipe.play.max_new_tokens,
        one_line=not recipe.env.thoughts,
        dtype=recipe.play.dtype,
        name=row,
        spending=spending,
        opening=opening(recipe),
    )


def _play(recipe: Recipe, work: Work, players: Sequence[str], passes: Passes, split: str) -> None:
    """Play the passes with the models of the rows `players`: the first one's, but where a slot names another one."""
    thoughts = recipe.env.thoughts
    store = store_in(work.folder)
    first, *named = players
    policy = _open(recipe, first, work.inputs, work.spending)
    others: dict[str, Policy[Any]] = {}
    for row in named:
        inputs = {role.removeprefix(f"{row}: "): path for role, path in work.inputs.items()}
        others[row] = _open(recipe, row, inputs, work.spending)
    served = {"server": policy, **{f"server of {row}": other for row, other in others.items()}}
    said = {what: dict(each.identity) for what, each in served.items() if isinstance(each, ServedPolicy)}
    if said:
        claim(store.path, said, f"start the same server again, or delete {work.folder} to play it anew")
    how = recipe.play
    workers = cores() if how.workers is None else how.workers
    with (
        environments(maker(recipe, split), workers=workers, seconds=how.seconds) as make,
        reported(work.progress, how.report_to, work.logbook) as progress,
    ):
        play_passes(
            passes,
            policy,
            make,
            store,
            seed=recipe.seed,
            batch=how.batch,
            parse=parse_react if thoughts else parse_act,
            suffix=REACT if thoughts else "",
            progress=progress,
            others={first: policy, **others} if others else {},
        )
    played, overflowed = 0, list[str]()
    for trajectory in store:
        played += 1
        if trajectory.cause is Cause.CONTEXT_OVERFLOW:
            overflowed.append(f"{trajectory.task}: {trajectory.error}")
    if len(overflowed) > OVERFLOW_SHARE * played:
        raise PolicyError(
            f"{len(overflowed)} of {played} episodes did not fit the model's context, for example "
            f"{overflowed[0]}; lower env.max_steps or use a longer context"
        )


def maker(recipe: Recipe, split: str) -> EnvMaker:
    """Makes environments in which the split's tasks have the recipe's step limits."""
    limits = recipe.env.max_steps
    if not isinstance(limits, dict):
        return EnvMaker(recipe.env.name, limits)
    domain = domain_of(recipe)
    of_task = {task: limits.get(kind) for kind in recipe.tasks.types for task in domain.tasks(kind, split)}
    return EnvMaker(recipe.env.name, of_task)


__all__ = ["OVERFLOW_SHARE", "evaluate", "explore", "maker"]
