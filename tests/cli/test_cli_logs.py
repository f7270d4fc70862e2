"""Importing by command: what is added, what is left out, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import done, shop_run

from trajtree.cli.main import main


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command that fails prints."""
    monkeypatch.setattr(sys, "argv", ["trajtree", *map(str, arguments)])
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().out


def test_the_same_import_again_adds_nothing(tmp_path: Path, files: list[str]) -> None:
    store = tmp_path / "runs.jsonl"
    done("import", *files, "--out", store)
    before = store.read_bytes()
    assert "0 runs added" in done("import", *files, "--out", store)
    assert store.read_bytes() == before


def test_a_file_that_was_changed_is_refused(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, shop = tmp_path / "runs.jsonl", Path(files[0])
    done("import", shop, "--out", store)
    before = store.read_bytes()
    shop.write_text(shop.read_text().replace("0.5", "0.75"))
    monkeypatch.setattr(sys, "argv", ["trajtree", "import", str(shop), "--out", str(store)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert f"trajtree: {shop}, line " in (told := capsys.readouterr().err)
    assert "row 3 is not the one that was imported" in told
    assert store.read_bytes() == before


def test_rows_left_out_are_named(tmp_path: Path, files: list[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        json.dumps(shop_run(["x"], "y", 0.5)) + "\n" + json.dumps(shop_run(["x"], "z", 7.0)) + "\nnonsense\n"
    )
    output = done("import", bad, "--out", tmp_path / "runs.jsonl")
    assert "1 run added" in output
    assert "bad.jsonl, line 2: " in output
    assert "bad.jsonl, line 3: " in output
    assert "--score-range" in output


def test_rows_left_out_for_one_reason_are_told_together(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([shop_run(["x"], "y", 0.5), *[shop_run(["x"], "y", 7.0)] * 12]))
    output = done("import", bad, "--out", tmp_path / "runs.jsonl")
    (told,) = [line for line in output.splitlines() if line.startswith("left out")]
    assert "bad.json, line 1 (row 2), line 1 (row 3)" in told
    assert "and 2 more: " in told


def rows_of(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(*texts: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"messages": messages, "score": 1, "task": "t", **fields}


def test_an_import_ends_with_a_summary(tmp_path: Path) -> None:
    rows = [chat("q", "a", score=0.2, reward=1), chat("q", "b", score=9), chat("q", "c", score=8), {"chosen": 1}]
    output = done("import", rows_of(tmp_path / "r.jsonl", *rows), "--out", tmp_path / "s.jsonl")
    for said in (
        "format: messages (1)",
        "score: from score (1); reward is there too, in 1 run, and differs in 1",
        "outcome: completed (1)",
        "tasks: 1 in the store; runs per task: 1 to 1, median 1",
        "left out, 2 rows: score: N is outside [N, N]",
        "1 run added to",
    ):
        assert said in output


def test_what_may_be_wrong_is_told_with_the_way_out(tmp_path: Path) -> None:
    calls = rows_of(tmp_path / "r.jsonl", chat("q", "a", sample=1), chat("q", "a", "b", "c", sample=1))
    assert "the beginning of another run: 1; if" in done("import", calls, "--out", tmp_path / "s.jsonl")
    output = done("import", calls, "--out", tmp_path / "one.jsonl", "--run", "sample")
    assert "rows contained in a longer row of the same run: 1" in output
    assert "1 run added" in output
    shared = [chat("hi", "look", "ok", "look", f"find {task}", "go", task=task) for task in "ab"]
    examples = rows_of(tmp_path / "e.jsonl", *shared)
    output = done("import", examples, "--out", tmp_path / "e-store.jsonl")
    assert "all runs are the same up to reply 2" in output
    assert "--context-turns 2" in output
    output = done("import", examples, "--out", tmp_path / "e2.jsonl", "--context-turns", "2")
    assert "check: all runs" not in output


def test_runs_that_were_scored_in_another_range_are_pointed_out(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "r.jsonl", *(chat("q", "abcd"[n], score=n - 1) for n in range(3)))
    out = tmp_path / "s.jsonl"
    assert "keep the scores" not in done("import", rows, "--out", out)
    said = done("import", rows, "--out", out, "--score-range", "-1", "1")
    assert "check: runs that the store had already keep the scores that they were imported with: 2; if" in said
    assert "keep the scores" not in done("import", rows, "--out", tmp_path / "new.jsonl", "--score-range", "-1", "1")


def test_rows_with_an_error_are_counted(tmp_path: Path) -> None:
    told = [{"error": "RateLimitError: 429"}, {"error": None}, {"metadata": {"exception": {"type": "Timeout"}}}, {}]
    rows = rows_of(tmp_path / "r.jsonl", *(chat("q", "abcd"[n], score=0, **more) for n, more in enumerate(told)))
    said = done("import", rows, "--out", tmp_path / "s.jsonl")
    assert "check: runs whose rows have an error: error (1), metadata.exception (1); they count with" in said


def test_two_agents_of_one_task_are_pointed_out(tmp_path: Path) -> None:
    def run(n: int, system: str, model: str) -> dict[str, Any]:
        return chat("q", "ab"[n % 2], score=n % 2, system=system, model=model)

    rows = rows_of(tmp_path / "r.jsonl", *(run(n, ("Be brief.", "Be kind.")[n // 2], "xy"[n // 2]) for n in range(4)))
    done("import", rows, "--out", tmp_path / "s.jsonl")
    said = done("build", tmp_path / "s.jsonl", "--out", tmp_path / "t.jsonl")
    assert "instructions, tools or examples: 1 of 1 (by x, y); such runs share no decision" in said
    assert "pairs to expect: 2" in said


def test_a_misspelt_field_is_answered_with_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(tmp_path / "r.jsonl", chat("q", "a", info={"reward": 1}))
    asked = ["--out", str(tmp_path / "s.jsonl"), "--score", "info.rewrd"]
    monkeypatch.setattr(sys, "argv", ["trajtree", "import", str(rows), *asked])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr()
    assert "did you mean 'info.reward'?; the fields are messages, score, task, info.reward" in told.out
    assert "no runs could be imported" in told.err


def test_nothing_of_the_data_commands_the_terminal(tmp_path: Path) -> None:
    """Names of files and fields, values, scores: wherever a control character may stand."""
    escape = "\x1b[31m"
    rows = [
        chat("q", "a", **{f"x{escape}": 1}, score=f"high{escape}"),
        chat("q", "a", role=escape),
        {"messages": [{"role": f"robot{escape}", "content": "x"}], "score": 1},
        {f"strange{escape}": 1},
    ]
    file = rows_of(tmp_path / f"r{escape}.jsonl", *rows)
    output = done("import", file, "--out", tmp_path / f"s{escape}.jsonl")
    assert "\x1b" not in output
    assert "<U+001B>[31m" in output


def test_scores_of_their_own_and_runs_without(tmp_path: Path) -> None:
    runs = rows_of(tmp_path / "r.jsonl", *(chat("q", text, id=text, score=None) for text in "abc"))
    (tmp_path / "scores.csv").write_text("run,score\na,1\nb,0\nz,1\n")
    command = ("import", runs, "--out", tmp_path / "s.jsonl", "--scores", tmp_path / "scores.csv", "--unscored", "keep")
    output = done(*command)
    for said in (
        "score: from scores.csv (2), nowhere, kept unscored (1)",
        "scores: 0 to 1, mean 0.5; they differ in 1 of 1 task with several runs",
        "steps: 3, of which 0 repeat the beginning of another run",
        "scores.csv: 2 rows of 3 used",
        "check: scores.csv, rows that match no run: 1: line 4 (run 'z')",
        f"check: scores.csv, runs that it does not name: 1: {runs}, row 3",
        "3 runs added",
    ):
        assert said in output
    output = done("build", tmp_path / "s.jsonl", "--out", tmp_path / "t.jsonl")
    assert "left out: 1 run without a score" in output
    assert "1 tree of 2 runs" in output


def test_private_texts_and_other_files_are_told(tmp_path: Path) -> None:
    key = "sk-" + "a1B2c3D4e5" * 4
    (tmp_path / "in").mkdir()
    rows_of(tmp_path / "in" / "r.jsonl", chat("q", f"echo {key}"))
    (tmp_path / "in" / "notes.txt").touch()
    output = done("import", tmp_path / "in", "--out", tmp_path / "s.jsonl")
    assert "check: runs that hold what looks like a key or a token: 1; import into a new store with --redact" in output
    assert "skipped, not logs: .txt (1)" in output
    output = done("import", tmp_path / "in", "--out", tmp_path / "r.jsonl", "--redact")
    assert "redacted: key (1)" in output
    assert key not in (tmp_path / "r.jsonl").read_text()


def test_a_reason_in_many_files_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    rows_of(tmp_path / "in" / "good.jsonl", chat("q", "a"))
    for number in range(9):
        (tmp_path / "in" / f"{number}.json").write_text('{"model": 1}')
    output = done("import", tmp_path / "in", "--out", tmp_path / "s.jsonl")
    told = [line for line in output.splitlines() if line.startswith("left out")]
    assert len(told) == 1
    assert told[0].startswith(f"left out, in 9 files ({tmp_path / 'in' / '0.json'}, ")
    assert told[0].endswith(" and 6 more): line 1: in no known format (its fields: model)")
    assert "9 files in no known format; --from in trajtree import --help lists those known" in output
    (tmp_path / "in" / "good.jsonl").unlink()
    output = refused(monkeypatch, capsys, "import", tmp_path / "in", "--out", tmp_path / "none.jsonl")
    assert output.count("known formats: atif") == 1
    assert "9 files in no known format; known formats: atif (schema_version, steps), " in output


def test_reports_that_lie_elsewhere_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are about these runs or others, which the user knows; the nearest come first."""
    run = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "info": {}}
    run["info"] = {"exit_status": "Submitted", "submission": ""}
    task = "owner__code-1"
    (tmp_path / "in" / task).mkdir(parents=True)
    (tmp_path / "in" / task / f"{task}.traj.json").write_text(json.dumps(run))
    first, second = tmp_path / "in" / "checked" / "m", tmp_path / "far"
    for folder, tasks in ((first, [task]), (second, [task, "owner__code-2"])):
        for name in tasks:
            (folder / name).mkdir(parents=True)
            report = json.dumps({name: {"resolved": True, "patch_exists": True}})
            (folder / name / "report.json").write_text(report)
    output = refused(monkeypatch, capsys, "import", second, tmp_path / "in", "--out", tmp_path / "s.jsonl")
    told = f"check: reports of benchmarks lie in {first} (1), {second} (2); give the folder that is about these runs"
    assert f"{told} with --scores" in output
    output = done("import", tmp_path / "in", "--out", tmp_path / "s.jsonl", "--scores", first)
    assert "1 run added" in output
    assert "check: reports" not in output
