"""The layers below an adapter, which a model and the same model without its adapter have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_HANDS_ON: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Whether all that a model's upper layers read of the lower ones is the hidden state, once it was tried."""


def layer_stack(model: Any) -> tuple[str, nn.ModuleList]:
    """Name and modules of a model's layers, in order; no modules if the model does not keep them in a list."""
    count = model.config.get_text_config().num_hidden_layers
    lists = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList))
    return next(((name, part) for name, part in lists if len(part) == count), ("", nn.ModuleList()))


def untrained_layers(model: Any) -> list[nn.Module]:
    """The layers below the first one with a trained weight; none if anything else below is trained, or read above."""
    if getattr(model.config.get_text_config(), "num_kv_shared_layers", 0):
        return []  # upper layers take the keys and values of lower ones, and fail without them
    layers = layer_stack(model)[1]
    found = list(takewhile(lambda layer: not any(weight.requires_grad for weight in layer.parameters()), layers))
    above = {id(weight) for part in (*layers[len(found) :], _head(model)) for weight in part.parameters()}
    above -= {id(weight) for weight in model.get_input_embeddings().parameters()}  # which the head may share
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    return found if all(id(weight) in above for weight in trained) else []


@contextmanager
def lower_layers_once(model: Any) -> Iterator[None]:
    """A context in which the untrained lower layers are computed in the first forward pass only.

    Later passes take their output from the first one, so all passes must be of the same batch. The adapter may be
    switched off and on between them, but is on when the context begins. No effect on models of which more than the
    hidden state goes up, or which drop out at random.

    Args:
        model: bare, or wrapped by a trainer.
    """
    inner = model.module if hasattr(model, "module") else model
    layers = untrained_layers(inner)
    if layers and inner not in _HANDS_ON:
        _HANDS_ON[inner] = _hands_on(inner, layers)
    with _once(layers if layers and _HANDS_ON[inner] else []):
        yield


@contextmanager
def _once(layers: Sequence[nn.Module]) -> Iterator[None]:
    if not layers:
        yield
        return

    def from_now_on(module: nn.Module, given: Any, output: Any) -> None:
        hook.remove()
        if not isinstance(output, Tensor):
            return  # a layer that hands on more than its hidden state is computed each time
        for layer in layers[:-1]:
            vars(layer)["forward"] = lambda hidden_states, *args, **kwargs: hidden_states
        vars(module)["forward"] = lambda hidden_states, *args, **kwargs: output

    before = [vars(layer).get("forward") for layer in layers]
    hook = layers[-1].register_forward_hook(from_now_on)
    try:
        yield
    finally:
        hook.remove()
        for layer, own in zip(layers, before, strict=True):
            vars(layer).pop("forward", None)
            if own is not None:
                vars(layer)["forward"] = own


def _hands_on(model: Any, layers: Sequence[nn.Module]) -> bool:
    """Tried with a few tokens: whether a pass that takes the lower layers' output is the same as a whole one."""
    ids = torch.arange(8, device=next(model.parameters()).device)[None]
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        with _once(layers):
            again = [model(input_ids=ids, use_cache=False).logits for _ in range(2)][1]
    return torch.equal(whole, again)


def _head(model: Any) -> nn.Module:
    return model.get_output_embeddings() or nn.Identity()


__all__ = ["layer_stack", "lower_layers_once", "untrained_layers"]
