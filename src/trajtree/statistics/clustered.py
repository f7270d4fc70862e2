"""Means of tasks that agree within their situation: a robust standard error, its degrees of freedom, and the interval.

Tasks of one situation are decided by the same things, so they are one piece of evidence and not several. The situation
is the cluster here, and the mean over tasks is a regression on strata alone, for which everything has a closed form:

* CR2 standard errors: Bell & McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage
  samples", Survey Methodology 28 (2002).
* Their degrees of freedom by Satterthwaite, with the correlation found in the data as the working model: Imbens &
  Kolesár, "Robust standard errors in small samples", Review of Economics and Statistics 98 (2016). Over strata by
  Satterthwaite again, with the strata's own variances.
* Intervals within bounds, in each stratum: Wilson's, for the number of independent tasks that would give the same
  standard error: Korn & Graubard, Survey Methodology 24 (1998).

docs/statistics.md has the reasons, and what a simulation says of the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.layout import Layout
from trajtree.statistics.results import Dependence, Interval, Situations
from trajtree.trajectory import SCORE_TOLERANCE

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stratum:
    """A `share` of the tasks: their mean, its CR2 variance, and how many equal situations they are worth.

    `df` are the degrees of freedom of that variance; `independent` is what it would be if no tasks shared a situation.
    """

    share: float
    mean: float
    variance: float
    df: float
    independent: float
    situations: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks, with its variance by CR2 and the degrees of freedom of that variance.

    `variance` is the sum over `strata` of their variances by squared shares, and of `seeds`, the variance that is added
    where there are several. A variance of 0 says that the situations do not differ in their means, not that the mean is
    certain.
    """

    mean: float
    variance: float
    df: float
    situations: Situations
    dependence: Dependence
    strata: tuple[Stratum, ...]
    seeds: float = 0.0


def estimate(values: _Floats, layout: Layout) -> Estimate:
    """The mean of `values` [tasks] and how well it is known."""
    if np.ptp(values) < SCORE_TOLERANCE:
        # Neither do the types of task differ.
        layout = layout.pooled()
    icc = correlation(values, layout)
    working = min(1.0, max(0.0, icc or 0.0))
    strata = _by_stratum(values, layout, working)
    variance = sum(stratum.share**2 * stratum.variance for stratum in strata)
    independent = sum(stratum.share**2 * stratum.independent for stratum in strata)
    effect = variance / independent if independent > SCORE_TOLERANCE**2 else None
    if variance:
        # A sum of strata is no better known than those that vary most: counting all situations would say that it is.
        df = variance**2 / sum((stratum.share**2 * stratum.variance) ** 2 / stratum.df for stratum in strata)
    else:
        df = degrees_of_freedom(layout, working)
    return Estimate(
        mean=float(values.mean()),
        variance=variance,
        df=df,
        situations=layout.situations,
        dependence=Dependence(icc, effect),
        strata=strata,
    )


def with_seeds(found: Estimate, by_seed: _Floats) -> Estimate:
    """The estimate with the variance of the mean of the seeds' differences, `by_seed` [seeds], added.

    Nothing is added of a single seed, or of seeds that agree. Where the situations do not differ, it is not known how
    much of the variance is theirs, and the degrees of freedom are the fewer ones.
    """
    seeds = float(by_seed.var(ddof=1)) / len(by_seed) if len(by_seed) > 1 else 0.0
    if seeds <= SCORE_TOLERANCE**2:
        return found
    total, others = found.variance + seeds, len(by_seed) - 1
    if found.variance:
        df = total**2 / (found.variance**2 / found.df + seeds**2 / others)
    else:
        df = min(found.df, others)
    return replace(found, variance=total, df=max(1.0, df), seeds=seeds)


def _by_stratum(values: _Floats, layout: Layout, icc: float) -> tuple[Stratum, ...]:
    found, task_stratum = [], layout.stratum[layout.situation]
    squares = layout.residuals(values) ** 2 / layout.freedom
    for stratum in range(layout.stratum.max() + 1):
        inside, sizes = values[task_stratum == stratum], layout.sizes[layout.stratum == stratum]
        variance = float(squares[layout.stratum == stratum].sum()) / len(inside) ** 2
        found.append(
            Stratum(
                share=len(inside) / len(values),
                mean=float(inside.mean()),
                # What rounding leaves of equal means is 0.
                variance=variance if variance > SCORE_TOLERANCE**2 else 0.0,
                df=_satterthwaite(*_moments(sizes, icc)),
                independent=float(inside.var(ddof=1)) / len(inside) if len(inside) > 1 else 0.0,
                situations=float(sizes.sum() ** 2 / (sizes**2).sum()),
            )
        )
    return tuple(found)


def covariances(values: Sequence[_Floats], layout: Layout) -> _Floats:
    """[values, values] CR2 covariances of the means of several `values` [tasks] of the same tasks."""
    residuals = np.stack([layout.residuals(one) for one in values])
    found: _Floats = (residuals / layout.freedom) @ residuals.T / len(values[0]) ** 2
    return found


def degrees_of_freedom(layout: Layout, icc: float) -> float:
    """Degrees of freedom of the CR2 variance, if all tasks vary alike and those of one situation correlate by `icc`.

    At least 1.
    """
    weights = [layout.sizes[layout.stratum == stratum] for stratum in range(layout.stratum.max() + 1)]
    traces, squares = np.sum([_moments(sizes, icc) for sizes in weights], axis=0)
    return _satterthwaite(float(traces), float(squares))


