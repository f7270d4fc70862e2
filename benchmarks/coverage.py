"""How often 95% intervals hold the truth, and tests reject a true null, when tasks of one situation agree.

    python benchmarks/coverage.py --out benchmarks/results/coverage.json
    python benchmarks/coverage.py --out benchmarks/results/coverage.json --table

Outcomes are drawn, so the truth is known: of each situation's tasks a share agrees, which is the intra-class
correlation. The intervals and tests of trajtree (the situation is the unit) and the field's (the task is) are computed
by the functions that reports are made with. What is finished is kept in the file; with --table it is only printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from trajtree.statistics import differences, practice
from trajtree.statistics.clustered import covariances, estimate, interval, t_quantile
from trajtree.statistics.layout import Layout
from trajtree.statistics.paired import sign_flips
from trajtree.statistics.ratio import ratio_interval
from trajtree.statistics.results import Interval

SIZES = {"equal": [5], "unequal": [2, 3, 4, 5, 6, 10], "lopsided": [1, 4, 10]}
"""Tasks of the situations, which are repeated until there are situations enough."""
RATES = {"success": 0.4, "rare success": 0.1}
SCORES, CHANCES = np.array([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 1]), np.array([0.1, 0.25, 0.15, 0.1, 0.1, 0.3])
FLIPS, BOOTSTRAPS = 999, 299
FEWER = dict.fromkeys(
    (
        "mixed",
        "agreeing",
        "unlike",
        "shared",
        "apart",
        "power",
        "seeds",
        "collapse",
        "least",
        "lead",
        "design",
        "uneven",
    ),
    2,
) | dict.fromkeys(("gap", "pgr"), 4)
"""Parts of the tables that are measured with half or a quarter of the runs, since a run of them takes longer."""
KINDS = ("difference", "paired alone", "gains and losses alone")
"""The interval of a difference, and the two that it is the union of."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """`situations` of `sizes` tasks, whose outcomes correlate by `icc` within a situation."""

    situations: int
    sizes: str
    icc: float
    outcome: str

    def layout(self) -> Layout:
        """All tasks are of one type."""
        sizes = np.resize(SIZES[self.sizes], self.situations)
        return Layout(np.repeat(np.arange(self.situations), sizes), np.zeros(self.situations, int), sizes * 1.0)

    def truth(self) -> float:
        """The mean of all tasks that there could be."""
        return RATES[self.outcome] if self.outcome in RATES else float(SCORES @ CHANCES)

    def draw(self, rng: np.random.Generator) -> Floats:
        """[tasks] outcomes of one row."""
        layout = self.layout()
        if self.outcome in RATES:
            return _succeeding(self.truth(), self.icc, layout, rng)
        # A task takes its situation's score with chance sqrt(icc), so two of one situation both do with chance icc.
        common = rng.choice(SCORES, size=self.situations, p=CHANCES)[layout.situation]
        own = rng.choice(SCORES, size=len(common), p=CHANCES)
        return np.where(rng.random(len(common)) < np.sqrt(self.icc), common, own)


def _rates(rate: float, icc: float, layout: Layout, rng: np.random.Generator) -> Floats:
    """[tasks] the chance of success, the same within a situation: beta-binomial outcomes."""
    count = len(layout.sizes)
    if icc == 0 or rate == 0:
        return np.full(len(layout.situation), rate)
    if icc == 1:
        return (rng.random(count) < rate)[layout.situation] * 1.0
    scale = (1 - icc) / icc
    return rng.beta(rate * scale, (1 - rate) * scale, count)[layout.situation]


def _succeeding(rate: float, icc: float, layout: Layout, rng: np.random.Generator) -> Floats:
    """[tasks] outcomes of one row with that rate of success."""
    return (rng.random(len(layout.situation)) < _rates(rate, icc, layout, rng)) * 1.0


def measure(scenario: Scenario, runs: int, seed: int) -> dict[str, float]:
    """Shares of the runs: intervals that hold the truth, and true nulls that are rejected at 5%.

    `mean`: of one row's mean. `difference`, `test`: of two rows that do equally well. `field` stands before the same of
    the field's practice.
    """
    rng, layout = np.random.default_rng([seed, *map(ord, repr(scenario))]), scenario.layout()
    apart = Layout.apart(len(layout.situation))
    counts = dict.fromkeys(("mean", "difference", "test", "field mean", "field difference", "field test"), 0)
    for _ in range(runs):
        one, other = scenario.draw(rng), scenario.draw(rng)
        gained = one - other
        counts["mean"] += _holds(interval(estimate(one, layout), (0, 1)), scenario.truth())
        held = _holds(differences.interval(differences.estimate(one, other, layout)), 0)
        counts["difference"] += held
        # The p-value is below 0.05 where the interval excludes 0.
        counts["test"] += not held
        counts["field mean"] += _holds(_over_tasks(one, (0, 1)), scenario.truth())
        counts["field difference"] += _holds(_over_tasks(gained, (-1, 1)), 0)
        if scenario.outcome in RATES:
            counts["field test"] += practice.mcnemar(gained) <= 0.05
        else:
            counts["field test"] += sign_flips(gained, apart, resamples=FLIPS, seed=0)[0] <= 0.05
    return {name: count / runs for name, count in counts.items()}


def measure_near(situations: int, rate: float, drawn: str, runs: int, seed: int) -> dict[str, float]:
    """Intervals of the mean of a row whose rate is near 0 or 1, with ICC .3; `middle` are misses beyond which 1/2 lies.

    `drawn` is how outcomes of a situation come to agree: "beta" gives it a rate of its own, "copied" makes a task take
    its situation's outcome with chance sqrt(.3).
    """
    rng = np.random.default_rng([seed, situations, round(100 * rate), *map(ord, drawn)])
    layout = Scenario(situations, "unequal", 0.3, "success").layout()
    tasks, counts = len(layout.situation), dict.fromkeys(("mean", "middle"), 0)
    for _ in range(runs):
        if drawn == "beta":
            row = rng.random(tasks) < _rates(rate, 0.3, layout, rng)
        else:
            common, own = rng.random(situations) < rate, rng.random(tasks) < rate
            row = np.where(rng.random(tasks) < np.sqrt(0.3), common[layout.situation], own)
        found = interval(estimate(row * 1.0, layout), (0, 1))
        counts["mean"] += _holds(found, rate)
        # The truth is on the side of 1/2, so the interval is too near to 0 or 1.
        counts["middle"] += not _holds(found, rate) and (found.value < rate) == (rate < 0.5)
    return {name: count / runs for name, count in counts.items()}


def measure_least(situations: int, rate: float, icc: float, runs: int, seed: int) -> dict[str, float]:
    """How often a difference as large as the smallest that could have been detected, over this rate, is shown.

    `least` is the median of what is printed where the rows do equally well; `shown` the share of the runs in which the
    interval excludes 0, where they differ by as much.
    """
    rng = np.random.default_rng([seed, situations, round(100 * rate), round(10 * icc)])
    layout = Scenario(situations, "unequal", icc, "success").layout()

    def drawn(true: float) -> differences.Difference:
        ours, weak = (_succeeding(one, icc, layout, rng) for one in (rate + true, rate))
        return differences.estimate(ours, weak, layout)

    found = [drawn(0.0) for _ in range(runs)]
    printed = [differences.smallest_shown(one, differences.interval(one)) for one in found]
    least = min(0.99 - rate, float(np.median([one for one in printed if one is not None])))
    shown = sum(not _holds(differences.interval(drawn(least)), 0) for _ in range(runs))
    return {"least": least, "shown": shown / runs}


def measure_design(situations: int, kind: str, rare: float, runs: int, seed: int) -> dict[str, float]:
    """Intervals of the mean of a row that is alike in all situations but in a share `rare`: see `kind`.

    "2 of 5": of five tasks it wins two easy ones, at .99, and hard ones at .01; rarely all of them. "half": half of the
    tasks are easy, at .95, and half hard, at .05; rarely all are lost.
    """
    rng = np.random.default_rng([seed, situations, round(100 * rare), *map(ord, kind)])
    sizes = np.resize([5] if kind == "2 of 5" else [4, 6, 10], situations)
    layout = Layout(np.repeat(np.arange(situations), sizes), np.zeros(situations, int), sizes * 1.0)
    easy = np.concatenate([np.arange(size) < (2 if kind == "2 of 5" else size // 2) for size in sizes])
    chances, then = (np.where(easy, 0.99, 0.01), 1.0) if kind == "2 of 5" else (np.where(easy, 0.95, 0.05), 0.0)
    truth, held = (1 - rare) * chances.mean() + rare * then, 0
    for _ in range(runs):
        row = np.where((rng.random(situations) < rare)[layout.situation], then, rng.random(len(easy)) < chances)
        held += _holds(interval(estimate(row * 1.0, layout), (0, 1)), truth)
    return {"mean": held / runs}


def measure_lead(situations: int, rare: float, large: float, runs: int, seed: int) -> dict[str, float]:
    """Scores of which one row's are higher by 0 to .02 everywhere, and in a share `rare` of the situations far apart.

    There they lie `large` apart. `difference`: intervals that hold the mean of a row that is ahead in both. `test`:
    nulls that are rejected, of a row that is behind everywhere by as much as its rare lead makes up for.
    """
    rng = np.random.default_rng([seed, situations, round(100 * rare), round(100 * large)])
    layout = Layout.apart(situations)
    counts = dict.fromkeys(("difference", "test"), 0)
    for _ in range(runs):
        far, little = (rng.random(situations) < rare) * large, rng.uniform(0, 0.02, situations)
        theirs = np.zeros(situations) if large == 1 else rng.uniform(0.1, 0.3, situations)
        # Where they are far apart, the little is left out, so that no score is above 1.
        ahead = differences.estimate(theirs + np.where(far, far, little), theirs, layout)
        counts["difference"] += _holds(differences.interval(ahead), large * rare + 0.01 * (1 - rare))
        steady = large * rare / (1 - rare)
        even = differences.estimate(theirs + far, theirs + np.where(far, 0.0, steady + little - 0.01), layout)
        counts["test"] += not _holds(differences.interval(even), 0)
    return {name: count / runs for name, count in counts.items()}


def _over_tasks(values: Floats, bounds: tuple[float, float]) -> Interval:
    return practice.mean_interval(values, bounds, resamples=BOOTSTRAPS, seed=0)


def _holds(found: Interval, truth: float) -> bool:
    return found.low - 1e-9 <= truth <= found.high + 1e-9


def measure_pgr(scenario: Scenario, runs: int, seed: int) -> dict[str, float]:
    """Intervals of the gap recovered that hold it: ours, Fieller's alone, the delta method's, by bootstrap over tasks.

    The weak row's rate is .1, the row's .4, the ceiling's .6. `no end` is the share of our intervals without one.
    """
    rng, layout = np.random.default_rng([seed, *map(ord, repr(scenario))]), scenario.layout()
    truth, tasks = (0.4 - 0.1) / (0.6 - 0.1), len(layout.situation)
    kinds = ("interval", "fieller alone", "delta", "field bootstrap")
    counts = dict.fromkeys((*kinds, "no end"), 0)
    for _ in range(runs):
        weak, ours, ceiling = (_succeeding(rate, scenario.icc, layout, rng) for rate in (0.1, 0.4, 0.6))
        gained, gap = ours - weak, ceiling - weak
        if gap.mean() <= 0:
            counts["no end"] += 1
            for name in kinds:
                counts[name] += 1
            continue
        ends, ratio = ratio_interval((ours, weak, ceiling), layout), gained.mean() / gap.mean()
        counts["interval"] += ends is None or ends[0] <= truth <= ends[1]
        counts["no end"] += ends is None
        counts["fieller alone"] += _by_fieller(gained, gap, layout, truth)
        # The delta method: the ratio's variance is that of the mean of what is left, over the squared gap.
        left = estimate(gained - ratio * gap, layout)
        moved = estimate((gained - ratio * gap) / gap.mean() + ratio - truth, layout)
        reach = t_quantile(0.975, moved.df) * np.sqrt(moved.variance)
        counts["delta"] += left.variance > 0 and abs(moved.mean) < reach
        drawn = rng.integers(0, tasks, (BOOTSTRAPS, tasks))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = gained[drawn].mean(1) / gap[drawn].mean(1)
        low, high = np.nanpercentile(ratios, [2.5, 97.5])
        counts["field bootstrap"] += low <= truth <= high
    return {name: count / runs for name, count in counts.items()}


def _by_fieller(gained: Floats, gap: Floats, layout: Layout, truth: float) -> bool:
    """Whether Fieller's interval holds the truth; it does where the gap recovered has no interval."""
    apart = estimate(gained - gained.mean() / gap.mean() * gap, layout)
    left, limit = gained - truth * gap, t_quantile(0.975, apart.df)
    return apart.variance == 0 or left.mean() ** 2 <= limit**2 * covariances([left], layout)[0, 0]


