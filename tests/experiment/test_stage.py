"""Stages run when they must, go on where they were, and never share a directory."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trajtree.errors import RunError
from trajtree.experiment import stage as stages_module
from trajtree.experiment.execute import run_stages
from trajtree.experiment.stage import Check, Done, Kind, Stage, Work, early_first, key_of, needed_for, with_dependents
from trajtree.store import manifest as manifest_module
from trajtree.store.files import write_atomically
from trajtree.store.manifest import digest_of, manifest_of
from trajtree.store.progress import SILENT


class Quiet:
    def total(self, amount: int) -> None: ...

    def advance(self, amount: int, note: str = "") -> None: ...


class Pipeline:
    """Four stages, two of which read from others; each writes its settings and its inputs, and counts its runs."""

    INPUTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("draw", "tasks", ()),
        ("weak", "weak", ("draw",)),
        ("strong", "explore", ("draw",)),
        ("tune", "train", ("weak",)),
    )

    def __init__(self, **settings: Any) -> None:
        self.ran: list[str] = []
        self.settings = {name: settings.get(name, 0) for name, _, _ in self.INPUTS}

    def stage(self, name: str, kind: str, inputs: tuple[str, ...]) -> Stage:
        def work(work: Work) -> None:
            self.ran.append(name)
            read = [(work.inputs[i] / "out.txt").read_text() for i in inputs]
            (work.folder / "out.txt").write_text(f"{name} {self.settings[name]} {read}")

        return Stage(name, kind, {i: i for i in inputs}, {"value": self.settings[name]}, work)

    @property
    def stages(self) -> list[Stage]:
        return [self.stage(*entry) for entry in self.INPUTS]

    def run(self, run: Path, redo: Sequence[str] = ()) -> dict[str, Done]:
        return bring_up(self.stages, run, redo)


def bring_up(stages: Sequence[Stage], run: Path, redo: Sequence[str] = ()) -> dict[str, Done]:
    return run_stages(stages, run, lambda name: Quiet(), {"seed": "0"}, redo=redo)


def test_second_run_does_nothing(tmp_path: Path) -> None:
    first, second = Pipeline(), Pipeline()
    made = first.run(tmp_path)
    assert first.ran == ["draw", "weak", "strong", "tune"]
    assert not any(done.cached for done in made.values())
    kept = second.run(tmp_path)
    assert second.ran == []
    assert all(done.cached for done in kept.values())
    assert [(d.folder, d.digest, d.seconds) for d in made.values()] == [
        (d.folder, d.digest, d.seconds) for d in kept.values()
    ]


def test_what_becomes_of_stages_is_told(tmp_path: Path) -> None:
    class Told:
        def __init__(self) -> None:
            self.said: list[Any] = []

        def planned(self, names: Sequence[str]) -> None:
            self.said.append(list(names))

        def ended(self, name: str, seconds: float, *, kept: bool) -> None:
            self.said.append((name, seconds >= 0, kept))

    def told_of(**settings: Any) -> list[Any]:
        told = Told()
        run_stages(Pipeline(**settings).stages, tmp_path, lambda name: Quiet(), {}, watch=told)
        return told.said

    names = ["draw", "weak", "strong", "tune"]
    assert told_of() == [names, *((name, True, False) for name in names)]
    assert told_of(strong=1) == [names, *((name, True, name != "strong") for name in names)]


def test_changed_setting_reruns_only_what_reads_from_it(tmp_path: Path) -> None:
    Pipeline().run(tmp_path)
    changed = Pipeline(weak=1)
    changed.run(tmp_path)
    assert changed.ran == ["weak", "tune"]
    back = Pipeline()
    back.run(tmp_path)
    assert back.ran == []
    root = Pipeline(draw=1)
    root.run(tmp_path)
    assert root.ran == ["draw", "weak", "strong", "tune"]


def test_same_content_by_another_setting_stops_the_rerun(tmp_path: Path) -> None:
    """Keys depend on what the inputs hold, not on how they were made."""
    ran = []

    def stages(batch: int) -> list[Stage]:
        return [
            Stage("a", "tasks", {}, {"batch": batch}, lambda work: write_atomically(work.folder / "x", "same")),
            Stage("b", "trees", {"read": "a"}, {}, lambda work: ran.append(batch)),
        ]

    bring_up(stages(1), tmp_path)
    bring_up(stages(2), tmp_path)
    assert ran == [1]


LEARNERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("weak", "weak", ()),
    ("fine", "train", ("weak",)),
    ("explore", "explore", ("weak",)),
    ("paths", "paths", ("explore",)),
    ("below", "train", ("weak",)),
    ("pairs", "pairs", ("explore",)),
    ("above", "train", ("below", "pairs")),
    ("measure fine", "evaluate", ("fine",)),
    ("measure above", "evaluate", ("above",)),
)
"""`above` learns from pairs and starts from `below`, which is measured by nobody."""


def learners(ran: list[str], why: str | None) -> list[Stage]:
    """The stages of LEARNERS in the order in which they are to run; `why` is what `above` lacks."""

    def stage(name: str, kind: str, inputs: tuple[str, ...]) -> Stage:
        def work(work: Work) -> None:
            ran.append(name)
            (work.folder / "out.txt").write_text(name)

        def why_not(folders: dict[str, Path]) -> str | None:
            assert {role: folder.parent.name for role, folder in folders.items()} == {"pairs": "pairs"}
            return why

        check = Check(("pairs",), why_not) if name == "above" else None  # type: ignore[arg-type]
        return Stage(name, kind, {i: i for i in inputs}, {"name": name}, work, check=check)

    return early_first([stage(*entry) for entry in LEARNERS])


def test_what_shows_whether_there_is_anything_to_learn_comes_before_trainings(tmp_path: Path) -> None:
    ran: list[str] = []
    done = bring_up(learners(ran, None), tmp_path)
    assert ran[:4] == ["weak", "explore", "paths", "pairs"]
    assert ran[4:] == ["fine", "below", "above", "measure fine", "measure above"]
    assert ran == list(done)


def test_a_stage_without_anything_is_left_out_with_what_needs_it_and_what_is_done_for_it_alone(tmp_path: Path) -> None:
    ran: list[str] = []
    said: list[str] = []
    done = run_stages(learners(ran, "no pair"), tmp_path, lambda name: Quiet(), {}, say=said.append)
    assert ran == list(done) == ["weak", "explore", "paths", "pairs", "fine", "measure fine"]
    assert {name: (one.stage, one.why) for name, one in done.missing.items()} == {
        "above": ("above", "no pair"),
        "measure above": ("above", "no pair"),
    }
    assert said == ["left out, with all that needs it: above: no pair"]
    again: list[str] = []
    assert run_stages(learners(again, None), tmp_path, lambda name: Quiet(), {}).missing == {}
    assert again == ["below", "above", "measure above"], "and what was kept is kept"


def test_what_was_asked_for_is_done_even_if_nobody_needs_it_any_more(tmp_path: Path) -> None:
    ran: list[str] = []
    stages = needed_for(learners(ran, "no pair"), "train")
    done = run_stages(stages, tmp_path, lambda name: Quiet(), {}, until="train")
    assert ran == list(done) == ["weak", "explore", "pairs", "fine", "below"]
    assert list(done.missing) == ["above"]


def test_unfinished_folder_is_gone_on_with(tmp_path: Path) -> None:
    found: list[list[str]] = []

    def work(work: Work) -> None:
        found.append(sorted(p.name for p in work.folder.iterdir()))
        (work.folder / f"part{len(found)}").write_text("x")
        if len(found) == 1:
            raise KeyboardInterrupt

    stages = [Stage("s", "tasks", {}, {}, work)]
    with pytest.raises(KeyboardInterrupt):
        bring_up(stages, tmp_path)
    done = bring_up(stages, tmp_path)["s"]
    assert found == [[], ["part1"]]
    assert sorted(p.name for p in done.folder.iterdir()) == ["part1", "part2", "stage.json"]


def test_names_are_in_no_key(tmp_path: Path) -> None:
    """Two stages that would do the same thing share one result."""
    ran: list[str] = []

    def stage(name: str, **settings: int) -> Stage:
        return Stage(name, "train", {}, settings, lambda work: ran.append(name))

    done = bring_up([stage("one", rate=1), stage("two", rate=1), stage("three", rate=2)], tmp_path)
    assert ran == ["one", "three"]
    assert done["two"].folder == done["one"].folder and done["two"].cached and not done["one"].cached


def test_a_corrected_kind_of_stage_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pipeline().run(tmp_path)
    monkeypatch.setitem(stages_module.KINDS, "weak", Kind(99, ""))
    again = Pipeline()
    again.run(tmp_path)
    assert again.ran == ["weak"], "what reads from it reads the same as before"


def test_keys_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that changes by accident would have every run redone."""
    monkeypatch.setitem(stages_module.KINDS, "trees", Kind(1, ""))
    done = {"a": Done(Path(), "d" * 64, 0.0, False)}
    stage = Stage("any", "trees", {"explored": "a"}, {"env": {"name": "toy"}}, lambda work: None)
    assert key_of(stage, done)[:12] == "fe0845f87e3d"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"digest": "x"}', '{"digest": "x", "seconds": null}', b"\xff"]
)
def test_damaged_marker(tmp_path: Path, content: str | bytes) -> None:
    done = Pipeline().run(tmp_path)
    marker = done["weak"].folder / "stage.json"
    marker.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=re.escape(f"{marker}: damaged (") + ".*--redo weak "):
        Pipeline().run(tmp_path)
    again = Pipeline()
    again.run(tmp_path, redo=["weak"])
    assert again.ran == ["weak", "tune"]


