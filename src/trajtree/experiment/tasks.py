"""Choosing tasks and collecting demonstrations."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trajtree.chat import REACT
from trajtree.envs.base import Environment
from trajtree.envs.domain import SPLITS, Domain, NoDemonstration, load_domain
from trajtree.envs.guard import closed
from trajtree.envs.recorded import in_lines, opening_of, recorded_expert
from trajtree.envs.splits import Splits, read_splits, split_file, unknown_tasks, with_splits
from trajtree.errors import DataError, RecipeError, UnknownTask, counted
from trajtree.experiment.recipe import ALL, Count, Recipe, too_many
from trajtree.experiment.stage import Work
from trajtree.experiment.variety import evenly, in_turns, shared, spread
from trajtree.explore.workers import EnvMaker, cores, environments
from trajtree.store.files import write_atomically
from trajtree.store.parallel import in_order
from trajtree.store.progress import Illustrated
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Trajectory
from trajtree.trees.display import episode

STORE = "trajectories.jsonl"
"""Trajectories in a stage's folder."""
TASKS = "tasks.json"
"""Tasks in a stage's folder."""
_REJECTED = "rejected.json"


def domain_of(recipe: Recipe) -> Domain:
    """The recipe's domain, with the recipe's splits.

    Raises:
        RecipeError: there is no such domain or no such file of splits, or the file is damaged or names an unknown task.
    """
    domain = load_domain(recipe.env.name)
    if (splits := _splits(recipe)) is None:
        return domain
    try:
        unknown = unknown_tasks(domain, splits, recipe.tasks.types)
    except UnknownTask as error:
        raise RecipeError(f"tasks.types: {error}") from None
    if unknown:
        of_types = "" if domain.types else f" of the recipe's types, {', '.join(recipe.tasks.types)}"
        raise RecipeError(
            f"tasks.splits: {recipe.env.name} has no task {unknown[0]!r}{of_types}, which {recipe.tasks.splits} names"
        )
    return with_splits(domain, splits)


def _splits(recipe: Recipe) -> Splits | None:
    if (said := recipe.tasks.splits) is None:
        return None
    path = split_file(said, recipe.env.name)
    if not path.exists():
        hint = f"; record ETO's: trajtree data {recipe.env.name} --from ETO_FOLDER" if said == "eto" else ""
        raise RecipeError(f"tasks.splits: there is no file {path}{hint}")
    try:
        return read_splits(path)
    except DataError as error:
        raise RecipeError(f"tasks.splits: {error}") from None


def opening(recipe: Recipe) -> tuple[Message, ...]:
    """The messages with which every episode begins, from the demonstrations; () for the environment's instruction.

    Raises:
        RecipeError: there is no such store, or its runs were not all given the same.
    """
    store = _store(recipe)
    if store is None:
        return ()
    try:
        return opening_of(store)
    except DataError as error:
        raise RecipeError(f"tasks.expert: {error}") from None


