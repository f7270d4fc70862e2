"""Episodes on model servers: each at its own pace, each ended exactly once, whatever the server does."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("openai")
from tests.policies.stub_server import Answer, Body, Stub, ok, probed, said, stub, wrong
from tests.toy import Toy, solution

from trajtree.envs.base import Environment, StepResult
from trajtree.envs.check import check_env
from trajtree.errors import DataError, EngineError, EnvError, LimitError
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.policies import server
from trajtree.policies.server import ServerPolicy
from trajtree.policies.server_name import ServerName
from trajtree.policies.spending import Spending
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Message, Outcome, Sampling, Trajectory

KEY = "sk-secret-9876543210"
SOON = {"Retry-After-Ms": "20"}


def number_of(body: Body) -> int:
    """The number of the task that a request plays."""
    return int(body["messages"][1]["content"].split()[1].rstrip(":"))


def winning(body: Body) -> Answer:
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    return ok(said(solution(f"toy/{number_of(body)}")[turn]))


def play(
    served: Stub,
    episodes: Sequence[EpisodeSpec],
    path: Path,
    make_env: Callable[[], Environment] = Toy,
    spending: Spending | None = None,
    **more: Any,
) -> list[Trajectory]:
    store = TrajectoryStore(path / "trajectories.jsonl", create=True)
    policy = ServerPolicy(ServerName("stub", (served.url,)), max_new_tokens=20, spending=spending)
    rollout(episodes, policy, make_env, store, **{"seed": 7, "batch": 8, **more})
    return list(store)


def serving(answer: Callable[[Body], Answer]) -> Any:
    return stub(lambda body: probed(body) or answer(body))


def test_a_slow_episode_holds_up_no_other(tmp_path: Path) -> None:
    """One reply that waits until all other episodes are over: in waves that would never end."""
    over = threading.Event()

    def slowly(body: Body) -> Answer:
        if number_of(body) == 0 and not over.wait(20):
            return wrong(400, "the others never ended")
        return winning(body)

    class Told:
        def total(self, amount: int) -> None:
            self.left = amount - 1

        def advance(self, amount: int, figures: object = None) -> None:
            self.left -= amount
            if self.left == 0:
                over.set()

    with serving(slowly) as served:
        played = play(served, independent([f"toy/{i}" for i in range(40)], 1, [Sampling()]), tmp_path, progress=Told())
    assert played[-1].task == "toy/0" and all(t.success for t in played) and len(played) == 40
    assert {t.policy for t in played} == {"openai:stub"} and served.most <= 8


class Trouble:
    """Answers 200 episodes in every way in which a server can; some troubles pass, others stay with their task."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.happened: Counter[str] = Counter()

    def __call__(self, body: Body) -> Answer:
        if (look := probed(body)) is not None:
            return look
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        with self.lock:
            request = json.dumps([body["seed"], turn])
            self.asked[request] += 1
            tried = self.asked[request]
        kind = self.kind(number_of(body), body["seed"], turn, tried)
        with self.lock:
            self.happened[kind] += 1
        time.sleep(random.Random(body["seed"]).uniform(0, 0.05))
        whole = json.dumps(said("look")).encode()
        match kind:
            case "429":
                return wrong(429, f"too many, {KEY}", SOON)
            case "500":
                return Answer(500, b"oops " + KEY.encode(), SOON)
            case "disconnect":
                return Answer(200, whole, cut=0)
            case "cut":
                return Answer(200, whole, cut=40)
            case "cut json" | "cut json for good":
                return Answer(200, whole[:40])
            case "no choices":
                return ok({"choices": []})
            case "filtered":
                return ok(said(None, "content_filter"))
            case "refused":
                return ok(said(None, refusal="I will not."))
            case "bad request":
                return wrong(400, f"what is {KEY}?")
            case "too long":
                return ok(said("and so on", "length", reply=20))
            case "too much":
                return wrong(400, "x", type="exceed_context_size_error")
            case "slow":
                time.sleep(0.5)
        return winning(body)

    @staticmethod
    def kind(number: int, seed: int, turn: int, tried: int) -> str:
        lasting = {3: "cut json for good", 13: "filtered", 23: "refused", 33: "bad request", 43: "too long"}
        if number in lasting and turn == 0:
            return lasting[number]
        if number == 53 and turn == 1:
            return "too much"
        passing = ("429", "500", "disconnect", "cut", "cut json", "no choices", "slow", "", "", "", "", "")
        return passing[(seed // 7) % len(passing)] if tried == 1 else ""


ENDS = {
    3: (Outcome.ENGINE_ERROR, Cause.TRANSIENT_ENGINE_FAULT),
    13: (Outcome.ENGINE_ERROR, Cause.PERMANENT_ENGINE_FAULT),
    23: (Outcome.AGENT_ERROR, Cause.UNPARSEABLE_REPLY),
    33: (Outcome.ENGINE_ERROR, Cause.PERMANENT_ENGINE_FAULT),
    43: (Outcome.AGENT_ERROR, Cause.REPLY_TOO_LONG),
    53: (Outcome.AGENT_ERROR, Cause.CONTEXT_OVERFLOW),
}


def test_200_episodes_at_once_each_end_exactly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRAJTREE_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    episodes = independent([f"toy/{i}" for i in range(100)], 2, [Sampling(1.0)])
    trouble = Trouble()
    with stub(trouble) as served:
        played = play(served, episodes, tmp_path, batch=200)
        assert Counter(t.key for t in played) == Counter(spec.key for spec in episodes)
        for trajectory in played:
            ends = ENDS.get(int(trajectory.task.removeprefix("toy/")), (Outcome.COMPLETED, None))
            assert (trajectory.outcome, trajectory.cause) == ends, trajectory.error
            assert (trajectory.error is None) == (trajectory.cause is None)
        happened = {"429", "500", "disconnect", "cut", "cut json", "no choices", "slow", "filtered", "refused"}
        assert happened <= set(trouble.happened)
        # Faults of the engine are no results: the same command plays them again, and only them.
        before = len(served.requests)
        monkeypatch.setattr(Trouble, "kind", staticmethod(lambda *args: ""))
        again = play(served, episodes, tmp_path, batch=200)
        assert len(served.requests) - before == 2 * sum(t.outcome.is_fault for t in played)
    assert Counter(t.key for t in again) == Counter(spec.key for spec in episodes)
    assert not any(t.outcome.is_fault for t in again)
    kept = {t.key: t for t in played if not t.outcome.is_fault}
    assert {t.key: t for t in again if t.key in kept} == kept
    assert KEY not in caplog.text and caplog.text
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_dead_server_ends_the_rollout_and_the_rest_is_played_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RETRIES", 0)
    episodes = independent([f"toy/{i}" for i in range(32)], 1, [Sampling()])
    asked = Counter[bool]()

    def dying(body: Body) -> Answer:
        asked[True] += 1
        return winning(body) if asked[True] <= 32 else wrong(503, "dead")

    with (
        serving(dying) as served,
        pytest.raises(EngineError, match=r"failed in \d of 8 episodes; in toy/\d+: the s"),
    ):
        play(served, episodes, tmp_path)
    half = {t.key: t for t in TrajectoryStore(tmp_path / "trajectories.jsonl") if not t.outcome.is_fault}
    assert 8 <= len(half) < 32
    with serving(winning) as served:
        whole = play(served, episodes, tmp_path)
        assert len(served.requests) == 2 * (32 - len(half))
    assert Counter(t.key for t in whole) == Counter(spec.key for spec in episodes)
    assert {t.key: t for t in whole if t.key in half} == half


def test_a_dead_environment_ends_the_rollout_where_episodes_are_played_one_by_one(tmp_path: Path) -> None:
    class Dead(Toy):
        def reset(self, task: str) -> str:
            raise EnvError("no world")

    episodes = independent([f"toy/{i}" for i in range(6)], 1, [Sampling()])
    with (
        serving(winning) as served,
        pytest.raises(EnvError, match=r"failed in 2 of 2 episodes, 3 times each"),
    ):
        play(served, episodes, tmp_path, Dead, batch=1)


def test_a_limit_stops_the_rollout_and_keeps_what_is_finished(tmp_path: Path) -> None:
    episodes = independent([f"toy/{i}" for i in range(32)], 1, [Sampling()])
    with serving(winning) as served, pytest.raises(LimitError):
        play(served, episodes, tmp_path, spending=Spending(limit_tokens=800))
    half = list(TrajectoryStore(tmp_path / "trajectories.jsonl"))
    assert 0 < len(half) < 32 and all(t.success for t in half)
    with serving(winning) as served:
        whole = play(served, episodes, tmp_path)
    assert Counter(t.key for t in whole) == Counter(spec.key for spec in episodes) and whole[: len(half)] == half


def test_an_unknown_task_is_an_error(tmp_path: Path) -> None:
    with serving(winning) as served, pytest.raises(DataError, match="toy has no task 'toy/999'"):
        play(served, [EpisodeSpec("toy/999", 0, Sampling())], tmp_path)


def test_environments_are_closed_and_take_no_step_after(tmp_path: Path) -> None:
    closed = []

    class Closing(Toy):
        def step(self, action: str) -> StepResult:
            time.sleep(0.02)
            assert self not in closed
            return super().step(action)

        def close(self) -> None:
            closed.append(self)

    def sometimes(body: Body) -> Answer:
        return wrong(401, "no more") if number_of(body) == 5 else winning(body)

    episodes = independent([f"toy/{i}" for i in range(12)], 1, [Sampling()])
    with serving(sometimes) as served, pytest.raises(Exception, match="no more"):
        play(served, episodes, tmp_path, Closing)
    assert len(closed) == 8
    assert not any(t.outcome.is_fault for t in TrajectoryStore(tmp_path / "trajectories.jsonl", create=True))


class Doors(Toy):
    """The toy with tools in place of words."""

    tools: ClassVar[Sequence[Any]] = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": f"{name} a thing of a colour",
                "parameters": {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]},
            },
        }
        for name in ("take", "open")
    ]

    def step(self, action: str) -> StepResult:
        if action.endswith('"})'):
            name, colour = action.split('({"colour": "')
            action = f"{name} {colour[:-3]} {'key' if name == 'take' else 'door'}"
        return super().step(action)


