"""Training without dropout.

Dropout would make a pack differ from its branches, the policy differ from its own reference before the first step, and
a reference that is computed once differ from one that is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PretrainedConfig

# torch has no public name for what all its dropout modules have in common.
_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@contextmanager
def without_dropout(models: Sequence[Any]) -> Iterator[None]:
    """A context in which nothing is dropped out in any of `models`, their adapters included, in training mode too.

    Shares are set to 0 in the modules for dropout, and under every name that speaks of it in other modules and in
    configurations, where modelling code reads them. Afterwards they are as they were, so a saved model keeps them.
    """
    before = [(holder, name, share) for model in models for holder, name, share in _shares(model)]
    for holder, name, _ in before:
        setattr(holder, name, 0.0)
    try:
        yield
    finally:
        for holder, name, share in before:
            setattr(holder, name, share)


def _shares(model: Any) -> list[tuple[Any, str, float]]:
    """Where the model keeps shares that are dropped out and are above 0: the object, the attribute and its value."""
    modules = list(model.modules())
    configs = [config for module in modules if isinstance(config := getattr(module, "config", None), PretrainedConfig)]
    each = {id(one): one for config in configs for one in (config, config.get_text_config())}
    return [
        (holder, name, share)
        for holder in (*modules, *each.values())
        for name, share in vars(holder).items()
        if isinstance(share, float) and share and ("drop" in name or (name == "p" and isinstance(holder, _MODULES)))
    ]


__all__ = ["without_dropout"]
