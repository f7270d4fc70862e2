"""The paired permutation test, as the field's practice does it over tasks: signs of differences are flipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.layout import Layout
from trajtree.trajectory import SCORE_TOLERANCE

_CELLS = 4_000_000
"""Signs held in memory at once."""


def sign_flips(differences: NDArray[np.float64], layout: Layout, *, resamples: int, seed: int) -> tuple[float, str]:
    """Two-sided mid-p-value of the paired permutation test, and what the test is called.

    If two rows are interchangeable within a situation, their results there could as well be the other way round: in the
    situation as a whole, because its tasks are decided by the same things. So the differences of a situation are
    flipped together. Rows that do equally well on average need not be interchangeable: if one wins single tasks and the
    other whole situations, the test rejects too often with few situations and rates near 0 or 1. So p-values by
    situation are not this test's but the interval's: docs/statistics.md.

    The mid-p-value counts results as extreme as the observed one by half. The plain p-value counts them in full, and so
    rejects too seldom where only a few situations differ and many flips are equally extreme: Lancaster, "Significance
    tests in discrete distributions", Journal of the American Statistical Association 56 (1961).

    Args:
        differences: [tasks] one row's value minus the other's.
        layout: the tasks' situations.
        resamples: random flips; all 2^situations of them are tried instead when there are no more than that.
        seed: of the random flips.
    """
    sums = layout.sums(differences)
    # A difference of zero is the same either way round, so those situations would only fill up the resamples.
    moved = sums[np.abs(sums) > SCORE_TOLERANCE]
    every = 2 ** len(moved) <= resamples
    name = f"sign flips by situation, mid-p, {'exact' if every else f'{resamples:,} draws'}"
    if not len(moved):
        return 1.0, name
    beyond = np.abs(_all_flips(moved) if every else _drawn_flips(moved, resamples, seed)) - abs(moved.sum())
    # What was observed is one of all flips, but none of those that are drawn.
    drawn = 0 if every else 1
    # Sums that differ by rounding are equal.
    ties = (np.abs(beyond) <= SCORE_TOLERANCE).sum() + drawn
    return float(((beyond > SCORE_TOLERANCE).sum() + ties / 2) / (len(beyond) + drawn)), name


def _all_flips(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2^situations / 2] what `sums` [situations] add up to with all signs, but for those that mirror others."""
    bits = np.arange(2 ** (len(sums) - 1))[:, None] >> np.arange(len(sums)) & 1
    return np.where(bits, -1.0, 1.0) @ sums


def _drawn_flips(sums: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """[resamples] what `sums` [situations] add up to with random signs."""
    rng, rows = np.random.default_rng(seed), max(1, _CELLS // len(sums))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    drawn = (rng.integers(0, 2, size=(size, len(sums)), dtype=np.int8) for size in sizes)
    return np.concatenate([np.where(bits, -1.0, 1.0) @ sums for bits in drawn])


__all__ = ["sign_flips"]
