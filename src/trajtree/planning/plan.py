"""A recipe's stages with what each takes: episodes, tokens, memory, time; and what is missing to run them."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trajtree.envs.domain import SPLITS, Domain, load_domain
from trajtree.errors import DataError, EnvError, RecipeError, UnknownTask, counted, with_its_extra
from trajtree.experiment.execute import finished_stages, missing_packages
from trajtree.experiment.lessons import read_pairs
from trajtree.experiment.pipeline import stages_of
from trajtree.experiment.recipe import ALL, Recipe, chain_of, is_scratch
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Done, Stage
from trajtree.experiment.tasks import STORE, domain_of, nothing_to_measure, opening
from trajtree.planning.hardware import Hardware
from trajtree.planning.shapes import Shape, shape_from_scratch, shape_of
from trajtree.planning.sizes import Sizes, sizes_of
from trajtree.policies.opening import is_local
from trajtree.policies.server_name import parse_name
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.train.settings import METHODS, resolved

_LOADING = 10.0
"""Seconds to import the libraries and to load a small model."""
_PREPARING = 30.0
"""Seconds in which a training tokenises its examples, checks how they are packed, and saves checkpoints."""
_DISK = 1e9
"""Bytes of weights that are loaded in a second."""
_PAIRS = 1 / 3
"""Pairs per tree, as a share of the most that it may have: many trees have no informative fork."""
_UNPACKED = {"pairs": 1.4, "anchored-pairs": 2.2, "steps": 1.1}
"""Tokens of a packed pair over those of one run, by what a method takes."""
_WHOLE_PAIRS = 1.9
"""The same of whole runs that share only their opening."""
_LONGEST = 1.5
"""The longest of the replies, or episodes, that are played together, over the average."""
_ENVIRONMENTS = {
    "scienceworld": (0.7, 0.25, 0.016),
    "alfworld": (0.05, 0.02, 0.0002),
    "webshop": (0.05, 0.01, 0.01),
    "webshop-short": (0.05, 0.01, 0.01),
    "textworldexpress": (0.05, 0.02, 0.0005),
}
"""Seconds of a demonstration, a reset and a step, as measured on one core."""
_OTHER_ENVIRONMENT = (0.1, 0.05, 0.01)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What a stage takes.

    Attributes:
        name: the stage's name.
        episodes: how many are played; in a training, how many examples are learned from.
        tokens: how many a model reads and writes, over all epochs.
        memory: bytes of the model and what it works on.
        seconds: time on the whole machine.
        done: whether the run directory has its result.
    """

    name: str
    episodes: int = 0
    tokens: float = 0.0
    memory: float = 0.0
    seconds: float = 0.0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe's stages in order, the sizes that they are computed from, and what is missing, in sentences."""

    stages: tuple[StagePlan, ...]
    sizes: Sizes
    missing: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Time of the stages that are not done."""
        return sum(stage.seconds for stage in self.stages if not stage.done)


def plan_of(recipe: Recipe, hardware: Hardware, run: Path | None = None) -> Plan:
    """What a recipe takes on some hardware.

    Args:
        recipe: what is to run.
        hardware: the machine it is to run on.
        run: the run directory, with what is finished.

    Raises:
        TrajtreeError: its environment is not installed, so its tasks are unknown, or a model's shape is unknown.
    """
    missing, lacking = list(_missing(recipe)), False
    try:
        domain = domain_of(recipe)
        opening(recipe)
    except RecipeError as error:
        missing.insert(0, str(error))
        lacking = True
        recipe = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update={"splits": None, "expert": None})})
        domain = load_domain(recipe.env.name)
    stages = stages_of(recipe, checked=False)
    done = finished_stages(stages, run) if run is not None and run.exists() else {}
    planner = _Planner(recipe, hardware, domain, done)
    # What the environment's own splits lack says nothing about splits that are not there.
    return planner.plan(stages, missing if lacking else [*missing, *planner.too_few()])


def _missing(recipe: Recipe) -> Iterator[str]:
    """What has to be installed, downloaded or started."""
    models = {"weak.model": recipe.weak.model or recipe.weak.tokenizer, "strong.model": recipe.strong.model}
    local = {key: model for key, model in models.items() if is_local(model)}
    served = {key: model for key, model in models.items() if key not in local}
    served |= {f"play.servers.{row}": server for row, server in recipe.play.servers.items()}
    yield from map(with_its_extra, missing_packages(recipe))
    for key, model in local.items():
        if "/" in model and not Path(model).expanduser().exists() and not _downloaded(model):
            yield f"{key}: {model} is not on this disk; it is downloaded from the hub when it is needed"
    for key, server in served.items():
        where = parse_name(server)
        yield f"{key}: a server at {', '.join(where.addresses)} that plays {where.model}"


def _downloaded(model: str) -> bool:
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "config.json"), str)


class _Planner:
    def __init__(self, recipe: Recipe, hardware: Hardware, domain: Domain, done: Mapping[str, Done]) -> None:
        self.recipe, self.hardware, self.done = recipe, hardware, done
        try:
            every = {s: {k: list(domain.tasks(k, s)) for k in recipe.tasks.types} for s in SPLITS}
        except (UnknownTask, DataError, EnvError) as error:
            raise RecipeError(f"nothing can be planned without the tasks of {recipe.env.name}: {error}") from error
        self.counts = {split: {k: len(tasks) for k, tasks in by_type.items()} for split, by_type in every.items()}
        self.sizes = sizes_of(recipe, domain, every["train"], self._store("demonstrations"))
        self.environment = _ENVIRONMENTS.get(recipe.env.name, _OTHER_ENVIRONMENT)

    def plan(self, stages: list[Stage], missing: list[str]) -> Plan:
        of_kind: dict[str, Callable[[Stage], StagePlan]] = {
            "demonstrations": self._demonstrations,
            "weak": self._training,
            "train": self._training,
            "explore": self._exploration,
            "evaluate": self._evaluation,
            "guarantee": self._guarantee,
        }
        found = (of_kind[stage.kind](stage) if stage.kind in of_kind else StagePlan(stage.name) for stage in stages)
        return Plan(tuple(replace(p, done=p.name in self.done) for p in found), self.sizes, tuple(missing))

    # --- how many ---

    def too_few(self) -> Iterator[str]:
        """Where the recipe asks for more tasks than its environment has; a run refuses that."""
        for key, split in (("test", "test"), ("dev", "dev"), ("demonstrations", "train")):
            for kind, there in self.counts[split].items():
                asked = self.recipe.tasks.asked(key, kind)
                if asked != ALL and asked > there:
                    has = f"in the {split} split {kind} has {counted(there, 'task')}"
                    yield f"tasks.{key}: {asked} asked for, but {has}"
        if (none := nothing_to_measure(self.recipe, self.counts)) is not None:
            yield none

    def _asked(self, what: str, split: str) -> int:
        asked = {kind: self.recipe.tasks.asked(what, kind) for kind in self.counts[split]}
        return sum(n if asked[kind] == ALL else min(int(asked[kind]), n) for kind, n in self.counts[split].items())

    def _shown(self) -> int:
        return self._found("demonstrations") or self._asked("demonstrations", "train")

    def _explored_tasks(self, name: str) -> int:
        how = self.recipe.all_explorations[name]
        unseen = self._asked("unseen", "train")
        return {"demonstrated": self._shown(), "unseen": unseen, "all": self._shown() + unseen}[how.tasks]

    def _found(self, stage: str) -> int:
        """How many trajectories a finished stage has; 0 if it is not finished."""
        store = self._store(stage)
        return sum(1 for _ in TrajectoryStore(store).heads()) if store is not None else 0

    def _store(self, stage: str) -> Path | None:
        done = self.done.get(stage)
        return done.folder / STORE if done is not None and (done.folder / STORE).exists() else None

    def _examples(self, row: Row, stage: Stage) -> float:
        explored = self._explored_tasks(row.explored_by) if row.explored else 0
        rollouts = self.recipe.all_explorations[row.explored_by].rollouts if row.explored else 0
        total = 0.0
        for source in row.learns_from:
            most = min(self.recipe.pair_settings(row).per_tree, 10 * rollouts)
            known = self.done.get(stage.inputs.get(source, ""))
            if source == "demonstrations":
                total += self._shown()
            elif source in ("paths", "stitched"):
                total += self._found(stage.inputs[source]) or explored
            elif source == "pairs":
                total += len(read_pairs(known.folder)) if known is not None else explored * max(1, most) * _PAIRS
            elif source == "trees":
                total += explored * (1 if METHODS[row.method].takes == "runs" else rollouts)
            else:
                total += explored * min(most, rollouts) / 2
        return total

    # --- what each takes ---

    def _shape(self, row: str) -> Shape:
        root = chain_of(self.recipe, row)[0]
        if is_scratch(self.recipe, root):
            return shape_from_scratch(self.recipe.scratch)
        model = self.recipe.untuned(root.name) or ""
        return shape_of(model if is_local(model) else parse_name(model).model)

    def _demonstrations(self, stage: Stage) -> StagePlan:
        if stage.name != "demonstrations":
            return StagePlan(stage.name)
        shown = self._shown()
        return StagePlan(stage.name, shown, seconds=shown * self.environment[0])

    def _training(self, stage: Stage) -> StagePlan:
        row = self.recipe.all_rows["weak" if stage.name == "weak" else stage.name.removeprefix("train-")]
        method, shape, sizes = METHODS[row.method], self._shape(row.name), self.sizes
        how = resolved(self.recipe.train_settings(row), method)
        whole = is_scratch(self.recipe, row)
        examples = self._examples(row, stage)
        steps = sizes.agent if method.takes in ("branches", "labelled", "advantages") else sizes.expert
        length = sizes.tokens(steps)
        apart = _WHOLE_PAIRS if row.learns_from[0].startswith("expert-pairs") else _UNPACKED.get(method.takes, 1.0)
        tokens = examples * (how.epochs or 0) * length * apart
        # Forward, backward through what is computed down to the lowest adapter, and, unless the weights are frozen,
        # backward to the weights. The reference shares what is below the adapter if it is the row's own start.
        lora = self.recipe.strong.lora
        depth = 1.0 if whole else shape.tuned(lora) / shape.layers
        reference = depth if row.reference == "start" else 1.0
        passes = 1 + (2 if whole else depth) + how.recompute * depth + (method.section == "preference") * reference
        together = how.batch or max(1.0, how.pack_tokens / length)
        # What all episodes begin with is computed once for all that are packed together.
        packed = 1 - (sizes.shared / length * (1 - 1 / together) if how.packed else 0)
        work = shape.forward(tokens * packed, length, tokens * steps * sizes.reply / length) * passes
        tuned = shape.parameters if whole else shape.adapter(lora)
        at_once = length * apart * how.batch if how.batch is not None else how.pack_tokens
        kept = shape.hidden * (2 if how.recompute else 34) * shape.layers * depth + 8 * shape.vocabulary
        memory = 16 * tuned + (0 if whole else 2 * shape.parameters) + at_once * kept
        seconds = _LOADING + _PREPARING + 2 * shape.parameters / _DISK + work / self.hardware.speed(shape.hidden)
        return StagePlan(stage.name, round(examples), tokens, memory, seconds)

    def _exploration(self, stage: Stage) -> StagePlan:
        name = stage.name.removeprefix("explore-")
        how = self.recipe.all_explorations[name]
        episodes = self._explored_tasks(name) * how.rollouts * (1 if how.strategy == "independent" else 2)
        return self._played(stage, how.by, episodes)

    def _evaluation(self, stage: Stage) -> StagePlan:
        name = stage.name.removeprefix("evaluate-")
        split = self.recipe.evaluate.split
        asked, there = self.recipe.all_rows[name].tasks, self._asked(split, split)
        return self._played(stage, name, there if asked == ALL else min(asked, there))

    def _played(self, stage: Stage, row: str, episodes: int) -> StagePlan:
        shape, sizes, play = self._shape(row), self.sizes, self.recipe.play
        served = row in play.servers or self.recipe.served(chain_of(self.recipe, row)[0].name)
        length, batch = sizes.tokens(sizes.agent), min(play.batch, episodes)
        written = sizes.agent * sizes.reply
        work = shape.forward(episodes * length, length, episodes * written)
        turns = math.ceil(episodes / max(1, batch)) * sizes.agent * _LONGEST
        decoding = turns * sizes.reply * _LONGEST * self.hardware.decoded(shape, served=served)
        _, reset, step = self.environment
        acting = episodes * (reset + sizes.agent * step) / max(1, min(batch, play.workers or 2))
        seconds = _LOADING + 2 * shape.parameters / _DISK + work / self.hardware.speed(shape.hidden) + decoding + acting
        memory = 2 * shape.parameters + batch * length * shape.memory_of_a_token
        return StagePlan(stage.name, episodes, episodes * length, memory, seconds)

    def _guarantee(self, stage: Stage) -> StagePlan:
        row = self.recipe.all_rows[stage.name.removeprefix("guarantee-")]
        shape, paths = self._shape(row.name), self._explored_tasks(row.explored_by)
        length = self.sizes.tokens(self.sizes.expert)
        work = shape.forward(paths * length, length, paths * length)
        seconds = _LOADING + 2 * shape.parameters / _DISK + work / self.hardware.speed(shape.hidden)
        return StagePlan(stage.name, paths, paths * length, 2.0 * shape.parameters, seconds)


__all__ = ["Plan", "StagePlan", "plan_of"]
