"""The layers below an adapter, which a model and the same model without its adapter have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from torch import Tensor, nn


def layer_stack(model: Any) -> tuple[str, nn.ModuleList]:
    """Name and modules of a model's layers, in order; no modules if the model does not keep them in a list."""
    count = model.config.get_text_config().num_hidden_layers
    lists = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList))
    return next(((name, part) for name, part in lists if len(part) == count), ("", nn.ModuleList()))


def untrained_layers(model: Any) -> list[nn.Module]:
    """The layers below the first one with a trained weight; none if what they read is trained, or is read further up.

    Args:
        model: bare, or wrapped by a trainer.
    """
    inner = model.module if hasattr(model, "module") else model
    if getattr(inner.config.get_text_config(), "num_kv_shared_layers", 0):
        return []  # upper layers read the keys and values of lower ones
    if _trained(inner.get_input_embeddings()):
        return []
    return list(takewhile(lambda layer: not _trained(layer), layer_stack(inner)[1]))


@contextmanager
def lower_layers_once(model: Any) -> Iterator[None]:
    """A context in which the untrained lower layers are computed in the first forward pass only.

    Later passes take their output from the first one, so all passes must be of the same batch. The adapter may be
    switched off and on between them.
    """
    layers = untrained_layers(model)
    if not layers:
        yield
        return

    def from_now_on(module: nn.Module, given: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return  # a layer that hands on more than its hidden state is computed each time
        for layer in layers[:-1]:
            vars(layer)["forward"] = lambda hidden_states, *args, **kwargs: hidden_states
        vars(module)["forward"] = lambda hidden_states, *args, **kwargs: output

    hook = layers[-1].register_forward_hook(from_now_on)
    try:
        yield
    finally:
        hook.remove()
        for layer in layers:
            vars(layer).pop("forward", None)


def _trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


__all__ = ["layer_stack", "lower_layers_once", "untrained_layers"]
