"""Playing: an exploration's rollouts, and the greedy episodes by which rows are measured."""

from __future__ import annotations

from trajtree.chat import REACT, parse_act, parse_react
from trajtree.envs.domain import load_domain
from trajtree.errors import PolicyError
from trajtree.experiment.learn import model_of
from trajtree.experiment.recipe import Exploration, Recipe
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import STORE, read_tasks
from trajtree.explore.branching import tree_maker
from trajtree.explore.made_with import claim
from trajtree.explore.rollout import explore as play_passes
from trajtree.explore.strategies import STRATEGIES, ExploreSettings, Passes, independent, one_pass
from trajtree.explore.workers import EnvMaker, cores, environments
from trajtree.policies.base import ServedPolicy
from trajtree.policies.opening import open_policy
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Sampling

OVERFLOW_SHARE = 0.01
"""Largest share of episodes that may end because the model's context is full."""


def explore(recipe: Recipe, how: Exploration, work: Work) -> None:
    """Play an exploration's rollouts."""
    tasks: list[str] = []
    if "demonstrations" in work.inputs:
        tasks += [t.task for t in TrajectoryStore(work.inputs["demonstrations"] / STORE)]
    if "unseen" in work.inputs:
        tasks += read_tasks(work.inputs["unseen"])
    settings = ExploreSettings(how.rollouts, how.grid, how.budget, how.branches)
    tree_of = tree_maker(load_domain(recipe.env.name).environment)
    _play(recipe, work, recipe.all_rows[how.by], STRATEGIES[how.strategy].passes(tasks, settings, tree_of), "train")


def evaluate(recipe: Recipe, row: Row, work: Work) -> None:
    """Play one greedy episode per held-out task."""
    by_type = read_tasks(work.inputs["tasks"])[recipe.evaluate.split]
    tasks = [task for tasks in by_type.values() for task in tasks]
    _play(recipe, work, row, one_pass(independent(tasks, 1, [Sampling()])), recipe.evaluate.split)


def _play(recipe: Recipe, work: Work, row: Row, passes: Passes, split: str) -> None:
    thoughts = recipe.env.thoughts
    store = TrajectoryStore(work.folder / STORE)
    policy = open_policy(
        model_of(recipe, row.name, work.inputs),
        max_new_tokens=recipe.play.max_new_tokens,
        one_line=not thoughts,
        dtype=recipe.play.dtype,
        name=row.name,
        spending=work.spending,
    )
    if isinstance(policy, ServedPolicy):
        way_out = f"start the same server again, or delete {work.folder} to play it anew"
        claim(store.path, {"server": dict(policy.identity)}, way_out)
    how = recipe.play
    workers = cores() if how.workers is None else how.workers
    with environments(maker(recipe, split), workers=workers, seconds=how.seconds) as make:
        play_passes(
            passes,
            policy,
            make,
            store,
            seed=recipe.seed,
            batch=how.batch,
            parse=parse_react if thoughts else parse_act,
            suffix=REACT if thoughts else "",
            progress=work.progress,
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
    domain = load_domain(recipe.env.name)
    of_task = {task: limits.get(kind) for kind in recipe.tasks.types for task in domain.tasks(kind, split)}
    return EnvMaker(recipe.env.name, of_task)


__all__ = ["OVERFLOW_SHARE", "evaluate", "explore", "maker"]
