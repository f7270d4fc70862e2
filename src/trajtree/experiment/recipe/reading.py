"""Reading a recipe from its file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from trajtree.errors import DataError, RecipeError
from trajtree.experiment.recipe.recipe import Recipe
from trajtree.experiment.recipe.text import explain, from_yaml, override
from trajtree.store.files import open_input


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


__all__ = ["load_recipe"]
