"""Attention over packed trees, for any decoder that goes through transformers' AttentionInterface.

A row holds a forest (see `packing`). Every chain's queries attend to the keys of the chain's path, one causal call of
torch's scaled_dot_product_attention a chain, so there is no mask of row by row and no token sees another branch.
`packed_inputs` gives what a model's forward needs; without a plan the function is transformers' own `sdpa`.

The plan is a keyword of the forward and not a context variable, because gradient checkpointing computes a layer again
from its arguments alone, in another thread on CUDA.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from trajtree.errors import PolicyError
from trajtree.train.packing import Forest, pack

NAME = "trajtree"
"""What the attention is registered as."""

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""Largest difference of a packed logit, as a share of the largest logit, that is still rounding.

transformers' norms and its plainest attention drop to float32 whatever the model's dtype.
"""


@dataclass(frozen=True, eq=False)
class TreePlan:
    """A forest for the attention of every layer.

    Attributes:
        segments, chains: as in `packing.Forest`.
        positions: [N] depth of each token.
        masks: of chains by (new tokens, all tokens, window), made when a layer first asks.
    """

    segments: tuple[int, ...]
    chains: tuple[tuple[int, tuple[int, ...]], ...]
    positions: Tensor
    masks: dict[tuple[int, int, int | None], Tensor | None] = field(default_factory=dict)

    def mask(self, length: int, keys: int, window: int | None) -> Tensor | None:
        """[length, keys] what each of the last `length` tokens of a path sees; None when it is plainly causal."""
        asked = (length, keys, window)
        if asked not in self.masks:
            self.masks[asked] = _mask(length, keys, window, self.positions.device)
        return self.masks[asked]


def plan_of(forest: Forest, device: torch.device | str = "cpu") -> TreePlan:
    """The plan of a forest."""
    positions = torch.from_numpy(forest.position).to(device)
    return TreePlan(forest.segments, tuple((c.length, c.path) for c in forest.chains), positions)


def packed_inputs(ids: Tensor, plan: TreePlan) -> dict[str, Any]:
    """Keywords of a causal model's forward over one packed row of `ids` [N]."""
    return {
        "input_ids": ids[None],
        "position_ids": plan.positions[None],
        # Four dimensions: transformers hands it on as it is. Without a mask it takes jumps in the positions for
        # several documents; with a flat one it builds a mask of row by row for layers with a window.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
        "use_cache": False,
        "tree_plan": plan,
    }


