"""From a batch to the log-probabilities of its trained tokens, by one forward pass of each model."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from trajtree.errors import PolicyError
from trajtree.train.batch import Batch
from trajtree.train.losses import Objective, Scores
from trajtree.train.tree_attention import packed_inputs


def logits_of(model: Any, batch: Batch) -> Tensor:
    """[S, vocabulary] logits at the places of a batch, in float32 or better; the head sees no other place."""
    if batch.plan is not None:
        found: Tensor = model(**packed_inputs(batch.ids[0], batch.plan), logits_to_keep=batch.column).logits[0]
    else:
        # Padding is on the right and attention is causal, so no mask is needed.
        columns, inverse = torch.unique(batch.column, return_inverse=True)
        found = model(input_ids=batch.ids, use_cache=False, logits_to_keep=columns).logits[batch.row, inverse]
    return found.to(torch.promote_types(found.dtype, torch.float32))


def token_logprobs(logits: Tensor, batch: Batch) -> Tensor:
    """[K] log-probabilities of the trained tokens, from logits [S, vocabulary]."""
    return logits[batch.source, batch.target] - logits.logsumexp(-1)[batch.source]


def scores_of(model: Any, batch: Batch, objective: Objective, reference: Any | None = None) -> Scores:
    """What an objective looks at.

    Args:
        model: the policy, wrapped or not.
        batch: on the model's device.
        objective: says what is needed.
        reference: a model, or None for the policy with its adapter off. Not used where the batch brings the log-
            probabilities and the objective needs no more.

    Raises:
        PolicyError: the objective looks at a reference, and there is neither a model for it nor an adapter.
    """
    if not objective.reference:
        return Scores(token_logprobs(logits_of(model, batch), batch))
    if batch.reference is not None and not objective.kl:
        return Scores(token_logprobs(logits_of(model, batch), batch), batch.reference)
    if reference is None and not has_adapter(model):
        raise PolicyError("a model without an adapter has no reference to return to: name a reference model")
    with torch.no_grad(), without_adapter(model) if reference is None else nullcontext():
        told = logits_of(model if reference is None else reference, batch)
        held = token_logprobs(told, batch)
    if not objective.kl:
        del told  # a place is as wide as the vocabulary
        return Scores(token_logprobs(logits_of(model, batch), batch), held)
    logits = logits_of(model, batch)
    policy, fixed = log_softmax(logits, -1), log_softmax(told, -1)
    kl = (policy.exp() * (policy - fixed)).sum(-1)[batch.source]
    return Scores(token_logprobs(logits, batch), held, kl)


def check_reference(model: Any, reference: Any) -> None:
    """Refuse a reference that computes otherwise than the policy does.

    Raises:
        PolicyError: another vocabulary, attention or dtype.
    """
    ours, theirs = (m.get_base_model() if hasattr(m, "get_base_model") else m for m in (model, reference))
    for what, a, b in (
        ("vocabulary", ours.get_output_embeddings().weight.shape[0], theirs.get_output_embeddings().weight.shape[0]),
        ("attention", ours.config._attn_implementation, theirs.config._attn_implementation),
        ("dtype", ours.dtype, theirs.dtype),
    ):
        if a != b:
            raise PolicyError(f"the reference differs from the policy in its {what}: {b} and {a}; make them equal")


def check_head(model: Any) -> None:
    """Refuse a model that cannot be asked for the logits of chosen places. Raises PolicyError."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" not in inspect.signature(causal.forward).parameters:
        raise PolicyError(f"{type(causal).__name__}: its forward has no logits_to_keep; update transformers")


def has_adapter(model: Any) -> bool:
    """Whether a model, wrapped or not, has an adapter that can be switched off."""
    return hasattr(model.module if hasattr(model, "module") else model, "disable_adapter")


def without_adapter(model: Any) -> AbstractContextManager[Any]:
    """A context in which a peft model, wrapped or not, is its base; nothing changes for a whole model."""
    inner = model.module if hasattr(model, "module") else model
    off: AbstractContextManager[Any] = inner.disable_adapter() if has_adapter(model) else nullcontext()
    return off


__all__ = [
    "check_head",
    "check_reference",
    "has_adapter",
    "logits_of",
    "scores_of",
    "token_logprobs",
    "without_adapter",
]
