"""Batches: token sequences as a model reads them, and which tokens of which branches are trained.

A batch is one row of packed trees, or padded rows for models that cannot attend along trees. Losses cannot tell which:
they see trained tokens [K], each once however many branches run through it, and which tokens make up a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajtree.train.examples import Example, PairExample
from trajtree.train.packing import Forest, pack
from trajtree.train.tree_attention import TreePlan, plan_of
from trajtree.trajectory import Tokens


@dataclass(frozen=True, eq=False)
class Batch:
    """B branches of n examples; a pair's branches are number i (chosen) and n + i (rejected).

    Attributes:
        ids: [rows, width] what the model reads; one row when packed.
        row, column: [S] places whose logits are needed.
        source, target: [K] each trained token: the place that predicts it, and the token.
        branch, token: [M] the trained tokens of each branch, in order.
        turn: [M] the reply of its branch that the token belongs to, from 0.
        weight: [n] how much each example counts.
        reference: [K] log-probabilities under the reference, when they were computed beforehand.
        branches: B.
        tokens: of all branches together, as if none were shared.
        names: [n] where the examples come from, for error messages.
        plan: how the row is attended to; None when padded.
    """

    ids: Tensor
    row: Tensor
    column: Tensor
    source: Tensor
    target: Tensor
    branch: Tensor
    token: Tensor
    turn: Tensor
    weight: Tensor
    reference: Tensor | None
    branches: int
    tokens: int
    names: tuple[str, ...]
    plan: TreePlan | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on `device`."""
        moved: dict[str, Any] = {
            f.name: v.to(device) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        plan = self.plan and replace(self.plan, positions=self.plan.positions.to(device), masks={})
        return replace(self, plan=plan, **moved)

    def branch_sums(self, values: Tensor, weight: Tensor | None = None) -> Tensor:
        """[B] sum over each branch of `values` [K], each token's share [M] weighted."""
        shares = values[self.token] if weight is None else values[self.token] * weight
        return torch.zeros(self.branches, dtype=values.dtype, device=values.device).index_add(0, self.branch, shares)

    @property
    def lengths(self) -> Tensor:
        """[B] trained tokens of each branch."""
        return torch.bincount(self.branch, minlength=self.branches)

    @property
    def turns(self) -> Tensor:
        """[B] trained replies of each branch."""
        count = torch.zeros(self.branches, dtype=torch.long, device=self.turn.device)
        return count.scatter_reduce(0, self.branch, self.turn + 1, "amax")


def collate(examples: Sequence[Example], *, packed: bool, share: bool = True) -> Batch:
    """One row of packed trees, or rows padded on the right.

    Args:
        examples: all of one kind.
        packed: whether shared beginnings are to stand once, in one row.
        share: off to pack without sharing, which is what to compare with.
    """
    sides = _sides(examples)
    sequences = [side.ids for side in sides]
    trained = [_positions(side) for side in sides]
    if packed:
        forest = pack(sequences, share=share)
        ids, plan = torch.from_numpy(forest.ids)[None], plan_of(forest)
        at = [path[places] for path, (places, _) in zip(forest.paths, trained, strict=True)]
        before = [path[places - 1] for path, (places, _) in zip(forest.paths, trained, strict=True)]
        width = len(forest.ids)
    else:
        width, plan = max(map(len, sequences)), None
        ids = torch.zeros(len(sides), width, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        at = [row * width + places for row, (places, _) in enumerate(trained)]
        before = [places - 1 for places in at]
    flat, predicting = np.concatenate(at), np.concatenate(before)
    tokens, first, token = np.unique(flat, return_index=True, return_inverse=True)
    places, source = np.unique(predicting[first], return_inverse=True)
    reference = _references(examples)
    return Batch(
        ids=ids,
        row=torch.from_numpy(places // width),
        column=torch.from_numpy(places % width),
        source=torch.from_numpy(source),
        target=ids.reshape(-1)[torch.from_numpy(tokens)],
        branch=torch.from_numpy(np.repeat(np.arange(len(sides)), [len(p) for p in at])),
        token=torch.from_numpy(token),
        turn=torch.from_numpy(np.concatenate([turn for _, turn in trained])),
        weight=torch.tensor([example.weight for example in examples], dtype=torch.float32),
        reference=None if reference is None else torch.from_numpy(reference[first]),
        branches=len(sides),
        tokens=sum(map(len, sequences)),
        names=tuple(example.name for example in examples),
        plan=plan,
    )


def forest_of(examples: Sequence[Example]) -> Forest:
    """The forest of all branches of `examples`."""
    return pack([side.ids for side in _sides(examples)])


def _sides(examples: Sequence[Example]) -> list[Tokens]:
    pairs = [example for example in examples if isinstance(example, PairExample)]
    if pairs:
        return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    return [side for example in examples for side in example.sides]


def _references(examples: Sequence[Example]) -> NDArray[np.float32] | None:
    found = [example.reference for example in examples]
    if any(reference is None for reference in found):
        return None
    width = len(examples[0].sides)
    return np.concatenate([r[side] for side in range(width) for r in found if r is not None]).astype(np.float32)


def _positions(side: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Trained positions of a sequence, and the reply to which each belongs. Nothing predicts the very first token."""
    spans = [np.arange(max(start, 1), end) for start, end in side.agent]
    return np.concatenate(spans), np.repeat(np.arange(len(spans)), list(map(len, spans)))


__all__ = ["Batch", "collate", "forest_of"]
