"""results.json: every figure of a report, for programs.

The file holds one object. `format` and `version` say what it is; `rows` lists the metrics of each row and of its tasks;
`comparisons` and `pgr` are lists. Scores and rates are in [0, 1], `timings` in seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from trajtree.report.contents import ReportData
from trajtree.report.files import write_whole
from trajtree.report.text import verdict

FORMAT = "trajtree.results"
VERSION = 1


def write_results_json(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write all metrics, the outcomes of every task, and where they come from.

    Raises:
        RunError: the file cannot be written; an older file is left as it was.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "title": data.title,
        "verdict": verdict(data),
        "labels": {row.name: data.label(row.name) for row in data.results.rows},
        **asdict(data.results),
        "trees": [asdict(tree) for tree in data.trees],
        "notes": list(data.notes),
        "recipe": data.recipe_yaml,
        "provenance": data.provenance,
        "timings": data.timings,
    }
    # ASCII, because text from models may contain lone surrogates, which UTF-8 cannot encode.
    write_whole(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=True) + "\n", path)


__all__ = ["FORMAT", "VERSION", "write_results_json"]
