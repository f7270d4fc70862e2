"""Stages are done after what they read; with a cluster those without a path between them at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick

from trajtree.experiment.schedule import NEEDLESS, Prepared, Schedule
from trajtree.experiment.stage import KINDS, Check, Done, Finished, Missing, Stage, with_dependents

SOON = 60.0
"""Seconds in which what happens at the same time must meet."""


def stage(name: str, kind: str, *inputs: str, labels: tuple[str, ...] = (), here: bool = False) -> Stage:
    return Stage(name, kind, {each: each for each in inputs}, {}, lambda work: None, labels, here=here)


def result(name: str) -> Done:
    return Done(Path(name), name, 0.0, False)


def run(stages: list[Stage], work: Callable[[str], None], stop: Callable[[], None] | None = None) -> list[str]:
    """The names in the order in which they ended."""
    done = Finished()
    ended: list[str] = []

    def prepare(stage: Stage) -> Callable[[], Done]:
        assert set(stage.inputs.values()) <= done.keys()

        def do() -> Done:
            work(stage.name)
            ended.append(stage.name)
            return result(stage.name)

        return do

    Schedule(stages, prepare, done, stop).run()
    assert sorted(done) == sorted(ended) == sorted(stage.name for stage in stages)
    return ended


def nothing() -> None:
    pass


KIND = st.sampled_from(sorted(KINDS))


@st.composite
def plans(draw: st.DrawFn) -> list[Stage]:
    found: list[Stage] = []
    for number in range(draw(st.integers(0, 8))):
        inputs = draw(st.sets(st.sampled_from([s.name for s in found]))) if found else set()
        found.append(stage(f"s{number}", draw(KIND), *sorted(inputs), labels=draw(st.sampled_from([(), ("policy",)]))))
    return found


@given(plans())
@quick
def test_each_stage_is_done_once_after_its_inputs(stages: list[Stage]) -> None:
    names = [stage.name for stage in stages]
    assert run(stages, lambda name: None) == names, "without a cluster in their order"
    ended = run(stages, lambda name: None, nothing)
    for each in stages:
        assert all(ended.index(name) < ended.index(each.name) for name in each.inputs.values())


def test_what_has_no_path_between_it_happens_at_the_same_time() -> None:
    """Two explorations and a training meet, each of which would wait for the others without end."""
    meeting = threading.Barrier(3, timeout=SOON)
    threads: dict[str, threading.Thread] = {}

    def work(name: str) -> None:
        threads[name] = threading.current_thread()
        if name in ("one", "two", "train"):
            meeting.wait()

    stages = [stage("tasks", "tasks"), stage("one", "explore", "tasks"), stage("two", "explore", "tasks")]
    stages += [stage("train", "train", "tasks"), stage("trees", "trees", "one"), stage("served", "evaluate", here=True)]
    run(stages, work, nothing)
    assert {name for name in threads if threads[name] is threading.main_thread()} == {"tasks", "train", "served"}


def test_what_follows_on_the_cluster_does_not_wait_for_a_training() -> None:
    over = threading.Event()

    def work(name: str) -> None:
        if name == "train":
            assert over.wait(SOON)
        elif name == "paths":
            over.set()

    stages = [stage("explore", "explore"), stage("train", "train"), stage("trees", "trees", "explore")]
    run([*stages, stage("paths", "paths", "trees")], work, nothing)


def test_of_two_with_one_result_the_first_of_the_plan_is_done() -> None:
    """The later one is due at once, and yet waits until it is known what the earlier one will be."""
    done = Finished()
    asked: list[str] = []

    def prepare(stage: Stage) -> Prepared:
        asked.append(stage.name)
        return (lambda: result("same")) if stage.name != "later" else done.get("earlier")

    stages = [stage("train", "train"), stage("earlier", "evaluate", "train", labels=("policy",))]
    Schedule([*stages, stage("later", "evaluate", labels=("policy",))], prepare, done, nothing).run()
    assert asked[:3] == ["train", "earlier", "later"]
    assert done["later"] is done["earlier"]


def test_one_whose_twin_is_under_way_waits_for_it() -> None:
    done = Finished()
    refused = threading.Event()

    def first() -> Done:
        assert refused.wait(SOON)
        return result("first")

    def prepare(stage: Stage) -> Prepared:
        if stage.name == "first":
            return first
        if "first" not in done:
            refused.set()
        return done.get("first")

    Schedule([stage("first", "pairs"), stage("twin", "pairs")], prepare, done, nothing).run()
    assert done["twin"] is done["first"]


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("stop", [None, nothing], ids=["here", "cluster"])
def test_what_takes_long_begins_once_it_is_known_to_be_needed(found: bool, stop: Callable[[], None] | None) -> None:
    """A reference that is trained for one row alone, and pairs that decide whether the row has anything to learn."""
    done, asked = Finished(), list[str]()
    checked = replace(
        stage("row", "train", "pairs", "reference"), check=Check(("pairs",), lambda folders: None if found else "none")
    )
    stages = [stage("weak", "weak"), stage("explore", "explore", "weak"), stage("pairs", "pairs", "explore")]
    stages += [stage("reference", "train", "weak"), checked, stage("evaluate", "evaluate", "row", labels=("policy",))]
    stages += [stage("other", "evaluate", "weak", labels=("policy",))]

    def prepare(stage: Stage) -> Prepared:
        asked.append(stage.name)
        if stage.name == "reference" and not found:
            assert "pairs" in done
            done.missing |= {name: Missing("row", "none") for name in with_dependents(stages, ["row"])}
            return NEEDLESS
        return lambda: result(stage.name)

    Schedule(stages, prepare, done, stop).run()
    assert asked.index("reference") > asked.index("pairs")
    assert set(done) == {"weak", "explore", "pairs", "other"} | ({"reference", "row", "evaluate"} if found else set())


@pytest.mark.parametrize("broken", ["explore", "train"])
def test_the_first_error_ends_the_others(broken: str) -> None:
    stopped, begun = threading.Event(), threading.Barrier(2, timeout=SOON)

    def work(name: str) -> None:
        begun.wait()
        if name == broken:
            raise KeyError(name)
        if name == "explore":
            assert stopped.wait(SOON)
            raise KeyError("stopped")

    stages = [stage("explore", "explore"), stage("train", "train"), stage("after", "trees", "explore")]
    with pytest.raises(KeyError, match=broken):
        run(stages, work, stopped.set)
    assert stopped.is_set() == (broken == "train")


@given(plans(), st.integers(1, 3))
@quick
def test_at_most_so_many_are_done_at_a_time(stages: list[Stage], most: int) -> None:
    done, lock = Finished(), threading.Lock()
    going, seen, here = set[str](), [0], set[str]()

    def prepare(stage: Stage) -> Prepared:
        def do() -> Done:
            with lock:
                going.add(stage.name)
                seen.append(len(going))
                if threading.current_thread() is threading.main_thread():
                    here.add(stage.name)
            with lock:
                going.remove(stage.name)
            return result(stage.name)

        return do

    Schedule(stages, prepare, done, nothing, elsewhere=lambda stage: True, most=most).run()
    assert max(seen) <= most and not here
    assert set(done) == {stage.name for stage in stages}


def test_two_trainings_meet_in_processes_of_this_machine() -> None:
    meeting, done = threading.Barrier(2, timeout=SOON), Finished()

    def prepare(stage: Stage) -> Prepared:
        def do() -> Done:
            meeting.wait()
            return result(stage.name)

        return do

    stages = [stage(f"train-{name}", "train") for name in "abcd"]
    Schedule(stages, prepare, done, nothing, elsewhere=lambda stage: True, most=2).run()
    assert len(done) == 4
