"""Scores in every form, and scores from a file of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.conversations import lines_of

from trajtree.errors import DataError
from trajtree.formats.converting import row_of
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read.fields import score_at
from trajtree.formats.read.scores import scaled
from trajtree.formats.write.card import Provenance
from trajtree.statistics.summary import _played
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trees.merge import build, build_tree

USUAL = ("score", "reward", "verifier.rewards")


def worth(record: dict[str, Any], field: str | None = None) -> tuple[str, float]:
    name, value = score_at(record, field, USUAL)
    return name, scaled(name, value, 0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "score"),
    [
        *((text, float(text)) for text in ("1.0", "0.0", " 0.5 ", "1", ".25", "1e-1", "+1")),
        *(("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0)),
        *(("true", 1.0), ("False", 0.0), ("yes", 1.0), ("no", 0.0), ("correct", 1.0), ("Incorrect", 0.0)),
        *((True, 1.0), (False, 0.0), (1.0000000000000002, 1.0), (-1e-17, 0.0)),
    ],
)
def test_text_that_is_a_score_is_one(value: Any, score: float) -> None:
    assert worth({"score": value}) == ("score", score)


@pytest.mark.parametrize("value", ["AgentTimeoutError", "", "nan", "inf", "0x1", "1_000", "١", "--1", "1,0", [1], {}])
def test_other_values_are_none(value: Any) -> None:
    with pytest.raises(DataError, match=r"is not a score|is outside|has several"):
        worth({"score": value})


def test_words_are_scores_in_any_range_and_numbers_are_mapped() -> None:
    for value, share in (("C", 1.0), (True, 1.0), ("50", 0.5), (50, 0.5), ("P", 0.5)):
        assert scaled("score", value, 0.0, 100.0) == share


def test_of_several_rewards_the_only_one_or_the_one_named_so_counts() -> None:
    assert worth({"verifier": {"rewards": {"tests": 0.5}}}) == ("verifier.rewards.tests", 0.5)
    assert worth({"verifier": {"rewards": {"tests": 0.5, "style": None}}}) == ("verifier.rewards.tests", 0.5)
    assert worth({"verifier": {"rewards": {"tests": 0.5, "reward": 1}}}) == ("verifier.rewards.reward", 1.0)
    rewards = {"verifier": {"rewards": {"tests": 1, "style": 0.5}}}
    with pytest.raises(DataError) as refused:
        worth(rewards)
    assert str(refused.value) == (
        "verifier.rewards: has several scores (tests, style); name one with --score verifier.rewards.tests, or weigh "
        "them, for example --score verifier.rewards.tests=0.7,verifier.rewards.style=0.3"
    )
    assert worth(rewards, "verifier.rewards.tests=0.7,verifier.rewards.style=0.3")[1] == pytest.approx(0.85)
    assert worth(rewards, "tests=0.7, style=0.3")[1] == pytest.approx(0.85)
    assert worth(rewards, "style") == ("style", 0.5)


def test_weights_must_add_up_and_all_parts_must_be_there() -> None:
    record = {"a": "C", "b": 0.5, "c": 3}
    for weights in ("a=0.7,b=0.4", "a=1,b=0", "a=-1,b=2"):
        with pytest.raises(DataError, match=r"weights must be greater than 0 and add up to 1"):
            worth(record, weights)
    with pytest.raises(DataError, match=r"^d: no such field; --score must name"):
        worth(record, "a=0.5,d=0.5")
    with pytest.raises(DataError, match=r"^c: 3 is outside"):
        worth(record, "a=0.5,c=0.5")
    assert worth({"a=1,b": 1, "x": {"y=1": 0.5}}, "x.y=1") == ("x.y=1", 0.5)


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_equal_scores_weigh_to_themselves_and_the_sum_stays_in_the_range(scores: list[float]) -> None:
    names = [f"s{i}" for i in range(len(scores))]
    weights = [round(1 / len(scores), 3)] * (len(scores) - 1)
    weights.append(1 - sum(weights))
    field = ",".join(f"{name}={weight!r}" for name, weight in zip(names, weights, strict=True))
    expected = sum(w * s for w, s in zip(weights, scores, strict=True))
    assert worth(dict(zip(names, scores, strict=True)), field)[1] == pytest.approx(expected)


# A file of scores


def chat(action: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": action}], **fields}


def run_files(folder: Path, *names: str, **fields: Any) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(chat(f"act in {name}", **fields)))
    return folder


def imported(
    source: Path, sheet: str, name: str = "scores.csv", **options: Any
) -> tuple[dict[str, float], ImportReport]:
    scores, store = source.parent / name, source.parent / "store.jsonl"
    scores.write_text(sheet)
    report = import_files(source, store, scores=scores, **options)
    before = store.read_bytes() if store.exists() else b""
    again = import_files(source, store, scores=scores, **options)
    assert (again.added, again.skipped, again.sheet) == (0, report.added, report.sheet)
    assert (store.read_bytes() if store.exists() else b"") == before
    return {t.steps[0].action: t.score for t in TrajectoryStore(store, create=True)}, report


@pytest.mark.parametrize(
    ("name", "sheet"),
    [
        ("s.csv", "file,score\na.json,1\nb/c.json,0.5\n"),
        ("s.csv", '\ufeffFile,Score,comment\r\n"a",C,x\r\nin/b/c,"0.5",\r\n'),
        ("s.tsv", "run\tscore\na\t1\nc\t0.5\n"),
        ("s.json", '[{"run": "a", "score": 1}, {"file": "b/c.json", "score": 0.5}]'),
        ("s.jsonl", '{"run": "a", "score": true}\n{"run": "c", "score": "0.5"}\n'),
        ("s.json", '{"a": 1, "c": 0.5}'),
    ],
)
def test_runs_in_files_of_their_own_are_named_by_them(tmp_path: Path, name: str, sheet: str) -> None:
    source = run_files(tmp_path / "in", "a.json", "b/c.json")
    scores, report = imported(source, sheet, name)
    assert scores == {"act in a.json": 1.0, "act in b/c.json": 0.5}
    assert report.sheet is not None
    assert (report.sheet.unmatched_count, report.sheet.without_count, report.scores) == (0, 0, {name: 2})


def test_runs_in_one_file_are_named_by_their_ids(tmp_path: Path) -> None:
    rows = [chat("one", id="r1"), chat("two", session_id="r2"), chat("three", info={"name": "r3"})]
    (tmp_path / "runs.jsonl").write_text(lines_of(rows))
    scores, report = imported(tmp_path / "runs.jsonl", "run,score\nr1,1\nr2,0\nr3,0.5\nr4,1\n")
    assert (scores, report.added, report.left_out_count) == ({"one": 1.0, "two": 0.0}, 2, 1)
    assert report.sheet is not None
    assert report.sheet.unmatched == ("line 4 (run 'r3')", "line 5 (run 'r4')")
    assert report.sheet.without == (f"{tmp_path / 'runs.jsonl'}, row 3",)
    (tmp_path / "store.jsonl").unlink()
    scores, _ = imported(tmp_path / "runs.jsonl", "run,score\nr1,1\nr2,0\nr3,0.5\nr4,1\n", run="info.name")
    assert scores == {"three": 0.5}


def test_task_and_outcome_may_be_there_too(tmp_path: Path) -> None:
    source = run_files(tmp_path / "in", "a.json", "b.json", score=0.25, task="own")
    sheet = "file,score,task,outcome\na,1,other,truncated\nb,0.25,,\n"
    _, report = imported(source, sheet)
    runs = {t.steps[0].action: t for t in TrajectoryStore(tmp_path / "store.jsonl")}
    assert (runs["act in a.json"].task, runs["act in a.json"].outcome) == ("other", "truncated")
    assert (runs["act in b.json"].task, runs["act in b.json"].outcome) == ("own", "completed")
    assert report.task_fields == {"scores.csv": 1, "task": 1}
    assert (report.other_scores["score"].present, report.other_scores["score"].differs) == (2, 1)


def test_a_row_belongs_to_one_run(tmp_path: Path) -> None:
    """A benchmark's task is no run: its four attempts would all get the one score."""
    rows = [chat(str(i), instance_id="x") for i in range(4)]
    (tmp_path / "runs.jsonl").write_text(lines_of(rows))
    scores, report = imported(tmp_path / "runs.jsonl", "run,score\nx,1\n")
    assert (scores, report.left_out_count) == ({}, 4)
    assert report.left_out[0].reason.startswith("scores.csv, line 2 (run 'x') fits 4 runs; each needs a row of its own")
    scores, report = imported(tmp_path / "runs.jsonl", "file,score\nruns.jsonl,1\n")
    assert (scores, report.sheet.unmatched_count if report.sheet else 0) == ({}, 1)


