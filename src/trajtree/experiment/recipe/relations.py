"""How the rows and explorations of a recipe build on one another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trajtree.experiment.rows import Row, chain

if TYPE_CHECKING:
    from trajtree.experiment.recipe.recipe import Recipe


def is_scratch(recipe: Recipe, row: Row) -> bool:
    """Whether the row's model is trained from scratch."""
    return row.name == "weak" and recipe.weak.model is None


def chain_of(recipe: Recipe, name: str) -> list[Row]:
    """The rows from the recipe's own model to `name`, each starting from the one before."""
    return chain(recipe.all_rows, name)


def explorers(recipe: Recipe, exploration: str) -> list[str]:
    """The rows whose runs are in an exploration's trees: its own, and those of the explorations that it adds to."""
    how = recipe.all_explorations[exploration]
    return [*how.players, *(explorers(recipe, how.adds_to) if how.adds_to is not None else [])]


def needs_of(recipe: Recipe, row: Row) -> list[str]:
    """The rows whose models a row is made with: its start, its reference, and those that explored for it."""
    start = [row.starts_from] if row.starts_from is not None else []
    reference = [row.reference] if row.trained and row.reference != "start" else []
    return [*start, *reference, *(explorers(recipe, row.explored_by) if row.explored else [])]


def made_with(recipe: Recipe, names: Iterable[str]) -> set[str]:
    """Rows, and all those that they are made with, directly or indirectly; of a row that is not there, nothing more."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += needs_of(recipe, recipe.all_rows[name]) if name in recipe.all_rows else []
    return found


__all__ = ["chain_of", "explorers", "is_scratch", "made_with", "needs_of"]
