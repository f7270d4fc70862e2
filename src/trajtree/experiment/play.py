"""Playing: an exploration's rollouts, and the greedy episodes by which rows are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from trajtree.envs.domain import load_domain
from trajtree.errors import PolicyError
from trajtree.experiment.learn import model_of
from trajtree.experiment.recipe import Exploration, Recipe
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import domain_of, measured_tasks, opening, read_tasks, store_in
from trajtree.explore.branching import tree_maker
from trajtree.explore.faults import check_sound
from trajtree.explore.made_with import claim
from trajtree.explore.place import Setting
from trajtree.explore.rollout import explore as play_passes
from trajtree.explore.strategies import STRATEGIES, ExploreSettings, Passes, independent, one_pass
from trajtree.explore.trackers import reported
from trajtree.explore.workers import EnvMaker
from trajtree.models.weights import ModelRef
from trajtree.policies.base import ServedPolicy
from trajtree.policies.opening import Opening
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
    """Play one greedy episode per held-out task, or per task of those that the row is measured on."""
    tasks = measured_tasks(recipe, row.name, work.inputs["tasks"])
    _play(recipe, work, [row.name], one_pass(independent(tasks, 1, [Sampling()])), recipe.evaluate.split)


def _opening(recipe: Recipe, row: str, inputs: Mapping[str, Path]) -> Opening:
    server = recipe.play.servers.get(row)
    return Opening(
        ref=ModelRef(server) if server is not None else model_of(recipe, row, inputs),
        max_new_tokens=recipe.play.max_new_tokens,
        one_line=not recipe.env.thoughts,
        dtype=recipe.play.dtype,
        name=row,
        begins_with=tuple(opening(recipe)),
    )


def _play(recipe: Recipe, work: Work, players: Sequence[str], passes: Passes, split: str) -> None:
    """Play the passes with the models of the rows `players`: the first one's, but where a slot names another one."""
    store, how, place = store_in(work.folder), recipe.play, work.place
    setting = setting_of(recipe, split)
    first, *named = players
    openings = {first: _opening(recipe, first, work.inputs)}
    for row in named:
        inputs = {role.removeprefix(f"{row}: "): path for role, path in work.inputs.items()}
        openings[row] = _opening(recipe, row, inputs)
    with ExitStack() as stack:
        policies = {
            row: stack.enter_context(place.policy(closed, setting, work.spending)) for row, closed in openings.items()
        }
        served = {"server" if row == first else f"server of {row}": policy for row, policy in policies.items()}
        said = {what: dict(each.identity) for what, each in served.items() if isinstance(each, ServedPolicy)}
        if said:
            claim(store.path, said, f"start the same server again, or delete {work.folder} to play it anew")
        progress = stack.enter_context(reported(work.progress, how.report_to, work.logbook))
        play_passes(
            passes,
            policies[first],
            stack.enter_context(place.environments(setting)),
            store,
            seed=recipe.seed,
            batch=how.batch,
            parse=setting.parse,
            suffix=setting.suffix,
            progress=progress,
            others=policies if named else {},
            threads=place.threads,
        )
    # Its results are kept for good, so faults that may pass must not be most of them.
    check_sound(store, wholly=True, fewest=1)
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


def setting_of(recipe: Recipe, split: str) -> Setting:
    """What a split's tasks are played in."""
    return Setting(
        make=maker(recipe, split),
        seed=recipe.seed,
        thoughts=recipe.env.thoughts,
        workers=recipe.play.workers,
        seconds=recipe.play.seconds,
        needs=recipe.play.needs,
    )


def maker(recipe: Recipe, split: str) -> EnvMaker:
    """Makes environments in which the split's tasks have the recipe's step limits."""
    limits = recipe.env.max_steps
    if not isinstance(limits, dict):
        return EnvMaker(recipe.env.name, limits)
    domain = domain_of(recipe)
    of_task = {task: limits.get(kind) for kind in recipe.tasks.types for task in domain.tasks(kind, split)}
    return EnvMaker(recipe.env.name, of_task)


__all__ = ["OVERFLOW_SHARE", "evaluate", "explore", "maker", "setting_of"]
