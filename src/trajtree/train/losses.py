"""Losses over the agent's tokens of padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trajtree.trajectory import Tokens


@dataclass(frozen=True)
class Batch:
    """Sequences padded on the right.

    Attributes:
        ids: [rows, width].
        attention: [rows, width], 1 where there is a token.
        row, column: [trained] positions whose next token is the agent's.
        target: [trained] that next token.
    """

    ids: Tensor
    attention: Tensor
    row: Tensor
    column: Tensor
    target: Tensor


def collate(sequences: Sequence[Tokens], device: torch.device | str = "cpu") -> Batch:
    """Pad sequences and list their trained positions."""
    width = max(len(s.ids) for s in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    attention = torch.zeros_like(ids)
    row, column = [], []
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence.ids)] = torch.tensor(sequence.ids)
        attention[index, : len(sequence.ids)] = 1
        positions = [p for start, end in sequence.agent for p in range(max(start, 1), end)]
        row += [index] * len(positions)
        column += [p - 1 for p in positions]
    rows, columns = torch.tensor(row, dtype=torch.long), torch.tensor(column, dtype=torch.long)
    batch = Batch(ids, attention, rows, columns, ids[rows, columns + 1])
    return Batch(**{name: getattr(batch, name).to(device) for name in Batch.__dataclass_fields__})


def trained_logits(model: Any, batch: Batch) -> Tensor:
    """Logits [trained, vocabulary] in float32, the head applied to trained positions only."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = getattr(causal, causal.base_model_prefix)
    # Padding is on the right and attention is causal, so no mask is needed: without one, half the work is skipped.
    hidden = backbone(input_ids=batch.ids, use_cache=False).last_hidden_state
    logits: Tensor = causal.get_output_embeddings()(hidden[batch.row, batch.column])
    return logits.float()


def head_is_plain(model: Any, batch: Batch) -> bool:
    """Whether the model's logits are its output embedding of its last hidden state, and nothing on top.

    Some models scale or cap their logits; for those `trained_logits` would be another model.
    """
    with torch.no_grad():
        whole = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
        plain = trained_logits(model, batch)
    expected = whole[batch.row, batch.column].float()
    return bool((plain - expected).abs().max() <= 1e-2 * expected.abs().max())


def sft_loss(model: Any, batch: Batch) -> Tensor:
    """Mean negative log-likelihood of the agent's tokens."""
    return functional.cross_entropy(trained_logits(model, batch), batch.target)


def tree_dpo_loss(model: Any, batch: Batch, *, beta: float, kl: float) -> tuple[Tensor, dict[str, float]]:
    """TreeDPO: DPO on the continuations after a fork, and an explicit KL to the reference.

    Rows 0..P-1 of the batch are the chosen sides, rows P..2P-1 the rejected sides of P pairs. The reference is the
    model with its adapter off. The KL is the mean over trained positions of KL(policy || reference) over the
    whole vocabulary.

    Args:
        model: a peft model.
        batch: 2P rows.
        beta: DPO's inverse temperature.
        kl: weight of the explicit KL term.
    """
    with torch.no_grad(), model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
        reference = functional.log_softmax(trained_logits(model, batch), dim=-1)
    policy = functional.log_softmax(trained_logits(model, batch), dim=-1)
    gained = (policy - reference).gather(1, batch.target[:, None])[:, 0]
    per_row = torch.zeros(len(batch.ids), device=gained.device).index_add(0, batch.row, gained)
    chosen, rejected = per_row.chunk(2)
    margin = beta * (chosen - rejected)
    divergence = (policy.exp() * (policy - reference)).sum(-1).mean()
    loss = -functional.logsigmoid(margin).mean() + kl * divergence
    metrics = {
        "accuracy": float((margin > 0).float().mean()),
        "margin": float(margin.detach().mean()),
        "kl": float(divergence.detach()),
    }
    return loss, metrics


__all__ = ["Batch", "collate", "head_is_plain", "sft_loss", "trained_logits", "tree_dpo_loss"]
