"""results.json: every figure of a report, for programs and for showing the report again.

The file holds one object. `format` and `version` say what it is; `rows` lists the metrics of each row and of its tasks,
each with its situation; `comparisons`, `pgr` and `unmeasured` are lists. Scores and rates are in [0, 1], `timings` in
seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Annotated, Any

import msgspec
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from trajtree.errors import DataError, TrajtreeError
from trajtree.report.contents import ForkView, ReportData, RowStatement, Unmeasured
from trajtree.report.text import verdict
from trajtree.statistics.analysis import analyse
from trajtree.statistics.results import Played, Results
from trajtree.store.files import open_input, write_whole
from trajtree.store.lines import parsed, wrong_field
from trajtree.trees.quality import TreeQuality

FORMAT = "trajtree.results"
VERSION = 3
"""Version 1 had `env_errors` for `faults`, and no `forks`; versions 1 and 2 knew no situations, only tasks."""


def write_results_json(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write all metrics, the outcomes of every task, and their provenance.

    Raises:
        RunError: the file cannot be written; an existing file is left unchanged.
    """
    rows = [row.name for row in data.results.rows]
    document = {
        "format": FORMAT,
        "version": VERSION,
        "title": data.title,
        "verdict": verdict(data),
        "labels": {name: data.label(name) for name in [*rows, *(one.row for one in data.unmeasured)]},
        **asdict(data.results),
        "trees": [asdict(tree) for tree in data.trees],
        "forks": msgspec.to_builtins(data.forks),
        "notes": list(data.notes),
        "recipe": data.recipe_yaml,
        "provenance": data.provenance,
        "timings": data.timings,
        "statements": [asdict(statement) for statement in data.statements],
        "unmeasured": [asdict(one) for one in data.unmeasured],
    }
    # ASCII, because text from models may contain lone surrogates, which UTF-8 cannot encode.
    write_whole(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=True) + "\n")


def read_results_json(path: str | os.PathLike[str]) -> ReportData:
    """What was written, by this version or an earlier one; an earlier one's results are without situations.

    Raises:
        DataError: the file is not a valid results.json; the message names the field that is wrong.
    """
    with open_input(path) as file:
        text = file.read()
    try:
        document = parsed(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"{path}: not written by trajtree as results (field format is not {FORMAT!r})")
    if document.get("version") not in range(1, VERSION + 1):
        raise DataError(f"{path}: version {document.get('version')!r}; this trajtree reads versions 1 to {VERSION}")
    if (endless := _not_finite(document)) is not None:
        raise DataError(f"{path}, field {endless}: must be a finite number")
    try:
        results = _of_tasks(document) if document["version"] < VERSION else _as_written(document)
        shown = TypeAdapter(_Shown).validate_python(document)
        forks = msgspec.convert(document.get("forks", ()), tuple[ForkView, ...])
    except KeyError as error:
        raise DataError(f"{path}: field {error.args[0]} is missing") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        if first["type"] == "missing" and len(first["loc"]) == 1:
            raise DataError(f"{path}: field {field} is missing") from None
        raise DataError(f"{path}, field {field}: {first['msg']}") from None
    except msgspec.ValidationError as error:
        raise DataError(f"{path}, in field forks: {wrong_field(error)}") from None
    except DataError:
        raise
    except TrajtreeError as error:
        raise DataError(f"{path}: {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: a field is of another type than trajtree writes ({error})") from None
    if (wrong := _wrong_row(results)) is not None:
        raise DataError(f"{path}, field {wrong}")
    return ReportData(
        title=shown.title,
        results=results,
        recipe_yaml=shown.recipe,
        labels=shown.labels,
        trees=shown.trees,
        forks=forks,
        notes=shown.notes,
        provenance=shown.provenance,
        timings=shown.timings,
        statements=shown.statements,
        unmeasured=shown.unmeasured,
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a report shows beside its results and forks."""

    title: str
    recipe: str
    labels: dict[str, str]
    trees: tuple[TreeQuality, ...]
    notes: tuple[str, ...]
    provenance: dict[str, str]
    timings: dict[str, float]
    statements: tuple[RowStatement, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()


def _not_finite(document: dict[str, Any]) -> str | None:
    """The field of a number that is infinite or NaN, which JSON does not know and Python reads; None if there is none.

    No recursion: a document may be nested as deeply as Python reads.
    """
    waiting: list[tuple[str, dict[str, Any] | list[Any]]] = [("", document)]
    while waiting:
        where, whole = waiting.pop()
        for name, part in whole.items() if isinstance(whole, dict) else enumerate(whole):
            if isinstance(part, float) and not isfinite(part):
                return f"{where}{name}"
            if isinstance(part, dict | list):
                waiting.append((f"{where}{name}.", part))
    return None


def _wrong_row(results: Results) -> str | None:
    """The field that names a row which is not there, or a row without tasks, and what is wrong; None if all is well."""
    names = [row.name for row in results.rows]
    for field, name in (("weak", results.weak), ("primary", results.primary), ("ceiling", results.ceiling)):
        if name is not None and name not in names:
            return f"{field}: there is no row {name!r}; the rows are: {', '.join(names) or 'none'}"
    return next((f"rows.{n}.tasks: there are none" for n, row in enumerate(results.rows) if not row.tasks), None)


def _as_written(document: dict[str, Any]) -> Results:
    return TypeAdapter(Results).validate_python({field.name: document[field.name] for field in fields(Results)})


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of versions 1 and 2, as far as it is still needed: its tasks had no situations."""

    name: str
    tasks: tuple[dict[str, Any], ...]
    outcomes: dict[str, int]
    faults: Annotated[int, Field(validation_alias=AliasChoices("faults", "env_errors"))]
    lost: tuple[str, ...]

    def played(self) -> dict[str, Any]:
        return asdict(self) | {"tasks": [task | {"situation": task.get("task")} for task in self.tasks]}


@dataclass(frozen=True, slots=True)
class _Document:
    """What versions 1 and 2 say of an experiment."""

    rows: tuple[_Row, ...]
    weak: str
    ceiling: str | None
    primary: str
    resamples: int
    seed: int


def _of_tasks(document: dict[str, Any]) -> Results:
    """The results of a version that knew no situations, computed anew from what its tasks came to."""
    old = TypeAdapter(_Document).validate_python(document)
    return analyse(
        TypeAdapter(tuple[Played, ...]).validate_python([row.played() for row in old.rows]),
        weak=old.weak,
        ceiling=old.ceiling,
        primary=old.primary,
        resamples=old.resamples,
        seed=old.seed,
        by_situation=False,
    )


__all__ = ["FORMAT", "VERSION", "read_results_json", "write_results_json"]