def use_tree_attention(model: Any) -> None:
    """Make the model attend along trees when it is given a plan, after proof that it can.

    Raises:
        PolicyError: the model does not go through AttentionInterface in every layer, or computes something else.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = causal.config._attn_implementation
    reason = _proof(model, causal)
    causal.set_attn_implementation(before if reason is not None else NAME)
    if reason is not None:
        raise PolicyError(f"{type(causal).__name__}: cannot be trained on packed trees ({reason})")


@contextmanager
def tree_attention_where_possible(models: Sequence[Any], wanted: bool) -> Iterator[bool]:
    """Attention along trees for a while, in all of `models` or, with a warning, in none; yields whether it is on."""
    inner = [m.get_base_model() if hasattr(m, "get_base_model") else m for m in models]
    before = [m.config._attn_implementation for m in inner]
    try:
        for one in models if wanted else []:
            use_tree_attention(one)
    except PolicyError as error:
        warnings.warn(f"{error}; batches are padded instead, and nothing is shared", stacklevel=4)
        wanted = False
        for one, name in zip(inner, before, strict=True):
            one.set_attn_implementation(name)
    try:
        yield wanted
    finally:
        for one, name in zip(inner, before, strict=True):
            one.set_attn_implementation(name)


def _proof(model: Any, causal: Any) -> str | None:
    """Why a packed tree is not computed as its branches are; None when it is.

    Three sequences that share beginnings, longer than the layers' window where that is short, are computed alone with
    transformers' plainest attention and packed with ours. Attention must be called once a layer, which layers that are
    linear or convolutional do not.
    """
    config = model.config.get_text_config()
    if any(getattr(config, name, 0.0) for name in ("attention_dropout", "attn_pdrop")):
        return "its attention has dropout, which would differ from branch to branch: set it to 0"
    window = getattr(config, "sliding_window", None) or 0
    length = 24 if window > 64 or not window else window + 16
    random = np.random.default_rng(0)
    first = random.integers(0, config.vocab_size, length).tolist()
    second = [*first[: length - 7], *random.integers(0, config.vocab_size, 9).tolist()]
    third = [*second[: length // 2], *random.integers(0, config.vocab_size, 3).tolist()]
    sequences = [first, second, third]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _compare(model, causal, sequences, config.num_hidden_layers)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        known = (
            "its forward fails" if causal._supports_attention_backend else "its layers do not use AttentionInterface"
        )
        return f"{known}; {type(error).__name__}: {error}"
    finally:
        model.train(was_training)


def _compare(model: Any, causal: Any, sequences: list[list[int]], layers: int) -> str | None:
    forest = pack(sequences)
    device = next(model.parameters()).device
    causal.set_attn_implementation("eager")
    alone = [model(input_ids=torch.tensor([s], device=device), use_cache=False).logits[0].float() for s in sequences]
    causal.set_attn_implementation(NAME)
    calls = _Calls.count
    packed = model(**packed_inputs(torch.from_numpy(forest.ids).to(device), plan_of(forest, device))).logits[0]
    called = _Calls.count - calls
    if called != layers:
        return f"{called} of its {layers} layers attend through transformers' AttentionInterface"
    for expected, path in zip(alone, forest.paths, strict=True):
        found = packed[torch.from_numpy(path).to(device)].float()
        apart = float((found - expected).abs().max() / expected.abs().max())
        if not apart <= _TOLERANCE[packed.dtype]:
            return f"its packed logits are off by {apart:.1e} of the largest"
    return None


class _Calls:
    """Calls of `tree_attention` with a plan, counted to prove that every layer makes one."""

    count = 0


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree_plan: TreePlan | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a packed row along its chains; transformers' own, or its written out equal, when there is no plan.

    Args:
        module: the layer's attention.
        query: [1, heads, N, width].
        key, value: [1, groups, N, width].
        attention_mask: not looked at when there is a plan.
        tree_plan: the row's forest.
        scaling: of the scores; 1 / sqrt(width) by default.
        dropout: of the weights; must be 0 with a plan.
        sliding_window: keys that far behind in depth, or farther, are not seen.
        softcap: bound of the scores (Gemma).
        s_aux: [heads] sinks (GPT-OSS).

    Returns:
        [1, N, heads, width], and no weights.

    Raises:
        ValueError: something that a plan cannot honour.
    """
    groups = query.shape[1] // key.shape[1]
    if tree_plan is None:
        if softcap is None and s_aux is None:
            return sdpa_attention_forward(  # type: ignore[no-any-return]
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
            )
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        plain = _explicit(query, key, value, attention_mask, scaling, softcap, s_aux)
        return plain.transpose(1, 2).contiguous(), None
    if dropout:
        raise ValueError("dropout of attention weights would differ from branch to branch: set it to 0")
    if kwargs.get("position_bias") is not None:
        raise ValueError("a position bias is not supported on trees")
    _Calls.count += 1
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # Split and concatenate, not slice: a slice's gradient is as large as the row, and there is one a chain.
    keys, values = (torch.split(both, list(tree_plan.segments), dim=2) for both in (key, value))
    queries = torch.split(query, [length for length, _ in tree_plan.chains], dim=2)
    attended = []
    for (length, path), q in zip(tree_plan.chains, queries, strict=True):
        k, v = (torch.cat([parts[segment] for segment in path], dim=2) for parts in (keys, values))
        mask = tree_plan.mask(length, k.shape[2], sliding_window)
        if softcap is None and s_aux is None:
            attended.append(
                functional.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scaling)
            )
        else:
            attended.append(_explicit(q, k, v, mask, scaling, softcap, s_aux))
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


def _mask(length: int, keys: int, window: int | None, device: torch.device) -> Tensor | None:
    if length == keys and (window is None or keys <= window):
        return None
    here = torch.arange(keys - length, keys, device=device)[:, None]
    there = torch.arange(keys, device=device)
    seen = there <= here
    return seen if window is None else seen & (there > here - window)


def _explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention written out, for what torch's function does not know; softmax in float32, as transformers does."""
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(scores).reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], dim=-1)
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, dim=-1, dtype=precise).to(v.dtype)
    return weights[..., : k.shape[2]] @ v


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)

__all__ = [
    "NAME",
    "TreePlan",
    "packed_inputs",
    "plan_of",
    "tree_attention",
    "tree_attention_where_possible",
    "use_tree_attention",
]