def test_several_rows_for_one_run_are_a_mistake(tmp_path: Path) -> None:
    source = run_files(tmp_path / "in", "a.json", id="7")
    scores, report = imported(source, "run,score\n7,1\na,0\n")
    assert scores == {}
    assert report.left_out[0].reason == (
        "scores.csv: line 2 (run '7') and line 3 (run 'a') both name this run; leave one out"
    )


def test_both_columns_tell_runs_of_equal_names_apart(tmp_path: Path) -> None:
    source = run_files(tmp_path / "in", "s1/a.json", "s2/a.json", id="7")
    scores, report = imported(source, "run,file,score\n7,s1/a.json,1\n7,s2/a.json,0\n")
    assert (scores, report.left_out_count) == ({"act in s1/a.json": 1.0, "act in s2/a.json": 0.0}, 0)


def test_runs_that_the_file_does_not_name_keep_their_own_score(tmp_path: Path) -> None:
    source = run_files(tmp_path / "in", "a.json", "b.json", score=0.25)
    scores, report = imported(source, "file,score\na,1\n")
    assert scores == {"act in a.json": 1.0, "act in b.json": 0.25}
    assert report.sheet is not None
    assert report.sheet.without == (str(source / "b.json"),)


@pytest.mark.parametrize(
    ("name", "sheet", "said"),
    [
        ("s.csv", "file,result\na,1\n", "line 2, field score: is missing; rename .*; the columns are file, result"),
        ("s.csv", "name,score\na,1\n", "line 2: names no run; .* run or file; the columns are name, score"),
        ("s.csv", "file,score\na,1,2\n", "line 2: has more or fewer values than there are columns"),
        ("s.csv", "file,score\na\n", "line 2: has more or fewer values than there are columns"),
        ("s.csv", "file,score\na,\n", "line 2, field score: is missing"),
        ("s.csv", "file,score,outcome\na,1,complete\n", "line 2, field outcome: 'complete' is not one of completed"),
        ("s.csv", "", "holds no scores"),
        ("s.json", "{", "line 1: not JSON"),
        ("s.json", '[{"run": [1], "score": 1}]', "line 1, field run: must be text, got list"),
        ("s.csv", 'file,score\n"a,1\n', "not CSV in UTF-8"),
    ],
)
def test_a_file_of_scores_that_is_wrong_is_refused(tmp_path: Path, name: str, sheet: str, said: str) -> None:
    source = run_files(tmp_path / "in", "a.json")
    with pytest.raises(DataError, match=rf"{name}.*{said}"):
        imported(source, sheet, name)
    assert not (tmp_path / "store.jsonl").exists()


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("file,score", ("a/s1,1", "b/s1,0.5")),
        ("run_id,reward", ("a/s1,1", "b/s1,0.5")),
        ("run,score", ("in/a/s1/messages.json,1", "b/s1/messages,0.5")),
        ("file,success", ("a/s1,1", "b/s1,0.5")),
    ],
)
def test_a_run_may_be_named_by_its_folder(tmp_path: Path, head: str, rows: tuple[str, ...]) -> None:
    source = run_files(tmp_path / "in", "a/s1/messages.json", "b/s1/messages.json")
    scores, report = imported(source, "\n".join((head, *rows)) + "\n")
    assert scores == {"act in a/s1/messages.json": 1.0, "act in b/s1/messages.json": 0.5}
    assert report.sheet is not None
    assert (report.sheet.unmatched_count, report.sheet.without_count) == (0, 0)