def measure_seeds(situations: int, seeds: int, spread: dict[str, float], runs: int, seed: int) -> dict[str, float]:
    """Shares of true nulls that are rejected, of differences that vary by situation, by seed, and by both together.

    Both rows vary alike, around a score of a half, by `spread` times .3.
    """
    rng, layout = np.random.default_rng([seed, situations, seeds]), Layout.apart(situations)
    counts, by_seed = dict.fromkeys(("situations and seeds", "situations alone"), 0), np.empty((runs, seeds))
    for index in range(runs):
        # [2, seeds, situations]
        rows = 0.5 + 0.3 / np.sqrt(2) * (
            spread["situation"] * rng.normal(size=(2, 1, situations))
            + spread["seed"] * rng.normal(size=(2, seeds, 1))
            + spread["both"] * rng.normal(size=(2, seeds, situations))
        )
        rows = np.clip(rows, 0, 1)
        counts["situations and seeds"] += not _holds(_over_seeds(rows, layout), 0)
        alone = differences.estimate(rows[0].mean(0), rows[1].mean(0), layout)
        counts["situations alone"] += not _holds(differences.interval(alone), 0)
        by_seed[index] = rows[0].mean(1) - rows[1].mean(1)
    field = float((ttest_1samp(by_seed, 0, axis=1).pvalue <= 0.05).mean())
    return {name: count / runs for name, count in counts.items()} | {"field seeds": field}


