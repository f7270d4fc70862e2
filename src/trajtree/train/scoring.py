"""From a batch to the log-probabilities of its trained tokens, with one forward pass per model.

Shapes are those of `Batch`: K trained tokens, predicted by the logits of S places.
"""

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
from trajtree.train.lower_layers import lower_layers_once
from trajtree.train.tree_attention import packed_inputs


def logits_of(model: Any, batch: Batch) -> Tensor:
    """[S, vocabulary] logits at the places of a batch, in float32 or better.

    In a pack, the head computes only these places; in padded rows, the columns that contain them.
    """
    if batch.plan is not None:
        found: Tensor = model(**packed_inputs(batch.ids[0], batch.plan), logits_to_keep=batch.column).logits[0]
    else:
        # Padding is on the right and attention is causal, so no mask is needed. The head computes whole columns, which
        # gives [rows, columns, vocabulary]; inverse [S] is the index of each place's column among the distinct ones.
        columns, inverse = torch.unique(batch.column, return_inverse=True)
        found = model(input_ids=batch.ids, use_cache=False, logits_to_keep=columns).logits[batch.row, inverse]
    return found.to(torch.promote_types(found.dtype, torch.float32))


def token_logprobs(logits: Tensor, batch: Batch) -> Tensor:
    """[K] log-probabilities of the trained tokens, from logits [S, vocabulary]."""
    # Log-softmax only at the tokens: each place is normalised once, and nothing as large as the logits is kept.
    return logits[batch.source, batch.target] - logits.logsumexp(-1)[batch.source]


def scores_of(model: Any, batch: Batch, objective: Objective, reference: Any | None = None) -> Scores:
    """Everything an objective needs to know about a batch.

    Args:
        model: the policy, bare or wrapped by a trainer.
        batch: on the model's device.
        objective: determines what is needed.
        reference: a model, or None for the policy with its adapter switched off. Not used if the batch contains the
            reference's log-probabilities and the objective needs nothing else.

    Raises:
        PolicyError: the objective needs a reference, but there is neither a reference model nor an adapter.
    """
    if not objective.reference:
        return Scores(token_logprobs(logits_of(model, batch), batch))
    if batch.reference is not None and not objective.kl:
        return Scores(token_logprobs(logits_of(model, batch), batch), batch.reference)
    if reference is None and not has_adapter(model):
        raise PolicyError("a model without an adapter cannot be its own reference: name a reference model")
    with lower_layers_once(model) if reference is None else nullcontext():
        with torch.no_grad(), without_adapter(model) if reference is None else nullcontext():
            reference_logits = logits_of(model if reference is None else reference, batch)  # [S, vocabulary]
            reference_logprobs = token_logprobs(reference_logits, batch)  # [K]
        if not objective.kl:
            # Only the K log-probabilities are needed. The logits would take up memory during the policy's forward pass.
            del reference_logits
            return Scores(token_logprobs(logits_of(model, batch), batch), reference_logprobs)
        logits = logits_of(model, batch)
    # The KL is a sum over the whole vocabulary, not an estimate from the tokens that occurred. It belongs to a place,
    # so tokens predicted by the same place have the same KL.
    log_policy, log_reference = log_softmax(logits, -1), log_softmax(reference_logits, -1)
    kl = (log_policy.exp() * (log_policy - log_reference)).sum(-1)[batch.source]  # [K]
    return Scores(token_logprobs(logits, batch), reference_logprobs, kl)


def check_reference(model: Any, reference: Any) -> None:
    """Refuse a reference that computes differently from the policy.

    Raises:
        PolicyError: its vocabulary, attention or dtype is different.
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
    """Raise PolicyError for a model that cannot compute logits only at chosen places."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" not in inspect.signature(causal.forward).parameters:
        raise PolicyError(f"{type(causal).__name__}: its forward method has no logits_to_keep; update transformers")


def has_adapter(model: Any) -> bool:
    """Whether a model, bare or wrapped by a trainer, has an adapter that can be switched off."""
    return hasattr(model.module if hasattr(model, "module") else model, "disable_adapter")


def without_adapter(model: Any) -> AbstractContextManager[Any]:
    """A context in which a peft model, bare or wrapped, acts as its base model; no effect without an adapter."""
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
