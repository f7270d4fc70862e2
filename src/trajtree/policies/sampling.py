"""Drawing the next token, so that a conversation's draws do not depend on who else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trajtree.trajectory import Sampling

_HEAD = 64


def stream(seed: tuple[int, ...]) -> np.random.Generator:
    """One conversation's own random stream (counter-based, so any tuple of integers is a good seed)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([s & 0xFFFFFFFF for s in seed])))


def draw(logits: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> list[int]:
    """Next token of each row by inverse transform of the row's own uniform.

    Args:
        logits: [batch, vocabulary].
        settings: temperature and nucleus of each row; temperature 0 takes the most likely token.
        uniforms: one number in [0, 1) a row.
    """
    logits = logits.float()
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    for row, (sampling, uniform) in enumerate(zip(settings, uniforms, strict=True)):
        if sampling.temperature > 0:
            probabilities = torch.softmax(logits[row] / sampling.temperature, dim=-1)
            chosen[row] = _invert(probabilities, sampling.top_p, uniform)
    return chosen


def _invert(probabilities: Tensor, top_p: float, uniform: float) -> int:
    if top_p >= 1:
        return _pick(probabilities, torch.arange(len(probabilities)), uniform)
    # A trained agent's nucleus is a handful of tokens: sorting the whole vocabulary is the rare case.
    values, ids = probabilities.topk(min(_HEAD, len(probabilities)))
    if values.sum() < top_p:
        values, ids = probabilities.sort(descending=True, stable=True)
    before = values.cumsum(0) - values
    inside = before < top_p
    return _pick(values[inside], ids[inside], uniform)


def _pick(weights: Tensor, ids: Tensor, uniform: float) -> int:
    mass = weights.double().cumsum(0)
    index = int(torch.searchsorted(mass, uniform * mass[-1], right=True))
    return int(ids[min(index, len(ids) - 1)])


__all__ = ["draw", "stream"]
