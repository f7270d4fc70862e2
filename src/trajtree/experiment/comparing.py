"""Several runs put together for a comparison: seeds side by side, and blocks of rows that share a seed joined.

Runs are only put together if their recipes agree in everything that is compared. They may differ in their seed, in
which rows they measure, and in what changes no result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trajtree.errors import DataError, RecipeError
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.recipe.relations import made_with
from trajtree.experiment.recipe.text import from_yaml
from trajtree.experiment.report_folders import caveats_of, read_reports
from trajtree.experiment.rows import CEILINGS, default_comparisons
from trajtree.experiment.situations import in_situations
from trajtree.report import ComparedRuns, read_results_json
from trajtree.report.contents import ReportData
from trajtree.statistics.comparing import compare
from trajtree.statistics.results import Results, RowMetrics
from trajtree.train.settings import SAME_RESULT
from trajtree.trees.pair import LOOSEST, SIMILAR

_MAY_DIFFER = {
    "name",
    "seed",
    "evaluate.rows",
    "evaluate.comparisons",
    "evaluate.tried",
    "evaluate.elsewhere",
    "evaluate.guarantee",
    "play.workers",
    "play.seconds",
    "play.batch",
    "play.report_to",
    "play.needs",
}
_MAY_DIFFER |= {f"{section}.{setting}" for section in ("weak", "sft", "preference") for setting in SAME_RESULT}
"""Settings in which compared runs may differ; the named comparisons may not, but are checked by themselves."""

_OWN = ("rows", "explorations")
"""Sections whose entries have names of the recipe's own."""

_WHOLE = (
    "env.max_steps",
    "tasks.demonstrations",
    "tasks.unseen",
    "tasks.dev",
    "tasks.test",
    "evaluate.tried",
    "evaluate.elsewhere",
    "evaluate.comparisons",
    "play.needs",
)
"""Settings that are or, once edited, may be mappings themselves."""

_EXPLORATIONS = ("weak", "own")
"""Those that every recipe has, whether or not it replaces them."""

_NOT_MADE_WITH = {"label", "tasks"}
"""What of a row's settings changes no model."""

_MADE_WITH = ("environment", "task splits", "expert's runs", "strong model", "weak model", "arithmetic")
"""What provenance says that may change results; where runs differ in it, a caveat says so."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A run's results, the settings of its recipe, flat, and its named comparisons.

    `recipe` is None if an earlier version wrote it in a way that is not read any more.
    """

    path: Path
    data: ReportData
    settings: Mapping[str, Any]
    family: tuple[tuple[str, str], ...]
    recipe: Recipe | None
    caveats: tuple[str, ...] = ()

    @property
    def measured(self) -> set[str]:
        return {row.name for row in self.data.results.rows}

    def depends_on(self, row: str) -> bool:
        """Whether a row is measured, or one that is measured is made with it, where its recipe can still be read."""
        return row in (self.measured if self.recipe is None else made_with(self.recipe, self.measured))

    def has(self, exploration: str) -> bool:
        """Whether an exploration can be one that rows learn from; two are in every recipe."""
        return exploration in (_EXPLORATIONS if self.recipe is None else self.recipe.all_explorations)


def compare_runs(paths: Sequence[Path]) -> ComparedRuns:
    """Compare the rows of runs over their seeds; `paths` are run directories, report folders or results.json files.

    Raises:
        RecipeError: the recipes of two runs differ in something that is compared.
        DataError: a file is not a results.json, or two runs with one seed have different results for one row.
        RunError: a directory holds no report, or its figures were changed after they were written.
        TrajtreeError: rows to compare share no task.
    """
    runs = [run for path in paths for run in _read(path)]
    first, *others = runs
    for other in others:
        _check_equal(first, other)
    by_seed: dict[int, list[_Run]] = {}
    for run in runs:
        by_seed.setdefault(run.data.results.seed, []).append(run)
    results = [_joined(by_seed[seed]) for seed in sorted(by_seed)]
    named = first.data.results
    ceilings = dict.fromkeys(name for name in (named.ceiling, *CEILINGS) if name is not None)
    return ComparedRuns(
        compared=compare(results, weak=named.weak, family=first.family, ceilings=list(ceilings)),
        labels={name: label for run in reversed(runs) for name, label in run.data.labels.items()},
        split=str(first.settings["evaluate.split"]),
        notes=(
            *dict.fromkeys(note for run in runs for note in run.caveats),
            *_made_differently(runs),
            *_of_other_tasks(results),
        ),
    )


def _read(path: Path) -> Iterator[_Run]:
    if not path.is_dir():
        yield _run(path, in_situations(read_results_json(path)), ())
        return
    for written in read_reports(path):
        run = written.folder.parents[1] if written.folder.parent.name == "reports" else written.folder
        caveats = tuple(f"{written.folder}: {caveat}" for caveat in caveats_of(written, run))
        yield _run(written.folder, written.data, caveats)


