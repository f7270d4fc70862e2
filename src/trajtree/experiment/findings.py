"""The findings of a finished run: statistics of its rows, and everything that its report shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trajtree.errors import RunError
from trajtree.experiment import guarantee
from trajtree.experiment.lessons import TREES
from trajtree.experiment.provenance import as_made, provenance_of
from trajtree.experiment.recipe import ALL, Exploration, Recipe
from trajtree.experiment.stage import Done, Finished
from trajtree.experiment.statements import Statements
from trajtree.experiment.tasks import read_tasks, shared_situations, store_in
from trajtree.report import ForkView, ReportData, Unmeasured
from trajtree.report.text import listed
from trajtree.statistics.results import Results
from trajtree.statistics.summary import summarise
from trajtree.store.tree_store import read_trees
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.pair import Pair
from trajtree.trees.quality import TreeQuality, quality
from trajtree.trees.tree import TrajectoryTree

_SHOWN_FORKS = 4

_EXPLORED = {
    "demonstrated": "the tasks of the expert demonstrations, as in the paper",
    "unseen": "train tasks without a demonstration",
    "all": "the tasks of the expert demonstrations and further train tasks",
}


def results_of(recipe: Recipe, done: Mapping[str, Done]) -> Results:
    """Statistics of every row that was measured, with the situations that the tasks were drawn by.

    Where the ceiling was not measured there is none, and where the primary row was not, the weak one stands in for it.
    """
    rows = {row: store_in(done[f"evaluate-{row}"].folder) for row in measured(recipe, done)}
    return summarise(
        rows,
        weak="weak",
        ceiling=recipe.evaluate.ceiling if recipe.evaluate.ceiling in rows else None,
        primary=recipe.evaluate.primary if recipe.evaluate.primary in rows else "weak",
        situation=read_tasks(done["tasks"].folder)["situations"].__getitem__,
        seed=recipe.seed,
    )


def measured(recipe: Recipe, done: Mapping[str, Done]) -> list[str]:
    """The rows that the recipe names, without those that could not be measured."""
    return [row for row in recipe.evaluate.rows if f"evaluate-{row}" in done]


def unmeasured(recipe: Recipe, done: Finished) -> list[Unmeasured]:
    """The rows that could not be measured, and why: nothing to learn from, for them or for a row that they need."""
    roles = {recipe.evaluate.ceiling: "ceiling", recipe.evaluate.primary: "primary"}
    found = []
    for name in recipe.evaluate.rows:
        lost = done.missing.get(f"evaluate-{name}")
        if lost is not None:
            row = recipe.all_rows.get(lost.stage.removeprefix("train-"))
            needs = f"it needs {lost.stage if row is None else row.label}, and "
            found.append(
                Unmeasured(name, lost.why if lost.stage == f"train-{name}" else needs + lost.why, roles.get(name, ""))
            )
    return found


def report_of(recipe: Recipe, done: Finished) -> ReportData:
    """Everything that the report shows.

    Raises:
        RunError: the weak row could not be measured, with which the others are compared.
    """
    lost = unmeasured(recipe, done)
    for one in lost:
        if one.row == "weak":
            raise RunError(f"weak: was not measured, and no row can be compared without it: {one.why}")
    shown = _shown_exploration(recipe, done)
    trees = read_trees(done[f"trees-{shown}"].folder / TREES) if shown is not None else ()
    qualities, forks = of_trees(trees, recipe.pairs)
    explored = recipe.all_explorations[shown] if shown is not None else recipe.explore
    statements = Statements(recipe, done)
    return ReportData(
        title=f"{recipe.name}: {recipe.env.name}, exploring {explored.tasks} tasks, seed {recipe.seed}",
        results=results_of(recipe, done),
        recipe_yaml=recipe.to_yaml(),
        labels={name: recipe.all_rows[name].label for name in recipe.evaluate.rows},
        unmeasured=tuple(lost),
        trees=qualities,
        forks=forks,
        notes=(
            *_notes(recipe, explored if shown is not None else None, done),
            *shared_notes(recipe, done),
            *statements.notes(),
            *_guaranteed(recipe, done),
        ),
        provenance={
            **provenance_of(recipe),
            **as_made(done),
            **{f"data {name}": d.digest[:16] for name, d in done.items()},
        },
        timings={name: d.seconds for name, d in done.items()},
        statements=tuple(map(statements.of, measured(recipe, done))),
    )


def _shown_exploration(recipe: Recipe, done: Mapping[str, Done]) -> str | None:
    """The exploration whose trees are shown: the primary row's, else the first; None if there is none."""
    primary = recipe.all_rows[recipe.evaluate.primary]
    candidates = [primary.explored_by] if primary.explored else []
    return next((name for name in (*candidates, *recipe.all_explorations) if f"trees-{name}" in done), None)