def test_marker_tells_where_results_come_from(tmp_path: Path) -> None:
    done = Pipeline(tune=5).run(tmp_path)
    record = json.loads((done["tune"].folder / "stage.json").read_text())
    assert record["settings"] == {"value": 5}
    assert record["inputs"] == {"weak": done["weak"].digest}
    assert record["provenance"] == {"seed": "0"}
    assert record["digest"] == digest_of(manifest_of(done["tune"].folder, without=["stage.json"]))
    assert record["files"].keys() == {"out.txt"}
    assert record["key"].startswith(done["tune"].folder.name)


def test_needed_for() -> None:
    stages = Pipeline().stages
    assert [s.name for s in needed_for(stages, "train")] == ["draw", "weak", "tune"]
    assert [s.name for s in needed_for(stages, "tasks")] == ["draw"]
    assert needed_for(stages, "tea") == []


def test_with_dependents() -> None:
    stages = Pipeline().stages
    assert with_dependents(stages, ["weak"]) == {"weak", "tune"}
    assert with_dependents(stages, ["draw"]) == {"draw", "weak", "strong", "tune"}


# --- what is finished is verified before it is used ---


def spoil_shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil_zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def spoil_edited(file: Path) -> None:
    file.write_text(file.read_text().replace("0", "1", 1))


