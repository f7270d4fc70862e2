"""The ways to attend along the trees of a pack, to be measured against each other on one device.

`trajtree.train.tree_attention` has two, and takes one or the other according to the device: a loop over the chains of a
pack, or one call under a mask of [N, N]. The third is torch's flex attention, which evaluates that mask in blocks and
leaves out those in which nothing is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from trajtree.train.tree_attention import TreePlan, subtree_ends, tree_attention

LOOP, MASK, FLEX = "trajtree-loop", "trajtree-mask", "trajtree-flex"
"""Names under which they are registered with transformers."""


class _LoopPlan(TreePlan):
    at_once = False


class _MaskPlan(TreePlan):
    at_once = True


@cache
def _as_kind(kind: type[TreePlan], plan: TreePlan) -> TreePlan:
    """The plan as one that is computed this way on any device."""
    return kind(plan.segments, plan.chains, plan.positions)


@cache
def _blocks(plan: TreePlan) -> Any:
    """The mask in the form that flex attention wants."""
    end, count = subtree_ends(plan), len(plan.positions)

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end[key])

    return flex.create_block_mask(seen, None, None, count, count, device=str(plan.positions.device))


@cache
def _compiled() -> Any:
    return torch.compile(flex.flex_attention, dynamic=True)


def _forced(kind: type[TreePlan]) -> Callable[..., Any]:
    """The product's attention, in one of its two ways."""

    def attention(*args: Any, tree_plan: TreePlan | None = None, **kwargs: Any) -> Any:
        return tree_attention(*args, tree_plan=tree_plan and _as_kind(kind, tree_plan), **kwargs)

    return attention


def by_flex(
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
    """Flex attention where there is a plan, compiled on a GPU and without gradients elsewhere."""
    if tree_plan is None:
        return tree_attention(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    attend = _compiled() if query.is_cuda else flex.flex_attention
    grouped = query.shape[1] != key.shape[1]
    attended: Tensor = attend(query, key, value, block_mask=_blocks(tree_plan), scale=scaling, enable_gqa=grouped)
    return attended.transpose(1, 2).contiguous(), None


by_loop, by_mask = _forced(_LoopPlan), _forced(_MaskPlan)

for _name, _attention in ((LOOP, by_loop), (MASK, by_mask), (FLEX, by_flex)):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, sdpa_mask)

__all__ = ["FLEX", "LOOP", "MASK", "by_flex", "by_loop", "by_mask"]
