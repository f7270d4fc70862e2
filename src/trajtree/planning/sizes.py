"""How long episodes are, from the expert's runs, before a model has played any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from pathlib import Path
from statistics import fmean

from trajtree.envs.domain import Domain
from trajtree.envs.guard import blamed, closed
from trajtree.errors import EnvError, counted
from trajtree.experiment.recipe import Recipe
from trajtree.explore.estimate import STEPS
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

_CHARACTERS, _TURN = 4, 8
"""Characters in a token of English, and tokens that a template puts around a message; both about."""
_THOUGHT = 40
"""Tokens of a thought, about, where the expert's runs have none but the models' replies do."""
_TYPES, _RUNS = 8, 100
"""Task types of which one task is demonstrated, and runs of a store that are looked at."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """An average episode.

    Attributes:
        given: tokens before the first reply.
        shared: how many of these all episodes begin with.
        reply, answer: tokens of a reply, and of the environment's answer to it, with what a template puts around them.
        expert, agent: steps of the expert, and of a model.
        source: where these figures are from.
    """

    given: float
    shared: float
    reply: float
    answer: float
    expert: float
    agent: float
    source: str

    def tokens(self, steps: float) -> float:
        """Tokens of an episode."""
        return self.given + steps * (self.reply + self.answer)


def sizes_of(recipe: Recipe, domain: Domain, train: dict[str, list[str]], store: Path | None) -> Sizes:
    """The sizes of a recipe's episodes; a model is assumed to take steps halfway between the expert's and the limit.

    Args:
        recipe: the recipe.
        domain: its domain.
        train: the train tasks by type.
        store: demonstrations that exist already; without them the expert plays one task of some types now.
    """
    if store is not None:
        shown = list(islice(TrajectoryStore(store), _RUNS))
        source = f"{counted(len(shown), 'run')} in {store}"
    else:
        shown = list(_demonstrated(recipe, domain, train))
        # An expert that cannot play now leaves guesses, and the plan says so.
        played = f"the expert's runs of {counted(len(shown), 'task')}"
        source = played if shown else "guesses, since the expert played no task"
    expert = fmean(len(run.steps) for run in shown) if shown else float(STEPS)
    known = (_limit(recipe, domain, kind, tasks) for kind, tasks in train.items())
    limits = [limit for limit in known if limit is not None]
    most = max(expert, fmean(limits) if limits else STEPS)
    replies = [_tokens(step.action) + _tokens(step.thought or "") for run in shown for step in run.steps]
    thought = _THOUGHT if recipe.env.thoughts and not any(s.thought for run in shown for s in run.steps) else 0
    answers = [_tokens(step.observation) for run in shown for step in run.steps[1:]]
    return Sizes(
        given=fmean(_given(run, 0) for run in shown) if shown else 300.0,
        shared=fmean(_given(run, 1) for run in shown) if shown else 100.0,
        reply=min(fmean(replies) if replies else 8.0, recipe.play.max_new_tokens) + thought + _TURN,
        answer=(fmean(answers) if answers else 50.0) + _TURN,
        expert=expert,
        agent=(expert + most) / 2,
        source=source,
    )


def _demonstrated(recipe: Recipe, domain: Domain, train: dict[str, list[str]]) -> Iterable[Trajectory]:
    for kind, tasks in islice(train.items(), _TYPES):
        with closed(domain.make(recipe.env.limit(kind))) as env, suppress(EnvError):
            for task in tasks[:3]:
                shown = domain.demonstrate(env, task)
                if isinstance(shown, Trajectory):
                    yield shown
                    break


def _limit(recipe: Recipe, domain: Domain, kind: str, tasks: Sequence[str]) -> int | None:
    """The type's step limit: the recipe's or the environment's own, if that has a `max_steps` that says it."""
    said = recipe.env.limit(kind)
    if said is not None or not tasks:
        return said
    with closed(domain.make(None)) as env:
        own = getattr(env, "max_steps", None)
        if callable(own):
            with suppress(EnvError), blamed(f"{env.name}: max_steps"):
                own = own(tasks[0]) if signature(own).parameters else own()
        return own if isinstance(own, int) else None


def _given(run: Trajectory, without: int) -> float:
    """Tokens before the first reply, without the last messages, the first of which is the first observation."""
    first = run.replies[0] if run.replies else len(run.messages)
    return sum(_tokens(m.content) + _TURN for m in run.messages[: first - without])


def _tokens(text: str) -> float:
    return len(text) / _CHARACTERS


__all__ = ["Sizes", "sizes_of"]
