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
"""The share of their tasks in which situations that were not seen may differ from those that were.

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
    `correlation` is that of these two means.
    """

    paired: Estimate
    gains: Estimate
    losses: Estimate
    correlation: float


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
    return Difference(paired, gains, losses, float(np.clip(correlation, -1.0, 1.0)))


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


def smallest_shown(found: Difference, shown: Interval) -> float | None:
    """About the smallest difference that a two-sided test at 5% would have shown with a power of 80%.

    It is as many standard errors as that takes; `shown` is the interval, which says how large one is here. Rows that
    differ by so much would have a larger one: their differences would be 1 in so many more tasks. Half of that is
    added, since a row that gains also ceases to lose. Before the differences are settled (`clustered.settled`), all of
    it is, and for whole situations: they may be won whole. None where the situations are too few for anything to be
    shown, or none would be large enough.
    Source: Bloom, "Minimum detectable effects", Evaluation Review 19 (1995), whose standard error does not grow.
    """
    if found.paired.situations.few:
        return None
    df, sides = found.paired.df, (found.gains, found.losses)
    limit = clustered.t_quantile(0.975, df)
    squared = (limit + clustered.t_quantile(0.8, df)) ** 2
    variance = ((shown.high - shown.low) / 2 / limit) ** 2
    differing = sum(side.mean * clustered.worth(side.whole, (0.0, 1.0)) for side in sides)
    settled = clustered.settled(differing) * found.paired.whole.apart
    # The inverse of the number of independent tasks, or situations, in which the rows may differ.
    inverse = (1 - settled) / found.paired.situations.effective
    if found.paired.whole.variance:
        single = found.gains.mean + found.losses.mean - found.paired.mean**2
        inverse += settled * found.paired.whole.variance / single / 2
    # d^2 = squared (variance + (d - d^2) inverse), solved for d.
    growth = squared * inverse
    smallest = float((growth + sqrt(growth**2 + 4 * (1 + growth) * squared * variance)) / 2 / (1 + growth))
    return smallest if smallest <= 1 else None


def _ends(found: Difference, quantile: float) -> tuple[float, float]:
    ends = between_tasks(found, quantile), gained_and_lost(found, quantile)
    return min(low for low, _ in ends), max(high for _, high in ends)


def between_tasks(found: Difference, quantile: float) -> tuple[float, float]:
    """Both ends of the interval of the mean of the tasks' differences, with that quantile of Student's t."""
    # What was not seen is a question of gains and losses. Only where all situations differ alike is it asked here too:
    # half of the tasks of others may as well differ the other way round.
    alike = found.paired.whole.variance == 0
    bound = max(abs(stratum.mean) for stratum in found.paired.strata) if alike else 1.0
    return clustered.ends(found.paired, quantile, (-bound, bound), (1 + _UNSEEN) / 2 * alike)


def gained_and_lost(found: Difference, quantile: float) -> tuple[float, float]:
    """Both ends of the interval of gains minus losses, with that quantile of Student's t: MOVER."""
    sides = found.gains, found.losses
    gained, lost = (_reach(side, quantile, _UNSEEN) for side in sides)
    # Only what was seen goes together: what was not seen of either says nothing of the other.
    seen = [_reach(side, quantile, 0.0) for side in sides]
    seeds = quantile**2 * found.paired.seeds

    def together(gains: int, losses: int) -> float:
        both = found.correlation * seen[0][gains] * seen[1][losses]
        # Rounding can leave less than 0.
        return sqrt(max(0.0, gained[gains] ** 2 - 2 * both + lost[losses] ** 2) + seeds)

    mean = found.gains.mean - found.losses.mean
    return mean - together(0, 1), mean + together(1, 0)


def _reach(found: Estimate, quantile: float, unseen: float) -> tuple[float, float]:
    """How far the interval of what is gained, or lost, reaches below and above its mean."""
    low, high = clustered.ends(found, quantile, (0.0, 1.0), unseen)
    return found.mean - low, high - found.mean


__all__ = [
    "TEST",
    "Difference",
    "between_tasks",
    "estimate",
    "gained_and_lost",
    "interval",
    "p_value",
    "smallest_shown",
]
