"""Where a run keeps its reports: a folder per recipe, so that no recipe's tables are ever written over by another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trajtree.errors import RunError
from trajtree.experiment.findings import report_of
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Done
from trajtree.report import ReportData, read_results_json, write_html, write_results_json
from trajtree.store.files import write_atomically

RESULTS, PAGE, RECIPE, STAGES = "results.json", "report.html", "recipe.yaml", "stages.json"


def folder_of(recipe: Recipe, run: Path) -> Path:
    """The recipe's own folder in a run: named after it and after the hash of all that it says."""
    digest = hashlib.sha256(recipe.to_yaml().encode()).hexdigest()
    return run / "reports" / f"{recipe.name}-{digest[:8]}"


def write_report(recipe: Recipe, run: Path, done: Mapping[str, Done]) -> tuple[ReportData, Path]:
    """Write results, page, resolved recipe, and which stage's folder is whose; what they show, and their folder."""
    folder = folder_of(recipe, run)
    folder.mkdir(parents=True, exist_ok=True)
    data = report_of(recipe, done)
    places = {name: str(stage.folder.relative_to(run)) for name, stage in done.items()}
    write_atomically(folder / STAGES, json.dumps(places, indent=1) + "\n")
    write_atomically(folder / RECIPE, recipe.to_yaml())
    write_results_json(data, folder / RESULTS)
    write_html(data, folder / PAGE)
    return data, folder


@dataclass(frozen=True, slots=True)
class Written:
    """A report that a run holds."""

    folder: Path
    data: ReportData


def read_reports(run: Path) -> list[Written]:
    """The reports in a run directory, the newest last; those of earlier versions stand in the directory itself.

    Raises:
        RunError: there is none.
        DataError: one is damaged.
    """
    found = sorted([*run.glob(f"reports/*/{RESULTS}"), *run.glob(RESULTS)], key=lambda path: path.stat().st_mtime)
    if not found:
        raise RunError(f"{run}: holds no report; make one with: trajtree run RECIPE --run {run}")
    return [Written(path.parent, read_results_json(path)) for path in found]


__all__ = ["PAGE", "RECIPE", "RESULTS", "STAGES", "Written", "folder_of", "read_reports", "write_report"]