def spoil_missing(file: Path) -> None:
    file.unlink()


def spoil_more(file: Path) -> None:
    file.with_name("more.bin").write_bytes(b"x")


SPOILT = {
    spoil_shorter: r"out.txt: has \d+ bytes, not \d+ bytes; ",
    spoil_zeroed: r"out.txt: holds something else than before, in as many bytes; ",
    spoil_edited: r"out.txt: holds something else than before, in as many bytes; ",
    spoil_missing: r"out.txt: is missing; ",
    spoil_more: r"more.bin: was not there; ",
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("old", [False, True])
def test_changed_results_are_not_used(tmp_path: Path, spoil: Callable[[Path], None], old: bool) -> None:
    """Also under the markers of earlier versions, which had one hash of all files."""
    done = Pipeline().run(tmp_path)
    folder = done["weak"].folder
    if old:
        forget(folder)
    spoil(folder / "out.txt")
    what = rf"^{folder}: a file in it is missing, new, or holds something else; " if old else SPOILT[spoil]
    untouched = Pipeline()
    with pytest.raises(RunError, match=what + r"it was changed since weak was finished: .* --redo weak "):
        untouched.run(tmp_path)
    assert untouched.ran == []
    again = Pipeline()
    redone = again.run(tmp_path, redo=["weak"])
    assert again.ran == ["weak", "tune"]
    assert {name: d.digest for name, d in redone.items()} == {name: d.digest for name, d in done.items()}
    last = Pipeline()
    last.run(tmp_path)
    assert last.ran == []


def forget(folder: Path) -> None:
    """Make a marker one of an earlier version's."""
    record = json.loads((folder / "stage.json").read_text())
    del record["files"]
    (folder / "stage.json").write_text(json.dumps(record))


@pytest.mark.parametrize("old", [False, True])
def test_a_touched_file_is_the_same_and_its_time_is_noted(tmp_path: Path, old: bool) -> None:
    folder = Pipeline().run(tmp_path)["weak"].folder
    if old:
        forget(folder)
        (folder / ".out.txt.turn.lock").write_text("")
    os.utime(folder / "out.txt", ns=(1, 1))
    assert all(done.cached for done in Pipeline().run(tmp_path).values())
    assert json.loads((folder / "stage.json").read_text())["files"]["out.txt"]["mtime_ns"] == 1


def test_contents_are_read_only_where_size_or_time_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pipeline().run(tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr(manifest_module.hashlib, "file_digest", refuse)
    Pipeline().run(tmp_path)


def test_all_that_reads_from_a_stage_is_redone_with_it(tmp_path: Path) -> None:
    Pipeline().run(tmp_path)
    again = Pipeline()
    again.run(tmp_path, redo=["draw"])
    assert again.ran == ["draw", "weak", "strong", "tune"]


def test_a_redo_that_was_stopped_goes_on_when_it_is_given_again(tmp_path: Path) -> None:
    """With other stages to redo, or once it is done, the same words begin anew."""
    Pipeline().run(tmp_path)

    def stopped_in(name: str, redo: Sequence[str]) -> list[str]:
        again = Pipeline()
        stages = again.stages
        (stage,) = (stage for stage in stages if stage.name == name)

        def stop(work: Work) -> None:
            (work.folder / "half.txt").write_text("half")
            raise KeyboardInterrupt

        stages[stages.index(stage)] = replace(stage, work=stop)
        with pytest.raises(KeyboardInterrupt):
            bring_up(stages, tmp_path, redo)
        return again.ran

    assert stopped_in("strong", ["weak", "draw"]) == ["draw", "weak"]
    assert len(list(tmp_path.glob("strong/*/half.txt"))) == 1
    again = Pipeline()
    again.run(tmp_path, redo=["draw", "weak"])
    assert again.ran == ["strong", "tune"]
    again.run(tmp_path, redo=["draw", "weak"])
    assert again.ran[2:] == ["draw", "weak", "strong", "tune"]
    assert stopped_in("strong", ["draw"]) == ["draw", "weak"]
    another = Pipeline()
    another.run(tmp_path)  # another command, which does not redo anything, ends the redoing
    assert another.ran == ["strong"]
    another.run(tmp_path, redo=["draw"])
    assert another.ran[1:] == ["draw", "weak", "strong", "tune"]


def test_a_shared_result_is_redone_by_the_name_of_its_stage(tmp_path: Path) -> None:
    ran: list[str] = []

    def stages() -> list[Stage]:
        return [Stage(name, "train", {}, {}, lambda work, name=name: ran.append(name)) for name in ("one", "two")]

    bring_up(stages(), tmp_path)
    with pytest.raises(RunError, match="--redo two: it has the result of one; type --redo one"):
        bring_up(stages(), tmp_path, redo=["two"])
    bring_up(stages(), tmp_path, redo=["one"])
    assert ran == ["one", "one"]


HOLDER = """
import sys, time
from pathlib import Path
from trajtree.store.files import write_atomically
from trajtree.experiment.execute import run_stages
from trajtree.experiment.stage import Stage
def work(work):
    (work.folder / "out.txt").write_text("begun")
    print("holding", flush=True)
    sys.stdin.readline()
    (work.folder / "out.txt").write_text("finished")
class Quiet:
    total = advance = lambda *a: None
done = run_stages([Stage("s", "tasks", {}, {}, work)], Path(sys.argv[1]), lambda s: Quiet(), {})
print(done["s"].folder, flush=True)
"""


def holder(run: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_second_process_is_refused_and_the_first_loses_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        message = re.escape(f"{tmp_path}: in use by another process (pid {first.pid} on ")
        for _ in range(2):  # being refused does not spoil the lock
            with pytest.raises(RunError, match=message):
                Pipeline().run(tmp_path)
        output, _ = first.communicate("go on\n")
    assert first.returncode == 0
    folder = Path(output.strip())
    assert (folder / "out.txt").read_text() == "finished"
    assert (folder / "stage.json").exists()
    assert len(Pipeline().run(tmp_path)) == 4


def test_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert len(Pipeline().run(tmp_path)) == 4


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_atomic_write_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    write_atomically(path, "日本")
    assert path.read_text(encoding="utf-8") == "日本"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_full_disk_leaves_the_stage_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the failed attempt leaves behind changes neither the result nor its digest."""
    clean = Pipeline().run(tmp_path / "clean")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Pipeline().run(tmp_path / "full")
    again = Pipeline()
    done = again.run(tmp_path / "full")
    assert again.ran == ["draw", "weak", "strong", "tune"]
    assert {name: d.digest for name, d in done.items()} == {name: d.digest for name, d in clean.items()}


# --- stages that differ in what they are called only ---


def labelled(ran: list[str], *names: str, same: bool = True) -> list[Stage]:
    def stage(name: str) -> Stage:
        def work(work: Work) -> None:
            ran.append(name)
            (work.folder / "out.txt").write_text(name)

        settings = {"policy": name, "value": 0 if same else name}
        return Stage(f"evaluate-{name}", "evaluate", {}, settings, work, labels=("policy",))

    return [stage(name) for name in names]


def test_what_differs_in_a_label_only_is_done_once(tmp_path: Path) -> None:
    ran: list[str] = []
    for _ in range(2):
        done = bring_up(labelled(ran, "a", "b"), tmp_path)
        assert ran == ["a"] and done["evaluate-b"].folder == done["evaluate-a"].folder
        assert done["evaluate-b"].cached
    bring_up(labelled(ran, "a", "b", same=False), tmp_path)
    assert ran == ["a", "a", "b"], "what differs in more is done"


def test_a_result_of_its_own_is_kept(tmp_path: Path) -> None:
    """Both were done by a version that did not know that they are alike."""
    ran: list[str] = []
    for name in ("a", "b"):
        bring_up(labelled(ran, name), tmp_path)
    done = bring_up(labelled(ran, "a", "b"), tmp_path)
    assert ran == ["a", "b"] and done["evaluate-b"].folder != done["evaluate-a"].folder
    bring_up(labelled(ran, "a", "b"), tmp_path, redo=["evaluate-b"])
    assert ran == ["a", "b", "b"]


def test_redoing_what_was_taken_over(tmp_path: Path) -> None:
    ran: list[str] = []
    bring_up(labelled(ran, "a", "b"), tmp_path)
    with pytest.raises(RunError, match="--redo evaluate-b: it has the result of evaluate-a; type --redo evaluate-a"):
        bring_up(labelled(ran, "a", "b"), tmp_path, redo=["evaluate-b"])
    bring_up(labelled(ran, "a", "b"), tmp_path, redo=["evaluate-a"])
    bring_up(labelled(ran, "a", "b"), tmp_path, redo=["evaluate-a", "evaluate-b"])
    assert ran == ["a", "a", "a"]


def test_labels_are_part_of_the_key() -> None:
    a, b = labelled([], "a", "b")
    assert key_of(a, {}) != key_of(b, {}) and key_of(a, {}, labelled=False) == key_of(b, {}, labelled=False)


def test_figures_stand_in_the_marker_and_change_no_digest(tmp_path: Path) -> None:
    def stage(figures: dict[str, Any]) -> Stage:
        def work(work: Work) -> None:
            work.figures.update(figures)
            (work.folder / "out.txt").write_text("x")

        return Stage("draw", "tasks", {}, {}, work)

    first = bring_up([stage({"steps": 3})], tmp_path / "a")["draw"]
    second = bring_up([stage({})], tmp_path / "b")["draw"]
    assert first.record["figures"] == {"steps": 3} and first.digest == second.digest
    assert bring_up([stage({})], tmp_path / "a")["draw"].record["figures"] == {"steps": 3}, "as they were made"


def _meets(other: str | None, work: Work) -> None:
    """Waits for another stage, and says in which process it was done."""
    (work.folder / "out.txt").write_text("".join((path / "out.txt").read_text() for path in work.inputs.values()) + "x")
    while other is not None and not list(work.folder.parents[1].glob(f"{other}/*/out.txt")):
        time.sleep(0.01)
    work.figures["process"] = os.getpid()


def _disk_full(work: Work) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")


def _stage(name: str, kind: str, *inputs: str, meets: str | None = None, here: bool = False) -> Stage:
    return Stage(name, kind, {i: i for i in inputs}, {"name": name}, partial(_meets, meets), here=here)


def test_two_are_done_at_a_time_in_processes_of_their_own(tmp_path: Path) -> None:
    stages = [_stage("draw", "tasks"), _stage("one", "train", "draw", meets="two")]
    stages += [_stage("two", "train", "draw", meets="one"), _stage("served", "evaluate", "one", here=True)]
    done = run_stages(stages, tmp_path, lambda name: SILENT, {}, jobs=2)
    processes = {name: result.record["figures"]["process"] for name, result in done.items()}
    assert len(set(processes.values())) == 4 and processes["served"] == os.getpid()
    assert (done["served"].folder / "out.txt").read_text() == "xxx"
    again = run_stages(stages, tmp_path, lambda name: SILENT, {})
    assert all(result.cached for result in again.values()), "what they left is whole, and known by the same keys"


def test_what_a_process_could_not_write_is_one_sentence(tmp_path: Path) -> None:
    stages = [Stage("one", "train", {}, {}, _disk_full)]
    with pytest.raises(RunError, match=r"one/.*: could not be written, is the disk full\? \(No space left on device\)"):
        run_stages(stages, tmp_path, lambda name: SILENT, {}, jobs=2)
    assert not list(tmp_path.glob("one/*/stage.json"))