def test_an_environment_with_tools_is_played_by_calls(tmp_path: Path) -> None:
    def calling(body: Body) -> Answer:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        verb, colour, _ = solution(f"toy/{number_of(body)}")[turn].split()
        call = {
            "id": f"c{turn}",
            "type": "function",
            "function": {"name": verb, "arguments": f'{{"colour":"{colour}"}}'},
        }
        return ok(said("so", "tool_calls", tool_calls=[call]))

    with serving(calling) as served:
        (played,) = play(served, [EpisodeSpec("toy/0", 0, Sampling())], tmp_path, Doors)
        assert served.requests[0]["tools"] == Doors.tools
    assert played.success and [(s.action, s.thought) for s in played.steps] == [
        ('take({"colour": "red"})', "so"),
        ('open({"colour": "red"})', "so"),
    ]
    assert [json.loads(tool) for tool in played.tools] == Doors.tools
    assert played.messages[3] == Message("tool", "You hold the red key.", tool_call_id="c0")
    assert check_env(Doors, ["toy/0"], actions=solution).tasks == 1


def test_in_a_notebook_as_elsewhere(tmp_path: Path) -> None:
    """A notebook's kernel runs an event loop in the thread in which cells run."""

    async def cell() -> list[Trajectory]:
        return play(served, independent([f"toy/{i}" for i in range(3)], 2, [Sampling(1.0)]), tmp_path)

    with serving(winning) as served:
        played = asyncio.run(cell())
    assert len(played) == 6 and all(t.success for t in played)


def test_reasoning_is_the_thought(tmp_path: Path) -> None:
    def thinking(body: Body) -> Answer:
        answer = json.loads(winning(body).body)
        answer["choices"][0]["message"]["reasoning"] = "hm"
        return ok(answer)

    with serving(thinking) as served:
        (played,) = play(served, [EpisodeSpec("toy/1", 0, Sampling())], tmp_path)
    assert played.success and {s.thought for s in played.steps} == {"hm"}