def test_a_folder_with_several_runs_does_not_name_one(tmp_path: Path) -> None:
    source = run_files(tmp_path / "in", "a/1.json", "a/2.json")
    scores, report = imported(source, "file,score\na,1\n")
    assert scores == {}
    assert "scores.csv, line 2 (file 'a') fits 2 runs" in report.left_out[0].reason


def test_a_list_of_messages_is_not_said_to_have_fields_that_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "messages.json").write_text(json.dumps(chat("a")["messages"]))
    report = import_files(tmp_path / "messages.json", tmp_path / "store.jsonl")
    (left,) = report.left_out
    assert "no score" in left.reason and "the fields are messages" in left.reason
    assert not left.reason.endswith(", resolved")


def test_a_file_of_scores_among_the_logs_is_no_log(tmp_path: Path) -> None:
    run_files(tmp_path / "in", "a.json")
    sheet = tmp_path / "in" / "scores.jsonl"
    sheet.write_text('{"file": "a.json", "score": 1}\n')
    report = import_files(tmp_path / "in", tmp_path / "s.jsonl", scores=sheet)
    assert (report.added, report.left_out_count, report.others) == (1, 0, {})


# Runs without a score


def test_runs_without_a_score_can_be_kept_and_never_count(tmp_path: Path) -> None:
    rows = [
        chat("a", score=1, task="t"),
        chat("b", task="t"),
        chat("c", score=None, task="t"),
        chat("d", task="t", score=7),
    ]
    (tmp_path / "runs.jsonl").write_text(lines_of(rows))
    store = tmp_path / "s.jsonl"
    report = import_files(tmp_path / "runs.jsonl", store, keep_unscored=True)
    assert (report.added, report.left_out_count) == (3, 1)
    assert report.scores == {"score": 1, "nowhere, kept unscored": 2}
    runs = list(TrajectoryStore(store))
    assert [(t.steps[0].action, t.unscored, t.counts, t.score) for t in runs] == [
        ("a", False, True, 1.0),
        ("b", True, False, 0.0),
        ("c", True, False, 0.0),
    ]
    (tree,) = build(runs)
    assert [t.steps[0].action for t in tree.trajectories] == ["a"]
    with pytest.raises(DataError, match="task t, sample 1: has no score"):
        build_tree(runs)
    (measured,) = _played("row", runs).tasks
    assert (measured.score, measured.episodes) == (1.0, 1)
    again = import_files(tmp_path / "runs.jsonl", store, keep_unscored=True)
    assert (again.added, again.skipped) == (0, 3)


