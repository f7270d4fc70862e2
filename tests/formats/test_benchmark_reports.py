"""Scores from a benchmark's report that lies beside the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trajtree.errors import DataError
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read.benchmarks.reports import verdict
from trajtree.store.trajectory_store import TrajectoryStore

TASK = "post__mailbox-7"
RUN = {
    "trajectory": [],
    "history": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done"}],
    "info": {"exit_status": "submitted"},
}


def place(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def imported(folder: Path) -> tuple[ImportReport, dict[str, float]]:
    """What came of a folder, and the score of each task."""
    report = import_files(folder, folder.parent / "store.jsonl")
    store = folder.parent / "store.jsonl"
    return report, {run.task: run.score for run in TrajectoryStore(store)} if store.exists() else {}


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"resolved_ids": [TASK], "unresolved_ids": []}, {"resolved": True}),
        ({"resolved_ids": [], "unresolved_ids": [TASK], "completed_ids": [TASK]}, {"resolved": False}),
        ({"resolved_ids": [], "empty_patch_ids": [TASK]}, {"resolved": False}),
        ({"resolved_ids": [], "completed_ids": [TASK], "submitted_ids": [TASK]}, {"resolved": False}),
        ({"resolved_ids": [], "error_ids": [TASK], "submitted_ids": [TASK]}, {"not_evaluated": "error_ids"}),
        ({"resolved_ids": [], "infra_failure_ids": [TASK]}, {"not_evaluated": "infra_failure_ids"}),
        ({"resolved_ids": ["other"], "unresolved_ids": []}, {}),
        ({"resolved": [TASK], "no_logs": []}, {"resolved": True}),
        ({"resolved": [], "no_generation": [TASK]}, {"resolved": False}),
        ({"resolved": ["other"], "no_generation": [], "no_logs": []}, {"resolved": False}),
        ({"resolved": [], "no_generation": [], "no_logs": [TASK]}, {"not_evaluated": "no_logs"}),
        ({TASK: {"resolved": True, "patch_exists": True}}, {"resolved": True}),
        ({"resolved": 1, "unresolved": 0, "ids_resolved": [TASK], "ids_unresolved": []}, {"resolved": True}),
        ({"resolved": 0, "unresolved": 1, "ids_resolved": [], "ids_unresolved": [TASK]}, {"resolved": False}),
        ({"resolved": True, "patch_exists": True}, {}),
        ({"other": {"resolved": True}}, {}),
        ({"resolved": [TASK]}, {}),
        ({"resolved": "all of them"}, {}),
        ([TASK, "resolved"], {}),
    ],
)
def test_every_form_of_report(tmp_path: Path, report: Any, said: dict[str, Any]) -> None:
    place(tmp_path / "weak.run1.json", report)
    found = verdict(tmp_path / f"{TASK}.traj", TASK)
    assert found == ({"report": "weak.run1.json", **said} if "not_evaluated" in said else said)


@pytest.mark.parametrize(
    ("run", "report"),
    [
        ("{task}.traj", "report.json"),
        ("{task}.traj", "results/results.json"),
        ("{task}/{task}.traj", "weak.run1.json"),
        ("trajs/{task}.traj", "results/results.json"),
        ("{task}.traj", "logs/{task}/report.json"),
        ("{task}.traj", "{task}/report.json"),
        ("{task}/{task}.traj", "{task}/report.json"),
        ("trajectories/{task}/{task}.traj", "run_evaluation/report.json"),
        ("trajectories/{task}/{task}.traj", "logs/run_evaluation/{task}/report.json"),
    ],
)
def test_where_reports_lie(tmp_path: Path, run: str, report: str) -> None:
    runs = tmp_path / "runs"
    place(runs / run.format(task=TASK), RUN)
    place(runs / report.format(task=TASK), {"resolved_ids": [TASK]})
    assert imported(runs)[1] == {TASK: 1.0}


def test_a_report_that_names_no_task_is_about_that_of_its_folder(tmp_path: Path) -> None:
    place(tmp_path / "runs" / "trajectories" / TASK / f"{TASK}.traj", RUN)
    place(tmp_path / "runs" / "run_evaluation" / TASK / "report.json", {"resolved": True, "patch_exists": True})
    place(tmp_path / "runs" / "run_evaluation" / "other" / "report.json", {"resolved": False, "patch_exists": True})
    assert imported(tmp_path / "runs")[1] == {TASK: 1.0}


def test_a_folder_of_many_tasks(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for number in range(4):
        place(runs / f"a__b-{number}" / f"a__b-{number}.traj", RUN)
    place(runs / "preds.json", {"a__b-0": {"model_patch": "diff", "instance_id": "a__b-0"}})
    lists = {"resolved_ids": ["a__b-0"], "unresolved_ids": ["a__b-1"], "error_ids": ["a__b-2"]}
    place(runs / "weak.run1.json", lists)
    report, scores = imported(runs)
    assert scores == {"a__b-0": 1.0, "a__b-1": 0.0}
    reasons = {left.file.name: left.reason for left in report.left_out}
    assert set(reasons) == {"preds.json", "a__b-2.traj", "a__b-3.traj"}
    assert reasons["a__b-2.traj"].startswith("weak.run1.json: lists the task under error_ids: its result was not eval")
    assert reasons["a__b-3.traj"].startswith("no score: the log has none, and no report beside the run names its task")
    assert reasons["a__b-3.traj"].endswith("; the fields are trajectory, history, info.exit_status")
    assert "the predictions of a benchmark" in reasons["preds.json"]
    assert report.others == {"reports of benchmarks": 1}


def test_reports_that_contradict_each_other(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    place(runs / f"{TASK}.traj", RUN)
    place(runs / "a.json", {"resolved_ids": [TASK]})
    place(runs / "b.json", {"resolved_ids": [], "unresolved_ids": [TASK]})
    report, scores = imported(runs)
    reasons = [left.reason for left in report.left_out if left.file.suffix == ".traj"]
    assert (scores, reasons) == (
        {},
        [f"{runs}: a.json and b.json contradict each other about {TASK}; keep one of them"],
    )
    place(runs / "b.json", {"resolved_ids": [TASK]})
    assert imported(runs)[1] == {TASK: 1.0}


def test_another_report_that_says_the_same_changes_no_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    place(runs / f"{TASK}.traj", RUN)
    place(runs / "weak.json", {"resolved_ids": [TASK]})
    assert imported(runs)[0].added == 1
    place(runs / "again.json", {"resolved_ids": [TASK]})
    assert (imported(runs)[0].added, imported(runs)[0].skipped) == (0, 1)
    for name in ("weak.json", "again.json"):
        place(runs / name, {"resolved_ids": [], "unresolved_ids": [TASK]})
    with pytest.raises(DataError, match="is not the one that was imported"):
        imported(runs)


def test_the_nearest_report_counts(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    place(runs / TASK / f"{TASK}.traj", RUN)
    place(runs / "all.json", {"resolved_ids": [TASK]})
    place(runs / TASK / "report.json", {TASK: {"resolved": False}})
    assert imported(runs)[1] == {TASK: 0.0}


def test_reports_further_away_are_those_of_other_runs(tmp_path: Path) -> None:
    place(tmp_path / "all.json", {"resolved_ids": [TASK]})
    assert verdict(tmp_path / "runs" / f"{TASK}.traj", TASK) == {}
    assert verdict(tmp_path / "trajs" / f"{TASK}.traj", TASK)["resolved"] is True


def test_a_report_is_read_again_when_it_was_changed(tmp_path: Path) -> None:
    run = tmp_path / f"{TASK}.traj"
    assert verdict(run, TASK) == {}
    place(tmp_path / "report.json", {"resolved_ids": []})
    assert verdict(run, TASK) == {}
    place(tmp_path / "report.json", {"resolved_ids": [TASK]})
    assert verdict(run, TASK) == {"resolved": True}


def test_a_score_in_the_log_replaces_what_was_not_evaluated(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    place(runs / f"{TASK}.traj", {**RUN, "score": 0.5})
    place(runs / "report.json", {"resolved_ids": [], "error_ids": [TASK]})
    assert imported(runs)[1] == {TASK: 0.5}


def test_so_does_a_file_of_scores(tmp_path: Path) -> None:
    for number in range(2):
        place(tmp_path / "runs" / f"a__b-{number}.traj", RUN)
    place(tmp_path / "runs" / "report.json", {"resolved_ids": [], "error_ids": ["a__b-0", "a__b-1"]})
    sheet = place(tmp_path / "scores.json", [{"run": "a__b-0", "score": 0.25}, {"file": "a__b-1.traj", "score": 0.5}])
    import_files(tmp_path / "runs", tmp_path / "store.jsonl", scores=sheet)
    assert {found.task: found.score for found in TrajectoryStore(tmp_path / "store.jsonl")} == {
        "a__b-0": 0.25,
        "a__b-1": 0.5,
    }


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (f"{TASK}.traj", TASK),
        (f"{TASK}.traj.json", TASK),
        (f"{TASK}.json", TASK),
        ("a__b-1.json.traj", "a__b-1.json"),
        ("pandas-dev__pandas.95280573.pr_53652.traj", "pandas-dev__pandas.95280573.pr_53652"),
        ("mailbox/mailbox.traj", "mailbox"),
        ("first try.traj", None),
        ("runs/second.traj", None),
    ],
)
def test_a_file_is_named_after_its_task_where_that_is_evident(tmp_path: Path, name: str, task: str | None) -> None:
    """Files may have any name; then runs with one prompt share a task."""
    run = {**RUN, "score": 1}
    import_files(place(tmp_path / name, run), tmp_path / "store.jsonl")
    (found,) = TrajectoryStore(tmp_path / "store.jsonl")
    assert found.task == task if task else found.task.startswith("go-")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            {"input": "system\nS\nuser\nGo\n", "output": "north", "gts": "n", "score": 1.0, "step": 3},
            "a rollout dump of",
        ),
        ({TASK: {"model_patch": "diff", "model_name_or_path": "m"}}, "the predictions of a benchmark"),
        ({"instance_id": TASK, "model_patch": "diff"}, "the predictions of a benchmark"),
    ],
)
def test_what_is_no_run_is_told_why(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match=f"log.jsonl, line 1: {reason}"):
        import_files(file, tmp_path / "store.jsonl")
