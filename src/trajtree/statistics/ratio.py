"""The interval of the gap recovered, (row - weak) / (ceiling - weak).

For which R may row - weak - R (ceiling - weak) be 0? That is the question of a difference, asked of three rows, and the
answer is the same: the union of what the tasks' values allow (Fieller) and of what the rows' own intervals do (MOVER).

Sources: Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16 (1954); Donner &
Zou, "Closed-form confidence intervals for functions of the normal mean and standard deviation", Statistical Methods in
Medical Research 21 (2012), for MOVER of a ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.clustered import covariances, estimate, t_quantile, with_seeds
from trajtree.statistics.differences import Rows
from trajtree.statistics.layout import Layout
from trajtree.trajectory import SCORE_TOLERANCE

_GAINED, _GAP = np.array([1.0, -1.0, 0.0]), np.array([0.0, -1.0, 1.0])
"""Weights of the means of the row, the weak row and the ceiling in what is gained, and in the gap."""

_Floats = NDArray[np.float64]
_Three = tuple[_Floats, _Floats, _Floats]


def ratio_interval(rows: _Three, layout: Layout, by_seed: _Three | None = None) -> tuple[float, float] | None:
    """95% interval of the gap recovered by the first of three `rows`, from the second, the weak one, to the ceiling.

    There are no strata, so a type of task whose situations happen to agree does not make it narrower.

    Args:
        rows: [tasks] each, on the same tasks.
        layout: the tasks' situations.
        by_seed: the rows' means with each seed, [seeds] each: the variance of seeds is added as in `with_seeds`.

    Returns:
        None where the values have no end, because the gap may be 0 itself; or where the row recovers the same share of
        the gap in every situation, so that nothing tells how much that share varies.
    """
    layout = layout.pooled()
    gained, gap = _of(rows)
    if abs(gap.mean()) <= SCORE_TOLERANCE:
        return None
    share = float(gained.mean() / gap.mean())
    apart, seeds = estimate(gained - share * gap, layout), None
    if by_seed is not None and len(by_seed[0]) > 1:
        seeds = _of(by_seed)
        apart = with_seeds(apart, seeds[0] - share * seeds[1])
    if apart.variance == 0:
        return None
    limit = t_quantile(0.975, apart.df)
    found = [*fieller(gained, gap, layout, limit, seeds), *_mover(Rows.of(rows, layout, by_seed), share, limit)]
    return None if np.isinf(found).any() else (min(found), max(found))


def _of(rows: _Three) -> tuple[_Floats, _Floats]:
    """What is gained, and the gap."""
    ours, weak, ceiling = rows
    return ours - weak, ceiling - weak


def fieller(
    gained: _Floats, gap: _Floats, layout: Layout, limit: float, by_seed: tuple[_Floats, _Floats] | None = None
) -> tuple[float, float]:
    """Both ends of Fieller's interval of mean(gained) / mean(gap), [tasks] each; infinite where it has none.

    `limit` is the quantile of Student's t; `by_seed` are the means of both with each seed, [seeds] each.
    """
    # [2, 2] covariances of the mean of what is gained and of the gap.
    errors = covariances((gained, gap), layout)
    if by_seed is not None:
        errors = errors + np.cov(np.stack(by_seed)) / len(by_seed[0])
    # The ends are the roots of square * R^2 - 2 * middle * R + rest.
    squared, means = limit**2, (float(gained.mean()), float(gap.mean()))
    square = means[1] ** 2 - squared * errors[1, 1]
    middle = means[0] * means[1] - squared * errors[0, 1]
    rest = means[0] ** 2 - squared * errors[0, 0]
    if square <= 0:
        return -np.inf, np.inf
    half = float(np.sqrt(max(0.0, middle**2 - square * rest)))
    return float(middle - half) / square, float(middle + half) / square


def _mover(rows: Rows, share: float, limit: float) -> Iterator[float]:
    """The ends, and where there are several the inner ones too; infinite where there are none.

    Gained - R gap is 0 at R = `share`, and elsewhere it may be if the rows' intervals reach that far. Which of a row's
    ends counts depends on the signs of the difference and of the row's weight in it, which change at 0, 1 and `share`;
    between these, what it lacks is square * R^2 - 2 * middle * R + rest.
    """
    means = np.array([row.mean for row in rows.means])
    below, above = rows.reaches(limit)
    places = [-np.inf, *sorted({0.0, 1.0, share}), np.inf]
    for start, stop in pairwise(places):
        inside = stop - 1.0 if np.isinf(start) else start + 1.0 if np.isinf(stop) else (start + stop) / 2
        weights = _GAINED - inside * _GAP
        down = weights @ means > 0
        reach = np.where((weights > 0) == down, below, above)
        gained, gap = _GAINED * reach, _GAP * reach
        square = (_GAP @ means) ** 2 - gap @ rows.correlations @ gap
        middle = (_GAINED @ means) * (_GAP @ means) - gained @ rows.correlations @ gap
        rest = (_GAINED @ means) ** 2 - gained @ rows.correlations @ gained
        if square <= 0 and np.isinf([start, stop]).any():
            yield np.inf
        for root in np.roots([square, -2 * middle, rest]):
            if root.imag == 0 and start - SCORE_TOLERANCE <= root.real <= stop + SCORE_TOLERANCE:
                yield float(root.real)


__all__ = ["fieller", "ratio_interval"]
