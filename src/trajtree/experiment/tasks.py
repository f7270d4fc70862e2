"""Choosing tasks and collecting demonstrations."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trajtree.envs.base import Environment
from trajtree.envs.domain import Domain, NoDemonstration, load_domain
from trajtree.errors import DataError, RecipeError
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.store.files import write_atomically
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

STORE = "trajectories.jsonl"
"""Trajectories in a stage's folder."""
TASKS = "tasks.json"
"""Tasks in a stage's folder."""
_REJECTED = "rejected.json"


def choose(recipe: Recipe, work: Work) -> None:
    """Draw the four task sets; TASKS holds their candidates by split and type, in drawing order."""
    domain = load_domain(recipe.env.name)
    sizes = {"train": None, "dev": recipe.tasks.dev, "test": recipe.tasks.test}
    drawn: dict[str, dict[str, list[str]]] = {}
    for split, size in sizes.items():
        drawn[split] = {}
        for kind in recipe.tasks.types:
            tasks = _tasks_of(domain, kind, split)
            random.Random(zlib.crc32(f"{kind} {split}".encode())).shuffle(tasks)
            if size is not None and size > len(tasks):
                raise RecipeError(f"tasks.{split}: {size} asked, {kind} has {len(tasks)} in its {split} split")
            drawn[split][kind] = tasks[:size]
        _check_apart(split, drawn[split])
    write_atomically(work.folder / TASKS, json.dumps(drawn, indent=1))


def demonstrate(recipe: Recipe, work: Work) -> None:
    """Expert demonstrations, and beside them the tasks before them that have none."""
    domain = load_domain(recipe.env.name)
    train = read_tasks(work.inputs["tasks"])["train"]
    store = TrajectoryStore(work.folder / STORE)
    kept = {t.task: t for t in store}
    without: list[NoDemonstration] = []
    work.progress.total(recipe.tasks.demonstrations * len(train))
    for kind, tasks in train.items():
        candidates = iter(tasks)
        with closing(domain.make(recipe.env.limit(kind))) as env:
            for _ in range(recipe.tasks.demonstrations):
                _next(domain, env, candidates, kept, without, store, kind)
                work.progress.advance(1)
    write_atomically(work.folder / _REJECTED, json.dumps([asdict(r) for r in without], indent=1))


def choose_unseen(recipe: Recipe, work: Work) -> None:
    """In TASKS, the next train tasks of each type of which no demonstration was tried."""
    shown = work.inputs["demonstrations"]
    without = json.loads((shown / _REJECTED).read_text())
    tried = {t.task for t in TrajectoryStore(shown / STORE)} | {r["task"] for r in without}
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
    """What a stage's TASKS holds."""
    return json.loads((folder / TASKS).read_text())


def _check_apart(split: str, by_type: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for kind, tasks in by_type.items():
        for task in tasks:
            if task in seen:
                raise RecipeError(f"tasks.types: {task} ({split}) is of both {seen[task]} and {kind}; name one of them")
            seen[task] = kind


def _tasks_of(domain: Domain, kind: str, split: str) -> list[str]:
    try:
        return list(domain.tasks(kind, split))
    except KeyError as error:
        raise RecipeError(f"tasks.types: {error.args[0] if error.args else kind}") from None


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


__all__ = ["STORE", "TASKS", "choose", "choose_unseen", "demonstrate", "read_tasks"]
