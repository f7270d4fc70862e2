"""An import goes on where it stopped, takes nothing twice, and loses nothing silently."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.builders import Told, trajectory
from tests.formats.conversations import lines_of

from trajtree.errors import DataError, RunError
from trajtree.formats import import_tally, importing
from trajtree.formats.importing import KEPT, import_files
from trajtree.store.lock import claimed
from trajtree.store.trajectory_store import TrajectoryStore


def run(task: str, action: str = "look", score: Any = 1) -> dict[str, Any]:
    said = [{"role": "user", "content": f"do {task}"}, {"role": "assistant", "content": action}]
    return {"messages": said, "score": score, "task": task}


def file_of(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines_of(records))
    return path


def told(store: Path) -> list[tuple[str, int, str]]:
    return [(t.task, t.sample, t.steps[-1].action) for t in TrajectoryStore(store, create=True)]


def test_rows_become_trajectories(tmp_path: Path) -> None:
    runs = file_of(tmp_path / "runs.jsonl", run("a", "1"), run("b", "2"), run("a", "3", 0.5))
    seen = Told()
    report = import_files([runs], tmp_path / "s.jsonl", progress=seen)
    assert (report.added, report.skipped, report.left_out, report.left_out_count) == (3, 0, (), 0)
    assert sum(seen.amounts) == 3
    assert told(tmp_path / "s.jsonl") == [("a", 0, "1"), ("b", 0, "2"), ("a", 1, "3")]
    last = list(TrajectoryStore(tmp_path / "s.jsonl"))[-1]
    assert (last.env, last.env_version, last.seed, last.sampling, last.score) == ("messages", "", None, None, 0.5)
    assert str(last.metadata["source"]).startswith("runs.jsonl#")
    assert (last.metadata["row"], last.metadata["line"]) == (3, 3)


def test_the_same_import_again_adds_nothing(tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    runs = file_of(tmp_path / "runs.jsonl", run("a"), run("b"))
    import_files([runs], store)
    before = store.read_bytes()
    report = import_files([runs, tmp_path], store)
    assert (report.added, report.skipped) == (0, 2)
    assert store.read_bytes() == before


def test_a_file_that_has_grown_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    runs = file_of(tmp_path / "runs.jsonl", run("a", "1"), "bad", run("b", "2"))
    import_files([runs], store)
    with runs.open("a") as file:
        file.write(lines_of(["bad", run("a", "3")]))
    report = import_files([runs], store)
    assert (report.added, report.skipped, [r.line for r in report.left_out]) == (1, 2, [2, 4])
    assert told(store) == [("a", 0, "1"), ("b", 0, "2"), ("a", 1, "3")]


def test_samples_go_on_behind_those_of_others(tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    TrajectoryStore(store).append([trajectory("x", task="a", sample=6)])
    import_files([file_of(tmp_path / "runs.jsonl", run("a"), run("b"))], store)
    assert [(task, sample) for task, sample, _ in told(store)] == [("a", 6), ("a", 7), ("b", 0)]


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_an_import_may_stop_anywhere(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the store has reached the disk, the same command ends with the same bytes."""
    monkeypatch.setattr(importing, "_BATCH_ROWS", rows)
    good = [run(f"t{i % 2}", f"日{i}", i / 4) for i in range(5)]
    files = [
        file_of(tmp_path / "in" / "a.jsonl", "bad", good[0], run("t0", score=9), good[1]),
        file_of(tmp_path / "in" / "b.jsonl", good[2], "bad"),
        tmp_path / "in" / "c.json",
    ]
    files[2].write_text(json.dumps([good[3], 7, good[4]]))
    whole, store = tmp_path / "whole.jsonl", tmp_path / "s.jsonl"
    report = import_files(files, whole)
    assert (report.added, report.left_out_count) == (5, 4)
    data = whole.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    # Before, at and after every line's end, and somewhere in the midst of every line.
    for cut in [
        0,
        5,
        len(data) - 60,
        *(e + off for e in ends for off in (-50, -1, 0, 1) if e + off <= len(data)),
    ]:
        store.write_bytes(data[:cut])
        import_files(files, store)
        assert store.read_bytes() == data, f"cut at {cut}"


