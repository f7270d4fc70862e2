"""The paper's performance guarantee in numbers: each term, what it says of a run, and where it says nothing.

Theorem 1 of arXiv 2507.18858, as far as it is known: with probability 1 - delta,

    R(TreeDPO) >= R(SFT_s) + (R(pi*) - R(SFT_s)) - C sqrt((KL(pi* || pi_ref) + log(N / delta)) / N)

with N the number of informative pairs and C a constant that the paper does not give. docs/theory.md derives what can be
shown, and the numbers in brackets below are its inequalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, floor, inf, isfinite, isnan, log, sqrt

import numpy as np
from numpy.typing import NDArray

from trajtree.errors import TrajtreeError, counted
from trajtree.statistics.clustered import estimate
from trajtree.statistics.layout import Layout
from trajtree.statistics.results import Interval

_Floats = NDArray[np.float64]

_MOST_KL = 600.0
"""Above this, exp(KL) is as good as infinite."""

_MISSED = 0.45 * 0.55
"""The least regret, in one of two environments, of what is learned without having seen what tells them apart; (18)."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The theorem's terms for one run. Returns are mean scores in [0, 1], divergences are in nats.

    Attributes:
        pairs: N, informative pairs, whose sides differ.
        kl: KL(pi* || pi_ref) over whole episodes; infinite where pi* does what the reference never does.
        constant: C, one number for all environments and all numbers of pairs, as the paper has it.
        delta: chance with which the bound may fail.
        best: R(pi*).
        start: R(SFT_s), of the strong model that the training starts from; None if not measured.
        root: the root term with its constant, in points of return; infinite without a pair.
        bound: best - root, below which the return falls with a chance of at most delta, if C is right; -inf as above.
        further: how many more pairs would halve the root term; None where no number does, or it is past counting.
        least_constant: no such C below this is right for every environment with such a KL, even if pairs are drawn from
            the reference itself (18).
    """

    pairs: int
    kl: float
    constant: float
    delta: float
    best: float
    start: float | None
    root: float
    bound: float
    further: int | None
    least_constant: float

    @property
    def says_nothing(self) -> bool:
        """Whether the bound holds for every policy, because no return is below 0, or C is too small to be right."""
        return self.bound <= 0 or self.constant < self.least_constant

    @property
    def beats_start(self) -> bool:
        """Whether it says that the return is above that of the strong model that the training starts from."""
        return not self.says_nothing and self.start is not None and self.bound > self.start

    def sentences(self) -> list[str]:
        """What it says in plain words, the conclusion first."""
        found = [self._conclusion()]
        if self.further is not None:
            found.append(f"To halve the root term takes {counted(self.further, 'more informative pair')}.")
        return found

    def _conclusion(self) -> str:
        held = f"with probability {1 - self.delta:g}, if C = {self.constant:g} is right"
        if not self.pairs:
            return "The guarantee says nothing: there is no informative pair, so the loss's minimiser is its reference."
        if not isfinite(self.kl):
            return "The guarantee says nothing: the best policy does what the reference never does (KL is infinite)."
        if self.constant < self.least_constant:
            least = f"C = {self.least_constant:.3g}" if isfinite(self.least_constant) else "a C that is past counting"
            return (
                f"The guarantee says nothing: with C = {self.constant:g} it is not a theorem for a best policy that is "
                f"{self.kl:.1f} nats from the reference. Even with pairs drawn from the reference, it can hold in "
                "every environment with a best policy this near, and for every number of pairs, only from "
                f"{least} on."
            )
        if self.says_nothing:
            pairs = counted(self.pairs, "informative pair")
            return (
                f"The guarantee says nothing: with {pairs} the root term is {self.root:.3g}, which is no less than the "
                f"return of the best policy, {self.best:.3g}."
            )
        if self.start is None:
            return f"The return is at least {self.bound:.3f} {held}."
        if self.beats_start:
            return f"The return is at least {self.bound:.3f}, above the start's {self.start:.3f}, {held}."
        gain = self.best - self.start
        return (
            f"The return is at least {self.bound:.3f} {held}. That does not show it above the start's "
            f"{self.start:.3f}: the root term ({self.root:.3g}) is no less than what there is to gain ({gain:.3g})."
        )


def guarantee(
    *, pairs: int, kl: float, constant: float, delta: float, best: float, start: float | None = None
) -> Guarantee:
    """The theorem for one run; see `Guarantee` for what the numbers are.

    Raises:
        TrajtreeError: a number that makes no sense, by name.
    """
    if not 0 < delta < 1:
        raise TrajtreeError(f"delta is the chance that the bound fails: between 0 and 1, without them, not {delta}")
    if pairs < 0:
        raise TrajtreeError(f"pairs cannot be fewer than 0, not {pairs}")
    if isnan(kl) or kl < 0:
        raise TrajtreeError(f"kl is a divergence: 0 or more, or infinite, not {kl}")
    if not (isfinite(constant) and constant > 0):
        raise TrajtreeError(f"constant must be a finite number above 0, not {constant}")
    for name, value in (("best", best), ("start", start)):
        if value is not None and not 0 <= value <= 1:
            raise TrajtreeError(f"{name} is a mean score, between 0 and 1, not {value}")
    root = constant * sqrt(_inside(pairs, kl, delta)) if pairs and isfinite(kl) else inf
    return Guarantee(
        pairs=pairs,
        kl=kl,
        constant=constant,
        delta=delta,
        best=best,
        start=start,
        root=root,
        bound=best - root,
        further=_further(pairs, kl, delta) if isfinite(root) else None,
        least_constant=least_constant(kl, delta),
    )


def least_constant(kl: float, delta: float) -> float:
    """The least C with which the theorem may hold in every environment with a best policy this near; inequality (18).

    C is the same for all numbers of pairs, and the pairs are the reference's own episodes. It grows as exp(KL / 2):
    what the reference does with chance exp(-KL) is not in the pairs before there are about exp(KL) of them, and the
    root term cannot be small by then. 0, which says nothing, for KL below log 3 or delta from 1/8 on.
    """
    if kl < log(3) or delta >= 1 / 8:
        return 0.0
    if kl > _MOST_KL:
        return inf
    # The most pairs for which log(3 N) is no more than the KL, were it not for rounding.
    pairs = floor(exp(kl) / 3 + 1e-9)
    return _MISSED / sqrt(_inside(pairs, log(3 * pairs), delta))


def _inside(pairs: float, kl: float, delta: float) -> float:
    """What stands under the root."""
    return (kl + log(pairs / delta)) / pairs


def _further(pairs: int, kl: float, delta: float) -> int | None:
    """How many more pairs bring what is under the root to a quarter."""
    aim = _inside(pairs, kl, delta) / 4
    # The term rises with the pairs while KL + log(N / delta) < 1, and falls from there on.
    low = max(pairs, ceil(delta * exp(1 - kl)))
    high = low
    while _inside(high, kl, delta) > aim:
        high *= 2
        if high > 2**62:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _inside(middle, kl, delta) > aim else (low, middle)
    return high - pairs


def utility_error(
    *, pairs: int, leaves: int, most: _Floats, weight: float, kl: _Floats, delta: float
) -> NDArray[np.float64]:
    """Root mean square error of the learned utilities' differences, over pairs as they were drawn; inequality (11).

    Args:
        pairs: N, at least 1, drawn independently.
        leaves: Y, how many episodes there are.
        most: U, the largest utility.
        weight: lambda, of the explicit KL.
        kl: KL(pi_u* || pi_ref), of the policy that true utilities give.
        delta: chance with which it may fail.
    """
    complexity = leaves * np.log(most * pairs + 1) + log(1 / delta)
    squared_hellinger = weight * kl + 1 / pairs + 2 * complexity / pairs
    result: _Floats = np.sqrt(2 * np.pi**2 * np.cosh(most / 2) ** 2 * squared_hellinger) + 1 / pairs
    return result


def divergence_interval(nats: _Floats, layout: Layout) -> Interval:
    """The mean divergence over tasks with its 95% interval, by Student's t with the situation as the unit.

    A divergence has no upper bound, so where tasks do not differ, or there is only one situation, neither has the
    interval.

    Args:
        nats: [tasks] divergences, finite.
        layout: of the tasks.
    """
    mean = float(nats.mean())
    if layout.situations.count < 2 or np.ptp(nats) == 0:
        return Interval(mean, 0.0, inf)
    from scipy.stats import t

    found = estimate(nats, layout)
    half = float(t.ppf(0.975, found.df) * np.sqrt(found.variance))
    return Interval(mean, max(0.0, mean - half), mean + half) if half else Interval(mean, 0.0, inf)


__all__ = ["Guarantee", "divergence_interval", "guarantee", "least_constant", "utility_error"]
