"""What each row of a finished run is made from, and what it cost: nothing that rows differ in is hidden by a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from trajtree.errors import counted
from trajtree.experiment.recipe import Recipe, chain_of, explorers, is_scratch
from trajtree.experiment.rows import SOURCES, Row
from trajtree.experiment.stage import Done
from trajtree.experiment.tasks import store_in
from trajtree.explore.episode import sampled_tokens
from trajtree.report import RowStatement
from trajtree.report.text import listed
from trajtree.train.settings import CHOSEN, METHODS, REJECTED, resolved


class Statements:
    """The statements of a run's rows; what several rows share is counted once."""

    def __init__(self, recipe: Recipe, done: Mapping[str, Done]) -> None:
        self._recipe, self._done = recipe, done
        self._measured = [name for name in recipe.evaluate.rows if f"evaluate-{name}" in done]
        self._played: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> RowStatement:
        """What a row is made from, with everything that the rows before it in its chain took."""
        row, chain = self._recipe.all_rows[name], chain_of(self._recipe, name)
        explorations = sorted({one for part in chain for one in self._explorations(part)})
        played = [self._episodes(exploration) for exploration in explorations]
        steps: list[int | None] = [self._figures(part).get("steps") for part in chain if part.trained]
        return RowStatement(
            row=name,
            start=self._start(row),
            reference=self._reference(row),
            data=self._data(row),
            loss=self._loss(row),
            demonstrations=self._demonstrations if self._uses_demonstrations(name) else 0,
            episodes=sum(episodes for episodes, _ in played),
            agent_tokens=sum(tokens for _, tokens in played),
            examples=self._figures(row).get("examples"),
            steps=self._figures(row).get("steps") if row.trained else 0,
            all_steps=None if None in steps else sum(filter(None, steps)),
            settings_tried=self._recipe.evaluate.tried.get(name),
            epochs=tuple(self._figures(row).get("epochs", ())),
        )

    def notes(self) -> list[str]:
        """Sentences on rows that are one model, and on rows whose chosen side became less likely."""
        return [*self._equal(), *self._fallen()]

    def _start(self, row: Row) -> str:
        if row.starts_from is not None:
            return self._label(row.starts_from)
        return "from scratch" if is_scratch(self._recipe, row) else "as published"

    def _reference(self, row: Row) -> str:
        if not row.trained or METHODS[row.method].loss == "sft":
            return "none"
        return "its start" if row.reference == "start" else self._label(row.reference)

    def _data(self, row: Row) -> str:
        if not row.trained:
            return "none"
        found = []
        for source in row.learns_from:
            if SOURCES[source].explored:
                players = listed(list(map(self._label, self._recipe.all_explorations[row.explored_by].players)))
                source = f"{source} of {players}'s runs ({row.explored_by})"
            found.append(source)
        changed = {**row.trees, **row.pairs, **row.paths}
        return "; ".join([", ".join(found), *(f"{name} {value}" for name, value in changed.items())])

    def _loss(self, row: Row) -> str:
        if not row.trained:
            return "none"
        method = METHODS[row.method]
        settings = resolved(self._recipe.train_settings(row), method)
        knobs = {name: getattr(settings, name) for name in method.knobs}
        if not method.unused("weigh"):
            knobs["weigh"] = settings.weigh
        knobs |= {"lr": settings.lr, "epochs": settings.epochs}
        return f"{row.method} ({', '.join(f'{name} {value}' for name, value in knobs.items())})"

    def _explorations(self, row: Row) -> Iterator[str]:
        """The explorations that a row learns from, with those that they add to."""
        if not row.explored:
            return
        name: str | None = row.explored_by
        while name is not None:
            yield name
            name = self._recipe.all_explorations[name].adds_to

    def _episodes(self, exploration: str) -> tuple[int, int]:
        """Number of an exploration's episodes, and of the agent tokens sampled in them."""
        if exploration not in self._played:
            store = store_in(self._done[f"explore-{exploration}"].folder)
            episodes = tokens = 0
            for trajectory in store:
                episodes += 1
                tokens += sampled_tokens(trajectory)
            self._played[exploration] = episodes, tokens
        return self._played[exploration]

    def _uses_demonstrations(self, name: str) -> bool:
        """Whether the expert's demonstrations are behind a row, its start, its explorers or its reference."""
        for row in chain_of(self._recipe, name):
            if not {"demonstrations", "expert-pairs", "expert-forks"}.isdisjoint(row.learns_from):
                return True
            others = explorers(self._recipe, row.explored_by) if row.explored else []
            if row.trained and row.reference != "start":
                others.append(row.reference)
            if any(map(self._uses_demonstrations, others)):
                return True
        return False

    @cached_property
    def _demonstrations(self) -> int:
        return sum(1 for _ in store_in(self._done["demonstrations"].folder))

    def _figures(self, row: Row) -> Mapping[str, Any]:
        """How a row's training went; nothing where an earlier version trained it."""
        done = self._done.get("weak" if row.name == "weak" else f"train-{row.name}")
        found: Mapping[str, Any] = {} if done is None else done.record.get("figures", {})
        return found

    def _equal(self) -> Iterator[str]:
        same: dict[str, list[str]] = {}
        for name in self._measured:
            record = self._done[f"evaluate-{name}"].record
            asked = record.get("settings", {}).items()
            settings = {key: value for key, value in asked if key not in ("policy", "tasks")}
            model = json.dumps([record.get("inputs"), settings], sort_keys=True, default=str)
            same.setdefault(model, []).append(self._label(name))
        for names in same.values():
            if len(names) > 1:
                yield f"{listed(names)} are one model: their training data and settings are equal."

    def _fallen(self) -> Iterator[str]:
        """A log-ratio to the start begins at 0; one to another reference is compared with the first epoch's."""
        for name in self._measured:
            row = self._recipe.all_rows[name]
            epochs = [epoch for epoch in self._figures(row).get("epochs", ()) if CHOSEN in epoch]
            if not epochs:
                continue
            before = 0.0 if row.reference == "start" else epochs[0][CHOSEN]
            if epochs[-1][CHOSEN] < before:
                rejected = f"{epochs[-1][REJECTED]:+.2f}" if REJECTED in epochs[-1] else "unknown"
                yield (
                    f"{self._label(name)}: the chosen sides became less likely in training. Mean log-ratio to the "
                    f"reference in the last of {counted(len(epochs), 'epoch')}, in nats: chosen "
                    f"{epochs[-1][CHOSEN]:+.2f} (before: {before:+.2f}), rejected {rejected}."
                )

    def _label(self, name: str) -> str:
        return self._recipe.all_rows[name].label


__all__ = ["Statements"]
