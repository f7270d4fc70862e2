"""What the sections of a recipe must agree in: rows, explorations and models that there are, settings that are used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import combinations
from typing import TYPE_CHECKING

from trajtree.errors import counted, one_of
from trajtree.experiment.recipe.relations import is_scratch, needs_of
from trajtree.experiment.rows import ALL, OF_WEAK, Row, chain
from trajtree.policies.opening import is_local
from trajtree.train.settings import METHODS, LossSettings, TrainSettings, users_of
from trajtree.trees.merge import MergeSettings

if TYPE_CHECKING:
    from trajtree.experiment.recipe.recipe import Recipe
    from trajtree.experiment.recipe.sections import Exploration


def known_in(where: str, name: str, known: Iterable[str]) -> None:
    """Check that a name is one of those known; the ValueError begins with the key, `where`."""
    try:
        one_of(list(known))(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def check(recipe: Recipe) -> None:
    """Check a recipe as a whole; each of its sections is valid.

    Raises:
        ValueError: the message begins with the key, and says what to do.
    """
    for kind in recipe.env.max_steps if isinstance(recipe.env.max_steps, dict) else ():
        known_in("env.max_steps", kind, recipe.tasks.types)
    for row in recipe.all_rows.values():
        _check_row(recipe, row)
    _check_used(recipe)
    for compared in recipe.evaluate.comparisons:
        for row_name in compared:
            known_in("evaluate.comparisons", row_name, recipe.all_rows)
    for row_name, server in recipe.play.servers.items():
        known_in("play.servers", row_name, recipe.all_rows)
        if is_local(server):
            raise ValueError(f"play.servers.{row_name}: {server!r} is not a server; write openai:MODEL@URL")
    for row_name in recipe.evaluate.tried:
        known_in("evaluate.tried", row_name, recipe.all_rows)
    for row_name in recipe.evaluate.elsewhere:
        known_in("evaluate.elsewhere", row_name, recipe.all_rows)
    if recipe.held_out == 0:
        split = recipe.evaluate.split
        raise ValueError(f"tasks.{split}: 0, but rows are measured on {split}; ask for some, or change evaluate.split")
    for row_name in recipe.evaluate.rows:
        known_in("evaluate.rows", row_name, recipe.all_rows)
        if recipe.evaluate.rows.count(row_name) > 1:
            raise ValueError(f"evaluate.rows: {row_name} is named twice")
        _check_order(recipe, row_name)
        _check_tunable(recipe, row_name)
        if recipe.held_out != ALL and (short := too_many(recipe, row_name, recipe.held_out)):
            raise ValueError(short)


def _check_row(recipe: Recipe, row: Row) -> None:
    where = f"rows.{row.name}"
    if row.starts_from is None and row.name not in (*OF_WEAK, "strong"):
        raise ValueError(f"{where}.starts_from: name the row with the model to start from, for example strong")
    if row.starts_from is not None:
        known_in(f"{where}.starts_from", row.starts_from, recipe.all_rows)
    if row.reference != "start":
        known_in(f"{where}.reference", row.reference, ["start", *recipe.all_rows])
    if row.explored:
        known_in(f"{where}.explored_by", row.explored_by, recipe.all_explorations)
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
    """Refuse an exploration by an unknown row, or one that adds to an unknown one, to itself, or to its own runs."""
    known = recipe.all_explorations
    seen = [name]
    while True:
        how, where = known[seen[-1]], f"explorations.{seen[-1]}"
        known_in(f"{where}.by", how.by, recipe.all_rows)
        for number, slot in enumerate(how.grid):
            if slot.by is not None:
                known_in(f"{where}.grid.{number}.by", slot.by, recipe.all_rows)
        if how.rounds > 1:
            raise ValueError(f"{where}.rounds: only `explore` has rounds; say what this one adds to with adds_to")
        if how.adds_to is None:
            break
        known_in(f"{where}.adds_to", how.adds_to, known)
        if how.adds_to in seen:
            raise ValueError(f"{where}.adds_to: adds to itself: {' adds to '.join([*seen, how.adds_to])}")
        seen.append(how.adds_to)
    for above, below in combinations(seen, 2):
        if (sample := _same_sample(known[above], known[below])) is not None:
            raise ValueError(
                f"explorations.{above}.adds_to: sample {sample} of a task would be the same run as in {below}, since "
                "the model and the sampling settings are the same, and would count twice; change its grid, or let "
                f"{below} have more rollouts instead"
            )


def _same_sample(one: Exploration, other: Exploration) -> int | None:
    """The first sample that two explorations play alike, since a seed and its number decide it; None if none is."""
    if {one.tasks, other.tasks} == {"demonstrated", "unseen"}:
        return None

    def played(how: Exploration, sample: int) -> tuple[str, float, float]:
        slot = how.grid[sample % len(how.grid)]
        return (slot.by or how.by, slot.temperature, slot.top_p)

    both = range(min(one.rollouts, other.rollouts))
    return next((sample for sample in both if played(one, sample) == played(other, sample)), None)


def _check_order(recipe: Recipe, name: str) -> None:
    """Refuse a row that depends on itself, or on a model that the recipe does not have."""

    def walk(row: str, above: tuple[str, ...]) -> None:
        if row in above:
            raise ValueError(f"rows.{name}: needs itself: {' needs '.join([*above, row])}")
        if row == "weak_untouched" and recipe.weak.model is None:
            why = "the weak model is trained from scratch, so there is none before its tuning; name one in weak.model"
            raise ValueError(f"rows.{name}: needs weak_untouched, but {why}")
        for needed in needs_of(recipe, recipe.all_rows[row]):
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


__all__ = ["check", "known_in", "too_many"]