IMPORTER = """
import sys
from trajtree.formats import importing
importing._BATCH_ROWS = 20
importing.import_files([sys.argv[1]], sys.argv[2])
"""


def test_killed_imports_end_with_the_same_bytes(tmp_path: Path) -> None:
    """The importer is really killed, again and again, whenever it has got a little further."""
    records = [run(f"t{i % 7}", f"go {i} " * 200, (i % 5) / 4) if i % 11 else "bad" for i in range(1200)]
    runs = file_of(tmp_path / "runs.jsonl", *records)
    whole, store = tmp_path / "whole.jsonl", tmp_path / "s.jsonl"
    import_files([runs], whole)
    chance = random.Random(0)
    kills = 0
    for _ in range(4):
        before = store.stat().st_size if store.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", IMPORTER, str(runs), str(store)])
        goal, deadline = before + chance.randrange(100_000, 300_000), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if store.exists() and store.stat().st_size >= goal:
                break
            time.sleep(0.001)
        kills += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert store.stat().st_size > before
    assert kills >= 2
    report = import_files([runs], store)
    assert report.added > 0
    assert store.read_bytes() == whole.read_bytes()


def test_bad_rows_are_named_and_the_others_survive(tmp_path: Path) -> None:
    runs = tmp_path / "runs.jsonl"
    nested = run("c")
    nested["messages"][1]["tool_calls"] = [
        {"function": {"name": "f", "arguments": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"}}
    ]
    runs.write_text(
        lines_of([run("a")])
        + "{torn\n\n"
        + lines_of([run("b", score=None), {"other": 1}, nested, run("d", score=True)])
    )
    report = import_files([runs], tmp_path / "s.jsonl")
    assert [(r.file, r.line, r.number) for r in report.left_out] == [
        (runs, n, r) for n, r in ((2, 2), (4, 3), (5, 4), (6, 5))
    ]
    reasons = [r.reason for r in report.left_out]
    assert [r.split(":")[0] for r in reasons[:3]] == ["not JSON", "no score", "conversations"]
    assert "nested" in reasons[3]
    assert [task for task, _, _ in told(tmp_path / "s.jsonl")] == ["a", "d"]


def test_records_left_out_are_kept_up_to_a_number(tmp_path: Path) -> None:
    runs = file_of(tmp_path / "runs.jsonl", *([run("a")] + ["bad"] * (KEPT + 5)))
    report = import_files([runs], tmp_path / "s.jsonl")
    assert (report.added, len(report.left_out), report.left_out_count) == (1, KEPT, KEPT + 5)


def test_scores_are_mapped_to_the_unit_range(tmp_path: Path) -> None:
    scores = [-1, 0, 3, 1, True, False, 3.5]
    runs = file_of(tmp_path / "runs.jsonl", *(run("a", score=s) for s in scores))
    report = import_files([runs], tmp_path / "s.jsonl", score_range=(-1, 3))
    assert [t.score for t in TrajectoryStore(tmp_path / "s.jsonl")] == [0.0, 0.25, 1.0, 0.5, 1.0, 0.0]
    assert [r.reason[:29] for r in report.left_out] == ["score: 3.5 is outside [-1, 3]"]


@pytest.mark.parametrize("bad", [(1.0, 1.0), (1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_has_a_low_and_a_high_end(tmp_path: Path, bad: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="LOW must be less than HIGH"):
        import_files([], tmp_path / "s.jsonl", score_range=bad)


def test_files_of_one_name_in_different_folders_are_different_files(tmp_path: Path) -> None:
    """Equal runs in them are as many runs, imported together or one by one; each file adds its rows once."""
    rows = [run("a", "1"), run("a", "2")]
    files = [file_of(tmp_path / folder / "r.jsonl", *rows) for folder in ("seed1", "seed2", "seed3")]
    longer = file_of(tmp_path / "seed4" / "r.jsonl", rows[0], run("a", "4"), run("a", "5"))
    together, apart = tmp_path / "together.jsonl", tmp_path / "apart.jsonl"
    for added in (9, 0):
        assert import_files([*files, longer], together).added == added
    for order in ([files[1]], [files[2], files[0]], [longer, files[1]], [tmp_path / "seed1"]):
        assert import_files(order, together).added == 0
    repeated = []
    for file in (*files, longer):
        report = import_files(file, apart)
        repeated.append(report.repeated)
        assert report.skipped == 0
        assert import_files(file, apart).added == 0
    assert repeated == [0, 2, 2, 1]
    assert sorted(told(apart)) == sorted(told(together))


def test_one_run_per_file_is_kept_from_every_folder(tmp_path: Path) -> None:
    """The same greedy failure in two seeds, in files that are named alike."""
    for seed in (1, 2):
        for task in ("0", "1"):
            file_of(tmp_path / f"seed{seed}" / "logs" / f"{task}.json", run(task, "look", 0))
    for added in (4, 0):
        assert import_files(tmp_path, tmp_path / "s.jsonl").added == added
    file_of(tmp_path / "seed1" / "logs" / "2.json", run("2", "look", 0))
    assert import_files([tmp_path / "seed2", tmp_path / "seed1"], tmp_path / "s.jsonl").added == 1


def test_a_file_that_was_renamed_and_moved_adds_nothing(tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    runs = file_of(tmp_path / "1" / "r.jsonl", run("a", "1"), run("a", "2"))
    import_files(runs, store)
    (tmp_path / "2").mkdir()
    report = import_files(runs.rename(tmp_path / "2" / "renamed.jsonl"), store)
    assert (report.added, report.skipped, report.repeated) == (0, 2, 0)


def test_stores_whose_sources_name_no_folder_know_their_rows(tmp_path: Path) -> None:
    """As earlier versions wrote them: the rows are known wherever the file lies, and a changed one is refused."""
    store, runs = tmp_path / "s.jsonl", file_of(tmp_path / "1" / "r.jsonl", run("a", "1"), run("a", "2"))
    import_files(runs, store)
    store.write_text(re.sub(r"@[0-9a-f]{8}", "", store.read_text()))
    before = store.read_bytes()
    second = file_of(tmp_path / "2" / "r.jsonl", run("a", "1"), run("a", "2"))
    assert import_files(runs, store).skipped == 2
    assert import_files(second, store).skipped == 2
    assert store.read_bytes() == before
    assert import_files([runs, second], store).added == 2
    file_of(runs, run("a", "1"), run("a", "changed"))
    with pytest.raises(DataError, match="row 2 is not the one"):
        import_files(runs, store)


def test_rows_that_were_left_out_are_tried_again(tmp_path: Path) -> None:
    """Whatever of the second import has reached the disk when it is killed."""
    runs, store = tmp_path / "hundred.json", tmp_path / "s.jsonl"
    runs.write_text(json.dumps([run("a", str(score), score) for score in (0, 40, 1, 60, 80, 100)]))
    report = import_files([runs], store)
    assert (report.added, report.skipped, report.left_out_count) == (2, 0, 4)
    before = store.read_bytes()
    report = import_files([runs], store, score_range=(0, 100))
    assert (report.added, report.skipped, report.left_out_count) == (4, 2, 0)
    assert [action for _, _, action in told(store)] == ["0", "1", "40", "60", "80", "100"]
    data = store.read_bytes()
    for cut in range(len(before), len(data), 97):
        store.write_bytes(data[:cut])
        import_files([runs], store, score_range=(0, 100))
        assert store.read_bytes() == data, f"cut at {cut}"


@pytest.mark.parametrize("row", [1, 2])
def test_a_changed_row_is_refused(tmp_path: Path, row: int) -> None:
    """Wherever it stands, and though the last row that was imported is the same."""
    runs, store = file_of(tmp_path / "r.jsonl", *(run("a", str(i)) for i in range(4))), tmp_path / "s.jsonl"
    import_files([runs], store)
    before = store.read_bytes()
    file_of(runs, *(run("a", "changed" if i == row else str(i)) for i in range(5)))
    for _ in range(2):
        with pytest.raises(DataError, match=rf"r\.jsonl, line {row + 1}: row {row + 1} .*changed.*into a new store"):
            import_files([runs], store)
        assert store.read_bytes() == before


def test_a_changed_first_row_adds_only_that_row(tmp_path: Path) -> None:
    runs, store = file_of(tmp_path / "r.jsonl", *(run("a", str(i)) for i in range(4))), tmp_path / "s.jsonl"
    import_files([runs], store)
    file_of(runs, run("a", "changed"), *(run("a", str(i)) for i in range(1, 4)))
    for added in (1, 0):
        report = import_files([runs], store)
        assert (report.added, report.skipped) == (added, 4 - added)
    assert [action for _, _, action in told(store)] == ["0", "1", "2", "3", "changed"]


def rewritten(path: Path, records: list[Any]) -> Path:
    path.write_text(json.dumps([dict(reversed(r.items())) for r in records], indent=2, ensure_ascii=False))
    return path


def test_a_file_in_another_form_adds_nothing(tmp_path: Path) -> None:
    """Under another name, as an array, with other white space, escapes and order of the keys."""
    records, store = [run("a", "日1"), run("b", "2"), run("a", "日1")], tmp_path / "s.jsonl"
    import_files([file_of(tmp_path / "r.jsonl", *records)], store)
    before = store.read_bytes()
    for same in (
        file_of(tmp_path / "renamed.jsonl", *records),
        rewritten(tmp_path / "r.json", records),
        file_of(tmp_path / "turned.jsonl", *reversed(records)),
    ):
        report = import_files([same], store)
        assert (report.added, report.skipped, report.left_out_count) == (0, 3, 0)
        assert store.read_bytes() == before


def test_equal_rows_are_as_many_runs(tmp_path: Path) -> None:
    """Within a file, within the files of one import, and where a file under a new name has gained one."""
    same, store = run("a"), tmp_path / "s.jsonl"
    files = [file_of(tmp_path / "1.jsonl", same, same), file_of(tmp_path / "2.jsonl", same)]
    for added in (3, 0):
        assert import_files(files, store).added == added
    data = store.read_bytes()
    for cut in range(0, len(data), 97):
        store.write_bytes(data[:cut])
        import_files(files, store)
        assert store.read_bytes() == data, f"cut at {cut}"
    renamed = file_of(tmp_path / "renamed.jsonl", *[same] * 5)
    for added in (2, 0):
        report = import_files([renamed], store)
        assert (report.added, report.skipped) == (added, 5 - added)


def test_a_known_file_that_has_grown_under_another_name_may_stop_anywhere(tmp_path: Path) -> None:
    old, store = [run("a", "1"), run("a", "2")], tmp_path / "s.jsonl"
    import_files([file_of(tmp_path / "old.jsonl", *old)], store)
    before = store.read_bytes()
    new = file_of(tmp_path / "new.jsonl", old[0], run("b", "3"), old[0], old[1], run("a", "4"))
    assert import_files([new], store).added == 3
    data = store.read_bytes()
    for cut in range(len(before), len(data), 31):
        store.write_bytes(data[:cut])
        import_files([new], store)
        assert store.read_bytes() == data, f"cut at {cut}"


def test_no_run_follows_the_highest_sample(tmp_path: Path) -> None:
    """It would have a number that cannot be read, and with it the store."""
    store = tmp_path / "s.jsonl"
    last = trajectory(["a"], sample=2**63 - 1, task="a")
    TrajectoryStore(store).append([last])
    report = import_files([file_of(tmp_path / "r.jsonl", {**run("x", "1"), "task": "a"}, run("b", "1"))], store)
    assert report.added == 1 and report.left_out_count == 1
    reason = "task a: no sample can follow 9223372036854775807; import into a new store"
    assert [left.reason for left in report.left_out] == [reason]
    assert [t.task for t in TrajectoryStore(store)] == ["a", "b"]


def test_stores_of_early_versions_know_their_rows(tmp_path: Path) -> None:
    """They hold the hash of a row's bytes, not of its content."""
    records, store = [run("a", "1"), run("a", "2")], tmp_path / "s.jsonl"
    runs = file_of(tmp_path / "r.jsonl", *records)
    import_files([runs], store)
    rows = [msgspec.to_builtins(t) for t in TrajectoryStore(store)]
    for row in rows:
        del row["metadata"]["content"], row["unscored"], row["made"]
    store.write_text(lines_of([{"format": "trajtree.trajectories", "version": 1}, *rows]))
    for file in (runs, file_of(tmp_path / "renamed.jsonl", *records)):
        report = import_files([file], store)
        assert (report.added, report.skipped) == (0, 2)


def test_the_hashes_of_a_row_never_change(tmp_path: Path) -> None:
    """Stores that exist would take their runs again."""
    import_files(file_of(tmp_path / "r.jsonl", run("a", "日")), tmp_path / "s.jsonl")
    metadata = next(iter(TrajectoryStore(tmp_path / "s.jsonl"))).metadata
    assert (metadata["digest"], metadata["content"]) == ("230b13f9101229c9", "e29ae2221d5f58ae")
    assert str(metadata["source"]).startswith("r.jsonl#230b13f9101229c9@")


def test_a_number_of_thousands_of_digits_does_no_harm(tmp_path: Path) -> None:
    runs, store = tmp_path / "runs.jsonl", tmp_path / "s.jsonl"
    runs.write_text(lines_of([run("a")]).replace("{", '{"n": ' + "9" * 4300 + ", ", 1))
    for added in (1, 0):
        report = import_files(runs, store)
        assert (report.added, report.skipped, report.left_out) == (added, 1 - added, ())


def test_a_single_path_is_one_file(tmp_path: Path) -> None:
    runs = file_of(tmp_path / "runs.jsonl", run("a"))
    assert import_files(str(runs), tmp_path / "1.jsonl").added == 1
    assert import_files(runs, tmp_path / "2.jsonl").added == 1


def test_strange_files_in_a_folder_are_told_and_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    file_of(folder / "a.jsonl", run("a"))
    (folder / "metadata.json").write_text('{"model": "m"}')
    (folder / "empty.json").write_text("")
    report = import_files([folder], tmp_path / "s.jsonl")
    assert (report.added, [r.file.name for r in report.left_out]) == (1, ["empty.json", "metadata.json"])
    assert report.left_out[1].reason.startswith("line 1: in no known format (its fields: model)")
    for named in (folder / "metadata.json", folder / "empty.json", folder / "nowhere.json"):
        with pytest.raises(DataError, match=str(named)):
            import_files([folder, named], tmp_path / "t.jsonl")
    assert not (tmp_path / "t.jsonl").exists()


def test_the_format_may_be_named(tmp_path: Path) -> None:
    runs = file_of(tmp_path / "runs.jsonl", {"prompt": "Q", "completion": "A", "reward": 1, "example_id": 4})
    import_files([runs], tmp_path / "v.jsonl")
    import_files([runs], tmp_path / "m.jsonl", format="messages", score="reward", task="prompt")
    (auto,), (named,) = TrajectoryStore(tmp_path / "v.jsonl"), TrajectoryStore(tmp_path / "m.jsonl")
    assert (auto.env, auto.task, named.env, named.task) == ("verifiers", "4", "messages", "Q")
    with pytest.raises(DataError, match="'parquet' is not a format"):
        import_files([runs], tmp_path / "x.jsonl", format="parquet")


def test_only_stores_are_appended_to(tmp_path: Path) -> None:
    runs = file_of(tmp_path / "runs.jsonl", run("a"))
    notes = file_of(tmp_path / "notes.jsonl", {"note": 1})
    before = notes.read_bytes()
    with pytest.raises(DataError, match="not a trajectory store"):
        import_files([runs], notes)
    assert notes.read_bytes() == before


def test_a_store_does_not_feed_on_itself(tmp_path: Path) -> None:
    """A stored row has messages, a score and a task too."""
    store = tmp_path / "s.jsonl"
    file_of(tmp_path / "runs.jsonl", run("a"))
    for _ in range(2):
        import_files([tmp_path], store, format="messages")
    assert told(store) == [("a", 0, "look")]
    with pytest.raises(DataError, match="into itself"):
        import_files([store], store, format="messages")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the rows, no more memory; the rest is one batch, and a bounded number of hashes for the report."""
    import tracemalloc

    monkeypatch.setattr(import_tally._Beginnings, "_MOST", 1000)
    peaks = []
    for count in (2000, 4000):
        runs = file_of(tmp_path / f"{count}.jsonl", *(run(f"t{i % 5}", f"{i} " * 100) for i in range(count)))
        tracemalloc.start()
        try:
            import_files([runs], tmp_path / f"{count}.store")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_one_import_at_a_time(tmp_path: Path) -> None:
    runs, store = file_of(tmp_path / "runs.jsonl", run("a", "1")), tmp_path / "s.jsonl"
    refused = pytest.raises(RunError, match=rf"s.jsonl: is being written by another process \(pid {os.getpid()} on ")
    with claimed(store), refused:
        import_files([runs], store)
    assert not store.exists()
    assert import_files([runs], store).added == 1
    assert {p for p in tmp_path.iterdir() if p.suffix != ".lock"} == {runs, store}


def test_an_import_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    runs, store = file_of(tmp_path / "runs.jsonl", run("a", "1", 7.0)), tmp_path / "s.jsonl"
    assert import_files([runs], store).left_out_count == 1
    assert not store.exists()


def prompted(number: int, action: str) -> dict[str, Any]:
    said = f"Do the work of the list below, number {number}"
    return {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": action}], "score": 1}


def test_prompts_whose_short_hashes_are_equal_are_different_tasks(tmp_path: Path) -> None:
    """The two numbers were found by trying: the first 32 bits of their prompts' hashes are the same."""
    import_files(file_of(tmp_path / "r.jsonl", prompted(16935, "a"), prompted(42261, "b")), tmp_path / "s.jsonl")
    tasks = [task for task, _, _ in told(tmp_path / "s.jsonl")]
    assert [len(task.rpartition("-")[2]) for task in tasks] == [16, 16]
    assert len(set(tasks)) == 2


def test_stores_with_short_hashes_of_prompts_keep_their_tasks(tmp_path: Path) -> None:
    """Their rows are known, and further runs of a prompt join those that are there."""
    runs, store = file_of(tmp_path / "r.jsonl", prompted(16935, "a")), tmp_path / "s.jsonl"
    import_files(runs, store)
    (long,) = {task for task, _, _ in told(store)}
    short = "do-the-work-of-the-list-f3454967"
    store.write_text(store.read_text().replace(long, short))
    before = store.read_bytes()
    assert import_files(runs, store).added == 0
    assert store.read_bytes() == before
    file_of(runs, prompted(16935, "a"), prompted(16935, "b"), prompted(1, "c"))
    assert import_files(runs, store).added == 2
    assert [(task.rpartition("-")[2], sample) for task, sample, _ in told(store)][:2] == [
        ("f3454967", 0),
        ("f3454967", 1),
    ]
    assert len(told(store)[2][0].rpartition("-")[2]) == 16