def _over_seeds(rows: Floats, layout: Layout) -> Interval:
    """The interval over situations and seeds of the difference of two `rows` [2, seeds, tasks]."""
    ours, theirs = rows
    return differences.interval(
        differences.estimate(ours.mean(0), theirs.mean(0), layout, (ours.mean(1), theirs.mean(1)))
    )


def measure_collapse(
    seeds: int, usual: float, collapsed: float, chance: float, runs: int, seed: int
) -> dict[str, float]:
    """Shares of true nulls that are rejected where training with a seed collapses with that `chance`.

    The row's rate is `usual` or `collapsed`; the other row's is the mean of both over seeds. 20 situations, ICC 0.
    """
    rng = np.random.default_rng([seed, seeds, int(100 * collapsed)])
    layout, mean = Scenario(20, "equal", 0.0, "success").layout(), (1 - chance) * usual + chance * collapsed
    tasks, counts = len(layout.situation), dict.fromkeys(("situations and seeds", "field seeds"), 0)
    for _ in range(runs):
        rates = np.where(rng.random((seeds, 1)) < chance, collapsed, usual)
        rows = np.stack([rng.random((seeds, tasks)) < rates, rng.random((seeds, tasks)) < mean]) * 1.0
        counts["situations and seeds"] += not _holds(_over_seeds(rows, layout), 0)
        counts["field seeds"] += (practice.t_test(rows[0].mean(1) - rows[1].mean(1))[1] or 0) <= 0.05
    return {name: count / runs for name, count in counts.items()}


