"""Drawing the next token so that a conversation's draws do not depend on the rest of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trajtree.errors import EngineError, counted
from trajtree.trajectory import Sampling

_HEAD = 64
"""Number of most likely tokens searched for the nucleus before the whole vocabulary is sorted."""


def stream(seed: tuple[int, ...]) -> np.random.Generator:
    """One conversation's own random stream; the generator is counter-based, so any tuple of integers is a good seed."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([s & 0xFFFFFFFF for s in seed])))


def draw(logits: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> list[int]:
    """[batch] next token of each row, by inverse transform sampling with the row's own uniform number.

    Args:
        logits: [batch, vocabulary].
        settings: [batch] temperature and nucleus of each row; temperature 0 takes the most likely token.
        uniforms: [batch] numbers in [0, 1).

    Raises:
        EngineError: a row is not a distribution (see `no_distribution`).
    """
    if broken := no_distribution(logits):
        raise EngineError(f"the logits of {counted(len(broken), 'row')} of {len(logits)} are NaN or infinite")
    logits = logits.float()
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    for row, (sampling, uniform) in enumerate(zip(settings, uniforms, strict=True)):
        if sampling.temperature > 0:
            probabilities = torch.softmax(logits[row] / sampling.temperature, dim=-1)
            chosen[row] = _invert(probabilities, sampling.top_p, uniform)
    return chosen


def no_distribution(logits: Tensor) -> list[int]:
    """The rows of `logits` [batch, vocabulary] with NaN, +inf, or only -inf; some -inf merely excludes tokens."""
    # The maximum is NaN if any value is.
    return [row for row, finite in enumerate(logits.amax(dim=-1).isfinite().tolist()) if not finite]


def _invert(probabilities: Tensor, top_p: float, uniform: float) -> int:
    """The token at `uniform` of the distribution `probabilities` [vocabulary], cut to its nucleus of mass `top_p`."""
    if top_p >= 1:
        return _pick(probabilities, torch.arange(len(probabilities)), uniform)
    # values, ids: tokens by descending probability. A trained agent's nucleus is a handful of tokens, so the first few
    # nearly always suffice and the vocabulary is rarely sorted.
    values, ids = probabilities.topk(min(_HEAD, len(probabilities)))
    if values.sum() < top_p:
        values, ids = probabilities.sort(descending=True, stable=True)
    # A token is inside if those before it do not reach top_p. So the one that crosses top_p is still inside, and the
    # most likely token always is.
    before = values.cumsum(0) - values
    inside = before < top_p
    return _pick(values[inside], ids[inside], uniform)


def _pick(weights: Tensor, ids: Tensor, uniform: float) -> int:
    """The one of `ids` [tokens] at `uniform` of the cumulative `weights` [tokens], which need not add up to 1."""
    mass = weights.double().cumsum(0)
    # Token i holds the interval [mass[i - 1], mass[i]); with right=True a token of weight 0 is never found.
    index = int(torch.searchsorted(mass, uniform * mass[-1], right=True))
    # Below 1, a uniform number never leads past the end; 1 itself gives the last token.
    return int(ids[min(index, len(ids) - 1)])


__all__ = ["draw", "no_distribution", "stream"]
