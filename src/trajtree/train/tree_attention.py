"""Attention over packs, for any decoder that uses transformers' AttentionInterface.

A pack holds a forest (see `packing`), and no token sees another branch. There are two ways to compute this, equal but
for rounding. The queries of each chain attend to the keys of the chain's path, with one call of torch's
scaled_dot_product_attention per chain: nothing is computed that no token sees, and no [N, N] mask is needed. On a GPU,
starting a call can cost more than what it leaves out, so there the tokens of a pack with several chains attend in one
call under one mask: at widths up to 1,536 a full row then takes half the time, at 4,096 the same (docs/training.md).

`packed_inputs` makes the arguments of a model's forward pass; without a plan the attention is transformers' own `sdpa`.
The plan is a keyword argument of the forward pass and not a context variable, because gradient checkpointing recomputes
a layer from its arguments only, and on CUDA in another thread.
"""

from __future__ import annotations

import sys
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
"""Name under which the attention is registered with transformers."""

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""Largest difference between packed and separate logits that counts as rounding, as a share of the largest logit.

Even in a float64 model, transformers' norms and its eager attention compute in float32.
"""
_LARGEST_MASK = 4096
"""Longest pack, in tokens, that attends under one mask. Each layer keeps a copy for its gradient in the dtype of the
queries, in bfloat16 of 32 MiB at this length.
"""
_FEW_CHAINS = 2
"""Number of chains up to which calls per chain were no slower than one under a mask."""
_DRAWS = 3
"""How many random inputs a model may try. In bfloat16 rounding alone exceeds the tolerance for one in about a hundred;
a key that is not seen, or positions that are wrong, exceeded it for every one.
"""


@dataclass(frozen=True, eq=False)
class TreePlan:
    """A forest in the form that every layer's attention uses.

    Attributes:
        segments: as in `packing.Forest`.
        chains: (length, path) of each chain, as in `packing.Chain`.
        positions: [N] depth of each token in its sequence.
        masks: masks by (new tokens, all tokens, window), made when first needed and then shared by all layers and all
            chains of that shape; the mask of the whole pack is at (0, 0, window).
    """

    segments: tuple[int, ...]
    chains: tuple[tuple[int, tuple[int, ...]], ...]
    positions: Tensor
    masks: dict[tuple[int, int, int | None], Tensor | None] = field(default_factory=dict)

    def mask(self, length: int, keys: int, window: int | None) -> Tensor | None:
        """[length, keys] which tokens of a path each of its last `length` sees; None for the plain causal mask."""
        asked = (length, keys, window)
        if asked not in self.masks:
            self.masks[asked] = _mask(length, keys, window, self.positions.device)
        return self.masks[asked]

    @property
    def at_once(self) -> bool:
        """Whether all tokens attend in one call, under the mask of the whole pack."""
        on_gpu = self.positions.device.type != "cpu"
        return on_gpu and len(self.chains) > _FEW_CHAINS and len(self.positions) <= _LARGEST_MASK

    def whole_mask(self, window: int | None) -> Tensor:
        """[N, N] which tokens (columns) each token (row) sees."""
        found = self.masks.get((0, 0, window))
        if found is None:
            found = self.masks[0, 0, window] = _whole_mask(self, window)
        return found


def plan_of(forest: Forest, device: torch.device | str = "cpu") -> TreePlan:
    """The plan for the attention over a forest."""
    positions = torch.from_numpy(forest.position).to(device)
    return TreePlan(forest.segments, tuple((c.length, c.path) for c in forest.chains), positions)


def packed_inputs(ids: Tensor, plan: TreePlan) -> dict[str, Any]:
    """Keyword arguments for a causal model's forward pass over one pack with `ids` [N]."""
    return {
        "input_ids": ids[None],
        "position_ids": plan.positions[None],
        # transformers passes on a four-dimensional mask unchanged, and tree_attention ignores it. Without a mask,
        # transformers treats jumps in the positions as document boundaries; with a flat mask, it builds an [N, N] mask
        # for layers with a window.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
        "use_cache": False,
        "tree_plan": plan,
    }