def measure_types(situations: int, icc: float, runs: int, seed: int) -> dict[str, float]:
    """Intervals of a mean over four types of task, whose rates are .05, .3, .7 and .95: with strata, and without."""
    rng, one = np.random.default_rng([seed, situations, int(10 * icc)]), Scenario(situations, "unequal", icc, "success")
    part, rates = one.layout(), (0.05, 0.3, 0.7, 0.95)
    names = [f"{kind}-{index}" for kind in range(4) for index in part.situation]
    layout = Layout.of(names, [name[0] for name in names])
    counts = dict.fromkeys(("mean", "without strata", "field mean"), 0)
    for _ in range(runs):
        chances = np.concatenate([_rates(rate, icc, part, rng) for rate in rates])
        values = (rng.random(len(chances)) < chances) * 1.0
        for name, chosen in (("mean", layout), ("without strata", layout.pooled())):
            counts[name] += _holds(interval(estimate(values, chosen), (0, 1)), 0.5)
        counts["field mean"] += _holds(_over_tasks(values, (0, 1)), 0.5)
    return {name: count / runs for name, count in counts.items()}


def measure_spread(types: int, situations: int, runs: int, seed: int) -> dict[str, float]:
    """Intervals of a mean score over types of task of which the first varies by situation and the others hardly do.

    The first is uniform between 0 and 1, the others between .49 and .51; sizes are lopsided.
    """
    rng = np.random.default_rng([seed, types, situations])
    part = Scenario(situations, "lopsided", 0.0, "score").layout()
    names = [f"{kind}-{index}" for kind in range(types) for index in part.situation]
    layout = Layout.of(names, [name.split("-")[0] for name in names])
    first = layout.stratum[layout.situation] == 0
    counts = dict.fromkeys(("mean", "without strata"), 0)
    for _ in range(runs):
        varied = rng.random(len(layout.sizes))[layout.situation]
        values = np.where(first, varied, rng.uniform(0.49, 0.51, len(first)))
        for name, chosen in (("mean", layout), ("without strata", layout.pooled())):
            counts[name] += _holds(interval(estimate(values, chosen), (0, 1)), 0.5)
    return {name: count / runs for name, count in counts.items()}


def measure_uneven(first: int, each: int, rate: float, other: float, runs: int, seed: int) -> dict[str, float]:
    """Two types: `first` situations of `each` tasks, won whole at this `rate`, and five times as many of one task.

    `mean`: intervals of the mean of a row that wins the second type at the rate `other`. `test`: nulls that are
    rejected, against a row of single tasks at the same rates.
    """
    rng = np.random.default_rng([seed, first, each, round(100 * rate), round(100 * other)])
    sizes = np.array([each] * first + [1] * (5 * first))
    names = [f"{index:03d}" for index in np.repeat(np.arange(len(sizes)), sizes)]
    kinds = np.repeat([0, 1], [each * first, 5 * first])
    layout, rates = Layout.of(names, [str(kind) for kind in kinds]), np.where(kinds == 0, rate, other)
    counts = dict.fromkeys(("mean", "test"), 0)
    for _ in range(runs):
        whole = (rng.random(len(sizes))[layout.situation] < rates) * 1.0
        counts["mean"] += _holds(interval(estimate(whole, layout), (0, 1)), float(rates.mean()))
        singly = (rng.random(len(rates)) < rates) * 1.0
        counts["test"] += not _holds(differences.interval(differences.estimate(singly, whole, layout)), 0)
    return {name: count / runs for name, count in counts.items()}


