"""An expert that is a store of recorded runs, each played again in the environment.

What a model learns must be what it sees when it plays. So of a recorded run only the actions and the thoughts are
taken, and what it was given before its first observation: instructions, an example. The observations and the score are
those of the environment as it is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from trajtree.envs.base import Environment
from trajtree.envs.domain import NoDemonstration
from trajtree.envs.replay import replay
from trajtree.errors import DataError, EnvError
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Trajectory


def opening_of(store: Path) -> tuple[Message, ...]:
    """The messages that all runs of a store were given before their first observation; () if there were none.

    Raises:
        DataError: the store cannot be read, or its runs were not all given the same.
    """
    found: dict[tuple[Message, ...], Trajectory] = {}
    for run in TrajectoryStore(store):
        given, first, _ = run.context
        instructions = tuple(message for message in first if message.role == "system")
        found.setdefault((*given, *instructions), run)
    if len(found) > 1:
        one, other, *_ = (f"{run.task} (sample {run.sample})" for run in found.values())
        raise DataError(
            f"{store}: {one} and {other} were given different messages before their first observation, and every "
            "episode has to begin with the same; import runs of one kind, with --context-turns if an example was given"
        )
    return next(iter(found), ())


def recorded_expert(
    store: Path, names: Mapping[str, str], suffix: str
) -> Callable[[Any, str], Trajectory | NoDemonstration]:
    """An expert like a domain's `demonstrate`: the best run of a task, played again, or why there is none.

    A run must reach its own score again, or the full score if it has none.

    Args:
        store: the recorded runs.
        names: maps names of tasks that the store uses instead of their ids to the ids.
        suffix: what is added to the environment's instruction; replies have `Thought:` and `Action:` lines if it is not
            empty, else they are bare actions.

    Raises:
        DataError: the store cannot be read, or its runs were not all given the same messages.
    """
    opening = opening_of(store)
    best: dict[str, Trajectory] = {}
    for run in TrajectoryStore(store):
        task = names.get(run.task, run.task)
        if not run.outcome.is_fault and (task not in best or run.score > best[task].score):
            best[task] = run

    def demonstrate(env: Environment, task: str) -> Trajectory | NoDemonstration:
        run = best.get(task)
        if run is None:
            return NoDemonstration(task, f"{store} has no run of it")
        try:
            shown = replay(
                env,
                task,
                [step.action for step in run.steps],
                policy="expert",
                thoughts=[step.thought for step in run.steps] if suffix else None,
                opening=opening or (Message("system", f"{env.instruction} {suffix}".strip()),),
            )
        except EnvError as error:
            raise EnvError(f"{task}: its run in {store} cannot be played again: {error}") from error
        wanted = 1.0 if run.unscored else run.score
        if not shown.reaches(wanted):
            return NoDemonstration(task, f"its run in {store} scores {shown.score:g} here, not {wanted:g}")
        return shown

    return demonstrate


def in_lines(shown: Trajectory, suffix: str) -> Trajectory:
    """A demonstration of bare actions, written as by a model that is asked for thoughts: with `Action:` lines.

    Args:
        shown: the demonstration.
        suffix: what is added to the instruction to ask for such lines.
    """

    def spelt(message: Message) -> Message:
        if message.role == "system":
            return structs.replace(message, content=f"{message.content} {suffix}".strip())
        bare = message.role == "assistant" and not message.tool_calls
        return structs.replace(message, content=f"Action: {message.content}") if bare else message

    return replace(shown, messages=tuple(map(spelt, shown.messages)))


__all__ = ["in_lines", "opening_of", "recorded_expert"]
