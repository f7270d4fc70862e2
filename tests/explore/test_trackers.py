"""Trackers get the figures of exploration and evaluation, only when asked, and stop nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import Told
from tests.fake_trackers import Log, fake_trackers

from trajtree.errors import RunError
from trajtree.explore import trackers
from trajtree.explore.trackers import TRACKERS, Logbook, check_trackers, reported
from trajtree.store.progress import Illustrated


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    (tmp_path / "fakes").mkdir()
    return fake_trackers(tmp_path / "fakes", monkeypatch)


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("tensorboard", [["open", "logs"]]),
        ("wandb", [["open", "trajtree", "demo/explore"]]),
        ("trackio", [["open", "trajtree", "demo/explore"]]),
        ("mlflow", [["experiment", "trajtree"], ["open", "demo/explore"]]),
    ],
)
def test_each_tracker_gets_the_figures(told: Log, name: str, opened: list[list[object]]) -> None:
    progress = Told()
    with reported(progress, [name], Logbook(Path("logs"), "demo/explore")) as shown:
        shown.total(3)
        shown.advance(1)
        shown.advance(1, {"score": 0.5})
        shown.advance(1, {"score": 0.25})
    assert told() == [*opened, ["log", {"score": 0.5}, 2], ["log", {"score": 0.25}, 3], ["close"]]
    assert (progress.totals, progress.amounts) == ([3], [1, 1, 1])


def test_projects_of_the_users_own(told: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    with reported(Told(), ["wandb"], Logbook(Path("logs"), "x")):
        pass
    assert told()[0] == ["open", "mine", "x"]


def test_reports_are_a_second_apart_and_the_last_is_made(told: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_SECONDS", 1e9)
    with reported(Told(), ["wandb"], Logbook(Path("logs"), "x")) as shown:
        for number in range(100):
            shown.advance(1, {"steps": number})
    assert [line for line in told() if line[0] == "log"] == [["log", {"steps": 99}, 100]]


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_tracker_that_fails_stops_nothing(told: Log, tmp_path: Path, broken: str) -> None:
    with (tmp_path / "fakes" / "trackio.py").open("a") as file:
        file.write(f"\ndef {broken}(*_, **__): raise OSError('no space')\n")
    progress = Told()
    with (
        pytest.warns(UserWarning, match="trackio: no space; the work goes on without it") as caught,
        reported(progress, ["trackio", "wandb"], Logbook(Path("logs"), "x")) as shown,
    ):
        shown.advance(1, {"score": 1.0})
        shown.advance(1, {"score": 0.5})
    assert len(caught) == 1, "it is said once"
    assert progress.amounts == [1, 1]
    assert [line for line in told() if line[0] == "log"].count(["log", {"score": 0.5}, 2]) == 1 + (broken == "finish")


def test_the_work_s_own_error_comes_through(told: Log) -> None:
    with pytest.raises(RunError, match="mine"), reported(Told(), ["wandb"], Logbook(Path("logs"), "x")):
        raise RunError("mine")
    assert told()[-1] == ["close"]


def test_a_picture_comes_through(told: Log) -> None:
    class Pictured(Told):
        picture: tuple[str, ...] = ()

        def illustrate(self, lines: tuple[str, ...]) -> None:
            self.picture = lines

    pictured = Pictured()
    for progress in (pictured, Told()):
        with reported(progress, ["wandb"], Logbook(Path("logs"), "x")) as shown:
            assert isinstance(shown, Illustrated)
            shown.illustrate(["a tree"])
    assert pictured.picture == ["a tree"]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(RunError, match=f"^report_to {name}: the package {name} is not installed: pip install"):
            check_trackers([name])


def test_nothing_is_imported_unless_asked() -> None:
    code = "import sys, trajtree.cli.main as m, trajtree.explore.trackers as t\n"
    code += "with t.reported(None, (), None): pass\n"
    code += "print({n.partition('.')[0] for n in sys.modules} & {'torch', 'tensorboard', 'wandb', 'trackio', 'mlflow'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_names_are_transformers_own() -> None:
    pytest.importorskip("torch")
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(TRACKERS) <= set(INTEGRATION_TO_CALLBACK)
