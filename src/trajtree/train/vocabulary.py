"""Training a small model from scratch on the part of a vocabulary that its data use.

A small model spends most of its time on the rows of a large vocabulary, of which its data need a few hundred. While it
is trained, it has an input row for every token that occurs and an output row for every token that is a target; one
more row stands for all the others, which are equally likely. So the softmax is still over the whole vocabulary, only
faster. Afterwards the model gets all its rows back, the shared one for every other token, and its output is the same.
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
"""Row that stands for all tokens without a row of their own."""


class InputRows(nn.Module):
    """Input rows of the tokens that occur.

    Attributes:
        weight: [1 + occurring, width] the rows; the first stands for all other tokens.
        row: [vocabulary] each token's row in `weight`.
        initial: [vocabulary, width] the rows before training, which tokens that do not occur keep.
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


class OutputRows(nn.Module):
    """Output rows of the target tokens, tied to the input rows, and one for all others together.

    Attributes:
        place: [vocabulary] index of each token's logit; the last logit is shared by all tokens that are not targets.
    """

    place: Tensor
    _rows: Tensor

    def __init__(self, inputs: InputRows, targets: Tensor) -> None:
        super().__init__()
        vocabulary = len(inputs.row)
        place = torch.full((vocabulary,), len(targets), device=targets.device)
        place[targets] = torch.arange(len(targets), device=targets.device)
        rows = torch.cat([inputs.row[targets], torch.tensor([_OTHERS], device=targets.device)])
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("_rows", rows, persistent=False)
        # In a list, so that the weights are not registered twice.
        self._inputs = [inputs]
        # The others all have the same logit, so their probability together is that of one times their number.
        others = vocabulary - len(targets)
        self._log_others = math.log(others) if others else -math.inf

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., targets + 1] logits."""
        logits = nn.functional.linear(hidden, self._inputs[0].weight[self._rows])
        logits[..., -1] += self._log_others
        return logits

    def whole(self) -> Tensor:
        """[vocabulary, width] the rows of all tokens."""
        return self._inputs[0].weight.detach()[self._rows][self.place]


def trim(model: Any, examples: Sequence[Example]) -> None:
    """Keep only the rows of a model that the examples need, until `restore`."""
    device = next(model.parameters()).device
    sides = [side for example in examples for side in example.sides]
    occurring = sorted({token for side in sides for token in side.ids})
    targets = sorted({token for side in sides for start, end in side.agent for token in side.ids[start:end]})
    inputs = InputRows(model.get_input_embeddings().weight.detach(), torch.tensor(occurring, device=device))
    model.config.tie_word_embeddings = False
    model.set_input_embeddings(inputs)
    model.set_output_embeddings(OutputRows(inputs, torch.tensor(targets, device=device)))


def restore(model: Any) -> Any:
    """Give a trimmed model all its rows back, and return it. Any other model stays as it is."""
    outputs = model.get_output_embeddings()
    if isinstance(outputs, OutputRows):
        rows, output_rows = model.get_input_embeddings().whole(), outputs.whole()
        model.set_input_embeddings(nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows))
        head = nn.Linear(output_rows.shape[1], output_rows.shape[0], bias=False, device="meta")
        head.weight = nn.Parameter(output_rows)
        model.set_output_embeddings(head)
    return model


def placed(model: Any, batch: Batch) -> Batch:
    """The batch with its targets as places among a trimmed model's logits."""
    outputs = model.get_output_embeddings()
    return replace(batch, target=outputs.place[batch.target]) if isinstance(outputs, OutputRows) else batch


__all__ = ["InputRows", "OutputRows", "placed", "restore", "trim"]
