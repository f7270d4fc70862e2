"""The situations of results that were stored without them, asked of their environment where that is there."""

from __future__ import annotations

from dataclasses import replace

import yaml

from trajtree.envs.domain import load_domain
from trajtree.errors import DataError, TrajtreeError
from trajtree.report import ReportData
from trajtree.statistics.summary import with_situations


def in_situations(data: ReportData) -> ReportData:
    """The report with its tasks' situations; where they cannot be had, as it was, with a note that says why."""
    if data.results.by_situation:
        return data
    try:
        situation = load_domain(_environment(data.recipe_yaml)).situation
        return replace(data, results=with_situations(data.results, situation))
    except (TrajtreeError, ModuleNotFoundError) as error:
        return replace(data, notes=(*data.notes, f"These results were stored without situations, and {error}."))


def _environment(recipe: str) -> str:
    """The name of the environment in a recipe as YAML."""
    try:
        return str(yaml.safe_load(recipe)["env"]["name"])
    except (yaml.YAMLError, TypeError, KeyError):
        raise DataError("their recipe names no environment") from None


__all__ = ["in_situations"]
