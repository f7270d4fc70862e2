"""Confidence intervals and paired tests over arrays that hold one value per task.

Nothing here knows what the values are, only that they lie within bounds and are compared with SCORE_TOLERANCE. scipy is
imported inside the functions, because that takes longer than importing all of trajtree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.results import Interval
from trajtree.trajectory import SCORE_TOLERANCE

_CELLS = 4_000_000
"""Resampled values held in memory at once."""


def mean_interval(values: NDArray[np.float64], bounds: tuple[float, float], *, resamples: int, seed: int) -> Interval:
    """Mean of `values` [tasks], which lie within `bounds`, with its 95% confidence interval.

    The tasks are the sample. The method depends on the values:

    * Zeros and ones are a binomial rate: Wilson's interval.
    * Equal values leave a bootstrap nothing to resample, but n equal tasks do not make the mean certain. Wilson's upper
      limit for 0 of n bounds the share of unseen tasks that differ, and those are assumed to differ as much as `bounds`
      allow.
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


def sign_flips(differences: NDArray[np.float64], *, resamples: int, seed: int) -> float:
    """Two-sided p-value of the paired permutation test, which flips the signs of the tasks' differences.

    Args:
        differences: [tasks] one row's value minus the other's.
        resamples: random flips; all 2^tasks of them are tried instead when there are no more than that.
        seed: of the random flips.
    """
    from scipy.stats import permutation_test

    # A difference of zero is the same either way round, so those tasks would only fill up the resamples.
    moved = differences[np.abs(differences) > SCORE_TOLERANCE]
    # With a single task both flips are equally extreme, so p is 1 without a test.
    if len(moved) < 2:
        return 1.0
    test = permutation_test(
        (moved,),
        _rounded_sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _CELLS // len(moved)),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _rounded_sum(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Sums of equal flips are equal, which rounding in floating point would undo."""
    sums: NDArray[np.float64] = np.round(values.sum(axis), 9)
    return sums


def is_binary(values: NDArray[np.float64]) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


__all__ = ["is_binary", "mcnemar", "mean_interval", "sign_flips", "wilson"]