def use_tree_attention(model: Any) -> None:
    """Make the model attend along trees when given a plan, after testing that it computes correctly.

    Raises:
        PolicyError: some layer does not use AttentionInterface, or packed logits differ from separate ones.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = causal.config._attn_implementation
    reason = _unsuited(model, causal)
    causal.set_attn_implementation(before if reason is not None else NAME)
    if reason is not None:
        raise PolicyError(f"{type(causal).__name__}: cannot be trained on packed trees ({reason})")


@contextmanager
def tree_attention_where_possible(models: Sequence[Any], wanted: bool) -> Iterator[bool]:
    """A context with tree attention in all of `models` or, with a warning, in none of them; yields whether it is on."""
    inner = [m.get_base_model() if hasattr(m, "get_base_model") else m for m in models]
    before = [m.config._attn_implementation for m in inner]
    try:
        for model in models if wanted else []:
            use_tree_attention(model)
    except PolicyError as error:
        warnings.warn(f"{error}; batches are padded instead, and nothing is shared", stacklevel=4)
        wanted = False
        for model, name in zip(inner, before, strict=True):
            model.set_attn_implementation(name)
    try:
        yield wanted
    finally:
        for model, name in zip(inner, before, strict=True):
            model.set_attn_implementation(name)


def _unsuited(model: Any, causal: Any) -> str | None:
    """Why the model cannot compute a pack as it computes the branches separately; None if it can.

    Three sequences that share beginnings are computed separately with transformers' eager attention, and packed with
    ours; they are longer than the layers' window if that is short. Attention must be called once per layer, which rules
    out linear and convolutional layers. Of a longer window, it is only tested that layers pass it on.
    """
    config = model.config.get_text_config()
    if any(getattr(config, name, 0.0) for name in ("attention_dropout", "attn_pdrop")):
        return "its attention has dropout, which would differ between branches: set it to 0"
    context = getattr(config, "max_position_embeddings", None) or sys.maxsize
    if 0 < (getattr(config, "attention_chunk_size", None) or 0) < context:
        return f"it attends within chunks of {config.attention_chunk_size} tokens"
    window = getattr(config, "sliding_window", None) or 0
    length = 24 if window > 64 or not window else window + 16
    cut = _Calls.cut
    was_training = model.training
    model.eval()  # dropout elsewhere in the model would make the two differ randomly
    try:
        with torch.no_grad():
            reason: str | None = None
            for draw in range(_DRAWS):
                sequences = _sequences(np.random.default_rng(draw), config.vocab_size, length)
                reason = _compare(model, causal, sequences, config.num_hidden_layers)
                if reason is None:
                    break
            if reason is None and _Calls.cut == cut and 0 < window < context and _slides(config):
                return f"its window of {window} tokens is only in the mask, which packs do not use"
            return reason
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        known = (
            "its forward fails" if causal._supports_attention_backend else "its layers do not use AttentionInterface"
        )
        return f"{known}; {type(error).__name__}: {error}"
    finally:
        model.train(was_training)


def _slides(config: Any) -> bool:
    """Whether a layer has the configuration's window: all have it where it does not list the layers' types."""
    types = getattr(config, "layer_types", None)
    return types is None or "sliding_attention" in types


def _sequences(random: np.random.Generator, vocabulary: int, length: int) -> list[list[int]]:
    """Random tokens: a sequence of this length, one that leaves it near its end, and one that leaves both halfway."""
    first = random.integers(0, vocabulary, length).tolist()
    second = [*first[: length - 7], *random.integers(0, vocabulary, 9).tolist()]
    third = [*second[: length // 2], *random.integers(0, vocabulary, 3).tolist()]
    return [first, second, third]


def _compare(model: Any, causal: Any, sequences: list[list[int]], layers: int) -> str | None:
    """How packed logits differ from separate ones beyond rounding; None if they do not."""
    forest = pack(sequences)
    device = next(model.parameters()).device
    causal.set_attn_implementation("eager")
    alone = [model(input_ids=torch.tensor([s], device=device), use_cache=False).logits[0].float() for s in sequences]
    causal.set_attn_implementation(NAME)
    calls = _Calls.count
    packed = model(**packed_inputs(torch.from_numpy(forest.ids).to(device), plan_of(forest, device))).logits[0]
    called = _Calls.count - calls
    if called != layers:
        return f"only {called} of its {layers} layers use transformers' AttentionInterface"
    for expected, path in zip(alone, forest.paths, strict=True):
        found = packed[torch.from_numpy(path).to(device)].float()
        apart = float((found - expected).abs().max() / expected.abs().max())
        if not apart <= _TOLERANCE[packed.dtype]:
            return f"its packed logits are off by {apart:.1e} of the largest logit"
    return None


class _Calls:
    """Counters of `tree_attention` calls with a plan, which every layer must make, and of those with a window."""

    count = 0
    cut = 0


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
    """Attention along the chains of a pack; without a plan, transformers' own or an explicit equivalent.

    Args:
        module: the layer's attention.
        query: [1, heads, N, width].
        key, value: [1, key heads, N, width]; each key head serves heads / key heads query heads.
        attention_mask: ignored if there is a plan.
        tree_plan: the pack's forest.
        scaling: factor for the scores; 1 / sqrt(width) by default.
        dropout: dropout of the weights; must be 0 with a plan.
        sliding_window: how many tokens of its path each token sees, itself included.
        softcap: soft cap on the scores (Gemma).
        s_aux: [heads] attention sinks (GPT-OSS).

    Returns:
        [1, N, heads, width], and None in place of the weights.

    Raises:
        ValueError: there is dropout or a position bias, which a plan does not support.
    """
    served = query.shape[1] // key.shape[1]
    if tree_plan is None:
        if softcap is None and s_aux is None:
            return sdpa_attention_forward(  # type: ignore[no-any-return]
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
            )
        key, value = key.repeat_interleave(served, dim=1), value.repeat_interleave(served, dim=1)
        plain = _explicit(query, key, value, attention_mask, scaling, softcap, s_aux)
        return plain.transpose(1, 2).contiguous(), None
    if dropout:
        raise ValueError("dropout of attention weights would differ between branches: set it to 0")
    if kwargs.get("position_bias") is not None:
        raise ValueError("a position bias is not supported on trees")
    _Calls.count += 1
    _Calls.cut += sliding_window is not None
    if served > 1:
        key, value = key.repeat_interleave(served, dim=1), value.repeat_interleave(served, dim=1)
    # Explicit attention keeps all scores, so it goes chain by chain everywhere.
    if tree_plan.at_once and softcap is None and s_aux is None:
        whole = functional.scaled_dot_product_attention(
            query, key, value, tree_plan.whole_mask(sliding_window), scale=scaling
        )
        return whole.transpose(1, 2).contiguous(), None
    # keys, values: one [1, heads, segment, width] per segment. queries: one [1, heads, length, width] per chain; the
    # chains cover the pack in order. They are split and concatenated, not sliced: the gradient of a slice is as large
    # as the pack, and there would be one per chain.
    keys, values = (torch.split(whole, list(tree_plan.segments), dim=2) for whole in (key, value))
    queries = torch.split(query, [length for length, _ in tree_plan.chains], dim=2)
    attended = []
    for (length, path), q in zip(tree_plan.chains, queries, strict=True):
        # The keys of the whole path from its beginning, so column c is the token at depth c. The queries are the path's
        # last `length` tokens.
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
    """See `TreePlan.mask`."""
    # A chain that shares nothing and is not cut by the window needs only torch's built-in causal mask.
    if length == keys and (window is None or keys <= window):
        return None
    query = torch.arange(keys - length, keys, device=device)[:, None]  # depth of each query
    key = torch.arange(keys, device=device)  # and of each key
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def subtree_ends(plan: TreePlan) -> Tensor:
    """[N] one more than the last token whose path leads through each token.

    A pack is in depth-first order, so the tokens whose paths lead through token k are the next ones, [k, end of k):
    token q sees token k where k <= q < end[k].
    """
    ends, end = [0] * len(plan.segments), 0  # [segments]
    for length, path in plan.chains:
        end += length
        for segment in path:
            ends[segment] = end  # chains come in order, so the last one counts
    device = plan.positions.device
    return torch.tensor(ends, device=device).repeat_interleave(torch.tensor(plan.segments, device=device))


def _whole_mask(plan: TreePlan, window: int | None) -> Tensor:
    """See `TreePlan.whole_mask`."""
    depth, place = plan.positions, torch.arange(len(plan.positions), device=plan.positions.device)
    visible = (place <= place[:, None]) & (place[:, None] < subtree_ends(plan))
    return visible if window is None else visible & (depth > depth[:, None] - window)


def _explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Explicit attention, for what torch's function cannot do.

    The softmax is computed in float32 or better, as transformers does.

    Args:
        q: [1, heads, queries, width].
        k, v: [1, heads, keys, width].
        mask: [queries, keys], True where a key is seen; None for causal attention of the last tokens.
        scaling, softcap, sinks: as in `tree_attention`.
    """
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(k.shape[2] - q.shape[2])
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    # A sink is an extra column in the softmax: it takes weight away from the keys, but adds no value.
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
    "subtree_ends",
    "tree_attention",
    "tree_attention_where_possible",
    "use_tree_attention",
]
