"""The plan of a run: which stages a recipe needs, what each reads, and what its result depends on.

demonstrations -> weak -> explore -> trees -> pairs | paths -> train -> evaluate -> report

The plan starts from the rows to be measured and adds exactly what each of them needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from itertools import chain, count
from typing import Any

from trajtree.envs.domain import load_domain
from trajtree.errors import RecipeError
from trajtree.experiment import guarantee, launched, learn, lessons, play, stitched, tasks
from trajtree.experiment.recipe import ALL, Exploration, Recipe, chain_of, is_scratch
from trajtree.experiment.rows import Row
from trajtree.experiment.stage import Check, Stage, Work, early_first
from trajtree.models.sentences import key_of_merging
from trajtree.models.weights import fingerprint, pick_dtype, same_vocabulary
from trajtree.policies.opening import is_served, key_of_model
from trajtree.train.settings import METHODS, SAME_RESULT, LossSettings

_NOT_EVERY_ROWS = {"workers", "seconds", "report_to", "needs", "servers"}
"""Settings of playing that change how environments run and where progress is reported, but not what happens; and
servers, which are part of the rows that they play."""


def stages_of(recipe: Recipe, *, checked: bool = True) -> list[Stage]:
    """Every stage of a run, each after what it reads, and what shows whether there is anything to learn early.

    Args:
        recipe: what to run.
        checked: whether the vocabularies of references are compared, which needs the models' tokenizers, and whether a
            split that is taken whole has enough tasks for every row, which needs the environment's data.
    """
    plan = _Plan(recipe, checked)
    for row in recipe.evaluate.rows:
        plan.model(row)
    for row in recipe.evaluate.rows:
        if recipe.evaluate.guarantee and guarantee.is_about(recipe.all_rows[row]):
            plan.guarantee(row)
    for row in recipe.evaluate.rows:
        plan.evaluated(row)
    return early_first(list(plan.stages.values()))


class _Plan:
    """Stages by name, in the order in which the need for them was found, each after its inputs."""

    def __init__(self, recipe: Recipe, checked: bool) -> None:
        self._checked = checked
        dtype = pick_dtype(recipe.play.dtype)
        self.recipe = recipe.model_copy(update={"play": recipe.play.model_copy(update={"dtype": dtype})})
        self.stages: dict[str, Stage] = {}
        domain = load_domain(recipe.env.name)
        self._env = {
            "name": recipe.env.name,
            **_changed(recipe.env),
            "version": domain.environment.version,
            **({"data": data} if (data := domain.data()) else {}),
        }
        play = {name: value for name, value in _changed(recipe.play).items() if name not in _NOT_EVERY_ROWS}
        self._splits, self._expert = tasks.brought(recipe)
        given = tasks.opening(recipe)
        opening = {"opening": [[m.role, m.content] for m in given]} if given else {}
        self._play = {**play, **opening, "dtype": dtype, "env": self._env}

    def _playing(self, name: str) -> dict[str, Any]:
        """How a row's model plays; on a server the arithmetic here does not count, nor the episodes at once."""
        server = self.recipe.play.servers.get(name)
        if server is None and not self.recipe.served(chain_of(self.recipe, name)[0].name):
            return self._play
        elsewhere = {} if server is None else {"server": key_of_model(server)["model"]}
        return {knob: value for knob, value in self._play.items() if knob not in ("dtype", "batch")} | elsewhere

    def _asks_servers(self, rows: Iterable[str]) -> bool:
        """Whether the model of one of the rows plays on servers."""
        rows = list(rows)
        if any(row in self.recipe.play.servers for row in rows):
            return True
        models = [self.recipe.untuned(chain_of(self.recipe, row)[0].name) for row in rows]
        return any(model is not None and is_served(model) for model in models)

    # --- tasks and demonstrations ---

    def tasks(self) -> str:
        """Add the stage that chooses the task sets."""
        sets = self.recipe.tasks
        settings = {"env": self._env, "types": sets.types, "dev": sets.dev, "test": sets.test, **self._splits}
        return self._add("tasks", "tasks", {}, settings, partial(tasks.choose, self.recipe))

    def demonstrations(self) -> str:
        """Add the stage of the expert's trajectories."""
        # A file of splits also says which of the expert's runs belongs to which task.
        recorded = {**self._expert, **self._splits} if self._expert else {}
        if self.recipe.env.thoughts and not recorded:
            recorded = {"form": "lines"}
        settings = {"env": self._env, "demonstrations": self.recipe.tasks.demonstrations, **recorded}
        inputs = {"tasks": self.tasks()}
        return self._add("demonstrations", "demonstrations", inputs, settings, partial(tasks.demonstrate, self.recipe))

    def unseen(self) -> str:
        """Add the stage of tasks that were not demonstrated."""
        inputs = {"tasks": self.tasks(), "demonstrations": self.demonstrations()}
        settings = {"unseen": self.recipe.tasks.unseen}
        return self._add("unseen", "demonstrations", inputs, settings, partial(tasks.choose_unseen, self.recipe))

    # --- models ---

    def model(self, name: str) -> dict[str, str]:
        """The stage of every trained part of a row's model, by role, bottom first."""
        trained = [row for row in chain_of(self.recipe, name) if row.trained]
        return {f"model {number}": self._trained(row) for number, row in enumerate(trained)}

    def _trained(self, row: Row) -> str:
        below = self.model(row.starts_from) if row.starts_from is not None else {}
        data, settings = self._data(row)
        reference: dict[str, str] = {}
        if row.reference != "start":
            if self._checked:
                self._check_vocabulary(row)
            reference = {f"reference {role}": name for role, name in self.model(row.reference).items()}
            settings["reference"] = self._base(row.reference)
        settings |= {
            "model": self._tuned_base(row),
            "method": row.method,
            "train": self._how(row),
            "seed": self.recipe.seed,
            # Every process takes a batch of its own, so their number counts.
            **_changed(self.recipe.train),
        }
        kind, name = ("weak", "weak") if row.name == "weak" else ("train", f"train-{row.name}")
        train = launched.launch if self.recipe.train.launch else learn.train_row
        work = partial(train, self.recipe, row)
        return self._add(name, kind, {**data, **below, **reference}, settings, work, check=self._check(row, data))

    def _check(self, row: Row, data: Mapping[str, str]) -> Check | None:
        """Whether an exploration found what the row learns from; an expert's demonstrations are always there."""
        return Check(tuple(data), partial(learn.why_nothing, self.recipe, row)) if row.explored else None

    def _check_vocabulary(self, row: Row) -> None:
        """Refuse, before anything is done, a reference that cannot score the tokens that the row is trained on."""
        ours, theirs = (self._tokens_of(name) for name in (row.name, row.reference))
        if not same_vocabulary(ours, theirs):
            raise RecipeError(
                f"rows.{row.name}.reference: {row.reference} has the vocabulary of {theirs}, which differs from "
                f"that of {ours}, so it cannot score the trained tokens; set reference: start, or give both the same "
                "vocabulary"
            )

    def _tokens_of(self, name: str) -> str:
        """The model that provides the vocabulary of a row's model."""
        if chain_of(self.recipe, name)[0].name == "strong":
            return self.recipe.strong.model
        return self.recipe.weak.model or self.recipe.weak.tokenizer

    def _how(self, row: Row) -> dict[str, Any]:
        """Those of a row's training settings that its result depends on."""
        ignored = {f.name for f in fields(LossSettings)} - {"weigh", *METHODS[row.method].knobs}
        said = _changed(self.recipe.train_settings(row))
        return {name: value for name, value in said.items() if name not in ignored | SAME_RESULT}

    def _base(self, name: str) -> dict[str, Any]:
        """What identifies the recipe's own model below a row."""
        root = chain_of(self.recipe, name)[0].name
        if root == "strong":
            return key_of_model(self.recipe.strong.model)
        weak = self.recipe.weak
        if weak.model is not None:
            return key_of_model(weak.model)
        size = {"hidden": weak.hidden, "layers": weak.layers, "context": weak.context}
        return {"tokenizer": weak.tokenizer, **size, "weights": fingerprint(weak.tokenizer)}

    def _tuned_base(self, row: Row) -> dict[str, Any]:
        base = {**self._base(row.name), "dtype": self.recipe.play.dtype}
        return base if is_scratch(self.recipe, row) else {**base, "lora": _changed(self.recipe.strong.lora)}

    # --- what rows learn from ---

    def _data(self, row: Row) -> tuple[dict[str, str], dict[str, Any]]:
        """The inputs with what a row learns from, and the settings that select from them."""
        inputs: dict[str, str] = {}
        settings: dict[str, Any] = {"learns_from": row.learns_from}
        for source in row.learns_from:
            if source == "demonstrations":
                inputs[source] = self.demonstrations()
            elif source == "paths":
                inputs[source] = self._paths(row)
            elif source == "trees":
                inputs[source] = self.trees(row)
                settings |= {"pairs": _changed(self.recipe.pair_settings(row))}
                settings |= {"paths": _changed(self.recipe.path_settings(row))}
            elif source == "pairs":
                inputs |= {source: self._pairs(row), "explored": self.explored(row.explored_by)}
            elif source == "stitched":
                inputs[source] = self._stitched(row)
            elif source == "expert-pairs":
                inputs |= {source: self._expert_pairs(row)}
            elif source == "expert-forks":
                inputs |= {source: self._expert_forks(row)}
        return inputs, settings

    def explored(self, name: str) -> str:
        """An exploration's trajectories, with those that it adds to."""
        how = self.recipe.all_explorations[name]
        played = self._played(name, how)
        if how.adds_to is None:
            return played
        inputs = {"before": self.explored(how.adds_to), "added": played}
        return self._add(f"pool-{name}", "pool", inputs, {}, lessons.pool_explorations)

    def _played(self, name: str, how: Exploration) -> str:
        inputs = self.model(how.by)
        if how.tasks in ("demonstrated", "all"):
            inputs["demonstrations"] = self.demonstrations()
        if how.tasks in ("unseen", "all"):
            inputs["unseen"] = self.unseen()
        settings = {
            **how.model_dump(mode="json", exclude_defaults=True, exclude={"by", "adds_to"}),
            "policy": how.by,
            "model": self._base(how.by),
            "play": self._playing(how.by),
            "seed": self.recipe.seed,
        }
        for other in how.players[1:]:
            inputs |= {f"{other}: {role}": stage for role, stage in self.model(other).items()}
            settings[f"policy {other}"] = {"model": self._base(other), "play": self._playing(other)}
        work = partial(play.explore, self.recipe, how)
        here = self._asks_servers(how.players)
        return self._add(f"explore-{name}", "explore", inputs, settings, work, here=here)

    def trees(self, row: Row) -> str:
        """Add the stage of the trees that a row learns from."""
        how = self.recipe.tree_settings(row)
        merging = key_of_merging(how, checked=self._checked)
        settings = {"env": self._env, **({"merge": merging} if merging else {})}
        inputs = {"explored": self.explored(row.explored_by)}
        work = partial(lessons.build_trees, self.recipe, how)
        return self._add(f"trees-{row.explored_by}", "trees", inputs, settings, work, row)

    def _pairs(self, row: Row) -> str:
        how = self.recipe.pair_settings(row)
        inputs = {"trees": self.trees(row)}
        work = partial(lessons.find_pairs, how)
        return self._add(f"pairs-{row.explored_by}", "pairs", inputs, _changed(how), work, row)

    def _paths(self, row: Row) -> str:
        how = self.recipe.path_settings(row)
        inputs = {"trees": self.trees(row)}
        work = partial(lessons.find_paths, how)
        return self._add(f"paths-{row.explored_by}-{how.search}", "paths", inputs, _changed(how), work, row)

    def _expert_pairs(self, row: Row) -> str:
        how = self.recipe.pair_settings(row)
        inputs = {"demonstrations": self.demonstrations(), "explored": self.explored(row.explored_by)}
        settings = {"expert": True, "min_gap": how.min_gap, "per_tree": how.per_tree}
        work = partial(lessons.find_expert_pairs, how)
        return self._add(f"pairs-{row.explored_by}-expert", "pairs", inputs, settings, work, row)

    def _expert_forks(self, row: Row) -> str:
        how = self.recipe.pair_settings(row)
        inputs = {"demonstrations": self.demonstrations(), "explored": self.explored(row.explored_by)}
        limits = {"min_gap": how.min_gap, "per_fork": how.per_fork, "per_tree": how.per_tree}
        settings = {"expert": "forks", "env": self._env, **limits}
        work = partial(lessons.find_expert_forks, self.recipe, how)
        return self._add(f"pairs-{row.explored_by}-expert-forks", "pairs", inputs, settings, work, row)

    def _stitched(self, row: Row) -> str:
        how = self.recipe.path_settings(row)
        inputs = {"trees": self.trees(row)}
        settings = {"env": self._env, "min_score": how.min_score}
        work = partial(stitched.stitch_paths, self.recipe, how)
        return self._add(f"stitched-{row.explored_by}", "stitch", inputs, settings, work, row)

    # --- measuring ---

    def guarantee(self, name: str) -> str:
        """What the paper's guarantee asks for, of a row that DPO tunes."""
        row = self.recipe.all_rows[name]
        reference = guarantee.reference_of(row)
        inputs = {"trees": self.trees(row), "pairs": self._pairs(row), **self.model(reference)}
        settings = {"model": self._base(reference), "dtype": self.recipe.play.dtype}
        work = partial(guarantee.measure, self.recipe, row)
        check = Check(("pairs",), partial(learn.why_no_pair, self.recipe, row))
        return self._add(guarantee.stage_of(row), "guarantee", inputs, settings, work, check=check)

    def evaluated(self, name: str) -> str:
        """Add the stage of a row's episodes on the held-out tasks."""
        row = self.recipe.all_rows[name]
        if self._checked:
            tasks.check_enough_to_measure(self.recipe, name)
        inputs = {"tasks": self.tasks(), **self.model(name)}
        # Greedy, so the seed changes nothing.
        settings = {
            "split": self.recipe.evaluate.split,
            "play": self._playing(name),
            "policy": name,
            "model": self._base(name),
            **({} if row.tasks == ALL else {"tasks": row.tasks}),
        }
        work = partial(play.evaluate, self.recipe, row)
        # Two rows whose models are equal to the byte play the same: one of them is enough.
        here = self._asks_servers([name])
        return self._add(f"evaluate-{name}", "evaluate", inputs, settings, work, labels=("policy",), here=here)

    def _add(
        self,
        name: str,
        kind: str,
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        work: Callable[[Work], None],
        row: Row | None = None,
        labels: tuple[str, ...] = (),
        check: Check | None = None,
        here: bool = False,
    ) -> str:
        """Add a stage unless an equal one exists; if its name is taken by a different stage, use the row's name.

        Names are joined by hyphens, so that one may be taken too, by a row or an exploration of the recipe's own: then
        it gets a number. Names are not part of keys.
        """
        if row is not None and name in self.stages:
            for there in self.stages.values():
                if (there.kind, there.inputs, there.settings) == (kind, inputs, settings):
                    return there.name
            named = f"{name}-{row.name}"
            name = next(free for free in chain([named], (f"{named}-{n}" for n in count(2))) if free not in self.stages)
        there = self.stages.setdefault(name, Stage(name, kind, inputs, settings, work, labels, check, here))
        assert (there.kind, there.inputs, there.settings) == (kind, inputs, settings), f"two stages are called {name}"
        return name


def _changed(section: Any) -> dict[str, Any]:
    """The settings of a recipe's section that differ from their defaults."""
    if hasattr(section, "model_dump"):
        dumped: dict[str, Any] = section.model_dump(mode="json", exclude_defaults=True)
        return dumped
    found = {}
    for f in fields(section):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if (value := getattr(section, f.name)) != default:
            found[f.name] = value
    return found


__all__ = ["stages_of"]