def _run(path: Path, data: ReportData, caveats: tuple[str, ...]) -> _Run:
    try:
        given = dict(_flat(from_yaml(data.recipe_yaml)))
    except (ValueError, AttributeError):
        raise DataError(f"{path}: its recipe is not YAML with sections, so what it measured is not known") from None
    results = data.results
    said = given.get("evaluate.comparisons")
    measured = [row.name for row in results.rows]
    family = default_comparisons(measured, results.primary, results.ceiling) if said is None else _pairs(path, said)
    # Without situations, the last note says why.
    why = () if results.by_situation else tuple(data.notes[-1:])
    settings = {**_defaults(), **given}
    # The trees of a recipe ignore nothing, so to pairs these two are one; the default was the first, and is the second.
    if settings["pairs.past"] == SIMILAR:
        settings["pairs.past"] = LOOSEST
    return _Run(path, data, settings, family, _recipe(data.recipe_yaml), (*caveats, *why))


def _recipe(text: str) -> Recipe | None:
    try:
        return Recipe.model_validate(from_yaml(text))
    except ValueError:
        return None


def _pairs(path: Path, said: Any) -> tuple[tuple[str, str], ...]:
    """The named comparisons of a recipe that a report holds, which somebody may have edited."""
    if not (isinstance(said, list) and all(isinstance(both, list) and len(both) == 2 for both in said)):
        raise DataError(f"{path}: evaluate.comparisons of its recipe is not a list of pairs of rows: {said!r}")
    return tuple((str(row), str(against)) for row, against in said)


def _flat(section: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a recipe as `section.key`; an entry of a section in _OWN is a single setting."""
    for key, value in section.items():
        name = f"{within}{key}"
        if isinstance(value, Mapping) and not within.startswith(_OWN) and name not in _WHOLE:
            yield from _flat(value, f"{name}.")
        else:
            yield name, _what_is_set(value)


def _what_is_set(value: Any) -> Any:
    """A list without those keys of its mappings that are null: an earlier version did not write them."""
    if not isinstance(value, list):
        return value
    return [
        {key: said for key, said in one.items() if said is not None} if isinstance(one, Mapping) else one
        for one in value
    ]


def _defaults() -> dict[str, Any]:
    """The settings that an earlier version's recipe does not hold have their defaults, which change no result."""
    return dict(_flat(Recipe.model_validate({"name": "-", "tasks": {"types": ["-"]}}).model_dump(mode="json")))


def _check_equal(first: _Run, other: _Run) -> None:
    """Refuse runs that do not measure the same; the first difference is named."""
    where = f"{first.path} and {other.path} cannot be compared"
    for key in sorted(first.settings.keys() | other.settings.keys()):
        ours, theirs = (run.settings.get(key) for run in (first, other))
        if ours != theirs and key not in _MAY_DIFFER and not (None in (ours, theirs) and _of_one(key, first, other)):
            raise RecipeError(f"{where}: their recipes differ in {key}: {_shown(ours)} and {_shown(theirs)}")
    if first.family != other.family:
        raise RecipeError(
            f"{where}: they name different comparisons in evaluate.comparisons: {_shown(first.family)} and "
            f"{_shown(other.family)}; name the same ones in both recipes before they are run"
        )


def _of_one(key: str, first: _Run, other: _Run) -> bool:
    """Whether a setting is a row's or an exploration's that one of them does not depend on."""
    section, _, name = key.partition(".")
    if section == "rows":
        row = first.settings.get(key) or other.settings.get(key)
        if isinstance(row, Mapping) and {what for what, value in row.items() if value} <= _NOT_MADE_WITH:
            return not (name in first.measured and name in other.measured)
        return not (first.depends_on(name) and other.depends_on(name))
    return section == "explorations" and not (first.has(name) and other.has(name))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{row} against {against}" for row, against in value) or "none"
    return "none" if value is None else str(value)


def _joined(runs: Sequence[_Run]) -> Results:
    """The rows of all runs with one seed."""
    rows: dict[str, tuple[RowMetrics, Path]] = {}
    for run in runs:
        for row in run.data.results.rows:
            before, path = rows.setdefault(row.name, (row, run.path))
            if before.tasks != row.tasks:
                raise DataError(
                    f"{path} and {run.path} have seed {run.data.results.seed} and measured row {row.name!r} with "
                    "different results; give only one of them"
                )
    first = runs[0].data.results
    situations = all(run.data.results.by_situation for run in runs)
    return replace(first, rows=tuple(row for row, _ in rows.values()), by_situation=situations)


def _made_differently(runs: Sequence[_Run]) -> list[str]:
    """A sentence for each part of the provenance in which runs differ."""
    sentences = []
    for what in _MADE_WITH:
        found = dict.fromkeys(run.data.provenance.get(what, "not recorded") for run in runs)
        if len(found) > 1:
            sentences.append(f"The runs differ in {what}: {'; '.join(found)}.")
    return sentences


def _of_other_tasks(results: Sequence[Results]) -> list[str]:
    """A sentence if rows have other tasks with some seeds than with others."""
    tasks: dict[str, list[set[str]]] = {}
    for one in results:
        for row in one.rows:
            tasks.setdefault(row.name, []).append({task.task for task in row.tasks})
    differ = {name: found for name, found in tasks.items() if any(each != found[0] for each in found)}
    if not differ:
        return []
    said = (f"{name} ({len(set.intersection(*found))} of {len(set.union(*found))})" for name, found in differ.items())
    return [f"Not all seeds have the same tasks; only those that all have count: {', '.join(said)}."]


__all__ = ["compare_runs"]