def of_trees(
    trees: Iterable[TrajectoryTree], settings: PairSettings
) -> tuple[tuple[TreeQuality, ...], tuple[ForkView, ...]]:
    """The quality of each tree, and the widest forks of all, one per tree. One tree at a time need be in memory."""
    qualities: list[TreeQuality] = []
    widest: list[tuple[Pair, ForkView]] = []
    for tree in trees:
        qualities.append(quality(tree))
        widest += [(pair, _view(pair, tree)) for pair in pairs_of(tree, settings)[:1]]
        widest = sorted(widest, key=lambda both: (-both[0].gap, both[0].task))[:_SHOWN_FORKS]
    return tuple(qualities), tuple(view for _, view in widest)


def _view(pair: Pair, tree: TrajectoryTree) -> ForkView:
    chosen, rejected = (side.steps for side in pair.sides(tree))
    return ForkView(
        task=pair.task,
        prefix=chosen[: pair.depth],
        chosen=chosen[pair.depth :],
        rejected=rejected[pair.depth :],
        chosen_value=pair.chosen_value,
        rejected_value=pair.rejected_value,
        node=pair.node,
    )


def _notes(recipe: Recipe, explored: Exploration | None, done: Mapping[str, Done]) -> tuple[str, ...]:
    ceiling = recipe.all_rows[recipe.evaluate.ceiling].label
    pgr = f"PGR = (row - weak) / ({ceiling} - weak), on the tasks that all three share."
    players = [] if explored is None else [recipe.all_rows[row].label for row in explored.players]
    who = [] if explored is None else [f"{' and '.join(players)} explored {_EXPLORED[explored.tasks]}."]
    return (
        *who,
        f"Rows are measured on the {recipe.evaluate.split} split; settings are to be chosen on dev.",
        *_left_out(recipe),
        *_fewer_tasks(recipe, done),
        *([pgr] if recipe.evaluate.ceiling in measured(recipe, done) else []),
    )


def _left_out(recipe: Recipe) -> list[str]:
    """A sentence for each recipe that measures rows which this one leaves out."""
    rows: dict[str, list[str]] = {}
    for name, other in recipe.evaluate.elsewhere.items():
        if name not in recipe.evaluate.rows:
            rows.setdefault(other, []).append(recipe.all_rows[name].label)
    return [f"Left out here: {', '.join(labels)}. {other} measures them." for other, labels in rows.items()]


def _fewer_tasks(recipe: Recipe, done: Mapping[str, Done]) -> list[str]:
    """A sentence for each number of tasks, fewer than there are, that rows were measured on."""
    there = sum(map(len, read_tasks(done["tasks"].folder)[recipe.evaluate.split].values()))
    rows: dict[int, list[str]] = {}
    for name in measured(recipe, done):
        asked = recipe.all_rows[name].tasks
        if asked != ALL and asked < there:
            rows.setdefault(asked, []).append(recipe.all_rows[name].label)
    return [
        f"{listed(labels)} {'was' if len(labels) == 1 else 'were'} measured on {asked} of the {there} "
        f"{recipe.evaluate.split} tasks only; what is compared with {'it' if len(labels) == 1 else 'them'} is compared "
        "on these."
        for asked, labels in rows.items()
    ]


def shared_notes(recipe: Recipe, done: Mapping[str, Done]) -> list[str]:
    """Sentences on where the measured tasks share situations with others."""
    trained: list[str] = []
    if "demonstrations" in done:
        trained += [t.task for t in store_in(done["demonstrations"].folder)]
    if "unseen" in done:
        trained += read_tasks(done["unseen"].folder)
    return shared_situations(read_tasks(done["tasks"].folder), recipe.evaluate.split, trained)


def _guaranteed(recipe: Recipe, done: Mapping[str, Done]) -> list[str]:
    """What the paper's guarantee says of the rows that it speaks of."""
    rows = (recipe.all_rows[name] for name in recipe.evaluate.rows)
    return [guarantee.sentences(recipe, row, done) for row in rows if guarantee.stage_of(row) in done]


__all__ = ["report_of", "results_of", "shared_notes"]
