"""The report of an import says how the runs were understood, and what may have been understood wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.formats.conversations import lines_of

from trajtree.formats import import_tally, importing
from trajtree.formats.import_report import OtherScore, OtherTask, Spread
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read import records
from trajtree.formats.read.detect import FORMATS, Format
from trajtree.formats.read.to_trajectory import Imported
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message


def row(task: str, *replies: str, **fields: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": f"do {task}"}]
    for reply in replies or ("look",):
        said += [{"role": "assistant", "content": reply}, {"role": "user", "content": "ok"}]
    return {"messages": said, "task": task, **({"score": 1} | fields)}


def imported(folder: Path, *rows: Any, **options: Any) -> ImportReport:
    file = folder / "rows.jsonl"
    file.write_text(lines_of(rows))
    return import_files(file, folder / "store.jsonl", **options)


def test_a_report_says_how_the_runs_were_understood(tmp_path: Path) -> None:
    report = imported(
        tmp_path, row("a"), row("b"), row("a", truncated=True), row("a", score=None, reward=0), row("c", score=7), "bad"
    )
    assert (report.added, report.formats) == (4, {"messages": 4})
    assert report.scores == {"score": 3, "reward": 1}
    assert report.outcomes == {"completed": 3, "truncated": 1}
    assert (report.tasks, report.runs_per_task) == (2, (1, 2, 3))
    assert report.kinds == {"score: N is outside [N, N]": 1, "a run is a JSON object, got str": 1}
    (tmp_path / "later.jsonl").write_text(lines_of([row("c")]))
    report = import_files(tmp_path / "later.jsonl", tmp_path / "store.jsonl")
    assert (report.added, report.tasks, report.runs_per_task) == (1, 3, (1, 1, 3))


def test_score_fields_that_were_not_taken_are_counted(tmp_path: Path) -> None:
    report = imported(
        tmp_path,
        row("a", score=0.2, reward=1.0, success=True),
        row("a", score=0.9, reward=0.9, success=False),
        row("a", score=1, success=True, final_reward=[1]),
        row("a", score=1, reward=7),
    )
    assert report.scores == {"score": 4}
    assert report.other_scores == {
        "reward": OtherScore(3, 2),
        "success": OtherScore(3, 2),
        "final_reward": OtherScore(1, 1),
    }
    other = tmp_path / "other"
    other.mkdir()
    report = imported(other, row("a", score=0.2, reward=1.0), score="reward")
    assert (report.scores, report.other_scores) == ({"reward": 1}, {"score": OtherScore(1, 1)})


@pytest.mark.parametrize("name", ["atif", "verifiers"])
def test_every_format_tells_of_its_other_scores(tmp_path: Path, name: str) -> None:
    steps = [{"source": "user", "message": "Q"}, {"source": "agent", "message": "look"}]
    nodes = [{"message": {"role": role, "content": "x"}} for role in ("user", "assistant")]
    record, taken, other = {
        "atif": (
            {"schema_version": "ATIF-v1.7", "steps": steps, "extra": {"score": 1, "reward": 0}},
            "extra.score",
            "extra.reward",
        ),
        "verifiers": ({"nodes": nodes, "rewards": {"r": 1}, "reward": 0}, "rewards", "reward"),
    }[name]
    report = imported(tmp_path, record)
    assert (report.scores, report.other_scores) == ({taken: 1}, {other: OtherScore(1, 1)})


def test_kinds_of_reasons_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_tally, "_KINDS", 2)
    rows = [row("a", score=None, **{chr(97 + i) * 3: i}) for i in range(5)]
    scores = [row("a", score=s) for s in (3, 77.5, "high", "low", [1], {})]
    report = imported(tmp_path, *rows, *scores)
    assert sum(report.kinds.values()) == report.left_out_count == 11
    assert len(report.kinds) == 3
    assert report.kinds["score: N is outside [N, N]"] == 2
    assert report.kinds["other reasons"] == 4


def test_runs_that_are_beginnings_of_others_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("a", "1", "2", "3"), row("a", "1"), row("a", "2"), row("a", "2", "1"), row("b", "1"), row("a", "2")]
    report = imported(tmp_path, *rows)
    assert (report.added, report.beginnings) == (6, 3)
    monkeypatch.setattr(import_tally._Beginnings, "_MOST", 0)
    other = tmp_path / "other"
    other.mkdir()
    assert imported(other, *rows).beginnings == 0


EXAMPLE = ["OK", "Action: go to desk 1", "Action: take pen"]


def eto(task: str, action: str, reward: float) -> dict[str, Any]:
    turns: list[dict[str, str]] = [{"from": "human", "value": "Interact with a household."}]
    for said in EXAMPLE:
        turns += [{"from": "gpt", "value": said}, {"from": "human", "value": "a pen"}]
    turns[-1]["value"] = f"Task: find a {task}"
    turns.append({"from": "gpt", "value": f"Action: {action}"})
    return {"meta": {"reward": reward, "terminate_reason": "success"}, "conversations": turns}


def test_an_example_in_the_conversation_can_be_named_and_is_guessed(tmp_path: Path) -> None:
    for run, reward in (("run1", 1.0), ("run2", 0.0)):
        (tmp_path / "logs" / run).mkdir(parents=True)
        for number, task in enumerate(("mug", "book")):
            file = tmp_path / "logs" / run / f"{number}.json"
            file.write_text(json.dumps(eto(task, f"look {reward}", reward), indent=1))
    report = import_files(tmp_path / "logs", tmp_path / "guess.jsonl")
    assert (report.tasks, report.scores, report.example_turns) == (2, {"meta.reward": 4}, 3)
    report = import_files(tmp_path / "logs", tmp_path / "store.jsonl", context_turns=3)
    assert (report.added, report.tasks, report.example_turns) == (4, 2, 0)
    runs = list(TrajectoryStore(tmp_path / "store.jsonl"))
    assert [(t.task, t.sample, t.context_turns, [s.action for s in t.steps]) for t in runs] == [
        ("0", 0, 3, ["look 1.0"]),
        ("1", 0, 3, ["look 1.0"]),
        ("0", 1, 3, ["look 0.0"]),
        ("1", 1, 3, ["look 0.0"]),
    ]
    report = import_files(tmp_path / "logs", tmp_path / "none.jsonl", context_turns=4)
    assert set(report.kinds) == {"messages: the agent never replies"}


def test_files_of_several_runs_are_not_named_for_a_task(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps([eto("mug", "look", 1), eto("book", "look", 0)]))
    import_files(tmp_path / "all.json", tmp_path / "s.jsonl", context_turns=3)
    tasks = [t.task for t in TrajectoryStore(tmp_path / "s.jsonl")]
    assert [task.rpartition("-")[0] for task in tasks] == ["task-find-a-mug", "task-find-a-book"]


def test_what_runs_of_one_task_or_of_several_prompts_share_is_no_example(tmp_path: Path) -> None:
    assert imported(tmp_path, row("a", "look", "go"), row("a", "look", "stay")).example_turns == 0
    other = tmp_path / "other"
    other.mkdir()
    assert imported(other, row("a", "look", "go"), row("b", "look", "go")).example_turns == 0


@pytest.mark.parametrize("place", ["content", "task", "policy", "metadata"])
def test_what_the_store_cannot_hold_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of formats that come later may make anything of a record."""

    def read(record: Any, *, score: str | None, task: str | None) -> Imported:
        half = "\ud800" if record["bad"] else ""
        said = {name: f"x{half if name == place else ''}" for name in ("content", "task", "policy", "metadata")}
        messages = Message("user", said["content"]), Message("assistant", "A")
        own = None if place == "content" else said["task"]
        return Imported(messages, 0, ("s", 1), own, said["policy"], metadata={"note": said["metadata"]})

    monkeypatch.setitem(FORMATS, "odd", Format(read, lambda record: "bad" in record, "bad"))
    monkeypatch.setattr(importing, "_BATCH_ROWS", 2)
    report = imported(tmp_path, {"bad": 0, "n": 1}, {"bad": 1}, {"bad": 0, "n": 2})
    assert (report.added, report.left_out_count) == (2, 1)
    assert "half a character (a lone surrogate)" in report.left_out[0].reason
    assert [t.sample for t in TrajectoryStore(tmp_path / "store.jsonl")] == [0, 1]


