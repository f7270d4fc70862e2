"""results.json: every figure of a report, for programs and for showing the report again.

The file holds one object. `format` and `version` say what it is; `rows` lists the metrics of each row and of its tasks,
each with its situation; `comparisons`, `pgr` and `unmeasured` are lists. Scores and rates are in [0, 1], `timings` in
seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
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
    try:
        return ReportData(
            title=str(document["title"]),
            results=_of_tasks(document) if document["version"] < VERSION else _as_written(document),
            recipe_yaml=str(document["recipe"]),
            labels=dict(document["labels"]),
            trees=TypeAdapter(tuple[TreeQuality, ...]).validate_python(document["trees"]),
            forks=msgspec.convert(document.get("forks", ()), tuple[ForkView, ...]),
            notes=tuple(document["notes"]),
            provenance=dict(document["provenance"]),
            timings=dict(document["timings"]),
            statements=TypeAdapter(tuple[RowStatement, ...]).validate_python(document.get("statements", ())),
            unmeasured=TypeAdapter(tuple[Unmeasured, ...]).validate_python(document.get("unmeasured", ())),
        )
    except KeyError as error:
        raise DataError(f"{path}: field {error.args[0]} is missing") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}, field {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except msgspec.ValidationError as error:
        raise DataError(f"{path}, in field forks: {wrong_field(error)}") from None
    except DataError:
        raise
    except TrajtreeError as error:
        raise DataError(f"{path}: {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: a field is of another type than trajtree writes ({error})") from None


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