def _satterthwaite(trace: float, squares: float) -> float:
    return max(1.0, trace**2 / squares) if squares else 1.0


def _moments(sizes: _Floats, icc: float) -> tuple[float, float]:
    """Trace and sum of squares of the covariance of what CR2 squares and adds up, in a stratum of these situations."""
    if len(sizes) < 2:
        return 0.0, 0.0
    share = sizes / sizes.sum()
    variance = sizes * (1 + (sizes - 1) * icc)  # of the situations' sums
    # CR2 adds up squared residuals, of covariance [situations, situations] diag(d) - s v' - v s' + total s s',
    # with CR2's factors in s, v and d. It is never made whole, since there may be thousands of situations.
    factor = 1 / np.sqrt(1 - share)
    s, v, d, total = factor * share, factor * variance, factor**2 * variance, variance.sum()
    diagonal = total * s**2 - 2 * s * v
    ss, sv, vv = s @ s, s @ v, v @ v
    squares = (d * (d + 2 * diagonal)).sum() + 2 * (ss * vv + sv**2) - 4 * total * ss * sv + (total * ss) ** 2
    return float((d + diagonal).sum()), float(squares)


def correlation(values: _Floats, layout: Layout) -> float | None:
    """Intra-class correlation of `values` [tasks] within situations, by one-way analysis of variance for unequal sizes.

    About 0 when tasks of one situation agree no more than others, 1 when they are equal; negative when they agree less.
    Within strata, if there are any. None where every task has a situation of its own, or no two values differ.
    Source: Donner, "A review of inference procedures for the intraclass correlation coefficient in the one-way random
    effects model", International Statistical Review 54 (1986).
    """
    sizes, tasks = layout.sizes, len(values)
    between_df, within_df = len(sizes) - (layout.stratum.max() + 1), tasks - len(sizes)
    if between_df < 1 or within_df < 1:
        return None
    between = float((layout.residuals(values) ** 2 / sizes).sum() / between_df)
    within = float(((values - (layout.sums(values) / sizes)[layout.situation]) ** 2).sum() / within_df)
    size = float((tasks - (sizes * layout.shares).sum()) / between_df)
    total = between + (size - 1) * within
    return (between - within) / total if total > SCORE_TOLERANCE**2 else None


def interval(found: Estimate, bounds: tuple[float, float]) -> Interval:
    """95% interval of a mean of values that lie within `bounds`.

    Every stratum has an interval of its own, all with Student's quantile for the mean's degrees of freedom. What they
    reach below and above their means is added up in squares, by shares: Zou & Donner, "Construction of confidence
    limits about effect measures", Statistics in Medicine 27 (2008).
    """
    low, high = ends(found, t_quantile(0.975, found.df), bounds)
    return Interval(found.mean, max(bounds[0], low), min(bounds[1], high))


def ends(found: Estimate, quantile: float, bounds: tuple[float, float], unseen: float = 1.0) -> tuple[float, float]:
    """Both ends of the interval with that quantile of Student's t; `seeds` can carry them beyond the bounds.

    Where situations do not differ, `unseen` is how far others may, as a share of what the bounds allow.
    """
    below = above = quantile**2 * found.seeds
    for stratum in found.strata:
        low, high = _within(stratum, quantile, bounds, unseen)
        below += (stratum.share * (stratum.mean - low)) ** 2
        above += (stratum.share * (high - stratum.mean)) ** 2
    return found.mean - float(np.sqrt(below)), found.mean + float(np.sqrt(above))


def _within(found: Stratum, quantile: float, bounds: tuple[float, float], unseen: float) -> tuple[float, float]:
    """Wilson's interval, for as many independent zeros and ones (the bounds) as would have the same variance.

    Where the situations do not differ, it allows for the share of situations that so few could have missed, which is
    Wilson's upper limit for 0 of their number, and for those to differ by the share `unseen` of what `bounds` allow.
    """
    low, high = bounds
    if found.variance == 0:
        moved = unseen * quantile**2 / (found.situations + quantile**2)
        return found.mean - moved * (found.mean - low), found.mean + moved * (high - found.mean)
    share = (found.mean - low) / (high - low)
    # The inverse of the number of independent tasks.
    inverse = found.variance / (high - low) ** 2 / (share * (1 - share))
    shrink = 1 + quantile**2 * inverse
    centre = (share + quantile**2 * inverse / 2) / shrink
    half = quantile * float(np.sqrt(inverse * share * (1 - share) + (quantile * inverse / 2) ** 2)) / shrink
    # Rounding can leave the mean just outside.
    return min(found.mean, low + (high - low) * (centre - half)), max(found.mean, low + (high - low) * (centre + half))


def smallest_shown(found: Estimate, shown: Interval) -> float | None:
    """The smallest difference that a two-sided test at 5% would have shown with a power of about 80%.

    From the standard error that the interval, `shown`, stands for; `found` is the mean of the tasks' differences. The
    power is 80% from 60 situations on and less with fewer: docs/statistics.md. None where the situations are too few
    for anything to be shown.
    Source: Bloom, "Minimum detectable effects", Evaluation Review 19 (1995).
    """
    if found.situations.few:
        return None
    limit = t_quantile(0.975, found.df)
    return (limit + t_quantile(0.8, found.df)) * (shown.high - shown.low) / 2 / limit


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t."""
    # scipy takes longer to import than all of trajtree.
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


__all__ = [
    "Estimate",
    "correlation",
    "covariances",
    "degrees_of_freedom",
    "ends",
    "estimate",
    "interval",
    "smallest_shown",
    "t_quantile",
    "with_seeds",
]