def test_a_row_that_is_too_long_is_left_out_with_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST", 2000)
    report = imported(tmp_path, row("a"), row("b", "x" * 3000), row("c"))
    assert (report.added, report.left_out[0].line) == (2, 2)
    assert report.left_out[0].reason == "the row is longer than 256 MiB, the limit for one run"


def test_the_fields_of_tasks_are_told(tmp_path: Path) -> None:
    rows = [row("shop", task_id=1), row("shop", "buy", task_id=2), row("x") | {"task": None, "instance_id": "a"}]
    rows.append({k: v for k, v in row("y").items() if k != "task"})
    report = imported(tmp_path, *rows)
    assert report.task_fields == {"task": 2, "instance_id": 1, "the prompt": 1}
    assert report.other_tasks == {"task_id": OtherTask(2, 2)}
    other = tmp_path / "other"
    other.mkdir()
    report = imported(other, *rows[:2], task="task_id")
    assert (report.task_fields, report.other_tasks, report.tasks) == ({"task_id": 2}, {}, 2)


@pytest.mark.parametrize("name", ["atif", "verifiers"])
def test_every_format_tells_where_its_tasks_are(tmp_path: Path, name: str) -> None:
    steps = [{"source": "user", "message": "Q"}, {"source": "agent", "message": "look"}]
    nodes = [{"message": {"role": role, "content": "x"}} for role in ("user", "assistant")]
    record, taken, other = {
        "atif": (
            {"schema_version": "ATIF-v1.7", "steps": steps, "extra": {"score": 1, "task": "a", "task_id": "b"}},
            "extra.task",
            "extra.task_id",
        ),
        "verifiers": (
            {"nodes": nodes, "reward": 0, "task": {"key": "a", "hash": "b"}},
            "task.key",
            "task.hash",
        ),
    }[name]
    report = imported(tmp_path, record)
    assert (report.task_fields, report.other_tasks) == ({taken: 1}, {other: OtherTask(1, 1)})


