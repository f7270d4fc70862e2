"""What a step costs in arithmetic, to say beforehand what packing can give.

Counted are multiplications and additions of one forward pass: the layers' matrices once a token, attention once a
query and key that it sees, the head once a place whose logits are needed. Backward passes and references multiply all
of it alike, so ratios of counts are ratios of steps.
"""

from __future__ import annotations

from typing import Any

from trajtree.train.batch import Batch


def forward_flops(model: Any, batch: Batch, *, heads: int | None = None) -> float:
    """Floating-point operations of one forward pass over a batch.

    Args:
        model: a causal model or a peft model around one.
        batch: packed or padded.
        heads: places that go through the head, when a trainer takes others than the batch's own.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = causal.config.get_text_config()
    embedding = causal.get_input_embeddings().weight.numel()
    output = causal.get_output_embeddings().weight
    # A head that is tied to the embedding is the same parameter, and counts once among the parameters.
    tied = output is causal.get_input_embeddings().weight
    body = sum(p.numel() for p in causal.parameters()) - embedding - (0 if tied else output.numel())
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    seen = 4 * width * config.num_attention_heads * config.num_hidden_layers * _seen(batch)
    places = len(batch.row) if heads is None else heads
    return float(2 * body * batch.ids.numel() + seen + 2 * output.numel() * places)


def _seen(batch: Batch) -> float:
    """Pairs of a query and a key that attention computes: half of a causal square, all keys of a chain's path."""
    if batch.plan is None:
        rows, width = batch.ids.shape
        return rows * width * width / 2
    total = 0.0
    for length, path in batch.plan.chains:
        before = sum(batch.plan.segments[segment] for segment in path) - length
        total += length * before + length * length / 2
    return total


__all__ = ["forward_flops"]