def measure_mixed(
    situations: int, whole: float, single: float, runs: int, seed: int, tasks: int = 5
) -> dict[str, float]:
    """A row that wins single tasks with the chance `single`, and with the chance `whole` a situation as a whole.

    `mean`: intervals of its mean that hold the rate; `middle` are misses beyond which 1/2 lies. `difference`: intervals
    of the difference from a row of single tasks, at the same rate, that hold 0. Every situation has as many `tasks`.
    """
    rng = np.random.default_rng([seed, situations, round(100 * whole), round(100 * single)])
    layout = Layout(
        np.repeat(np.arange(situations), tasks), np.zeros(situations, int), np.full(situations, float(tasks))
    )
    tasks, rate = len(layout.situation), whole + (1 - whole) * single
    counts = dict.fromkeys(("mean", "middle", "difference"), 0)
    for _ in range(runs):
        mixed = ((rng.random(situations) < whole)[layout.situation] | (rng.random(tasks) < single)) * 1.0
        found = interval(estimate(mixed, layout), (0, 1))
        counts["mean"] += _holds(found, rate)
        counts["middle"] += not _holds(found, rate) and found.value < rate
        counts["difference"] += _holds(
            differences.interval(differences.estimate((rng.random(tasks) < rate) * 1.0, mixed, layout)), 0
        )
    return {name: count / runs for name, count in counts.items()}


def measure_agreeing(types: int, situations: int, rate: float, runs: int, seed: int) -> dict[str, float]:
    """Types of task that all have the same `rate`, of situations that are won or lost as a whole.

    `mean` and `difference` as in `measure`; `outer` are misses beyond which 0 lies.
    """
    rng = np.random.default_rng([seed, types, situations, round(100 * rate)])
    names = [f"{kind}-{index}" for kind in range(types) for index in range(situations)]
    layout = Layout.of(names, [name.split("-")[0] for name in names])
    counts = dict.fromkeys(("mean", "outer", "difference"), 0)
    for _ in range(runs):
        one, other = (rng.random((2, len(names))) < rate) * 1.0
        found = interval(estimate(one, layout), (0, 1))
        counts["mean"] += _holds(found, rate)
        counts["outer"] += not _holds(found, rate) and found.value > rate
        counts["difference"] += _holds(differences.interval(differences.estimate(one, other, layout)), 0)
    return {name: count / runs for name, count in counts.items()}


def measure_shared(situations: int, rate: float, runs: int, seed: int) -> dict[str, float]:
    """Two rows that win the same half of the situations; of the others one wins single tasks, the other whole ones.

    Both do so at the same `rate`, so they do equally well: shares of the KINDS of interval that hold 0.
    """
    rng = np.random.default_rng([seed, situations, round(100 * rate)])
    layout = Scenario(situations, "equal", 0.0, "success").layout()

    def draw() -> tuple[Floats, Floats]:
        both = (rng.random(situations) < 0.5)[layout.situation]
        singly, wholly = rng.random(len(both)) < rate, (rng.random(situations) < rate)[layout.situation]
        return (both | singly) * 1.0, (both | wholly) * 1.0

    return _differing(layout, draw, 0.0, runs)


def measure_unlike(situations: int, first: str, rate: float, runs: int, seed: int) -> dict[str, float]:
    """Two rows of the same `rate` that are not interchangeable: one wins tasks of its own, the other whole situations.

    The `first` wins every task with that rate ("singly"), or only ever the first of a situation's five ("one of five").
    `difference` and the two intervals that it is the union of: whether they hold 0, and their mean widths. `flips`: how
    often the signs of situations, flipped, reject.
    """
    rng = np.random.default_rng([seed, situations, round(100 * rate), len(first)])
    layout = Scenario(situations, "equal", 0.0, "success").layout()
    rates = _habit(first, rate, situations)
    counts = dict.fromkeys(("flips", *(f"{name}{what}" for name in KINDS for what in ("", " width"))), 0.0)
    for _ in range(runs):
        ours, theirs = (rng.random(len(rates)) < rates) * 1.0, _won_whole(rng, rate, layout)
        for name, found in _kinds(ours, theirs, layout).items():
            counts[name] += _holds(found, 0)
            counts[f"{name} width"] += found.high - found.low
        counts["flips"] += sign_flips(ours - theirs, layout, resamples=FLIPS, seed=0)[0] <= 0.05
    return {name: count / runs for name, count in counts.items()}


def _habit(first: str, rate: float, situations: int) -> Floats:
    """[tasks] the chances of a row that wins every task with that rate, or only the first of a situation's five."""
    return np.full(5 * situations, rate) if first == "singly" else np.tile([5 * rate, 0, 0, 0, 0], situations)


def _won_whole(rng: np.random.Generator, rate: float, layout: Layout) -> Floats:
    """[tasks] outcomes of a row that wins whole situations with that rate."""
    return (rng.random(len(layout.sizes)) < rate)[layout.situation] * 1.0