def test_tasks_whose_runs_begin_differently_are_told(tmp_path: Path) -> None:
    def prompted(task: str, prompt: str) -> dict[str, Any]:
        return {**row(task), "messages": [{"role": "user", "content": prompt}, *row(task)["messages"][1:]]}

    rows = [prompted("a", "1"), prompted("a", "2"), prompted("b", "1"), prompted("b", "1"), prompted("c", "3")]
    assert imported(tmp_path, *rows).prompts_differ == {"task": 1}


def test_a_task_that_the_reader_names_is_reported_with_its_source(tmp_path: Path) -> None:
    runs = [
        {"task_id": 7, "reward": 1.0, "info": {"task": {"user_id": "mia"}}, "traj": [*said, *row("a")["messages"][1:]]}
        for said in ([{"role": "user", "content": words}] for words in ("Hello", "Hi there"))
    ]
    report = imported(tmp_path, *runs)
    assert report.task_fields == {"tau-bench's task_id and user_id": 2}
    assert report.prompts_differ == {"tau-bench's task_id and user_id": 1}


def test_the_spread_of_scores_and_what_runs_share_are_told(tmp_path: Path) -> None:
    rows = [row("a", "look", "go", score=0), row("a", "look", "stay"), *[row("b", "x", score=0.5)] * 2]
    report = imported(tmp_path, *rows, row("c"))
    assert report.spread == Spread(low=0.0, mean=0.6, high=1.0, several=2, differing=1)
    assert (report.steps, report.shared_steps) == (7, 2)
    other = tmp_path / "other"
    other.mkdir()
    assert imported(other, row("a", score=None), keep_unscored=True).spread is None
