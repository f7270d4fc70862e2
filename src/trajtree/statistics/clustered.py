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
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from trajtree.statistics.layout import ENOUGH, Layout
from trajtree.statistics.results import Dependence, Interval, Situations
from trajtree.trajectory import SCORE_TOLERANCE

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stratum:
    """A `share` of the tasks: their mean, its CR2 variance, and how many equal situations they are worth.

    `df` are the degrees of freedom of that variance; `independent` is what it would be if no tasks shared a situation.
    `spread` is the variance of the tasks' values.
    """

    share: float
    mean: float
    variance: float
    df: float
    independent: float
    situations: float
    spread: float

    @property
    def apart(self) -> float:
        """How far its situations differ, of two thirds of the variance of independent tasks; at most 1.

        Twelve situations of independent tasks have less than two thirds in about one case of five.
        """
        return min(1.0, 1.5 * self.variance / self.independent) if self.independent else 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks, with its variance by CR2 and the degrees of freedom of that variance.

    `variance` is the sum over `strata` of their variances by squared shares, and of `seeds`, the variance that is added
    where there are several. A variance of 0 says that the situations do not differ in their means, not that the mean is
    certain. `whole` is all tasks as one stratum with that sum, without `seeds`.
    """

    mean: float
    variance: float
    df: float
    situations: Situations
    dependence: Dependence
    strata: tuple[Stratum, ...]
    whole: Stratum
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
    mean = float(values.mean())
    return Estimate(
        mean=mean,
        variance=variance,
        df=df,
        situations=layout.situations,
        dependence=Dependence(icc, effect),
        strata=strata,
        whole=Stratum(1.0, mean, variance, df, independent, layout.situations.effective, float(values.var())),
    )


def with_seeds(found: Estimate, by_seed: _Floats) -> Estimate:
    """The estimate with the variance of the mean of the seeds' differences, `by_seed` [seeds], added.

    Nothing is added of a single seed, or of seeds that agree. There are never more degrees of freedom than without
    seeds, so the interval holds that of these models.
    """
    seeds = float(by_seed.var(ddof=1)) / len(by_seed) if len(by_seed) > 1 else 0.0
    if seeds <= SCORE_TOLERANCE**2:
        return found
    total, others = found.variance + seeds, len(by_seed) - 1
    df = total**2 / (found.variance**2 / found.df + seeds**2 / others)
    return replace(found, variance=total, df=max(1.0, min(found.df, df)), seeds=seeds)


def _by_stratum(values: _Floats, layout: Layout, icc: float) -> tuple[Stratum, ...]:
    tasks = layout.by_stratum(layout.sizes)
    means = layout.by_stratum(layout.sums(values)) / tasks
    variances = layout.by_stratum(layout.residuals(values) ** 2 / layout.freedom) / tasks**2
    around = (values - means[layout.stratum[layout.situation]]) ** 2
    spread = layout.by_stratum(layout.sums(around)) / tasks
    independent = spread / np.maximum(tasks - 1, 1)
    traces, squares = _moments(layout, icc)
    return tuple(
        Stratum(
            share=float(tasks[index]) / len(values),
            mean=float(means[index]),
            # What rounding leaves of equal means is 0.
            variance=float(variances[index]) if variances[index] > SCORE_TOLERANCE**2 else 0.0,
            df=_satterthwaite(traces[index], squares[index]),
            independent=float(independent[index]),
            situations=float(layout.worth[index]),
            spread=float(spread[index]),
        )
        for index in range(len(tasks))
    )


def covariances(values: Sequence[_Floats], layout: Layout) -> _Floats:
    """[values, values] CR2 covariances of the means of several `values` [tasks] of the same tasks."""
    residuals = np.stack([layout.residuals(one) for one in values])
    found: _Floats = (residuals / layout.freedom) @ residuals.T / len(values[0]) ** 2
    return found


def degrees_of_freedom(layout: Layout, icc: float) -> float:
    """Degrees of freedom of the CR2 variance, if all tasks vary alike and those of one situation correlate by `icc`.

    At least 1.
    """
    traces, squares = _moments(layout, icc)
    return _satterthwaite(traces.sum(), squares.sum())


def _satterthwaite(trace: float, squares: float) -> float:
    return max(1.0, float(trace**2 / squares)) if squares else 1.0


def _moments(layout: Layout, icc: float) -> tuple[_Floats, _Floats]:
    """[strata] trace and sum of squares of the covariance of what CR2 squares and adds up; 0 of a single situation."""
    share, sizes, several = layout.shares, layout.sizes, layout.shares < 1
    variance = several * sizes * (1 + (sizes - 1) * icc)  # of the situations' sums
    # CR2 adds up squared residuals, of covariance [situations, situations] diag(d) - s v' - v s' + total s s',
    # with CR2's factors in s, v and d. It is never made whole, since there may be thousands of situations.
    factor = 1 / np.sqrt(layout.freedom)
    s, v, d, total = factor * share, factor * variance, factor**2 * variance, layout.by_stratum(variance)
    diagonal = total[layout.stratum] * s**2 - 2 * s * v
    ss, sv, vv = layout.by_stratum(s * s), layout.by_stratum(s * v), layout.by_stratum(v * v)
    squares = (
        layout.by_stratum(d * (d + 2 * diagonal)) + 2 * (ss * vv + sv**2) - 4 * total * ss * sv + (total * ss) ** 2
    )
    return layout.by_stratum(d + diagonal), squares


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


_IN_ONE_STRATUM = 0.5
"""How far what was not seen counts in a stratum of a quarter of the tasks or less, where another one varies.

