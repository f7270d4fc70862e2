"""Choosing tasks and collecting demonstrations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trajtree.envs.base import Environment
from trajtree.envs.domain import SPLITS, Domain, NoDemonstration, load_domain
from trajtree.envs.guard import closed
from trajtree.errors import DataError, RecipeError, UnknownTask, counted
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.variety import in_turns, shared, spread
from trajtree.store.files import write_atomically
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

STORE = "trajectories.jsonl"
"""Trajectories in a stage's folder."""
TASKS = "tasks.json"
"""Tasks in a stage's folder."""
_REJECTED = "rejected.json"


def choose(recipe: Recipe, work: Work) -> None:
    """Draw the task sets; TASKS contains tasks by split and type in drawing order, and every task's situation.

    Test is drawn first; dev avoids its situations, and train those of both.
    """
    domain = load_domain(recipe.env.name)
    sizes = {"test": recipe.tasks.test, "dev": recipe.tasks.dev, "train": None}
    every = {split: {kind: _tasks_of(domain, kind, split) for kind in recipe.tasks.types} for split in SPLITS}
    for split, by_type in every.items():
        _check_apart(split, by_type)
    situations = _situations(domain, every, work)
    drawn: dict[str, dict[str, list[str]]] = {}
    held_out: set[str] = set()
    for split, size in sizes.items():
        if size is not None:
            _check_enough(f"tasks.{split}", size, split, every[split], situations)
        drawn[split], taken = {}, Counter[str]()
        elsewhere = {situations[t] for name in sizes if name != split for tasks in every[name].values() for t in tasks}
        for kind, tasks in every[split].items():
            # Which train candidates are used is decided later, so it is not known here which of them count as taken.
            before = {} if size is None else taken
            draw = f"{kind} {split}"
            order = in_turns(tasks, situations, draw, avoid=held_out, spare=elsewhere, taken=before)
            drawn[split][kind] = order[:size]
            taken += spread(order[:size], situations)
        held_out |= taken.keys()
    write_atomically(work.folder / TASKS, json.dumps({**drawn, "situations": situations}, indent=1))


def store_in(folder: Path) -> TrajectoryStore:
    """The store of a stage; one that has stored no trajectory has no file."""
    return TrajectoryStore(folder / STORE, create=True)


def demonstrate(recipe: Recipe, work: Work) -> None:
    """Collect expert demonstrations, and record tried tasks that have none."""
    domain = load_domain(recipe.env.name)
    chosen = read_tasks(work.inputs["tasks"])
    train = chosen["train"]
    _check_enough("tasks.demonstrations", recipe.tasks.demonstrations, "train", train, chosen["situations"])
    store = store_in(work.folder)
    kept = {t.task: t for t in store}
    without: list[NoDemonstration] = []
    work.progress.total(recipe.tasks.demonstrations * len(train))
    for kind, tasks in train.items():
        candidates = iter(tasks)
        with closed(domain.make(recipe.env.limit(kind))) as env:
            for _ in range(recipe.tasks.demonstrations):
                _next(domain, env, candidates, kept, without, store, kind)
                work.progress.advance(1)
    write_atomically(work.folder / _REJECTED, json.dumps([asdict(r) for r in without], indent=1))


def choose_unseen(recipe: Recipe, work: Work) -> None:
    """Write to TASKS the next train tasks of each type for which no demonstration was tried."""
    shown = work.inputs["demonstrations"]
    without = json.loads((shown / _REJECTED).read_text())
    tried = {t.task for t in store_in(shown)} | {r["task"] for r in without}
    unseen: list[str] = []
    for kind, tasks in read_tasks(work.inputs["tasks"])["train"].items():
        further = [task for task in tasks if task not in tried][: recipe.tasks.unseen]
        if len(further) < recipe.tasks.unseen:
            raise RecipeError(
                f"tasks.unseen: only {len(further)} train tasks of {kind} are left after the demonstrations"
            )
        unseen += further
    write_atomically(work.folder / TASKS, json.dumps(unseen, indent=1))


def read_tasks(folder: Path) -> Any:
    """The contents of a stage's TASKS."""
    return json.loads((folder / TASKS).read_text())


def shared_situations(chosen: Mapping[str, Any], split: str, trained: Iterable[str]) -> list[str]:
    """Sentences on where a split's tasks share situations with the training tasks or the other held-out split.

    Args:
        chosen: the result of `read_tasks`.
        split: the measured split, dev or test.
        trained: the tasks that models learn from.
    """
    other = "dev" if split == "test" else "test"
    others = {
        "the training tasks": trained,
        f"the {other} tasks": [task for tasks in chosen[other].values() for task in tasks],
    }
    sentences = []
    for what, tasks in others.items():
        if found := shared(chosen[split], tasks, chosen["situations"]):
            counts = ", ".join(f"{count} of {whole} in {kind}" for kind, (count, whole) in found.items())
            sentences.append(f"{split.capitalize()} tasks share situations with {what}: {counts}.")
    return sentences


def _situations(domain: Domain, every: Mapping[str, Mapping[str, list[str]]], work: Work) -> dict[str, str]:
    """Each task's situation."""
    tasks = [task for by_type in every.values() for tasks in by_type.values() for task in tasks]
    work.progress.total(len(tasks))
    situations: dict[str, str] = {}
    for task in tasks:
        situations |= domain.situations([task])
        work.progress.advance(1)
    return situations


def _check_enough(
    key: str, size: int, split: str, by_type: Mapping[str, list[str]], situations: Mapping[str, str]
) -> None:
    """Refuse to draw more tasks than exist, and say how many do."""
    short = {kind: tasks for kind, tasks in by_type.items() if size > len(tasks)}
    if short:
        there = ", ".join(
            f"{kind} has {counted(len(tasks), 'task')} ({counted(len(spread(tasks, situations)), 'situation')})"
            for kind, tasks in short.items()
        )
        raise RecipeError(f"{key}: {size} asked; in the {split} split {there}")


def _check_apart(split: str, by_type: Mapping[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for kind, tasks in by_type.items():
        for task in tasks:
            if task in seen:
                raise RecipeError(f"tasks.types: {task} ({split}) is of both {seen[task]} and {kind}; name one of them")
            seen[task] = kind


def _tasks_of(domain: Domain, kind: str, split: str) -> list[str]:
    try:
        return list(domain.tasks(kind, split))
    except UnknownTask as error:
        raise RecipeError(f"tasks.types: {error}") from None


def _next(
    domain: Domain,
    env: Environment,
    candidates: Iterator[str],
    kept: dict[str, Trajectory],
    without: list[NoDemonstration],
    store: TrajectoryStore,
    kind: str,
) -> None:
    """Keep the demonstration of the next candidate that has one."""
    for task in candidates:
        if task in kept:
            return
        shown = domain.demonstrate(env, task)
        if isinstance(shown, NoDemonstration):
            without.append(shown)
            continue
        kept[task] = shown
        store.append([shown])
        return
    reasons = "; ".join(f"{r.task}: {r.reason}" for r in without[-3:])
    raise DataError(f"{kind}: not enough successful demonstrations among its train tasks ({reasons})")


__all__ = ["STORE", "TASKS", "choose", "choose_unseen", "demonstrate", "read_tasks", "shared_situations"]
