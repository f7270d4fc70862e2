"""The amount of arithmetic in a training step, to estimate beforehand what packing can save.

It counts the multiplications and additions of one forward pass: the layers' matrices once per token, attention once per
query and visible key, the head once per place whose logits are needed. Backward passes and references multiply all of
these alike, so ratios of counts are ratios of steps. Attention windows are ignored, and a mixture of experts is counted
as if every token went through every expert.
"""

from __future__ import annotations

from typing import Any

from trajtree.train.batch import Batch


def forward_flops(model: Any, batch: Batch, *, heads: int | None = None) -> float:
    """Floating-point operations of one forward pass over a batch.

    Args:
        model: a causal model or a peft model around one.
        batch: packed or padded.
        heads: places that go through the head. By default those that the batch needs, which is too low for a padded
            batch, where `logits_of` computes whole columns.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = causal.config.get_text_config()
    embedding = causal.get_input_embeddings().weight.numel()
    output = causal.get_output_embeddings().weight
    # The embedding is a lookup and costs nothing. The head costs per place, not per token, so it is counted separately;
    # if it is tied to the embedding, `parameters` contains the two only once.
    tied = output is causal.get_input_embeddings().weight
    body = sum(p.numel() for p in causal.parameters()) - embedding - (0 if tied else output.numel())
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # Per query, key, head and layer: 2 * width operations for the score, and as many to add up the values.
    attention = 4 * width * config.num_attention_heads * config.num_hidden_layers * _seen(batch)
    places = len(batch.row) if heads is None else heads
    return float(2 * body * batch.ids.numel() + attention + 2 * output.numel() * places)


def _seen(batch: Batch) -> float:
    """Number of (query, key) pairs that attention computes."""
    if batch.plan is None:
        # Causal: half of each row's square.
        rows, width = batch.ids.shape
        return rows * width * width / 2
    total = 0.0
    for length, path in batch.plan.chains:
        # A chain's new tokens see all of the path before them, and one another causally.
        before = sum(batch.plan.segments[segment] for segment in path) - length
        total += length * before + length * length / 2
    return total


__all__ = ["forward_flops"]
