"""Results that were stored without situations get them from their environment, or say why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tests.toy as toy

from trajtree.experiment.report_folders import read_reports
from trajtree.experiment.situations import in_situations
from trajtree.report import ReportData, write_results_json
from trajtree.statistics.results import Results
from trajtree.statistics.summary import summarise
from trajtree.trajectory import Outcome, Sampling, Step, Trajectory

RECIPE = "name: toy\nenv:\n  name: tests.toy:DOMAIN\n"


def results(situation: Callable[[str], str] | None = None) -> Results:
    rows = {
        name: [
            Trajectory(f"toy/{i}", 0, "p", "toy", "1", 0, Sampling(), (), (Step("o", "a"),), score, Outcome.COMPLETED)
            for i, score in enumerate(scores)
        ]
        for name, scores in {"weak": [0.0, 1.0] * 12, "ours": [0.5, 1.0, 1.0] * 8}.items()
    }
    return summarise(rows, weak="weak", ceiling=None, primary="ours", situation=situation, resamples=100)


def halved(task: str) -> str:
    return f"s{int(task.removeprefix('toy/')) // 2}"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], None]:
    return lambda situation: monkeypatch.setattr(toy, "DOMAIN", replace(toy.DOMAIN, situation=situation))


def test_old_results_get_their_situations(told: Callable[[Callable[[str], str]], None]) -> None:
    told(halved)
    found = in_situations(ReportData("t", results(), RECIPE))
    assert found.results == results(halved)
    assert found.notes == ()


def test_a_report_of_a_run_is_read_with_situations(
    tmp_path: Path, told: Callable[[Callable[[str], str]], None]
) -> None:
    """As an earlier version wrote it into the run directory itself."""
    told(halved)
    write_results_json(ReportData("t", results(), RECIPE), tmp_path / "results.json")
    document = json.loads((tmp_path / "results.json").read_text()) | {"version": 2}
    for row in document["rows"]:
        for task in row["tasks"]:
            del task["situation"]
    (tmp_path / "results.json").write_text(json.dumps(document))
    (written,) = read_reports(tmp_path)
    assert written.data.results == results(halved)


def test_known_situations_stay(told: Callable[[Callable[[str], str]], None]) -> None:
    told(halved)
    data = ReportData("t", results(lambda task: task[-1]), RECIPE)
    assert in_situations(data) is data


def unknown(task: str) -> str:
    raise KeyError(task)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (RECIPE, "the situation of task 'toy/0' is not known: UnknownTask: tests.toy:DOMAIN has no task 'toy/0'"),
        (RECIPE.replace("tests.toy", "tests.nowhere"), "No module named 'tests.nowhere'"),
        ("", "their recipe names no environment"),
        ("name: [", "their recipe names no environment"),
    ],
)
def test_results_whose_situations_cannot_be_had_say_why(
    recipe: str, says: str, told: Callable[[Callable[[str], str]], None]
) -> None:
    told(unknown)
    found = in_situations(ReportData("t", results(), recipe, notes=("a note",)))
    assert found.results == results()
    assert not found.results.by_situation
    first, second = found.notes
    assert first == "a note"
    assert says in second, second
    assert second.startswith("These results were stored without situations, and ")
