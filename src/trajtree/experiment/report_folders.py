"""A run's report folders: one per recipe, so that no recipe's tables are ever overwritten by another's."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trajtree.errors import DataError, RunError
from trajtree.experiment.findings import report_of
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.situations import in_situations
from trajtree.experiment.stage import MARKER, Done, Finished
from trajtree.report import ReportData, read_results_json, write_html, write_results_json
from trajtree.store.files import write_atomically
from trajtree.store.lock import locked
from trajtree.store.manifest import from_json, verified

RESULTS, PAGE, RECIPE, STAGES = "results.json", "report.html", "recipe.yaml", "stages.json"
DIGESTS = "digests.json"
"""Hashes of RESULTS, and of each stage's contents when they were written."""


def folder_of(recipe: Recipe, run: Path) -> Path:
    """The recipe's own folder in a run, named after the recipe and the hash of its contents."""
    digest = hashlib.sha256(recipe.to_yaml().encode()).hexdigest()
    return run / "reports" / f"{recipe.name}-{digest[:8]}"


def keep_recipe(recipe: Recipe, run: Path) -> None:
    """Write the resolved recipe to where its report will be, so that a stopped run can go on without its own file."""
    folder = folder_of(recipe, run)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECIPE, recipe.to_yaml())


def write_report(recipe: Recipe, run: Path, done: Finished) -> tuple[ReportData, Path]:
    """Write results, page, resolved recipe and the stages' folders; returns the report's data and folder."""
    folder = folder_of(recipe, run)
    data = report_of(recipe, done)
    with locked(folder / ".lock", wait=True):
        _write(recipe, data, run, folder, done)
    return data, folder


def _write(recipe: Recipe, data: ReportData, run: Path, folder: Path, done: Mapping[str, Done]) -> None:
    places = {name: str(stage.folder.relative_to(run)) for name, stage in done.items()}
    write_atomically(folder / STAGES, json.dumps(places, indent=1) + "\n")
    write_atomically(folder / RECIPE, recipe.to_yaml())
    write_results_json(data, folder / RESULTS)
    write_html(data, folder / PAGE)
    digests = {RESULTS: _digest(folder / RESULTS), "stages": {name: stage.digest for name, stage in done.items()}}
    write_atomically(folder / DIGESTS, json.dumps(digests, indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Written:
    """A report in a run directory."""

    folder: Path
    data: ReportData


def read_reports(run: Path) -> list[Written]:
    """The reports in a run directory, newest last; those of earlier versions are in the directory itself.

    Results that were stored without situations get them where their environment is there.

    Raises:
        RunError: there is none, for example because the run was stopped; then the command to go on with is named.
        DataError: one of them is damaged.
    """
    found = _newest_last([*run.glob(f"reports/*/{RESULTS}"), *run.glob(RESULTS)])
    if not found:
        begun = _newest_last(run.glob(f"reports/*/{RECIPE}"))
        if begun:
            words = shlex.join(["trajtree", "run", str(begun[-1]), "--run", str(run)])
            raise RunError(f"{run}: was stopped before its report; go on with: {words}")
        raise RunError(f"{run}: contains no report; make one with: trajtree run RECIPE --run {run}")
    return [Written(path.parent, in_situations(read_results_json(path))) for path in found]


def _newest_last(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def caveats_of(written: Written, run: Path) -> list[str]:
    """One sentence for each stage whose results changed after a report's figures were computed from them.

    The figures themselves stay those of that time. Reports of earlier versions do not record what they came from.

    Raises:
        RunError: the figures were changed after they were written.
        DataError: the report's record of its stages is damaged.
    """
    folder = written.folder
    if not (folder / DIGESTS).exists():
        return []
    try:
        digests, places = (json.loads((folder / name).read_text()) for name in (DIGESTS, STAGES))
        results, stages = digests[RESULTS], {name: (places[name], digest) for name, digest in digests["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / DIGESTS}: damaged ({error}); {_again(folder, run)}") from None
    if _digest(folder / RESULTS) != results:
        raise RunError(f"{folder / RESULTS}: was changed after it was written; {_again(folder, run)}")
    found = {name: _changed(run / place, digest) for name, (place, digest) in stages.items()}
    return [f"{name} is not what these figures were computed from: {why}" for name, why in found.items() if why]


def _changed(folder: Path, digest: str) -> str | None:
    """Why a stage's folder no longer has its recorded contents; None if it does."""
    try:
        record = json.loads((folder / MARKER).read_text())
        if record["digest"] != digest:
            return f"{folder} was redone"
        verified(folder, from_json(record["files"]), without=[MARKER])
    except FileNotFoundError:
        return f"{folder} is gone"
    except (ValueError, KeyError, TypeError) as error:
        return str(error)
    return None


def _again(folder: Path, run: Path) -> str:
    return f"write it again with: {shlex.join(['trajtree', 'run', str(folder / RECIPE), '--run', str(run)])}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = [
    "PAGE",
    "RECIPE",
    "RESULTS",
    "STAGES",
    "Written",
    "caveats_of",
    "folder_of",
    "keep_recipe",
    "read_reports",
    "write_report",
]
