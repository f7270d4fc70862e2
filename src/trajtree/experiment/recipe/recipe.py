"""A whole recipe: its sections, and what follows from them for rows and explorations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from trajtree.experiment.recipe.checks import check, known_in
from trajtree.experiment.recipe.sections import (
    Count,
    Env,
    Evaluate,
    Exploration,
    FolderName,
    Play,
    RowSpec,
    Section,
    Strong,
    Tasks,
    Train,
    Weak,
)
from trajtree.experiment.recipe.text import explain
from trajtree.experiment.rows import ALL, OF_WEAK, ROWS, Row, later_round
from trajtree.policies.opening import is_local
from trajtree.train.settings import Scratch, TrainSettings
from trajtree.trees.forks import PairSettings
from trajtree.trees.merge import MergeSettings
from trajtree.trees.search import PathSettings

D = TypeVar("D")


class Recipe(Section):
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
    explorations: dict[FolderName, Exploration] = Field(default_factory=dict)
    """Further explorations, or replacements for these two."""
    trees: MergeSettings = MergeSettings()
    pairs: PairSettings = PairSettings()
    paths: PathSettings = PathSettings()
    sft: TrainSettings = TrainSettings()
    preference: TrainSettings = TrainSettings()
    rows: dict[FolderName, RowSpec] = Field(default_factory=dict)
    evaluate: Evaluate = Evaluate()
    play: Play = Play()
    train: Train = Train()

    @model_validator(mode="after")
    def _rows_fit(self) -> Recipe:
        check(self)
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
                known_in(f"rows.{name}.like", spec.like, found)
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


__all__ = ["Recipe"]
