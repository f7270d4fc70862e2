"""How the rows and explorations of a recipe build on one another."""

from __future__ import annotations

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


__all__ = ["chain_of", "explorers", "is_scratch"]
