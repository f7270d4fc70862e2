"""Values that a shell offers where others can be given too: environments, their task types, models."""

from __future__ import annotations

import typer

from trajtree.cli.options.completion import Offered, offering
from trajtree.envs.domain import BUILT_IN, load_domain
from trajtree.models.weights import PACKAGED
from trajtree.policies.opening import LOCAL, SCHEMES

environments = offering(BUILT_IN)
"""Offers the built-in environments."""

models = offering({PACKAGED: SCHEMES[LOCAL], **{f"{name}:": of for name, of in SCHEMES.items() if name != LOCAL}})
"""Offers the names of models that are neither folders nor on the hub, as far as they are known."""

trainable_models = offering([PACKAGED])
"""The same for models that can be tuned."""


def task_types(context: typer.Context, incomplete: str) -> Offered:
    """Offers the task types of the built-in environment that was named before; code of one's own is not run."""
    # Where an option lacks its value, as here, the arguments of the command have not been given their names yet.
    named = (context.params.get("env"), context.params.get("name"), *context.args)
    return [offered for env in named if env in BUILT_IN for offered in offering(load_domain(env).types)(incomplete)]


__all__ = ["environments", "models", "task_types", "trainable_models"]