Asked of all tasks it counts in full, and so it does in a stratum of half of them; types that succeed, or fail, in all
of a few situations must not be certain. In full in each they would hold the truth nearly always, and not at all they
would miss it in up to 9%: docs/statistics.md.
"""

_SINGLES = 5
"""As many independent tasks at most count for each situation where successes tell of what kind they are."""


def ends(found: Estimate, quantile: float, bounds: tuple[float, float], unseen: float = 1.0) -> tuple[float, float]:
    """Both ends of the interval with that quantile of Student's t; `seeds` can carry them beyond the bounds.

    Either end is the farther of two: the strata's, added up in squares, and that of all tasks as one stratum. The first
    lies too near to the mean where all strata do: then a high mean goes with high variances, and so with wide intervals
    in all of them, but squares add up only what they do apart.

    Situations of a kind that was not seen may differ by `unseen`, a share of what the bounds allow.
    """
    below, above = 0.0, 0.0
    for stratum in found.strata:
        counts = max(_IN_ONE_STRATUM, min(1.0, 2 * stratum.share)) if found.whole.variance else 1.0
        low, high = _within(stratum, quantile, bounds, unseen * counts)
        below += (stratum.share * (stratum.mean - low)) ** 2
        above += (stratum.share * (high - stratum.mean)) ** 2
    low, high = _within(found.whole, quantile, bounds, unseen)
    below, above = max(below, (found.mean - low) ** 2), max(above, (high - found.mean) ** 2)
    seeds = quantile**2 * found.seeds
    return found.mean - sqrt(below + seeds), found.mean + sqrt(above + seeds)


def _within(found: Stratum, quantile: float, bounds: tuple[float, float], unseen: float) -> tuple[float, float]:
    """Wilson's interval, for as many independent zeros and ones (the bounds) as would have the same variance.

    It also allows for the share of situations that so few could have missed, which is Wilson's upper limit for 0 of
    their number, and for those to differ by the share `unseen` of what `bounds` allow. Of zeros and ones that counts
    until their successes (or failures) are settled. It always does, the more the less they vary, of values in between,
    and of situations that are more alike than independent tasks would be, since in each the same tasks succeed: that
    none that was seen differs by much does not tell that none does.
    """
    low, high = bounds
    missed = unseen * quantile**2 / (found.situations + quantile**2)
    if found.variance == 0:
        return found.mean - missed * (found.mean - low), found.mean + missed * (high - found.mean)
    share = (found.mean - low) / (high - low)
    single = (high - low) ** 2 * share * (1 - share)
    # The inverse of the number of independent tasks.
    inverse = found.variance / single
    shrink = 1 + quantile**2 * inverse
    centre = (share + quantile**2 * inverse / 2) / shrink
    half = quantile * sqrt(inverse * share * (1 - share) + (quantile * inverse / 2) ** 2) / shrink
    tasks, varied = worth(found, bounds), min(1.0, sqrt(found.spread / single)) * found.apart
    below = missed * (1 - varied * settled(tasks * (1 - share))) * (found.mean - low)
    above = missed * (1 - varied * settled(tasks * share)) * (high - found.mean)
    return (
        min(low + (high - low) * (centre - half), found.mean - below),
        max(low + (high - low) * (centre + half), found.mean + above),
    )


def worth(found: Stratum, bounds: tuple[float, float]) -> float:
    """How many independent zeros and ones (the bounds) would have the same variance.

    At most `_SINGLES` tasks count for each situation: more tasks of the same ones are not more kinds of situation. A
    task whose values vary less than zeros and ones counts for several of these.
    """
    low, high = bounds
    share = (found.mean - low) / (high - low)
    if found.variance == 0:
        return found.situations
    # Situations that happen to be more alike than independent tasks would be are no further evidence.
    varies = max(found.variance, found.independent, found.spread / (_SINGLES * found.situations))
    return (high - low) ** 2 * share * (1 - share) / varies


def settled(successes: float) -> float:
    """How far so many successes settle of what kind they are: not at all up to five, and wholly from ten on.

    The variance of a few says little of what others may be like: they may be single tasks, and the next one a whole
    situation.
    """
    return min(1.0, max(0.0, successes / ENOUGH - 1))


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
    "settled",
    "t_quantile",
    "with_seeds",
    "worth",
]
