"""What is particular to each benchmark's log: context, ends, what the agent does not see, what cannot be kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.formats.benchmark_writers import inspect_log, openhands_events, sdk_events

from trajtree.errors import DataError
from trajtree.formats.importing import ImportReport, import_files
from trajtree.formats.read.detect import FORMATS
from trajtree.formats.read.to_trajectory import Imported
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Outcome, ToolCall, Trajectory

HELLO = (Message("user", "go"), Message("assistant", "done"))
CALLED = (
    Message("user", "go"),
    Message("assistant", "I look.", None, (ToolCall("c1", "ls", "{}"), ToolCall("c2", "pwd", "{}"))),
    Message("tool", "a.py", tool_call_id="c1"),
    Message("tool", "/", tool_call_id="c2"),
    Message("assistant", "done"),
)


def read(name: str, record: dict[str, Any]) -> Imported:
    return FORMATS[name].read(record, score=None, task=None)


def imported(folder: Path, record: Any, name: str = "log.json") -> tuple[ImportReport, list[Trajectory]]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(record))
    store = folder / "store.jsonl"
    report = import_files(folder / name, store)
    return report, list(TrajectoryStore(store)) if store.exists() else []


# SWE-agent


def swe(**changed: Any) -> dict[str, Any]:
    history = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done"}]
    return {"trajectory": [], "history": history, "info": {"exit_status": "submitted"}, "score": 1, **changed}


def test_demonstrations_are_context() -> None:
    demo = [
        {"role": "user", "content": "an example", "is_demo": True},
        {"role": "assistant", "content": "its reply", "is_demo": True, "thought": "t", "action": "a"},
    ]
    record = swe()
    record["history"] = demo + record["history"]
    assert read("swe-agent", record).context_turns == 1
    record["history"] = [*swe()["history"], *demo]
    with pytest.raises(DataError, match="reply 2 is a demonstration, but follows"):
        read("swe-agent", record)


ENDS = [
    ("submitted", Outcome.COMPLETED),
    ("exit_cost", Outcome.TRUNCATED),
    ("submitted (exit_context)", Outcome.TRUNCATED),
    ("submitted (exit_format)", Outcome.AGENT_ERROR),
    (None, Outcome.TRUNCATED),
    ("exit_environment_error", None),
    ("submitted (exit_error)", None),
    ("early_exit", None),
]


@pytest.mark.parametrize(("status", "outcome"), ENDS)
def test_how_swe_agent_exits(status: str | None, outcome: Outcome | None) -> None:
    record = swe(info={"exit_status": status})
    if outcome is None:
        with pytest.raises(DataError, match=r"info.exit_status: .* something other than the agent failed"):
            read("swe-agent", record)
    else:
        assert read("swe-agent", record).outcome is outcome


def test_a_result_of_several_calls_is_refused() -> None:
    record = swe()
    record["history"].append({"role": "tool", "content": "x", "tool_call_ids": ["a", "b"]})
    with pytest.raises(DataError, match=r"history.2.tool_call_ids: a message must be the result of one call"):
        read("swe-agent", record)


def test_the_model_is_in_the_replayed_configuration() -> None:
    assert read("swe-agent", swe(replay_config='{"agent": {"model": {"name": "m"}}}')).policy == "m"
    with pytest.raises(DataError, match="replay_config: not JSON"):
        read("swe-agent", swe(replay_config="{"))


# mini-swe-agent


def mini(status: str | None = "Submitted", **changed: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done", "extra": {"cost": 1}}]
    return {"messages": messages, "info": {"exit_status": status}, "score": 1, **changed}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("Submitted", Outcome.COMPLETED),
        ("LimitsExceeded", Outcome.TRUNCATED),
        ("", Outcome.TRUNCATED),
        (None, Outcome.TRUNCATED),
        ("RepeatedFormatError", Outcome.AGENT_ERROR),
        ("APIConnectionError", None),
    ],
)
def test_how_mini_swe_agent_exits(status: str | None, outcome: Outcome | None) -> None:
    if outcome is None:
        with pytest.raises(DataError, match="'APIConnectionError' says that something other than the agent failed"):
            read("mini-swe-agent", mini(status))
    else:
        assert read("mini-swe-agent", mini(status)).outcome is outcome


def test_the_exit_is_no_message_and_the_answers_of_engines_are_not_kept_twice() -> None:
    record = mini()
    record["messages"].append({"role": "exit", "content": "diff", "extra": {"submission": "diff"}})
    found = read("mini-swe-agent", record)
    assert [m.role for m in found.messages] == ["user", "assistant"]
    assert found.metadata == {}
    record["messages"].insert(1, {"role": "exit", "content": "diff"})
    with pytest.raises(DataError, match=r"messages.1.role: 'exit' is not one of"):
        read("mini-swe-agent", record)


def test_answers_of_the_responses_api_are_refused() -> None:
    record = mini()
    record["messages"].append({"object": "response", "output": []})
    with pytest.raises(DataError, match=r"messages.2: is an answer of OpenAI's Responses API"):
        read("mini-swe-agent", record)


# Messages alone


def test_messages_alone_are_one_run(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done"}]
    report, _ = imported(tmp_path, messages, "chat.json")
    assert report.left_out[0].reason.startswith("no score: none of ")
    (tmp_path / "run__of-1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in messages))
    (tmp_path / "report.json").write_text(json.dumps({"run__of-1": {"resolved": True}}))
    assert import_files(tmp_path / "run__of-1.jsonl", tmp_path / "other.jsonl").added == 1
    (found,) = TrajectoryStore(tmp_path / "other.jsonl")
    assert ([m.content for m in found.messages], found.score, found.task) == (["go", "done"], 1.0, "run__of-1")


def test_one_broken_message_leaves_its_file_out(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text('[{"role": "user", "content": "go"}, {"role": "assistant"')
    report = import_files(tmp_path / "chat.json", tmp_path / "store.jsonl")
    assert [(left.line, left.reason) for left in report.left_out] == [(1, "the file ends before the array does")]


# tau-bench


def tau(**changed: Any) -> dict[str, Any]:
    traj = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done"}]
    return {"task_id": 3, "traj": traj, "reward": 1.0, "info": {"task": {}}, "trial": 0, **changed}


def test_a_run_without_an_end_was_cut_short() -> None:
    assert read("tau-bench", tau(info={"reward_info": None})).outcome is Outcome.TRUNCATED
    assert read("tau-bench", tau()).outcome is Outcome.COMPLETED


def test_exceptions_of_tau_bench_are_left_out() -> None:
    with pytest.raises(DataError, match=r"info.error: timeout; the run failed and was not scored"):
        read("tau-bench", tau(info={"error": "timeout", "traceback": "..."}, reward=0.0, traj=[]))


def test_tasks_of_several_domains_are_told_apart() -> None:
    assert read("tau-bench", tau()).task == "3"
    assert read("tau-bench", tau(info={"task": {"user_id": "mia"}})).task == "3/mia"


# tau2-bench


def simulation(*turns: dict[str, Any], **changed: Any) -> dict[str, Any]:
    told = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done", "raw_data": {"id": 1}}]
    return {
        "task_id": "0",
        "termination_reason": "user_stop",
        "reward_info": {"reward": 1.0},
        "messages": [*turns, *told],
        **changed,
    }


def tau2(one: dict[str, Any]) -> dict[str, Any]:
    info = {"agent_info": {"llm": "m"}, "environment_info": {"domain_name": "telecom", "policy": "Be kind."}}
    return {"info": info, "simulation": one}


def test_the_policy_is_the_system_message_and_the_greeting_is_context() -> None:
    found = read("tau2-bench", tau2(simulation({"role": "assistant", "content": "Hi! How can I help?"})))
    assert [m.role for m in found.messages] == ["system", "assistant", "user", "assistant"]
    assert (found.messages[0].content, found.context_turns, found.task, found.policy) == (
        "Be kind.",
        1,
        "telecom/0",
        "m",
    )
    own = {"role": "assistant", "content": "Hello.", "raw_data": {"id": 1}}
    assert read("tau2-bench", tau2(simulation(own))).context_turns == 0


def test_what_the_user_does_with_tools_is_not_told_to_the_agent() -> None:
    call = {"id": "u1", "name": "toggle_wifi", "arguments": {}, "requestor": "user"}
    found = read(
        "tau2-bench",
        tau2(
            simulation(
                {"role": "user", "content": None, "tool_calls": [call]},
                {"id": "u1", "role": "tool", "content": "wifi on", "requestor": "user", "error": False},
            )
        ),
    )
    assert [m.content for m in found.messages] == ["Be kind.", "go", "done"]
    kept = json.loads(str(found.metadata["user_tools"]))
    assert (kept["0"]["tool_calls"], kept["1"]["content"]) == ([call], "wifi on")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("agent_stop", Outcome.COMPLETED),
        ("max_steps", Outcome.TRUNCATED),
        ("too_many_errors", Outcome.AGENT_ERROR),
        ("infrastructure_error", None),
        ("user_error", None),
    ],
)
def test_how_simulations_end(reason: str, outcome: Outcome | None) -> None:
    record = tau2(simulation(termination_reason=reason))
    if outcome is None:
        with pytest.raises(DataError, match=r"termination_reason: .* something other than the agent failed"):
            read("tau2-bench", record)
    else:
        assert read("tau2-bench", record).outcome is outcome


def test_spoken_conversations_are_refused() -> None:
    with pytest.raises(DataError, match=r"simulation.ticks: a spoken conversation"):
        read("tau2-bench", tau2(simulation(ticks=[{"n": 1}])))
    with pytest.raises(DataError, match=r"messages.0: is spoken"):
        read("tau2-bench", tau2(simulation({"role": "user", "content": "hi", "is_audio": True})))


def test_simulations_in_files_of_their_own(tmp_path: Path) -> None:
    """A results folder: what the simulations share is in the file above them."""
    shared = {"info": tau2({})["info"], "tasks": [], "simulations": [], "simulation_index": [{"id": "s"}]}
    report, _ = imported(tmp_path, shared, "results.json")
    assert [left.reason.partition(":")[0] for left in report.left_out] == ["simulations"]
    _, (found,) = imported(tmp_path, simulation(), "simulations/s.json")
    assert (found.task, found.policy) == ("telecom/0", "m")
    (tmp_path / "results.json").write_text("{")
    report = import_files(tmp_path / "simulations" / "s.json", tmp_path / "other.jsonl")
    assert "results.json: not JSON" in report.left_out[0].reason


def test_an_array_of_simulations(tmp_path: Path) -> None:
    report, found = imported(tmp_path, [simulation(), simulation(task_id="1", reward_info={"reward": 0.0})])
    assert (report.formats, {run.task: run.score for run in found}) == ({"tau2-bench": 2}, {"0": 1.0, "1": 0.0})


# inspect_ai


def inspect(tmp_path: Path, **sample: Any) -> tuple[ImportReport, list[Trajectory]]:
    log = inspect_log([(HELLO, 1)])
    log["samples"][0] |= sample
    return imported(tmp_path, log)


def test_long_texts_are_put_back(tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2
    turns = [
        {"role": "user", "content": f"attachment://{key}"},
        {"role": "assistant", "content": [{"type": "text", "text": f"attachment://{key}"}]},
    ]
    _, (found,) = inspect(tmp_path, messages=turns, attachments={key: "a long text"})
    assert [m.content for m in found.messages] == ["a long text", "a long text"]
    report, _ = inspect(tmp_path / "other", messages=turns, attachments={})
    assert report.left_out[0].reason == f"sample.attachments: {key} is not there, but a message refers to it"


@pytest.mark.parametrize(
    ("value", "score"), [("C", 1.0), ("P", 0.5), ("I", 0.0), ("N", 0.0), (0.25, 0.25), (True, 1.0)]
)
def test_grades_of_inspect(tmp_path: Path, value: object, score: float) -> None:
    _, (found,) = inspect(tmp_path, scores={"match": {"value": value}})
    assert found.score == score


def test_several_scorers(tmp_path: Path) -> None:
    scores = {"match": {"value": "C"}, "style": {"value": {"brief": 0.5, "kind": 0.0}}}
    report, _ = inspect(tmp_path, scores=scores)
    assert "scores: has several scores (match, style.brief, style.kind); name one with --score" in (
        report.left_out[0].reason
    )
    for number, (asked, score) in enumerate([("style.brief", 0.5), ("match=0.5,style.brief=0.5", 0.75)]):
        store = tmp_path / f"{number}.jsonl"
        assert import_files(tmp_path / "log.json", store, score=asked).added == 1
        assert [run.score for run in TrajectoryStore(store)] == [score]
    report, (found,) = inspect(tmp_path / "other", scores={"match": {"value": "C"}, "reward": {"value": 0.25}})
    assert (found.score, report.scores, set(report.other_scores)) == (0.25, {"scores.reward": 1}, {"scores.match"})
    report, _ = inspect(tmp_path / "one", scores={"match": {"value": "C"}})
    assert (report.scores, report.other_scores) == ({"scores.match": 1}, {})


def test_samples_that_failed_are_left_out(tmp_path: Path) -> None:
    report, _ = inspect(tmp_path, error={"message": "sandbox died", "traceback": "..."})
    assert (
        report.left_out[0].reason == "sample.error: sandbox died; the sample failed, which says nothing about the agent"
    )


@pytest.mark.parametrize(
    "sample",
    [
        {"limit": {"type": "message", "limit": 5}},
        {"output": {"choices": [{"stop_reason": "max_tokens"}]}},
        {"output": {"choices": [{"stop_reason": "model_length"}]}},
    ],
)
def test_limits_of_inspect(tmp_path: Path, sample: dict[str, Any]) -> None:
    _, (found,) = inspect(tmp_path, **sample)
    assert found.outcome is Outcome.TRUNCATED


def test_what_inspect_was_given_is_context(tmp_path: Path) -> None:
    given = [
        {"role": "user", "content": "an example", "source": "input"},
        {"role": "assistant", "content": "its reply", "source": "input"},
        {"role": "user", "content": "go", "source": "input"},
        {"role": "assistant", "content": "done", "source": "generate"},
    ]
    _, (found,) = inspect(tmp_path, messages=given)
    assert (found.context_turns, [s.action for s in found.steps]) == (1, ["done"])


def test_hidden_reasoning_and_failed_calls_are_kept_aside(tmp_path: Path) -> None:
    thoughts = [
        {"type": "reasoning", "reasoning": "c2VjcmV0", "redacted": True, "summary": "in short"},
        {"type": "text", "text": "I call."},
    ]
    call = {"id": "c", "function": "run", "arguments": {}, "type": "function"}
    failed = {"role": "tool", "content": "partly", "tool_call_id": "c", "function": "run"}
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": thoughts, "tool_calls": [call]},
        {**failed, "error": {"type": "timeout", "message": "took too long"}},
        {"role": "assistant", "content": "done"},
    ]
    _, (found,) = inspect(tmp_path, messages=turns)
    assert (found.messages[1].reasoning, found.messages[2].content) == ("in short", "took too long")
    aside = json.loads(str(found.metadata["message_fields"]))
    assert aside["sample.messages.1"]["redacted"][0]["reasoning"] == "c2VjcmV0"
    assert aside["sample.messages.2"]["result"] == "partly"


def test_other_parts_of_inspect_are_refused(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": [{"type": "image", "image": "data:"}]}]
    report, _ = inspect(tmp_path, messages=turns)
    assert report.left_out[0].reason == ("sample.messages.0.content.0: a part of type 'image'; only text can be kept")


def test_the_tools_are_those_that_the_model_was_first_given(tmp_path: Path) -> None:
    tool = {"name": "search", "description": "d", "parameters": {"type": "object"}}
    events = [{"event": "state"}, {"event": "model", "tools": [tool]}, {"event": "model", "tools": []}]
    _, (found,) = inspect(tmp_path, events=events)
    assert [json.loads(text)["function"] for text in found.tools] == [tool]


def test_a_log_without_samples(tmp_path: Path) -> None:
    log = inspect_log([])
    report, _ = imported(tmp_path, log)
    assert [left.reason for left in report.left_out] == ["these results hold no run"]


# OpenHands


def openhands(history: list[Any], **changed: Any) -> dict[str, Any]:
    return {"instance_id": "a/1", "history": history, "report": {"resolved": True}, **changed}


def test_calls_of_one_reply_are_one_message() -> None:
    for events in (openhands_events(CALLED), sdk_events(CALLED)):
        assert read("openhands", openhands(events)).messages == CALLED


def test_early_versions_pair_actions_with_observations() -> None:
    events = openhands_events(CALLED)
    pairs = [events[index : index + 2] for index in range(0, len(events), 2)]
    assert read("openhands", openhands(pairs)).messages == CALLED


def test_a_reply_that_was_no_valid_call_is_answered_by_the_user() -> None:
    """Such a reply is not logged, and the model does not see it again either."""
    events = openhands_events(CALLED)
    events.insert(-1, {"source": "agent", "observation": "error", "content": "no such parameter", "extras": {}})
    found = read("openhands", openhands(events)).messages
    assert [(m.role, m.content) for m in found[-2:]] == [("user", "no such parameter"), ("assistant", "done")]


def test_what_surrounds_a_result_is_shown_with_it() -> None:
    events = openhands_events(CALLED)
    shown = next(event for event in events if event.get("observation") == "run")
    shown["extras"] = {"metadata": {"prefix": "[before]", "suffix": "\n[exit code 0]"}}
    assert read("openhands", openhands(events)).messages[2].content == "[before]a.py\n[exit code 0]"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"action": "delegate", "args": {}}, r"history.0: action 'delegate' cannot be read"),
        ({"observation": "hologram", "content": ""}, r"history.0: observation 'hologram' cannot be read"),
        (
            {"action": "run", "args": {"command": "ls"}},
            r"history.0: the reply that led to action 'run' is not",
        ),
        ({"action": "message", "args": {"content": "x", "image_urls": ["y"]}}, r"history.0.args.image_urls: only text"),
    ],
)
def test_events_that_cannot_be_read(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read("openhands", openhands([event, *openhands_events(HELLO)]))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"kind": "ACPToolCallEvent"}, r"history.0: an event of kind 'ACPToolCallEvent' cannot be read$"),
        (
            {"kind": "ConversationErrorEvent", "code": "APIError", "detail": "refused"},
            r"'ConversationErrorEvent' cannot be read: APIError: refused",
        ),
        ({"kind": "ObservationEvent", "observation": {"kind": "X"}}, r"history.0.observation: has no content; what X"),
    ],
)
def test_events_of_the_sdk_that_cannot_be_read(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read("openhands", openhands([event, *sdk_events(HELLO)]))


def test_condensations_are_counted() -> None:
    old = [{"action": "condensation", "args": {}}, *openhands_events(HELLO)]
    new = [{"kind": "Condensation"}, *sdk_events(HELLO)]
    assert [read("openhands", openhands(events)).metadata for events in (old, new)] == [{"condensations": 1}] * 2


def test_other_results_of_the_sdk() -> None:
    events = sdk_events(CALLED)
    first, second = (event for event in events if event["kind"] == "ObservationEvent")
    first |= {"kind": "AgentErrorEvent", "error": "no such tool"}
    second |= {"kind": "UserRejectObservation", "rejection_reason": "not now"}
    found = read("openhands", openhands(events)).messages
    assert [m.content for m in found[2:4]] == ["no such tool", "Action rejected: not now"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("RuntimeError: Agent reached maximum iteration in headless mode. Current iteration: 50", Outcome.TRUNCATED),
        ("AgentStuckInLoopError: Agent got stuck in a loop", Outcome.AGENT_ERROR),
        ("AgentRuntimeDisconnectedError: the container died", None),
    ],
)
def test_how_openhands_ends(error: str, outcome: Outcome | None) -> None:
    record = openhands(openhands_events(HELLO), error=error)
    if outcome is None:
        with pytest.raises(DataError, match=r"error: AgentRuntimeDisconnectedError: .* says nothing about the agent"):
            read("openhands", record)
    else:
        assert read("openhands", record).outcome is outcome


def test_the_report_beside_output_jsonl(tmp_path: Path) -> None:
    rows = [openhands(openhands_events(HELLO), instance_id=f"a__b-{n}", report=None) for n in range(3)]
    (tmp_path / "output.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lists = {"resolved_ids": ["a__b-0"], "unresolved_ids": ["a__b-1"], "error_ids": ["a__b-2"]}
    (tmp_path / "report.json").write_text(json.dumps(lists))
    report = import_files(tmp_path / "output.jsonl", tmp_path / "store.jsonl")
    assert {run.task: run.score for run in TrajectoryStore(tmp_path / "store.jsonl")} == {"a__b-0": 1.0, "a__b-1": 0.0}
    assert [left.reason.partition(":")[0] for left in report.left_out] == ["report.json"]


# rLLM


def rllm(*calls: list[str], **changed: Any) -> dict[str, Any]:
    """An episode with one call of the model per list of texts, of the user and the agent in turn."""
    steps = [
        {"chat_completions": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(call)]}
        for call in calls
    ]
    solver = {"name": "solver", "reward": 0.5, "steps": steps}
    return {"id": "t1:0", "is_correct": True, "trajectories": [solver], **changed}


def test_replies_before_the_first_call_are_context(tmp_path: Path) -> None:
    shown = ["example", "its reply", "go", "north"]
    _, (found,) = imported(tmp_path, rllm(shown, [*shown, "ok", "take key"]))
    assert (found.context_turns, [s.action for s in found.steps]) == (1, ["north", "take key"])
    assert (found.score, found.task) == (0.5, "t1")


@pytest.mark.parametrize("second", [["go", "south", "ok", "x"], ["go", "north", "ok", "x", "ok", "y"], ["go", "north"]])
def test_calls_that_are_no_conversation_are_refused(tmp_path: Path, second: list[str]) -> None:
    report, _ = imported(tmp_path, rllm(["go", "north"], second))
    assert report.left_out[0].reason.startswith("trajectory.steps.1.chat_completions: does not go on from the step")


def test_several_agents_of_an_episode_are_runs_of_their_own(tmp_path: Path) -> None:
    episode = rllm(["go", "north"], id="a:b:3")
    judge = {"name": "judge", "reward": None, "steps": episode["trajectories"][0]["steps"]}
    episode["trajectories"].append(judge)
    report, found = imported(tmp_path, episode)
    assert report.formats == {"rllm": 2}
    assert {run.task: run.score for run in found} == {"a:b/solver": 0.5, "a:b/judge": 1.0}
    named = {**episode, "trajectories": {one.pop("name"): one for one in episode["trajectories"]}}
    _, again = imported(tmp_path / "named", named)
    assert {run.task: run.score for run in again} == {"a:b/solver": 0.5, "a:b/judge": 1.0}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("env_done", Outcome.COMPLETED), ("max_turns_exceeded", Outcome.TRUNCATED), ("error", None)],
)
def test_how_episodes_end(tmp_path: Path, reason: str, outcome: Outcome | None) -> None:
    report, found = imported(tmp_path, rllm(["go", "north"], termination_reason=reason))
    assert [run.outcome for run in found] == ([outcome] if outcome else [])
    assert (report.left_out_count == 1) == (outcome is None)


# LLaMA-Factory


def parts(role: str, *told: tuple[str, Any], **changed: Any) -> dict[str, Any]:
    return {"role": role, "content": [{"type": kind, "value": value} for kind, value in told], **changed}


def test_replies_that_are_not_trained_are_context() -> None:
    turns = [
        parts("user", ("text", "example")),
        parts("assistant", ("text", "its reply"), loss_weight=0.0),
        parts("user", ("text", "go")),
        parts("assistant", ("text", "do"), ("text", "ne"), loss_weight=1.0),
    ]
    found = read("llamafactory", {"messages": turns, "score": 1})
    assert (found.context_turns, found.messages[-1].content) == (1, "done")


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (("image_url", "x.png"), r"messages.0.content.1: a part of type 'image_url'; only text can be kept"),
        (("tool_call", "{"), r"messages.0.content: a tool call that is not JSON"),
        (("text", 3), r"messages.0.content.1: a part of type 'text'"),
    ],
)
def test_parts_that_cannot_be_kept(part: tuple[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read("llamafactory", {"messages": [parts("assistant", ("text", "x"), part)], "score": 1})


# Rows of published datasets


def test_the_first_rows_of_nebius() -> None:
    trajectory = [
        {"role": "system", "system_prompt": "You code.", "text": None, "mask": False, "cutoff_date": "01.01.2023"},
        {"role": "user", "system_prompt": None, "text": "go", "mask": False, "cutoff_date": None},
        {"role": "ai", "system_prompt": None, "text": "done", "mask": True, "cutoff_date": None},
    ]
    row = {"instance_id": "a__b-1", "model_name": "m", "target": True, "exit_status": "submitted (exit_cost)"}
    found = read("hub-rows", {**row, "trajectory": trajectory})
    assert [(m.role, m.content) for m in found.messages] == [
        ("system", "You code."),
        ("user", "go"),
        ("assistant", "done"),
    ]
    assert (found.score, found.task, found.policy) == (("target", True), "a__b-1", "m")
    assert found.outcome is Outcome.TRUNCATED
    with pytest.raises(DataError, match="exit_status: 'early_exit' says that something other"):
        read("hub-rows", {**row, "trajectory": trajectory, "exit_status": "early_exit"})
    assert read("hub-rows", {**row, "trajectory": trajectory, "resolved": 0}).score == ("resolved", 0)


def test_rows_whose_messages_are_no_json() -> None:
    record = {"messages": '[{"role": "user"', "resolved": True}
    assert FORMATS["hub-rows"].recognises(record)
    with pytest.raises(DataError, match="messages: not JSON"):
        read("hub-rows", record)


def test_demonstrations_in_rows_are_context() -> None:
    turns = [
        {"role": "user", "content": "example", "is_demo": True},
        {"role": "assistant", "content": "its reply", "is_demo": True},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "done"},
    ]
    assert read("hub-rows", {"messages": json.dumps(turns), "resolved": True}).context_turns == 1


def test_plain_messages_are_not_taken_for_others() -> None:
    record = {"messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "done"}], "resolved": 1}
    assert next(name for name, known in FORMATS.items() if known.recognises(record)) == "messages"
