"""Environments in worker processes: the same answers, a time limit, and one that breaks takes nothing else with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.explore.test_rollout import Scripted, winning
from tests.toy import DOMAIN, TASKS, Toy, solution

from trajtree.envs.base import StepResult
from trajtree.envs.guard import Guarded
from trajtree.errors import DataError, EnvError, WorkerLost
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.explore.workers import EnvMaker, Workers, environments
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Sampling, Trajectory

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
        ("none", "returned NoneType, not a StepResult"),
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


class Hangs(Moody):
    """Its task toy/3 sleeps at its first step, every time."""

    task = ""

    def reset(self, task: str) -> str:
        self.task = task
        return super().reset(task)

    def step(self, action: str) -> StepResult:
        return super().step("sleep" if self.task == "toy/3" else action)


HANGS = replace(DOMAIN, environment=Hangs, make=lambda max_steps: Hangs())


def played(path: Path, name: str, **how: Any) -> list[Trajectory]:
    store = TrajectoryStore(path, create=True)
    episodes = independent([f"toy/{number}" for number in range(6)], 1, [Sampling()])
    with environments(EnvMaker(name, None), **how) as make:
        rollout(episodes, Scripted(winning), make, store, seed=0)
    return list(store)


def test_one_that_hangs_every_time_costs_only_its_own_episode(tmp_path: Path) -> None:
    """All six live in one worker, which is ended three times."""
    sound = played(tmp_path / "sound.jsonl", "tests.toy:DOMAIN", workers=0, seconds=1.0)
    found = played(tmp_path / "hung.jsonl", "tests.explore.test_workers:HANGS", workers=1, seconds=2.0)
    assert [t for t in found if t.task != "toy/3"] == [t for t in sound if t.task != "toy/3"]
    (hung,) = [t for t in found if t.task == "toy/3"]
    assert hung.cause is Cause.ENVIRONMENT_FAULT and "no answer within 2 seconds" in str(hung.error)


def test_interrupts_are_not_for_the_workers(workers: Workers) -> None:
    """Control-C goes to every process of the terminal, also to one that is still importing."""
    workers.make().reset(TASKS[0])
    (process,) = (worker._process for worker in workers._workers)
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (blocked,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:"))
    assert blocked >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


class Stubborn(Moody):
    def close(self) -> None:
        raise SystemExit(0)


def test_a_close_that_fails_is_said() -> None:
    made = Workers(Stubborn, Stubborn, count=1, seconds=5.0)
    made.make().reset(TASKS[0])
    with pytest.warns(UserWarning, match=r"^toy: close raised SystemExit: 0 \(test_workers.py, line \d+\)$"):
        made.close()


def test_a_limit_by_task_reaches_the_workers(tmp_path: Path) -> None:
    with environments(EnvMaker("tests.toy:DOMAIN", {"toy/0": 3}), workers=1, seconds=9.0) as make:
        env = make()
        assert env.reset("toy/0") == Toy().reset("toy/0")
