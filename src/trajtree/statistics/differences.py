"""Differences of two rows' means: the union of two intervals, and the p-value that says the same.

Each of two intervals fails where the other holds, so a difference has all that either allows:

* The mean of the tasks' differences, with their CR2 standard error: `trajtree.statistics.clustered`. It fails where
  rows win in different ways. If one wins single tasks and the other whole situations, and rates are near 0 or 1, the
  second may win nothing in a dozen situations; the differences then vary as little as the first row does.
* The rows' own intervals, with the correlation of their means: the method of variance estimates recovery (MOVER), for
  paired values: Zou & Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27
  (2008). A row that won nothing has an interval that allows for the situations that so few could have missed. It fails
  where rows are nearly the same, since what their means have in common then cancels.

For rows that are alike both say about the same, so the union is hardly wider than either. docs/statistics.md has what a
simulation says of both and of their union.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
"""The share of their tasks by which situations that were not seen may differ, where a row's situations are all alike.

How far a row is ahead of one that won nothing depends on what that one would win in situations that were not seen. If
it might win them whole, the interval would hold the truth nearly always and show next to no difference; with half of
their tasks it still holds it as often as it says: docs/statistics.md.
"""

_WIDEST = 1000.0
"""The largest quantile for which an interval is made."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The means of several rows over the same tasks, and the `correlations` [rows, rows] of these means."""

    means: tuple[Estimate, ...]
    correlations: _Floats

    @classmethod
    def of(cls, values: Sequence[_Floats], layout: Layout, by_seed: Sequence[_Floats] | None = None) -> Rows:
        """The rows whose `values` are [tasks] each; `by_seed` are their means with each seed, [seeds] each."""
        means = tuple(clustered.estimate(row, layout) for row in values)
        covariances = clustered.covariances(values, layout)
        if by_seed is not None and len(by_seed[0]) > 1:
            means = tuple(clustered.with_seeds(mean, seeds) for mean, seeds in zip(means, by_seed, strict=True))
            covariances = covariances + np.cov(np.stack(by_seed)) / len(by_seed[0])
        deviations = np.sqrt([mean.variance for mean in means])
        scales = np.outer(deviations, deviations)
        # A row that does not vary goes with none.
        correlations = np.divide(covariances, scales, out=np.zeros_like(scales), where=scales > 0)
        np.fill_diagonal(correlations, 1.0)
        return cls(means, np.clip(correlations, -1.0, 1.0))

    def reaches(self, quantile: float) -> tuple[_Floats, _Floats]:
        """How far the rows' intervals reach below and above their means, [rows] each."""
        ends = np.array([clustered.ends(mean, quantile, (0.0, 1.0), _UNSEEN) for mean in self.means])
        means = np.array([mean.mean for mean in self.means])
        # The variance of seeds can carry an end beyond a rate's bounds.
        return means - np.maximum(0.0, ends[:, 0]), np.minimum(1.0, ends[:, 1]) - means

    def difference(self, quantile: float) -> tuple[float, float]:
        """Both ends of the interval of the first mean minus the second, from the rows' intervals: MOVER."""
        below, above = self.reaches(quantile)
        mean, correlation = self.means[0].mean - self.means[1].mean, float(self.correlations[0, 1])
        return mean - _together(below[0], above[1], correlation), mean + _together(above[0], below[1], correlation)


@dataclass(frozen=True, slots=True)
class Difference:
    """One row's mean minus another's: of the tasks' differences, and from the two `rows`."""

    paired: Estimate
    rows: Rows


def estimate(
    ours: _Floats, theirs: _Floats, layout: Layout, by_seed: tuple[_Floats, _Floats] | None = None
) -> Difference:
    """How well the mean of `ours - theirs` ([tasks] each) is known.

    With `by_seed`, the means of both with each seed ([seeds] each), the variance of seeds is added as in
    `clustered.with_seeds`.
    """
    paired = clustered.estimate(ours - theirs, layout)
    if by_seed is not None:
        paired = clustered.with_seeds(paired, by_seed[0] - by_seed[1])
    return Difference(paired, Rows.of((ours, theirs), layout, by_seed))


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

    # Where the rows' ends cancel, an end may come back towards the mean as the quantile grows, so the level is sought
    # on the side of 5% that the interval is on.
    limit = clustered.t_quantile(0.975, df)
    inner, outer = (limit, _WIDEST) if distance(limit) > 0 else (0.0, limit)
    # The ends of many strata, added up in squares, may not reach 0 however wide each stratum's interval is.
    touching = brentq(distance, inner, outer) if distance(outer) <= 0 else outer
    return float(2 * stdtr(df, -touching))


def _ends(found: Difference, quantile: float) -> tuple[float, float]:
    ends = clustered.ends(found.paired, quantile, (-1.0, 1.0)), found.rows.difference(quantile)
    return min(low for low, _ in ends), max(high for _, high in ends)


def _together(ours: float, theirs: float, correlation: float) -> float:
    """How far the difference reaches where one row's mean reaches this far one way, and the other's the other way."""
    # Rounding can leave less than 0.
    return float(np.sqrt(max(0.0, ours**2 - 2 * correlation * ours * theirs + theirs**2)))


__all__ = ["TEST", "Difference", "Rows", "estimate", "interval", "p_value"]