def measure_gap(situations: int, first: str, runs: int, seed: int) -> dict[str, float]:
    """Intervals of the gap recovered, .1, that hold it, by a row of whole situations between rows of single tasks.

    The weak row wins as `first` says. The rates are .1 and .6, and .15 of the row.
    """
    rng = np.random.default_rng([seed, situations, len(first)])
    layout, counts = Scenario(situations, "equal", 0.0, "success").layout(), dict.fromkeys(("gap", "fieller alone"), 0)
    rates = _habit(first, 0.1, situations)
    for _ in range(runs):
        weak, ceiling = ((rng.random(len(rates)) < one) * 1.0 for one in (rates, 0.6))
        ours = _won_whole(rng, 0.15, layout)
        ends = ratio_interval((ours, weak, ceiling), layout)
        counts["gap"] += ends is None or ends[0] <= 0.1 <= ends[1]
        counts["fieller alone"] += _by_fieller(ours - weak, ceiling - weak, layout, 0.1)
    return {name: count / runs for name, count in counts.items()}


def _kinds(ours: Floats, theirs: Floats, layout: Layout) -> dict[str, Interval]:
    found = differences.estimate(ours, theirs, layout)
    limit = t_quantile(0.975, found.paired.df)
    each = (of(found, limit) for of in (differences.between_tasks, differences.gained_and_lost))
    alone = (Interval(found.paired.mean, low, high) for low, high in each)
    return dict(zip(KINDS, (differences.interval(found), *alone), strict=True))


def measure_apart(situations: int, sizes: str, kind: str, true: float, runs: int, seed: int) -> dict[str, float]:
    """Intervals that hold a true difference, `true`, of whole situations (ICC 1), or exclude 0.

    `kind` is how rows differ, see PAIRS.
    """
    rng = np.random.default_rng([seed, situations, len(SIZES[sizes]), round(100 * true), *map(ord, kind)])
    layout = Scenario(situations, sizes, 1.0, "success").layout()
    return _differing(layout, lambda: PAIRS[kind](rng, layout, true), true, runs)


def _differing(layout: Layout, draw: Callable[[], tuple[Floats, Floats]], true: float, runs: int) -> dict[str, float]:
    """Of each kind of interval, the shares that hold the true difference, and that exclude 0: `shown`."""
    counts = dict.fromkeys(("flips", *(f"{name}{what}" for name in KINDS for what in ("", " shown"))), 0)
    for _ in range(runs):
        ours, theirs = draw()
        for name, found in _kinds(ours, theirs, layout).items():
            counts[name] += _holds(found, true)
            counts[f"{name} shown"] += not _holds(found, 0)
        counts["flips"] += sign_flips(ours - theirs, layout, resamples=FLIPS, seed=0)[0] <= 0.05
    return {name: count / runs for name, count in counts.items()}


def _whole(chances: tuple[float, float], drawn: Floats, layout: Layout) -> tuple[Floats, Floats]:
    """Both rows' outcomes of whole situations, which win where what is drawn for the situation is below the chance."""
    ours, theirs = ((one < chance)[layout.situation] * 1.0 for one, chance in zip(drawn, chances, strict=True))
    return ours, theirs


PAIRS: dict[str, Callable[[np.random.Generator, Layout, float], tuple[Floats, Floats]]] = {
    # Wins a share of the situations more than a row at .3, and loses none that it wins.
    "never worse": lambda rng, layout, true: _whole(
        (0.3 + true, 0.3), np.tile(rng.random(len(layout.sizes)), (2, 1)), layout
    ),
    "independent": lambda rng, layout, true: _whole((0.4 + true, 0.4), rng.random((2, len(layout.sizes))), layout),
}
"""Rows that win or lose whole situations and differ by `true`."""


def measure_power(situations: int, weak: float, true: float, icc: float, runs: int, seed: int) -> dict[str, float]:
    """As `measure_apart`, of independent rows of rates `weak` and `weak + true`, unequal sizes."""
    rng = np.random.default_rng([seed, situations, round(100 * weak), round(100 * true), round(10 * icc)])
    layout = Scenario(situations, "unequal", icc, "success").layout()

    def draw() -> tuple[Floats, Floats]:
        ours, theirs = (_succeeding(rate, icc, layout, rng) for rate in (weak + true, weak))
        return ours, theirs

    return _differing(layout, draw, true, runs)


SCENARIOS = [
    Scenario(situations, sizes, icc, outcome)
    for sizes, outcome, counts in (
        ("unequal", "success", (6, 8, 12, 20, 60)),
        ("unequal", "score", (6, 8, 12, 20, 60)),
        ("unequal", "rare success", (12, 20, 60)),
        ("equal", "success", (8, 12, 20)),
        ("lopsided", "success", (8, 12, 20)),
    )
    for situations in counts
    for icc in (0.0, 0.3, 1.0)
]
PGR = [Scenario(situations, "unequal", icc, "success") for situations in (12, 20, 60) for icc in (0.0, 0.3, 1.0)]
SPREADS = [
    {"situation": 1.0, "seed": 0.0, "both": 1.0},
    {"situation": 1.0, "seed": 0.3, "both": 1.0},
    {"situation": 1.0, "seed": 1.0, "both": 1.0},
    {"situation": 0.0, "seed": 1.0, "both": 1.0},
]