def brought(recipe: Recipe) -> tuple[dict[str, str], dict[str, str]]:
    """What identifies the contents of the recipe's own splits, and of its expert's store; {} where it has none."""
    splits, store = _splits(recipe), _store(recipe)
    return (
        {} if splits is None else {"splits": _hash(splits.model_dump_json().encode())},
        {} if store is None else {"expert": _hash(store.read_bytes())},
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _store(recipe: Recipe) -> Path | None:
    if recipe.tasks.expert is None:
        return None
    path = Path(recipe.tasks.expert).expanduser()
    if not path.is_file():
        raise RecipeError(
            f"tasks.expert: there is no file {path}; import the expert's runs: trajtree import LOG --out {path}"
        )
    return path


def _expert(recipe: Recipe, domain: Domain) -> Callable[[Environment, str], Trajectory | NoDemonstration]:
    store, splits = _store(recipe), _splits(recipe)
    if store is not None:
        return recorded_expert(store, splits.names if splits is not None else {}, REACT if recipe.env.thoughts else "")

    def in_the_form_of_play(env: Environment, task: str) -> Trajectory | NoDemonstration:
        shown = domain.demonstrate(env, task)
        return in_lines(shown, REACT) if recipe.env.thoughts and isinstance(shown, Trajectory) else shown

    return in_the_form_of_play


def choose(recipe: Recipe, work: Work) -> None:
    """Draw the task sets; TASKS contains tasks by split and type in drawing order, and every task's situation.

    Test is drawn first; dev avoids its situations, and train those of both.
    """
    domain = domain_of(recipe)
    # The train tasks are ordered, and how many of them are used is decided later.
    asked = {s: {k: recipe.tasks.asked(s, k) for k in recipe.tasks.types} for s in ("test", "dev")}
    sizes: dict[str, dict[str, Count]] = {**asked, "train": dict.fromkeys(recipe.tasks.types, ALL)}
    every = {split: {kind: _tasks_of(domain, kind, split) for kind in recipe.tasks.types} for split in SPLITS}
    for split, by_type in every.items():
        _check_apart(split, by_type)
    if (none := nothing_to_measure(recipe, every)) is not None:
        raise RecipeError(none)
    situations = _situations(domain, every, work)
    drawn: dict[str, dict[str, list[str]]] = {}
    held_out: set[str] = set()
    for split, counts in asked.items():
        _check_enough(f"tasks.{split}", counts, split, every[split], situations)
    for split, size in sizes.items():
        drawn[split], taken = {}, Counter[str]()
        elsewhere = {situations[t] for name in sizes if name != split for tasks in every[name].values() for t in tasks}
        for kind, tasks in every[split].items():
            # Which train candidates are used is decided later, so it is not known here which of them count as taken.
            before = {} if split == "train" else taken
            draw = f"{kind} {split}"
            order = in_turns(tasks, situations, draw, avoid=held_out, spare=elsewhere, taken=before)
            wanted = size[kind]
            drawn[split][kind] = some = order if wanted == ALL else order[:wanted]
            taken += spread(some, situations)
        held_out |= taken.keys()
    write_atomically(work.folder / TASKS, json.dumps({**drawn, "situations": situations}, indent=1))


def store_in(folder: Path) -> TrajectoryStore:
    """The store of a stage; one that has stored no trajectory has no file."""
    return TrajectoryStore(folder / STORE, create=True)


def demonstrate(recipe: Recipe, work: Work) -> None:
    """Collect expert demonstrations, and record tried tasks that have none.

    Task types are shared among processes, unless there is nothing to play or the recipe keeps environments here.
    """
    chosen = read_tasks(work.inputs["tasks"])
    train = chosen["train"]
    asked = {kind: recipe.tasks.asked("demonstrations", kind) for kind in train}
    _check_enough("tasks.demonstrations", asked, "train", train, chosen["situations"])
    store = store_in(work.folder)
    kept = frozenset(t.task for t in store)
    without: list[NoDemonstration] = []
    work.progress.total(sum(n if n != ALL else len(train[kind]) for kind, n in asked.items()))
    here = recipe.play.workers in (0, 1) or recipe.tasks.expert is not None
    jobs = 1 if here else min(len(train), work.place.threads, cores())
    # From another process they come when a type is done; here each is stored as soon as it is there.
    shown_in = _shown_in if jobs == 1 else _all_shown_in
    with _replayed_in(recipe, train) as env:
        demonstrator = _Demonstrator(recipe, kept, env)
        for (kind, tasks), outcomes in in_order(shown_in, train.items(), demonstrator, jobs=jobs):
            found, wanted = len(kept.intersection(tasks)), asked[kind]
            work.progress.advance(found)
            for shown in outcomes:
                if isinstance(shown, NoDemonstration):
                    without.append(shown)
                else:
                    store.append([shown])
                    found += 1
                    if isinstance(work.progress, Illustrated):
                        work.progress.illustrate(["An expert's episode:", *episode(shown)])
                work.progress.advance(wanted == ALL or isinstance(shown, Trajectory))
            if found < (1 if wanted == ALL else wanted):
                reasons = "; ".join(f"{r.task}: {r.reason}" for r in without[-3:])
                raise DataError(f"{kind}: not enough successful demonstrations among its train tasks ({reasons})")
    write_atomically(work.folder / _REJECTED, json.dumps([asdict(r) for r in without], indent=1))


@contextmanager
def _replayed_in(recipe: Recipe, train: Mapping[str, list[str]]) -> Iterator[Environment | None]:
    """The environment in which an expert's store is played again, for all types, with the time limit of `play.seconds`.

    None without a store: a domain's own expert may ask its environment for anything, so it needs the real one.
    """
    if recipe.tasks.expert is None:
        yield None
        return
    limits = {task: recipe.env.limit(kind) for kind, tasks in train.items() for task in tasks}
    workers = 0 if recipe.play.workers == 0 else 1
    make_one = EnvMaker(recipe.env.name, limits)
    with environments(make_one, workers=workers, seconds=recipe.play.seconds) as make, closed(make()) as env:
        yield env


@dataclass(frozen=True)
class _Demonstrator:
    """A recipe's expert, in any process.

    Attributes:
        recipe: the recipe.
        kept: tasks whose demonstrations are stored already.
        env: the environment for all types; None for one of each type's own.
    """

    recipe: Recipe
    kept: frozenset[str]
    env: Environment | None

    @cached_property
    def domain(self) -> Domain:
        """The recipe's domain."""
        return domain_of(self.recipe)

    @cached_property
    def expert(self) -> Callable[[Environment, str], Trajectory | NoDemonstration]:
        """Plays a task, or says why not."""
        return _expert(self.recipe, self.domain)


def _shown_in(of_type: tuple[str, list[str]], demonstrator: _Demonstrator) -> Iterator[Trajectory | NoDemonstration]:
    """What is still to be shown of a type's tasks, until there are as many demonstrations as the recipe wants."""
    kind, tasks = of_type
    recipe, found = demonstrator.recipe, 0
    wanted = recipe.tasks.asked("demonstrations", kind)
    given = demonstrator.env
    with closed(demonstrator.domain.make(recipe.env.limit(kind))) if given is None else nullcontext(given) as env:
        for task in tasks:
            if found == wanted:
                break
            shown = None if task in demonstrator.kept else demonstrator.expert(env, task)
            found += not isinstance(shown, NoDemonstration)
            if shown is not None:
                yield shown


def _all_shown_in(of_type: tuple[str, list[str]], demonstrator: _Demonstrator) -> list[Trajectory | NoDemonstration]:
    """The same, as another process can return it."""
    return list(_shown_in(of_type, demonstrator))


def choose_unseen(recipe: Recipe, work: Work) -> None:
    """Write to TASKS the next train tasks of each type for which no demonstration was tried."""
    shown = work.inputs["demonstrations"]
    without = json.loads((shown / _REJECTED).read_text())
    tried = {t.task for t in store_in(shown)} | {r["task"] for r in without}
    unseen: list[str] = []
    for kind, tasks in read_tasks(work.inputs["tasks"])["train"].items():
        further, wanted = [task for task in tasks if task not in tried], recipe.tasks.asked("unseen", kind)
        if wanted != ALL and len(further) < wanted:
            raise RecipeError(
                f"tasks.unseen: only {len(further)} train tasks of {kind} are left after the demonstrations"
            )
        unseen += further if wanted == ALL else further[:wanted]
    write_atomically(work.folder / TASKS, json.dumps(unseen, indent=1))


def read_tasks(folder: Path) -> Any:
    """The contents of a stage's TASKS."""
    return json.loads((folder / TASKS).read_text())


def measured_tasks(recipe: Recipe, name: str, folder: Path) -> list[str]:
    """The tasks that a row is measured on, in the order of the split; of any two rows, one has all of the other's.

    Args:
        recipe: the recipe.
        name: the row.
        folder: that of the stage of `choose`.
    """
    groups: list[list[str]] = list(read_tasks(folder)[recipe.evaluate.split].values())
    asked = recipe.all_rows[name].tasks
    return evenly(groups, sum(map(len, groups)) if asked == ALL else asked)


def check_enough_to_measure(recipe: Recipe, name: str) -> None:
    """Refuse to measure a row on more tasks than the environment has, where the recipe takes all that it has.

    Raises:
        RecipeError: it has too few, and how many.
    """
    if recipe.held_out == ALL and recipe.all_rows[name].tasks != ALL:
        domain = domain_of(recipe)
        there = sum(len(_tasks_of(domain, kind, recipe.evaluate.split)) for kind in recipe.tasks.types)
        if short := too_many(recipe, name, there):
            raise RecipeError(short)


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
    key: str,
    asked: Mapping[str, Count],
    split: str,
    by_type: Mapping[str, list[str]],
    situations: Mapping[str, str],
) -> None:
    """Refuse to draw more tasks than exist, and say how many do."""
    for wanted in sorted({count for count in asked.values() if count != ALL}, reverse=True):
        if short := [kind for kind, count in asked.items() if count == wanted and wanted > len(by_type[kind])]:
            there = ", ".join(
                f"{kind} has {counted(len(by_type[kind]), 'task')} "
                f"({counted(len(spread(by_type[kind], situations)), 'situation')})"
                for kind in short
            )
            raise RecipeError(f"{key}: {wanted} asked for, but in the {split} split {there}")


def nothing_to_measure(recipe: Recipe, tasks: Mapping[str, Mapping[str, Collection[str] | int]]) -> str | None:
    """What is wrong if the split that rows are measured on has no tasks; None if it has some.

    Args:
        recipe: the recipe.
        tasks: the tasks by split and type, or their numbers.
    """
    split = recipe.evaluate.split
    there = any(tasks[split].values())
    return None if there else f"tasks.{split}: the {split} split has no task of these types to measure"


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


__all__ = [
    "STORE",
    "TASKS",
    "brought",
    "check_enough_to_measure",
    "choose",
    "choose_unseen",
    "demonstrate",
    "domain_of",
    "measured_tasks",
    "nothing_to_measure",
    "opening",
    "read_tasks",
    "shared_situations",
]
