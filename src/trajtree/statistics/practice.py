"""The field's practice, for comparison with papers: intervals and tests in which every task counts as independent.

They are too narrow where tasks share situations; conclusions are drawn from trajtree.statistics.clustered and .paired.
scipy is imported inside the functions, because that takes longer than importing all of trajtree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.results import Interval
from trajtree.trajectory import SCORE_TOLERANCE

_CELLS = 4_000_000
"""Number of resampled values held in memory at once."""


def mean_interval(values: NDArray[np.float64], bounds: tuple[float, float], *, resamples: int, seed: int) -> Interval:
    """Mean of `values` [tasks], which lie within `bounds`, with its 95% confidence interval.

    The tasks are the sample. The method depends on the values:

    * Zeros and ones are a binomial rate: Wilson's interval.
    * Equal values leave a bootstrap nothing to resample, but n equal tasks do not make the mean certain. Wilson's upper
      limit for 0 of n bounds the share of unseen tasks that differ; these are assumed to differ as much as `bounds`
      allows.
    * Anything else: percentile bootstrap.
    """
    value, n = float(values.mean()), len(values)
    if bounds == (0.0, 1.0) and is_binary(values):
        low, high = wilson(round(value * n), n)
    elif np.ptp(values) < SCORE_TOLERANCE:
        _, unseen = wilson(0, n)
        low, high = value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    else:
        from scipy.stats import bootstrap

        low, high = bootstrap(
            (values,),
            np.mean,
            n_resamples=resamples,
            batch=max(1, _CELLS // n),
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    # Rounding, or few resamples, can leave the value just outside.
    return Interval(value, min(value, float(low)), max(value, float(high)))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval (low, high) of a rate of `hits` out of `n`."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of McNemar's exact test.

    Args:
        differences: [tasks] -1, 0 or 1: one row's success minus the other's.
    """
    from scipy.stats import binomtest

    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def t_test(differences: NDArray[np.float64]) -> tuple[Interval, float | None]:
    """Mean of `differences` [seeds] with its 95% interval and its p-value by Student's t-test.

    One seed has no interval, which is then all that there can be, [-1, 1], and no p-value. Seeds that agree have an
    interval without width.
    """
    value, n = float(differences.mean()), len(differences)
    if n < 2:
        return Interval(value, -1.0, 1.0), None
    if np.ptp(differences) < SCORE_TOLERANCE:
        return Interval(value, value, value), 1.0 if abs(value) < SCORE_TOLERANCE else 0.0
    from scipy.stats import ttest_1samp

    test = ttest_1samp(differences, 0)
    low, high = test.confidence_interval(0.95)
    return Interval(value, float(low), float(high)), float(test.pvalue)


def is_binary(values: NDArray[np.float64]) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


__all__ = ["is_binary", "mcnemar", "mean_interval", "t_test", "wilson"]