def test_a_run_without_a_score_is_written_without_one(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text(lines_of([chat("a", task="t")]))
    import_files(tmp_path / "runs.jsonl", tmp_path / "s.jsonl", keep_unscored=True)
    (kept,) = TrajectoryStore(tmp_path / "s.jsonl")
    assert "score" not in row_of(kept, "trl")
    assert "score" not in row_of(kept, "atif")["extra"]
    provenance = Provenance()
    provenance.add([kept])
    assert "mean score of the runs" not in provenance.lines()


def event(kind: str, text: str, number: int, **fields: Any) -> dict[str, Any]:
    message = {"role": kind, "content": [{"type": "text", "text": text}]}
    before = {"parentUuid": None if number < 2 else str(number - 1), "uuid": str(number), "sessionId": "S-1"}
    return {"type": kind, "message": message, "isSidechain": False, **before, **fields}


@pytest.mark.parametrize("sheet", ["file,score\nlog.jsonl,1\n", "run,score\nS-1,1\n", "run,score\nlog,1\n"])
def test_the_score_of_a_session_is_not_that_of_its_subagents(tmp_path: Path, sheet: str) -> None:
    side = {"isSidechain": True, "agentId": "helper"}
    events = [event("user", "Fix it", 1), event("assistant", "fixed", 2)]
    events += [event("user", "Look", 1, **side) | {"uuid": "8"}]
    events += [event("assistant", "seen", 2, **side) | {"uuid": "9", "parentUuid": "8"}]
    (tmp_path / "log.jsonl").write_text(lines_of(events))
    scores, report = imported(tmp_path / "log.jsonl", sheet)
    assert scores == {"fixed": 1.0}
    assert report.sheet is not None
    assert (report.sheet.unmatched_count, report.sheet.without_count, report.left_out_count) == (0, 1, 1)
    (tmp_path / "store.jsonl").unlink()
    scores, _ = imported(tmp_path / "log.jsonl", "run,score\nS-1,1\nS-1/helper,0.5\n")
    assert scores == {"fixed": 1.0, "seen": 0.5}


# A benchmark's report that lies elsewhere

SOLVED, FAILED, LOST = "owner__repo-1", "owner__repo-2", "owner__repo-3"
REPORTS = {
    "harness": {"resolved_ids": [SOLVED], "unresolved_ids": [FAILED], "error_ids": [LOST], "completed_ids": []},
    "submission": {"resolved": [SOLVED], "applied": [SOLVED, FAILED], "no_logs": [LOST]},
    "per task": {SOLVED: {"resolved": True}, FAILED: {"resolved": False}},
}


def reported(tmp_path: Path, report: object) -> tuple[Path, Path]:
    """Runs of three tasks, and a report in another folder."""
    source = run_files(tmp_path / "in", *(f"{task}.json" for task in (SOLVED, FAILED, LOST)))
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "model.run.json"
    file.write_text(json.dumps(report))
    return source, file


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("how", ["--scores", "named", "folder"])
def test_a_report_elsewhere_gives_scores(tmp_path: Path, name: str, how: str) -> None:
    source, file = reported(tmp_path, REPORTS[name])
    store = tmp_path / "s.jsonl"
    named = {"scores": file} if how == "--scores" else {"scores": file.parent} if how == "folder" else {}
    report = import_files([source, file] if how == "named" else source, store, **named)
    assert {t.steps[0].action: t.score for t in TrajectoryStore(store)} == {
        f"act in {SOLVED}.json": 1.0,
        f"act in {FAILED}.json": 0.0,
    }
    (left,) = report.left_out
    assert left.file.stem == LOST
    assert left.reason.startswith("no score" if name == "per task" else "model.run.json: lists the task under ")


def test_a_folder_of_reports_per_task_gives_scores(tmp_path: Path) -> None:
    source, _ = reported(tmp_path, {})
    logs = tmp_path / "logs" / "run_evaluation"
    for task, solved in ((SOLVED, True), (FAILED, False)):
        (logs / task).mkdir(parents=True)
        (logs / task / "report.json").write_text(json.dumps({task: {"resolved": solved, "patch_exists": True}}))
    assert import_files(source, tmp_path / "s.jsonl", scores=logs).added == 2


def test_rows_of_a_benchmark_name_the_instance(tmp_path: Path) -> None:
    source, _ = reported(tmp_path, {})
    rows = [{"instance_id": SOLVED, "resolved": True}, {"instance_id": FAILED, "resolved": False}]
    scores, _ = imported(source, lines_of(rows), "eval.jsonl")
    assert sorted(scores.values()) == [0.0, 1.0]


def test_what_a_report_cannot_say_is_said(tmp_path: Path) -> None:
    source, file = reported(tmp_path, REPORTS["harness"])
    run_files(tmp_path / "again", f"{SOLVED}.json")
    report = import_files([source, tmp_path / "again"], tmp_path / "s.jsonl", scores=file)
    assert report.left_out[0].reason == (
        f"model.run.json, line 1 (run {SOLVED!r}) fits 2 runs; a report has one result per task; put the report of "
        "each run beside it, or give a file of scores"
    )
    other = file.with_name("other.json")
    other.write_text(json.dumps({"resolved_ids": [], "unresolved_ids": [SOLVED]}))
    for files, scores, said in (
        ([file], None, "a benchmark's report, not a run; name the runs"),
        ([source, other], file, "and so does --scores; name only one"),
        ([source, file, other], None, "are both benchmarks' reports; name one"),
        ([source], file.parent, f"its reports contradict each other about {SOLVED}"),
        ([source], source, "holds no report of a benchmark"),
    ):
        with pytest.raises(DataError, match=re.escape(said)):
            import_files(files, tmp_path / "t.jsonl", scores=scores)


@pytest.mark.parametrize(
    ("field", "said"), [(None, "reward is null, success is null"), ("info.judge", "info.judge is null")]
)
def test_a_score_that_is_null_is_called_that(tmp_path: Path, field: str | None, said: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    row = {"messages": messages, "reward": None, "success": None, "info": {"judge": None}}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    report = import_files(tmp_path / "in.jsonl", tmp_path / "s.jsonl", score=field)
    (reason,) = (one.reason for one in report.left_out)
    assert reason.partition(";")[0] == f"no score: {said}"
    assert ("say where it is with --score FIELD" in reason) == (field is None)
