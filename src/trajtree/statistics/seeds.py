"""Comparisons over several seeds: the same tasks, played by models that were trained anew with each seed.

Situations and seeds are crossed: every model meets every situation. What the difference would be with other situations
and with other seeds are two questions, and a claim about a method needs both:

* Averaged over the seeds, a task has one difference, and the situation is the cluster as for a single seed. That is the
  interval for these models, on further situations.
* The seeds' means vary too. Their variance is added: the sum counts what varies by situation and seed together twice,
  so on average it is not too small, which is the side to err on with the few seeds that there are. The degrees of
  freedom are Satterthwaite's; docs/statistics.md has a simulation.

The field's practice is a t-test over the seeds' means, which takes the few situations for all that there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trajtree.errors import TrajtreeError
from trajtree.statistics.analysis import paired
from trajtree.statistics.differences import estimate, interval, p_value, smallest_shown
from trajtree.statistics.practice import t_test
from trajtree.statistics.results import Dependence, Interval, Metric, Practice, Results, Situations

FEWEST_SEEDS = 3
"""With fewer seeds, nothing can be claimed of a method: two that are good by chance look as if none varied."""


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """`row` minus `against` over the `n` tasks that both rows have with every seed.

    `difference` and `p_value` hold for other situations and other seeds; with one seed, of which nothing follows for
    others, for its models. `these_models` and `these_models_p` hold for the models that were trained, on other
    situations. Either p-value is below 0.05 exactly where its interval excludes 0.
    `by_seed` are the seeds' differences, in the order of the results. `smallest` is as in `Comparison`; None with fewer
    than FEWEST_SEEDS too.
    """

    row: str
    against: str
    metric: Metric
    n: int
    situations: Situations
    difference: Interval
    p_value: float
    these_models: Interval
    these_models_p: float
    by_seed: tuple[float, ...]
    dependence: Dependence
    smallest: float | None
    practice: Practice


def over_seeds(results: Sequence[Results], row: str, against: str, metric: Metric) -> OverSeeds:
    """Compare two rows over results that differ in their seed.

    Raises:
        TrajtreeError: a row is missing, there is no task that both rows have with every seed, or the results do not
            agree in which situations their tasks are.
    """
    for name in (row, against):
        if not results or any(all(one.name != name for one in result.rows) for result in results):
            raise TrajtreeError(f"row {name!r} is not in the results of every seed: nothing to compare")
    _check_situations(results, row)
    values, layout = paired(metric, *(one.row(name).tasks for one in results for name in (row, against)))
    if not len(values[0]):
        raise TrajtreeError(f"rows {row!r}, {against!r} share no task that has usable episodes with every seed")
    # [seeds, tasks]
    ours, theirs = np.array(values[::2]), np.array(values[1::2])
    by_seed = ours.mean(1) - theirs.mean(1)
    found = estimate(ours.mean(0), theirs.mean(0), layout)
    both = estimate(ours.mean(0), theirs.mean(0), layout, (ours.mean(1), theirs.mean(1)))
    shown = interval(both)
    test, test_p = t_test(by_seed)
    showable = len(by_seed) >= FEWEST_SEEDS and all(one.by_situation for one in results)
    return OverSeeds(
        row=row,
        against=against,
        metric=metric,
        n=ours.shape[1],
        situations=layout.situations,
        difference=shown,
        p_value=p_value(both),
        these_models=interval(found),
        these_models_p=p_value(found),
        by_seed=tuple(map(float, by_seed)),
        dependence=found.paired.dependence,
        smallest=smallest_shown(both, shown) if showable else None,
        practice=Practice(test, test_p, "t-test over seeds"),
    )


def _check_situations(results: Sequence[Results], row: str) -> None:
    first = {task.task: task.situation for task in results[0].row(row).tasks}
    for one in results[1:]:
        for task in one.row(row).tasks:
            if first.get(task.task, task.situation) != task.situation:
                raise TrajtreeError(
                    f"task {task.task!r} is in situation {first[task.task]!r} with seed {results[0].seed} and in "
                    f"{task.situation!r} with seed {one.seed}: give all results the situations of one environment"
                )


__all__ = ["FEWEST_SEEDS", "OverSeeds", "over_seeds"]
