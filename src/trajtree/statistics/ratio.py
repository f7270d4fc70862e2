"""The interval of the gap recovered, (row - weak) / (ceiling - weak).

For which R may row - weak - R (ceiling - weak) be 0? That is Fieller's question ("Some problems in interval
estimation", Journal of the Royal Statistical Society B 16, 1954), and the interval of a difference answers it: R is
inside where that holds 0. For R between 0 and 1 it is the row's difference from a mixture of the weak row and the
ceiling. Outside, terms are moved to the other side and divided by their weights' sum, so that it is always a difference
of two values in [0, 1]. So 0 is inside where the difference from the weak row holds 0, 1 where that from the ceiling
does, and there is an end exactly where the gap does not hold 0. The interval reaches to the farthest R that is inside:
with very few situations, others before it may not be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics import differences
from trajtree.statistics.layout import Layout

_Floats = NDArray[np.float64]
_Three = tuple[_Floats, _Floats, _Floats]
_Weights = tuple[float, float, float]

_LANDMARKS = (-1.0, 0.0, 1.0, 2.0)
"""Places of R = -infinity, 0, 1 and infinity: see `_weights`."""

_PRECISION = 1e-6
"""How exactly the place of an end is found."""


def ratio_interval(rows: _Three, layout: Layout, by_seed: _Three | None = None) -> tuple[float, float] | None:
    """95% interval of the gap recovered by the first of three `rows`, from the second, the weak one, to the ceiling.

    Args:
        rows: [tasks] each, on the same tasks.
        layout: the tasks' situations.
        by_seed: the rows' means with each seed, [seeds] each: the variance of seeds is added as for a difference.

    Returns:
        None where the interval of the gap, ceiling minus weak, is not above 0; or where the row recovers the same share
        of the gap in every situation, so that nothing tells how much that share varies.
    """

    def left(place: float) -> differences.Difference:
        ours, theirs = _weights(place)
        seeds = None if by_seed is None else (_mixed(ours, by_seed), _mixed(theirs, by_seed))
        return differences.estimate(_mixed(ours, rows), _mixed(theirs, rows), layout, seeds)

    if differences.interval(left(_LANDMARKS[0])).low <= 0:
        return None
    row, weak, ceiling = (float(values.mean()) for values in rows)
    value = _place((row - weak) / (ceiling - weak))
    if left(value).paired.variance == 0:
        return None

    def low(place: float) -> float:
        return differences.interval(left(place)).low

    def high(place: float) -> float:
        return -differences.interval(left(place)).high

    below = [value, *(place for place in reversed(_LANDMARKS) if place < value)]
    above = [value, *(place for place in _LANDMARKS if place > value)]
    return _share(_end(low, below)), _share(_end(high, above))


def _end(distance: Callable[[float], float], places: Sequence[float]) -> float:
    """Where `distance` becomes positive, beyond the last of the `places` outwards at which it is not."""
    from scipy.optimize import brentq

    held = max(index for index, place in enumerate(places) if index == 0 or distance(place) <= 0)
    return float(brentq(distance, places[held], places[held + 1], xtol=_PRECISION))


def _weights(place: float) -> tuple[_Weights, _Weights]:
    """Weights of the row, the weak row and the ceiling in the two values that are compared for the R of that place."""
    if place < 0:
        return (1 + place, 0.0, -place), (0.0, 1.0, 0.0)
    if place <= 1:
        return (1.0, 0.0, 0.0), (0.0, 1 - place, place)
    return (2 - place, place - 1, 0.0), (0.0, 0.0, 1.0)


def _place(share: float) -> float:
    """The place of R: between -1 and 0 for negative ones, R itself from 0 to 1, and up to 2 beyond."""
    return share / (1 - share) if share < 0 else share if share <= 1 else 2 - 1 / share


def _share(place: float) -> float:
    """The R of that place."""
    return place / (1 + place) if place < 0 else place if place <= 1 else 1 / (2 - place)


def _mixed(weights: _Weights, rows: _Three) -> _Floats:
    return sum((weight * row for weight, row in zip(weights, rows, strict=True)), np.zeros(len(rows[0])))


__all__ = ["ratio_interval"]
