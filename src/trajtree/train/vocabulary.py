"""Training a small model from scratch on the part of a vocabulary that occurs.

A small model spends most of its time on the rows of a large vocabulary, of which its data need a few hundred. While it
is trained, it has an input row for every token that occurs, and an output row for every token that it is to say; one
more row stands for each of the others, which are all equally likely. So the softmax is over the whole vocabulary, only
faster: afterwards the model gets its rows back, the shared one for every other token, and says the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trajtree.train.batch import Batch
from trajtree.train.examples import Example

_OTHERS = 0
"""Row that stands for the tokens that have none."""


class OccurringRows(nn.Module):
    """Input rows of the tokens that occur.

    Attributes:
        weight: [1 + occurring, width] the rows; the first stands for all other tokens.
        row: [vocabulary] each token's row in `weight`.
        initial: [vocabulary, width] what the rows were before training, for tokens that do not occur.
    """

    row: Tensor
    initial: Tensor

    def __init__(self, initial: Tensor, occurring: Tensor) -> None:
        super().__init__()
        row = torch.full((len(initial),), _OTHERS, device=initial.device)
        row[occurring] = torch.arange(1, len(occurring) + 1, device=initial.device)
        self.register_buffer("row", row, persistent=False)
        self.register_buffer("initial", initial, persistent=False)
        self.weight = nn.Parameter(torch.cat([torch.zeros_like(initial[:1]), initial[occurring]]))

    def forward(self, ids: Tensor) -> Tensor:
        """[..., width] rows of `ids` [...]."""
        return nn.functional.embedding(self.row[ids], self.weight)

    def whole(self) -> Tensor:
        """[vocabulary, width] the rows of all tokens."""
        occurs = self.row != _OTHERS
        rows = self.initial.clone()
        rows[occurs] = self.weight.detach()[self.row[occurs]]
        return rows


class SaidRows(nn.Module):
    """Output rows of the tokens that are to be said, tied to the input rows, and one for all others together.

    Attributes:
        place: [vocabulary] which of the logits is each token's; that of the others is the last one.
    """

    place: Tensor
    _rows: Tensor

    def __init__(self, inputs: OccurringRows, said: Tensor) -> None:
        super().__init__()
        vocabulary = len(inputs.row)
        place = torch.full((vocabulary,), len(said), device=said.device)
        place[said] = torch.arange(len(said), device=said.device)
        rows = torch.cat([inputs.row[said], torch.tensor([_OTHERS], device=said.device)])
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("_rows", rows, persistent=False)
        # In a list, so that the weights are not registered twice.
        self._inputs = [inputs]
        # The others have the same logit each, so together they have that of one times their number.
        self._together = math.log(max(1, vocabulary - len(said)))

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., said + 1] logits."""
        logits = nn.functional.linear(hidden, self._inputs[0].weight[self._rows])
        logits[..., -1] += self._together
        return logits

    def whole(self) -> Tensor:
        """[vocabulary, width] the rows of all tokens."""
        return self._inputs[0].weight.detach()[self._rows][self.place]


def trim(model: Any, examples: Sequence[Example]) -> None:
    """Leave a model only the rows that the examples need, until `restore`."""
    device = next(model.parameters()).device
    sides = [side for example in examples for side in example.sides]
    occurring = sorted({token for side in sides for token in side.ids})
    said = sorted({token for side in sides for start, end in side.agent for token in side.ids[start:end]})
    inputs = OccurringRows(model.get_input_embeddings().weight.detach(), torch.tensor(occurring, device=device))
    model.config.tie_word_embeddings = False
    model.set_input_embeddings(inputs)
    model.set_output_embeddings(SaidRows(inputs, torch.tensor(said, device=device)))


def restore(model: Any) -> Any:
    """Give a trimmed model all rows back; returns it. Any other model stays as it is."""
    outputs = model.get_output_embeddings()
    if isinstance(outputs, SaidRows):
        rows, said = model.get_input_embeddings().whole(), outputs.whole()
        model.set_input_embeddings(nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows))
        head = nn.Linear(said.shape[1], said.shape[0], bias=False, device="meta")
        head.weight = nn.Parameter(said)
        model.set_output_embeddings(head)
    return model


def placed(model: Any, batch: Batch) -> Batch:
    """The batch with its targets as places among a trimmed model's logits."""
    outputs = model.get_output_embeddings()
    return replace(batch, target=outputs.place[batch.target]) if isinstance(outputs, SaidRows) else batch


__all__ = ["OccurringRows", "SaidRows", "placed", "restore", "trim"]
