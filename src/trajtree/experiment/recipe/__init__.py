"""The recipe: the configuration of a run, a YAML file checked by pydantic, with dotted overrides.

Unknown keys are refused with a hint to the closest known one, so that a typo never silently means the default.
"""

from trajtree.experiment.recipe.checks import too_many
from trajtree.experiment.recipe.reading import load_recipe
from trajtree.experiment.recipe.recipe import Recipe
from trajtree.experiment.recipe.relations import chain_of, explorers, is_scratch
from trajtree.experiment.recipe.sections import Count, Env, Evaluate, Exploration, RowSpec
from trajtree.experiment.rows import ALL

__all__ = [
    "ALL",
    "Count",
    "Env",
    "Evaluate",
    "Exploration",
    "Recipe",
    "RowSpec",
    "chain_of",
    "explorers",
    "is_scratch",
    "load_recipe",
    "too_many",
]
