"""A thousand episodes at once on a model server: every task and sample exactly once, and enough open files for them."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("openai")
from tests.policies.stub_server import Answer, Body, ok, probed, said, stub
from tests.toy import TASKS, Toy, solution

from trajtree.errors import RunError
from trajtree.explore import open_files
from trajtree.explore.open_files import make_room_for
from trajtree.explore.rollout import rollout
from trajtree.explore.strategies import independent
from trajtree.policies import connections
from trajtree.policies.server import ServerPolicy
from trajtree.policies.server_name import ServerName
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Outcome, Sampling

MANY = int(os.environ.get("TRAJTREE_AT_ONCE", "1000"))


@pytest.fixture(autouse=True)
def limit_as_it_was() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.timeout(600)
def test_a_thousand_episodes_at_once(tmp_path: Path) -> None:
    """Answers to the last turn wait until all episodes have come so far."""
    together, late = threading.Condition(), [0]

    def answer(body: Body) -> Answer:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        if turn == 1:
            with together:
                late[0] += 1
                if late[0] == MANY:
                    together.notify_all()
                together.wait_for(lambda: late[0] >= MANY, timeout=500)
        number = int(body["messages"][1]["content"].split()[1].rstrip(":"))
        return ok(said(solution(f"toy/{number}")[turn]))

    store = TrajectoryStore(tmp_path / "store.jsonl", create=True)
    with stub(lambda body: probed(body) or answer(body)) as served:
        # The stub's own connections are in this process too.
        make_room_for(3 * MANY)
        policy = ServerPolicy(ServerName("stub", (served.url,)), max_new_tokens=20)
        rollout(independent(TASKS, MANY // len(TASKS), [Sampling()]), policy, Toy, store, seed=7, batch=MANY)
        assert served.most == MANY
    found = list(store)
    assert Counter(t.key for t in found) == {(task, n): 1 for task in TASKS for n in range(MANY // len(TASKS))}
    assert {(t.outcome, t.success) for t in found} == {(Outcome.COMPLETED, True)}


def test_the_environment_s_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(address: str) -> int:
        async with connections.client() as client:
            return (await client.get(address)).status_code

    for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    with stub(lambda body: ok({})) as proxy:
        assert asyncio.run(status(f"{proxy.url}/models")) == 200
        for variable in ("HTTP_PROXY", "ALL_PROXY"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, proxy.url.removesuffix("/v1"))
                # Only the stub, which has no such page, can answer for a host that does not exist.
                assert asyncio.run(status("http://nowhere.invalid/v1/models")) == 404


def test_the_limit_is_raised_as_far_as_needed() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    make_room_for(32)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, most), "no more than is needed"
    make_room_for(300)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 300


def test_too_few_files_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda which: (256, 1024))
    with pytest.raises(RunError, match=r"1,000 episodes at once \(batch\) need 1,128 open files, and the"):
        make_room_for(1000)
    store = TrajectoryStore(tmp_path / "store.jsonl", create=True)
    with stub(lambda body: probed(body) or ok(said("look"))) as served:
        policy = ServerPolicy(ServerName("stub", (served.url,)), max_new_tokens=20)
        with pytest.raises(RunError, match=r"ulimit -n 1128.*at most 896 at once"):
            rollout(independent(TASKS, 6, [Sampling()]), policy, Toy, store, seed=7, batch=1000)
        assert not served.requests
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda which: (256, 10_000))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(open_files.resource, "setrlimit", lambda which, limits: raised.append(limits))
    make_room_for(1000)
    assert raised == [(1128, 10_000)]
