"""Batches: token sequences in the form that a model reads, and which tokens of which branches are trained.

A batch is one pack (a single row), or padded rows for models that cannot attend along trees. Losses work the same on
both: they see trained tokens [K], each once however many branches run through it, and which tokens make up a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajtree.train.examples import Example
from trajtree.train.packing import Forest, pack
from trajtree.train.tree_attention import TreePlan, plan_of
from trajtree.trajectory import Tokens


@dataclass(frozen=True, eq=False)
class Batch:
    """B branches of n examples; pair i has branches i (chosen), n + i (rejected) and, with a run, 2n + i.

    There are three counts: M trained tokens if each branch counts its own, K if tokens that branches share in a pack
    count once, and S places with logits that predict them, even fewer where branches diverge after the same token.

    Attributes:
        ids: [rows, width] what the model reads; one row when packed.
        row, column: [S] where in `ids` logits are needed.
        source: [K] which of the S places predicts each trained token.
        target: [K] the id of each trained token.
        branch, token: [M] branch by branch, the trained tokens of each in order: the branch, and which of the K it is.
        turn: [M] which reply of its branch the token belongs to, from 0.
        weight: [n] weight of each example.
        reference: [K] log-probabilities under the reference, if they were computed beforehand.
        branches: B.
        tokens: number of tokens of all branches, shared ones counted once per branch.
        names: [n] where the examples come from, for error messages.
        plan: what attends to what in a pack; None when padded.
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
        """The batch with its tensors moved to `device`."""
        moved: dict[str, Any] = {
            f.name: v.to(device) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        plan = self.plan and replace(self.plan, positions=self.plan.positions.to(device), masks={})
        return replace(self, plan=plan, **moved)

    def branch_sums(self, values: Tensor, weight: Tensor | None = None) -> Tensor:
        """[B] sum of `values` [K] over the tokens of each branch, multiplied by `weight` [M] if given."""
        shares = values[self.token] if weight is None else values[self.token] * weight
        return torch.zeros(self.branches, dtype=values.dtype, device=values.device).index_add(0, self.branch, shares)

    @property
    def lengths(self) -> Tensor:
        """[B] number of trained tokens of each branch."""
        return torch.bincount(self.branch, minlength=self.branches)

    @property
    def turns(self) -> Tensor:
        """[B] number of trained replies of each branch."""
        count = torch.zeros(self.branches, dtype=torch.long, device=self.turn.device)
        return count.scatter_reduce(0, self.branch, self.turn + 1, "amax")


def collate(examples: Sequence[Example], *, packed: bool, share: bool = True) -> Batch:
    """One pack, or rows padded on the right.

    Args:
        examples: all of one kind.
        packed: whether to store shared beginnings once, in a single row.
        share: False packs without sharing, as a baseline for measurements.
    """
    sides = _sides(examples)  # [B]
    sequences = [side.ids for side in sides]
    trained = [_positions(side) for side in sides]
    # A cell is an index into the flattened ids [rows * width].
    # at, before: for each branch, the cell of each trained token, and the cell of the token before it in the branch.
    # The latter predicts it. In a pack, where a branch's path jumps, it is not the cell to the left.
    if packed:
        forest = pack(sequences, share=share)
        ids, plan = torch.from_numpy(forest.ids)[None], plan_of(forest)
        width = len(forest.ids)
        at = [path[places] for path, (places, _) in zip(forest.paths, trained, strict=True)]
        before = [path[places - 1] for path, (places, _) in zip(forest.paths, trained, strict=True)]
    else:
        width, plan = max(map(len, sequences)), None
        ids = torch.zeros(len(sides), width, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        at = [row * width + places for row, (places, _) in enumerate(trained)]
        before = [places - 1 for places in at]
    # cells [K]: the distinct trained cells. first [K]: where each first occurs among the M tokens of all branches;
    # token [M]: the inverse mapping. A cell always has the same predictor, whichever branch leads through it, because
    # its whole beginning is shared. So the first occurrence gives its predictor and its reference.
    cells, first, token = np.unique(np.concatenate(at), return_index=True, return_inverse=True)
    # places [S]: the distinct predicting cells. source [K]: which of them predicts each trained cell.
    places, source = np.unique(np.concatenate(before)[first], return_inverse=True)
    reference = _references(examples)  # [M]
    return Batch(
        ids=ids,
        row=torch.from_numpy(places // width),
        column=torch.from_numpy(places % width),
        source=torch.from_numpy(source),
        target=ids.reshape(-1)[torch.from_numpy(cells)],
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
    """The forest of all branches of `examples`, as `collate` packs them."""
    return pack([side.ids for side in _sides(examples)])


def _sides(examples: Sequence[Example]) -> list[Tokens]:
    """The branches in the order of `Batch`: for pairs, first all chosen sides, then all rejected ones, then runs."""
    sides = range(len(examples[0].sides))
    return [example.sides[side] for side in sides for example in examples]


def _references(examples: Sequence[Example]) -> NDArray[np.float32] | None:
    """[M] log-probabilities under the reference, in the order of `_sides`; None unless all examples have them."""
    known = [example.reference for example in examples]
    if any(reference is None for reference in known):
        return None
    sides = range(len(examples[0].sides))
    return np.concatenate([r[side] for side in sides for r in known if r is not None]).astype(np.float32)


def _positions(side: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of a sequence's trained tokens, and which trained reply each belongs to.

    The first token of a sequence is never trained, because nothing predicts it.
    """
    spans = [np.arange(max(start, 1), end) for start, end in side.agent]
    return np.concatenate(spans), np.repeat(np.arange(len(spans)), list(map(len, spans)))


__all__ = ["Batch", "collate", "forest_of"]
