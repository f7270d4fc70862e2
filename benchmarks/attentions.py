"""Two other ways to attend along the trees of a pack, to be measured against the loop over its chains.

A pack is in depth-first order, so the tokens whose paths lead through token k are the next ones, [k, end of k): token q
sees token k where k <= q < end[k]. This is one comparison per pair of tokens, which a mask can hold ([N, N] of them) or
torch's flex attention can evaluate in blocks, leaving out blocks in which nothing is seen. Both are one call per layer,
where the loop makes one per chain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import flex_attention as flex
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from trajtree.train.tree_attention import TreePlan, tree_attention

MASK, FLEX = "trajtree-mask", "trajtree-flex"
"""Names under which they are registered with transformers."""


@cache
def ends(plan: TreePlan) -> Tensor:
    """[N] the end of each token's subtree: one more than the last token whose path leads through it."""
    of_segment = [0] * len(plan.segments)
    end = 0
    for length, path in plan.chains:
        end += length
        for segment in path:
            of_segment[segment] = end  # chains come in order, so the last one counts
    lengths = torch.tensor(plan.segments, device=plan.positions.device)
    return torch.tensor(of_segment, device=plan.positions.device).repeat_interleave(lengths)


@cache
def _mask(plan: TreePlan) -> Tensor:
    """[N, N] which tokens (columns) each token (row) sees."""
    place = torch.arange(len(plan.positions), device=plan.positions.device)
    return (place[None, :] <= place[:, None]) & (place[:, None] < ends(plan)[None, :])


@cache
def _blocks(plan: TreePlan) -> Any:
    """The same for flex attention."""
    end, count = ends(plan), len(plan.positions)

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end[key])

    return flex.create_block_mask(seen, None, None, count, count, device=str(end.device))


@cache
def _compiled() -> Any:
    return torch.compile(flex.flex_attention, dynamic=True)


def _along(attend: Callable[[TreePlan, Tensor, Tensor, Tensor, float | None], Tensor]) -> Callable[..., Any]:
    """An attention as transformers calls it: `attend` where there is a plan, else `tree_attention`."""

    def attention(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        tree_plan: TreePlan | None = None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        if tree_plan is None:
            return tree_attention(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return attend(tree_plan, query, key, value, scaling).transpose(1, 2).contiguous(), None

    return attention


def _masked(plan: TreePlan, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    served = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(served, dim=1), value.repeat_interleave(served, dim=1)
    return functional.scaled_dot_product_attention(query, key, value, _mask(plan), scale=scaling)


def _flexible(plan: TreePlan, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    attend = _compiled() if query.is_cuda else flex.flex_attention
    attended: Tensor = attend(
        query, key, value, block_mask=_blocks(plan), scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return attended


by_mask, by_flex = _along(_masked), _along(_flexible)
"""With one mask over the whole pack; with flex attention, compiled on a GPU and without gradients elsewhere."""

for _name, _attention in ((MASK, by_mask), (FLEX, by_flex)):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, sdpa_mask)

__all__ = ["FLEX", "MASK", "by_flex", "by_mask", "ends"]
