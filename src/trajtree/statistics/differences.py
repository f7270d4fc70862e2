"""Differences of two rows' means: the union of two intervals, and the p-value that says the same.

Each of two intervals fails where the other holds, so a difference has all that either allows:

* The mean of the tasks' differences, with their CR2 standard error: `trajtree.statistics.clustered`. It fails where
  rows win in different ways. If one wins single tasks and the other now and then a whole situation, the second may win
  none in a dozen situations; the differences then vary as little as the first row does.
* What one row gains minus what it loses, each a mean with an interval of its own, combined by the method of variance
  estimates recovery (MOVER): Zou & Donner, "Construction of confidence limits about effect measures", Statistics in
  Medicine 27 (2008). Where nothing or little is lost, that interval allows for the situations that so few could have
  missed, which the first asks only where all situations differ alike. What both rows win or lose is in neither. It is
  the narrower one where few situations differ at all.

For rows that are alike both say about the same, so the union is hardly wider than either. docs/statistics.md has what a
simulation says of both and of their union.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics import clustered
from trajtree.statistics.clustered import Estimate
from trajtree.statistics.layout import Layout
from trajtree.statistics.results import Interval
from trajtree.trajectory import SCORE_TOLERANCE

TEST = "the level at which the interval reaches 0"
"""What the p-value is."""

_UNSEEN = 0.5
"""The share of their tasks in which situations that were not seen may differ, where next to nothing is lost, or gained.

How far a row is ahead of one that won nothing depends on what that one would win in situations that were not seen. If
it might win them whole, the interval would hold the truth nearly always and show next to no difference; with half of
their tasks it still holds it as often as it says: docs/statistics.md.
"""

_WIDEST = 1000.0
"""The largest quantile for which an interval is made."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """One row's mean minus another's: of the tasks' differences, `paired`, and as `gains` minus `losses`.

    `gains` is the mean over tasks of what the first row is ahead by, where it is, and `losses` of what the other is;
    `correlation` is that of these two means, and `farthest` how far any task of the two rows lies apart: so far, tasks
    that were not seen may. 1 where none does.
    """

    paired: Estimate
    gains: Estimate
    losses: Estimate
    correlation: float
    farthest: float


def estimate(
    ours: _Floats, theirs: _Floats, layout: Layout, by_seed: tuple[_Floats, _Floats] | None = None
) -> Difference:
    """How well the mean of `ours - theirs` ([tasks] each) is known.

    With `by_seed`, the means of both with each seed ([seeds] each), the variance of seeds is added as in
    `clustered.with_seeds`.
    """
    apart = ours - theirs
    paired = clustered.estimate(apart, layout)
    if by_seed is not None:
        paired = clustered.with_seeds(paired, by_seed[0] - by_seed[1])
    sides = np.maximum(apart, 0.0), np.maximum(-apart, 0.0)
    gains, losses = (clustered.estimate(side, layout) for side in sides)
    scale = sqrt(gains.variance * losses.variance)
    # What does not vary goes with nothing.
    correlation = clustered.covariances(sides, layout)[0, 1] / scale if scale > 0 else 0.0
    farthest = float(np.abs(apart).max())
    farthest = farthest if farthest > SCORE_TOLERANCE else 1.0
    return Difference(paired, gains, losses, float(np.clip(correlation, -1.0, 1.0)), farthest)


def interval(found: Difference) -> Interval:
    """95% interval of the difference, within [-1, 1]: the union of both."""
    low, high = _ends(found, clustered.t_quantile(0.975, found.paired.df))
    return Interval(found.paired.mean, max(-1.0, low), min(1.0, high))


def p_value(found: Difference) -> float:
    """Two-sided p-value of a difference of 0: the level at which an end of the interval is 0.

    So it is below 0.05 exactly where the interval excludes 0. It is 1 where there is a single situation, which says
    nothing of others.
    """
    mean, df = found.paired.mean, found.paired.df
    if abs(mean) <= SCORE_TOLERANCE or found.paired.situations.count < 2:
        return 1.0

    def distance(quantile: float) -> float:
        low, high = _ends(found, quantile)
        return low if mean > 0 else -high

    from scipy.optimize import brentq
    from scipy.special import stdtr

    # Where gains and losses go together, an end may come back towards the mean as the quantile grows, so the level is
    # sought on the side of 5% that the interval is on.
    limit = clustered.t_quantile(0.975, df)
    inner, outer = (limit, _WIDEST) if distance(limit) > 0 else (0.0, limit)
    # The ends of many strata, added up in squares, may not reach 0 however wide each stratum's interval is.
    touching = brentq(distance, inner, outer) if distance(outer) <= 0 else outer
    return float(2 * stdtr(df, -touching))


def _ends(found: Difference, quantile: float) -> tuple[float, float]:
    ends = between_tasks(found, quantile), gained_and_lost(found, quantile)
    return min(low for low, _ in ends), max(high for _, high in ends)


def between_tasks(found: Difference, quantile: float) -> tuple[float, float]:
    """Both ends of the interval of the mean of the tasks' differences, with that quantile of Student's t."""
    # What was not seen is a question of gains and losses. Only where all situations differ alike is it asked here too:
    # others may as well differ the other way round.
    alike = found.paired.whole.variance == 0
    bound = max(abs(stratum.mean) for stratum in found.paired.strata) if alike else 1.0
    return clustered.ends(found.paired, quantile, (-bound, bound), float(alike))


def gained_and_lost(found: Difference, quantile: float) -> tuple[float, float]:
    """Both ends of the interval of gains minus losses, with that quantile of Student's t: MOVER."""
    gains, losses = found.gains.mean, found.losses.mean
    fewest, most = clustered.ends(found.gains, quantile, (0.0, found.farthest), _UNSEEN)
    least, worst = clustered.ends(found.losses, quantile, (0.0, found.farthest), _UNSEEN)
    seeds = quantile**2 * found.paired.seeds
    below = _together(gains - fewest, worst - losses, found.correlation) + seeds
    above = _together(most - gains, losses - least, found.correlation) + seeds
    return gains - losses - sqrt(below), gains - losses + sqrt(above)


def _together(ours: float, theirs: float, correlation: float) -> float:
    """How far the difference of two means reaches, squared, where they reach this far in opposite directions."""
    # Rounding can leave less than 0.
    return max(0.0, ours**2 - 2 * correlation * ours * theirs + theirs**2)


__all__ = ["TEST", "Difference", "between_tasks", "estimate", "gained_and_lost", "interval", "p_value"]
