"""Environments in worker processes: the same answers, a time limit, and one that breaks takes nothing else with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.toy import TASKS, Toy, solution

from trajtree.envs.base import StepResult
from trajtree.envs.guard import Guarded
from trajtree.errors import DataError, EnvError
from trajtree.explore.workers import WorkerLost, Workers

ROOT = Path(__file__).parents[2]


class OwnError(Exception):
    """Cannot be pickled: its constructor takes more than its message."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


class Moody(Toy):
    """Does something bad where it is told to; it lives in a module of its own so that workers find it."""

    def step(self, action: str) -> StepResult:
        match action:
            case "sleep":
                time.sleep(600)
            case "die":
                os._exit(7)
            case "own error":
                raise OwnError("a", "b")
            case "leave":
                raise SystemExit(0)
            case "lambda":
                return lambda: None  # type: ignore[return-value]
            case "none":
                return None  # type: ignore[return-value]
        return super().step(action)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(Moody, Moody, count=1, seconds=5.0)
    yield made
    made.close()


def test_what_stands_in_is_what_it_stands_for(workers: Workers) -> None:
    far, near = workers.make(), Toy()
    assert (far.name, far.version, far.instruction) == (near.name, near.version, near.instruction)
    assert far.canonical_action("Take  RED key") == near.canonical_action("Take  RED key")
    for task in TASKS[:3]:
        assert far.reset(task) == near.reset(task)
        for action in ["look", "nonsense", *solution(task)]:
            assert far.step(action) == near.step(action)


def test_two_environments_of_a_worker_do_not_disturb_one_another(workers: Workers) -> None:
    one, other = workers.make(), workers.make()
    one.reset(TASKS[0])
    other.reset(TASKS[1])
    one.step("take red key")
    assert "You hold nothing" in other.step("look").observation
    assert "You hold red" in one.step("look").observation


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("sleep", "no answer within 5 seconds"),
        ("die", "its process died (exit code 7)"),
        ("own error", "raised OwnError: ab"),
        ("leave", "raised SystemExit: 0"),
        ("lambda", "which cannot leave its process"),
        ("none", "gave NoneType, not a StepResult"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_episode_begins_anew(workers: Workers, action: str, said: str) -> None:
    game = Guarded(workers.make())
    game.reset(TASKS[0])
    began = time.monotonic()
    with pytest.raises(EnvError) as error:
        game.step(action)
    assert said in str(error.value) and str(error.value).startswith(f"step 1 ({action!r}): ")
    assert time.monotonic() - began < 120
    assert game.reset(TASKS[0]) == Toy().reset(TASKS[0])
    assert game.step(solution(TASKS[0])[0]).reward == 0.5


def test_an_unknown_task_stays_the_users_error(workers: Workers) -> None:
    with pytest.raises(DataError, match="toy has no task 'toy/none'"):
        Guarded(workers.make()).reset("toy/none")


@pytest.mark.parametrize("action", ["sleep", "die"])
def test_the_others_of_a_worker_are_lost_and_say_so(workers: Workers, action: str) -> None:
    guilty, innocent = workers.make(), workers.make()
    guilty.reset(TASKS[0])
    innocent.reset(TASKS[1])
    with pytest.raises(EnvError):
        guilty.step(action)
    with pytest.raises(WorkerLost):
        innocent.step("look")
    guilty.reset(TASKS[0])
    with pytest.raises(WorkerLost):
        innocent.step("look")
    innocent.reset(TASKS[1])
    assert "You hold nothing" in innocent.step("look").observation


def test_another_worker_is_not_touched() -> None:
    both = Workers(Moody, Moody, count=2, seconds=5.0)
    try:
        first, second = both.make(), both.make()
        first.reset(TASKS[0])
        second.reset(TASKS[1])
        with pytest.raises(EnvError):
            first.step("die")
        assert "You hold nothing" in second.step("look").observation
    finally:
        both.close()


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Also while one hangs, and although the parent had no time to say goodbye."""
    code = """
import os, threading, time
from tests.explore.test_workers import Moody
from trajtree.explore.workers import Workers
if __name__ == "__main__":
    workers = Workers(Moody, Moody, count=2, seconds=500.0)
    envs = [workers.make(), workers.make()]
    for env in envs:
        env.reset("toy/0")
    threading.Thread(target=envs[0].step, args=("sleep",), daemon=True).start()
    time.sleep(0.5)
    print(*(worker._process.pid for worker in workers._workers), flush=True)
    os.kill(os.getpid(), 9)
"""
    script = tmp_path / "parent.py"
    script.write_text(code)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=90,
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    until = time.monotonic() + 20
    while time.monotonic() < until and any(alive(pid) for pid in pids):
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