def run(out: Path, runs: int, seed: int) -> None:
    """Measure what is not in the file yet."""
    done = json.loads(out.read_text()) if out.exists() else {"runs": runs, "seed": seed}
    if (done["runs"], done["seed"]) != (runs, seed):
        raise SystemExit(f"{out} holds {done['runs']} runs of seed {done['seed']}; name another file")
    work: list[tuple[str, dict, Callable[..., dict[str, float]], tuple]] = [
        *(("means", asdict(one), measure, (one,)) for one in SCENARIOS),
        *(
            ("near", {"situations": count, "rate": rate, "drawn": drawn}, measure_near, (count, rate, drawn))
            for count in (30, 60)
            for rate in (0.03, 0.1, 0.97)
            for drawn in ("beta", "copied")
        ),
        *(
            (
                "mixed",
                {"tasks": tasks, "situations": count, "whole": whole, "single": single},
                partial(measure_mixed, tasks=tasks),
                (count, whole, single),
            )
            for tasks, count, whole, single in (
                *((5, 12, 0.12, 0.02), (5, 20, 0.08, 0.02), (5, 30, 0.05, 0.02), (5, 30, 0.05, 0.1)),
                *((5, 60, 0.03, 0.01), (10, 12, 0.12, 0.1), (10, 20, 0.08, 0.06), (10, 30, 0.05, 0.05)),
                *((10, 60, 0.03, 0.02), (15, 20, 0.05, 0.05)),
            )
        ),
        *(
            (
                "uneven",
                {"first": first, "each": each, "rate": rate, "other": other},
                measure_uneven,
                (first, each, rate, other),
            )
            for first, each, rate, other in (
                *((5, 5, 0.3, 0.3), (5, 5, 0.3, 0.9), (5, 12, 0.3, 0.3), (6, 5, 0.25, 0.9), (6, 10, 0.25, 0.25)),
                (8, 4, 0.25, 0.9),
            )
        ),
        *(
            ("agreeing", {"types": types, "situations": count, "rate": rate}, measure_agreeing, (types, count, rate))
            for types, count in ((4, 5), (8, 5), (4, 8), (8, 8), (4, 15), (8, 15))
            for rate in (0.05, 0.1, 0.2)
        ),
        *(
            ("least", {"situations": count, "rate": rate, "icc": icc}, measure_least, (count, rate, icc))
            for rate, icc in ((0.0, 1.0), (0.0, 0.3), (0.1, 0.3), (0.3, 0.3), (0.3, 1.0))
            for count in (12, 30, 60)
        ),
        *(
            (
                "lead",
                {"situations": count, "rare": rare, "large": large},
                measure_lead,
                (count, rare, large),
            )
            for large in (0.6, 1.0)
            for rare in (0.05, 0.1, 0.2)
            for count in (12, 20, 60)
        ),
        *(
            ("design", {"situations": count, "kind": kind, "rare": rare}, measure_design, (count, kind, rare))
            for kind, rare in (("2 of 5", 0.1), ("2 of 5", 0.05), ("half", 0.1), ("half", 0.05))
            for count in (12, 20, 60)
        ),
        *(
            ("types", {"situations": count, "icc": icc}, measure_types, (count, icc))
            for count in (5, 15)
            for icc in (0.0, 0.3, 1.0)
        ),
        *(
            ("spread", {"types": types, "situations": count}, measure_spread, (types, count))
            for types in (4, 8)
            for count in (5, 15)
        ),
        *(
            ("unlike", {"first": first, "situations": count, "rate": rate}, measure_unlike, (count, first, rate))
            for first, rates in (("singly", (0.1, 0.2, 0.4)), ("one of five", (0.15,)))
            for count in (12, 20, 60)
            for rate in rates
        ),
        *(
            ("gap", {"first": first, "situations": count}, measure_gap, (count, first))
            for first in ("singly", "one of five")
            for count in (12, 20, 60)
        ),
        *(
            ("shared", {"situations": count, "rate": rate}, measure_shared, (count, rate))
            for count in (12, 20, 60)
            for rate in (0.05, 0.1, 0.2)
        ),
        *(
            (
                "apart",
                {"rows": kind, "situations": count, "sizes": sizes, "true": true},
                measure_apart,
                (count, sizes, kind, true),
            )
            for kind in PAIRS
            for count in (12, 20, 60)
            for sizes in ("equal", "unequal")
            for true in (0.05, 0.2)
        ),
        *(
            (
                "power",
                {"situations": count, "weak": weak, "true": true, "icc": icc},
                measure_power,
                (count, weak, true, icc),
            )
            for weak, true, icc in ((0.3, 0.2, 0.3), (0.1, 0.2, 0.3), (0.0, 0.2, 0.0), (0.0, 0.4, 0.0))
            for count in (12, 20, 60)
        ),
        *(("pgr", asdict(one), measure_pgr, (one,)) for one in PGR),
        *(
            ("seeds", {"situations": count, "seeds": seeds, **spread}, measure_seeds, (count, seeds, spread))
            for spread in SPREADS
            for count in (12, 30)
            for seeds in (2, 3, 5)
        ),
        *(
            ("collapse", {"seeds": seeds, "usual": usual, "collapsed": low, "chance": chance}, measure_collapse, what)
            for usual, low, chance in ((0.6, 0.2, 0.5), (0.5, 0.1, 0.2))
            for seeds in (2, 3, 5)
            for what in [(seeds, usual, low, chance)]
        ),
    ]
    for part, key, of, what in work:
        if any(key.items() <= line.items() for line in done.setdefault(part, [])):
            continue
        start = time.perf_counter()
        done[part].append(key | of(*what, runs // FEWER.get(part, 1), seed))
        out.write_text(json.dumps(done, indent=1) + "\n")
        print(f"{part} {key}: {time.perf_counter() - start:.0f} s", flush=True)


def table(done: dict) -> str:
    """Markdown tables of percentages."""
    lines = []
    for sizes in SIZES:
        found = [line for line in done["means"] if line["sizes"] == sizes]
        outcomes = list(dict.fromkeys(line["outcome"] for line in found))
        heads = [f"{outcome}: {what}" for outcome in outcomes for what in ("mean", "difference", "test")]
        rows = []
        for situations, icc in dict.fromkeys((line["situations"], line["icc"]) for line in found):
            of = {line["outcome"]: line for line in found if (line["situations"], line["icc"]) == (situations, icc)}
            cells = [_both(of.get(outcome), what) for outcome in outcomes for what in ("mean", "difference", "test")]
            rows.append([str(situations), f"{icc:.1f}", *cells])
        lines += _markdown(f"{sizes.capitalize()} sizes ({_listed(SIZES[sizes])})", ["situations", "ICC", *heads], rows)
    parts = {
        "near": ("Rates near 0 or 1", ["situations", "rate", "drawn"], ["mean", "middle"]),
        "mixed": (
            "Single tasks, and now and then a situation",
            ["tasks", "situations", "whole", "single"],
            ["mean", "middle", "difference"],
        ),
        "least": ("Smallest differences", ["rate", "icc", "situations"], ["least", "shown"]),
        "lead": (
            "Scores that differ a little everywhere, and now and then a lot",
            ["large", "rare", "situations"],
            ["difference", "test"],
        ),
        "design": ("Tasks that differ by design", ["kind", "rare", "situations"], ["mean"]),
        "types": ("Four types of task", ["situations", "icc"], ["mean", "without strata", "field mean"]),
        "spread": ("Types with different spread", ["types", "situations"], ["mean", "without strata"]),
        "uneven": ("A type of few situations", ["first", "each", "rate", "other"], ["mean", "test"]),
        "agreeing": ("Types that agree", ["types", "situations", "rate"], ["mean", "outer", "difference"]),
        "unlike": (
            "Rows with different habits",
            ["first", "situations", "rate"],
            [*KINDS, *(f"{name} width" for name in KINDS), "flips"],
        ),
        "gap": ("Gap recovered by rows with different habits", ["first", "situations"], ["gap", "fieller alone"]),
        "shared": (
            "Rows that have half in common",
            ["situations", "rate"],
            [*KINDS, "flips"],
        ),
        "apart": ("Rows that differ", ["rows", "situations", "sizes", "true"], list(KINDS)),
        "power": (
            "Differences shown",
            ["situations", "weak", "true", "icc"],
            [*(f"{name} shown" for name in KINDS), "flips"],
        ),
        "pgr": (
            "Gap recovered",
            ["situations", "icc"],
            ["interval", "no end", "fieller alone", "delta", "field bootstrap"],
        ),
        "seeds": (
            "Over seeds",
            ["situation", "seed", "both", "situations", "seeds"],
            ["situations and seeds", "situations alone", "field seeds"],
        ),
        "collapse": (
            "Seeds that collapse",
            ["seeds", "usual", "collapsed", "chance"],
            ["situations and seeds", "field seeds"],
        ),
    }
    for part, (title, keys, shares) in parts.items():
        rows = [[*(_key(line[key]) for key in keys), *(f"{100 * line[s]:.1f}" for s in shares)] for line in done[part]]
        lines += _markdown(title, [*keys, *shares], rows)
    return "\n".join(lines)


def _key(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2g}"


def _both(line: dict | None, name: str) -> str:
    """With the situation as the unit / as papers do it."""
    return "" if line is None else f"{100 * line[name]:.1f} / {100 * line[f'field {name}']:.1f}"


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))


def _markdown(title: str, heads: list[str], rows: list[list[str]]) -> list[str]:
    return [
        f"\n**{title}**\n",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def main() -> None:
    """Measure, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only print the tables of what is measured")
    args = parser.parse_args()
    if not args.table:
        run(args.out, args.runs, args.seed)
    print(table(json.loads(args.out.read_text())))


if __name__ == "__main__":
    main()
