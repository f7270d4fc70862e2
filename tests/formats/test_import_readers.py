"""Runs written in the formats of others come back as they were, and what cannot be kept is refused."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.conversations import Run, as_atif, as_completion, as_messages, as_sharegpt, as_trace, lines_of, runs

from trajtree.errors import DataError
from trajtree.formats.read.detect import FORMATS, beginning_of
from trajtree.formats.read.to_trajectory import parted, trajectory_of
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Made, Message, Outcome, ToolCall, Trajectory

WRITERS: dict[str, tuple[Callable[[Run], dict[str, Any]], str, bool]] = {
    "messages": (as_messages, "messages", True),
    "completion": (as_completion, "messages", True),
    "atif": (as_atif, "atif", True),
    "trace": (as_trace, "verifiers", True),
    "sharegpt": (as_sharegpt, "sharegpt", False),
}
"""Writer, format, and whether it holds reasoning, text beside calls and ids."""


def read(record: dict[str, Any], name: str, *, score: str | None = None, task: str | None = None) -> Trajectory:
    found = FORMATS[name].read(record, score=score, task=task)
    return trajectory_of(found, name, (0.0, 1.0))


def plain(messages: tuple[Message, ...]) -> list[tuple[str, str, str, list[tuple[str, Any]]]]:
    """What a ShareGPT conversation can hold of messages."""
    return [
        (
            m.role,
            "" if m.tool_calls else m.content,
            m.reasoning or "",
            [(c.name, json.loads(c.arguments)) for c in m.tool_calls],
        )
        for m in messages
    ]


@pytest.mark.parametrize("kind", WRITERS)
@quick
@given(st.data())
def test_what_was_written_is_read(kind: str, data: st.DataObject) -> None:
    write, name, full = WRITERS[kind]
    run = data.draw(runs(tools=True, reasoning=full))
    found = read(json.loads(json.dumps(write(run))), name)
    if full:
        assert found.messages == run.messages
        assert tuple((s.observation, s.thought, s.action) for s in found.steps) == run.steps
    else:
        assert plain(found.messages) == plain(run.messages)
        assert [(s.observation, s.action) for s in found.steps] == [(o, a) for o, _, a in run.steps]
    assert found.score == float(run.score)
    assert [s.reward for s in found.steps] == [0.0] * (len(run.steps) - 1) + [float(run.score)]
    assert (found.context_turns, found.outcome, found.sample) == (0, Outcome.COMPLETED, 0)
    assert found.replies == tuple(i for i, m in enumerate(run.messages) if m.role == "assistant")


@quick
@given(runs(tools=True, reasoning=True))
def test_the_documents_of_the_tests_are_atif(run: Run) -> None:
    """Our idea of the format is that of its own package."""
    atif = pytest.importorskip("atif", reason="the package atif is not installed")
    atif.Trajectory.model_validate(as_atif(run))


@quick
@given(st.data())
def test_damaged_records_are_refused_not_crashed_on(data: st.DataObject) -> None:
    """Any value of a record may be missing or be anything else."""
    write, name, full = WRITERS[data.draw(st.sampled_from(sorted(WRITERS)))]
    record = json.loads(json.dumps(write(data.draw(runs(tools=True, reasoning=full)))))
    spots = list(places(record))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(spots))
        holder[key] = data.draw(
            st.sampled_from([None, [], {}, "", "x", 7, -1, 1e300, 10**400, True, [[]], [None], {"a": 1}])
        )
    try:
        found = read(record, name)
    except DataError as error:
        assert str(error)
    else:
        assert 0 <= found.score <= 1
        assert len(found.replies) == len(found.steps) > 0


def places(value: Any) -> Any:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


@pytest.mark.parametrize(
    ("text", "thought", "action"),
    [
        ("Thought: I look.\nAction: look", "I look.", "look"),
        ("Thought:\nI look.\n\nAction:\nsearch[a b]\n", "I look.", "search[a b]"),
        ("I look.\n  Action: look\naround ", "I look.", "look\naround"),
        ("Action: look", None, "look"),
        ("Thought: none of it", None, "Thought: none of it"),
        ("Thought: a\nAction:", None, "Thought: a\nAction:"),
        ("Reaction: x", None, "Reaction: x"),
        (" look ", None, " look "),
        ("<think>\nhm\n</think>\n\nlook", "hm", "look"),
        ("hm</think>look", "hm", "look"),
        ("<think>hm</think>Thought: so\nAction: look", "hm\nso", "look"),
        ("<think>only</think> ", None, "<think>only</think> "),
        ("", None, ""),
    ],
)
def test_replies_are_taken_apart(text: str, thought: str | None, action: str) -> None:
    assert parted(text) == (thought, action)


def test_taking_apart_is_linear() -> None:
    """A pattern that backtracks would never come back from these."""
    for text in (
        "\n" * 300_000,
        "Thought:" * 100_000,
        " \t" * 100_000 + "Action",
        "<think>" * 50_000,
        "Action:\n" * 50_000,
    ):
        parted(text)


# ShareGPT

ETO = {
    "id": "webshop_1",
    "conversations": [
        {"from": "human", "value": "You shop. Say OK."},
        {"from": "gpt", "value": "OK"},
        {"from": "human", "value": "Instruction: socks"},
        {"from": "gpt", "value": "Thought: I search.\nAction: search[socks]"},
        {"from": "human", "value": "Observation: results"},
        {"from": "gpt", "value": "no action here"},
        {"from": "human", "value": "Observation: what?"},
    ],
    "reward": 0.5,
}


def test_an_acknowledgement_is_context() -> None:
    found = read(ETO, "sharegpt")
    assert found.context_turns == 1
    assert [(s.observation, s.thought, s.action, s.reward) for s in found.steps] == [
        ("Instruction: socks", "I search.", "search[socks]", 0.0),
        ("Observation: results", None, "no action here", 0.5),
    ]
    assert [m.content for m in found.messages] == [turn["value"] for turn in ETO["conversations"]]
    assert found.task.startswith("instruction-socks-")


def test_the_same_prompt_is_the_same_task() -> None:
    other = copy.deepcopy(ETO)
    other["conversations"][3]["value"] = "Action: click[Back]"
    again = read(other, "sharegpt").task
    assert again == read(ETO, "sharegpt").task
    other["conversations"][2]["value"] = "Instruction: socks!"
    assert read(other, "sharegpt").task.startswith("instruction-socks-")
    assert read(other, "sharegpt").task != again


def test_without_actions_nothing_is_context() -> None:
    record = {"conversations": [{"from": "user", "value": "Q"}, {"from": "assistant", "value": "OK"}], "success": True}
    found = read(record, "sharegpt")
    assert (found.context_turns, len(found.steps), found.score) == (0, 1, 1.0)


def test_eto_names_its_files_for_the_tasks() -> None:
    record = {**ETO, "reward": None, "meta": {"reward": 0.5, "terminate_reason": "max_steps"}}
    found = FORMATS["sharegpt"].read(record, score=None, task=None)
    assert (found.score, found.named_by_file, found.outcome) == (("meta.reward", 0.5), True, Outcome.TRUNCATED)
    assert not FORMATS["sharegpt"].read(ETO, score=None, task=None).named_by_file


def test_agentgym_says_what_is_not_learned() -> None:
    record = {
        "item_id": "todo_3",
        "conversations": [
            {"from": "human", "loss": None, "value": "rules"},
            {"from": "gpt", "loss": False, "value": "OK"},
            {"from": "human", "loss": None, "value": "go"},
            {"from": "gpt", "loss": True, "value": "look"},
        ],
        "score": 1,
    }
    found = read(record, "sharegpt")
    assert (found.context_turns, found.task, [s.observation for s in found.steps]) == (1, "todo_3", ["go"])
    record["conversations"] += [{"from": "gpt", "loss": False, "value": "hm"}]  # type: ignore[operator]
    with pytest.raises(DataError, match="reply 3 is marked as not trained"):
        read(record, "sharegpt")


def test_llama_factory_tools() -> None:
    record = {
        "system": "You help.",
        "tools": json.dumps([{"name": "get", "description": "d", "parameters": {}}]),
        "conversations": [
            {"from": "human", "value": "Q"},
            {"from": "function_call", "value": '{"name": "get", "arguments": {"b": 1, "a": "é"}}'},
            {"from": "observation", "value": "7"},
            {"from": "gpt", "value": "It is 7."},
        ],
        "score": 1.0,
    }
    found = read(record, "sharegpt")
    assert [m.role for m in found.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert [(s.observation, s.action) for s in found.steps] == [("Q", 'get({"a": "é", "b": 1})'), ("7", "It is 7.")]
    assert [json.loads(t) for t in found.tools] == [
        {"type": "function", "function": {"name": "get", "description": "d", "parameters": {}}}
    ]


# Messages


def test_openai_messages() -> None:
    tool = {"type": "function", "function": {"name": "get", "parameters": {}}}
    record = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "You "}, {"type": "text", "text": "help."}]},
            {"role": "user", "content": "example"},
            {"role": "assistant", "content": "answer", "weight": 0},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": None, "function_call": {"name": "get", "arguments": '{"a": 1}'}},
            {"role": "function", "name": "get", "content": "7"},
            {"role": "assistant", "content": "It is 7.", "weight": 1},
        ],
        "tools": [tool],
        "score": 1,
        "model": "m",
        "finish_reason": "length",
        "task_id": 12,
    }
    found = read(record, "messages")
    assert found.messages[0] == Message("system", "You help.")
    assert found.messages[4] == Message("assistant", "", tool_calls=(ToolCall("", "get", '{"a": 1}'),))
    assert found.messages[5] == Message("tool", "7", name="get")
    assert (found.context_turns, found.policy, found.task, found.outcome) == (1, "m", "12", Outcome.TRUNCATED)
    assert [(s.observation, s.action) for s in found.steps] == [("Q", 'get({"a": 1})'), ("7", "It is 7.")]
    assert [json.loads(t) for t in found.tools] == [tool]


def test_replies_in_a_prompt_are_context() -> None:
    said = [{"role": r, "content": c} for r, c in (("user", "1"), ("assistant", "2"), ("user", "3"))]
    found = read({"prompt": said, "completion": [{"role": "assistant", "content": "4"}], "score": 0}, "messages")
    assert (found.context_turns, [(s.observation, s.action) for s in found.steps]) == (1, [("3", "4")])
    text = read({"prompt": "Q", "completion": "A", "score": 0}, "messages")
    assert text.messages == (Message("user", "Q"), Message("assistant", "A"))


def reply(**fields: Any) -> Message:
    return read({"messages": [{"role": "assistant", **fields}], "score": 1}, "messages").messages[0]


DETAILS = [{"type": "reasoning.summary", "summary": "plan"}, {"type": "reasoning.text", "text": "north is free"}]
BLOCKS = [{"type": "thinking", "thinking": "south", "signature": "s"}, {"type": "redacted_thinking", "data": "xx"}]


def test_a_refusal_is_what_was_said() -> None:
    assert reply(content=None, refusal="I cannot.") == Message("assistant", "I cannot.")
    assert reply(content="Yes", refusal=None) == Message("assistant", "Yes")
    with pytest.raises(DataError, match=r"messages\.0\.refusal: .* this one has both"):
        reply(content="Yes", refusal="No")


def test_thoughts_are_found_wherever_they_stand() -> None:
    assert reply(content="go", reasoning_details=DETAILS) == Message("assistant", "go", "plan\nnorth is free")
    assert reply(content="go", thinking_blocks=BLOCKS) == Message("assistant", "go", "south")
    assert reply(content="go", reasoning_content="said", thinking_blocks=BLOCKS).reasoning == "said"
    assert reply(content="go", thinking_blocks=BLOCKS[1:]) == Message("assistant", "go")
    with pytest.raises(DataError, match="reasoning_details: must be a list, got str"):
        reply(content="go", reasoning_details="plan")


def test_fields_that_nobody_knows_are_kept_in_the_metadata() -> None:
    """What is known to hold nothing of the conversation, and what is empty, is not."""
    messages = [
        {"role": "user", "content": "Q", "id": "m1", "timestamp": "now", "audio": None},
        {"role": "assistant", "content": "A", "agent": "planner", "extra": {}, "usage": {"n": 3}, "half": "\ud800"},
        {"role": "user", "content": "R"},
        {"role": "assistant", "content": "B", "thinking_blocks": BLOCKS},
    ]
    found = read({"messages": messages, "score": 1}, "messages")
    assert json.loads(str(found.metadata["message_fields"])) == {
        "messages.1": {"agent": "planner", "half": "\ud800"},
        "messages.3": {"thinking_blocks": BLOCKS[1:]},
    }
    assert read({"messages": messages[:1] + messages[3:], "score": 1}, "messages").messages[1].reasoning == "south"
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A", "tool_calls": [1]}]
    assert read({"conversations": turns, "score": 1}, "sharegpt").metadata == {
        "message_fields": '{"conversations.1": {"tool_calls": [1]}}'
    }
    step = {"source": "agent", "message": "look", "metrics": {"tokens": 3}, "plan": "b"}
    assert read(atif(USER, step), "atif").metadata == {"message_fields": '{"steps.1": {"plan": "b"}}'}
    assert read(
        trace(node(None, "user", "Q", False), {"parent": 0, "message": {**CHAT[1]["message"], "x": "y"}}), "verifiers"
    ).metadata == {"message_fields": '{"messages.1": {"x": "y"}}'}


@pytest.mark.parametrize("name", ["images", "image", "videos", "video", "audios", "audio"])
def test_a_message_with_more_than_text_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"messages\.0\.{name}: only text can be kept"):
        reply(content="see", **{name: {"data": "x"}})


@pytest.mark.parametrize("role", ["assistant", "user"])
def test_an_empty_message_that_may_have_its_text_elsewhere_is_refused(role: str) -> None:
    said = [{"role": role, "content": "", "output": "north"}, {"role": "assistant", "content": "x"}]
    with pytest.raises(DataError, match=r"messages\.0: has no content, but 'output', which may be what was said"):
        read({"messages": said, "score": 1}, "messages")
    turns = [{"from": "gpt", "value": "", "text": "north"}]
    with pytest.raises(DataError, match=r"conversations\.0\.value: is empty, and another field may contain"):
        read({"conversations": turns, "score": 1}, "sharegpt")
    assert reply(content="", n=3) == Message("assistant", "")


def test_a_run_that_begins_with_a_result_is_refused() -> None:
    said = [{"role": "system", "content": "s"}, {"role": "tool", "content": "7"}, {"role": "assistant", "content": "x"}]
    with pytest.raises(DataError, match=r"the first one is a tool's result, .* --run FIELD"):
        read({"messages": said, "score": 1}, "messages")


# ATIF


def atif(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    numbered = [{"step_id": i, "message": "", **s} for i, s in enumerate(steps, start=1)]
    agent = {"name": "hand", "version": "1"}
    return {"schema_version": "ATIF-v1.6", "agent": agent, "steps": numbered, "extra": {"score": 1}, **changes}


CALL = {"tool_call_id": "c", "function_name": "get", "arguments": {"a": 1}}
USER = {"source": "user", "message": "Q"}
AGENT = {"source": "agent", "message": "look", "llm_call_count": 1}


def test_atif_observations() -> None:
    both = [{"source_call_id": "c", "content": "7"}, {"content": [{"type": "text", "text": "by the way"}]}]
    found = read(
        atif(
            {"source": "system", "observation": {"results": [{"content": "booted"}]}},
            USER,
            {**AGENT, "message": "", "tool_calls": [CALL], "observation": {"results": both}},
            {**AGENT, "tool_calls": [{**CALL, "tool_call_id": "d"}], "observation": {"results": [{"content": "8"}]}},
            {**AGENT, "observation": {"results": [{"content": "you see"}]}},
            AGENT,
        ),
        "atif",
    )
    assert [(m.role, m.content, m.tool_call_id) for m in found.messages if m.role != "assistant"] == [
        ("user", "booted", None),
        ("user", "Q", None),
        ("tool", "7", "c"),
        ("user", "by the way", None),
        ("tool", "8", "d"),
        ("user", "you see", None),
    ]
    assert [s.observation for s in found.steps] == ["booted\nQ", "7\nby the way", "8", "you see"]
    assert found.policy == "hand"


def heard(*steps: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    found = read(atif(USER, *steps), "atif")
    assert len(found.replies) == len(found.steps)
    return [(m.role, m.content, m.tool_call_id) for m in found.messages[1:]]


TWO = [CALL, {**CALL, "tool_call_id": "d"}]
ALL = "a tool's answer to every call"


@pytest.mark.parametrize("named", [{"source_call_id": "c"}, {}])
def test_atif_step_that_only_holds_an_observation_is_no_reply(named: dict[str, str]) -> None:
    observed = {"source": "agent", "message": "", "observation": {"results": [{"content": "a door", **named}]}}
    assert heard({**AGENT, "tool_calls": [CALL]}, observed, AGENT) == [
        ("assistant", "look", None),
        ("tool", "a door", "c"),
        ("assistant", "look", None),
    ]
    if not named:
        assert heard(AGENT, observed, AGENT)[1] == ("user", "a door", None)


def test_atif_step_that_repeats_a_calls_result_as_a_message_is_no_reply() -> None:
    def step(message: object, result: object) -> dict[str, Any]:
        return {"source": "agent", "message": message, "observation": {"results": [{"content": result}]}}

    parts = [{"type": "text", "text": "a wall"}]
    call = {**AGENT, "tool_calls": TWO}
    assert heard(call, step("a door", "a door"), step(parts, parts), AGENT) == [
        ("assistant", "look", None),
        ("tool", "a door", "c"),
        ("tool", "a wall", "d"),
        ("assistant", "look", None),
    ]
    # Said by the agent itself, or an echo: nothing was called.
    assert heard(call, step("I see it", "a door"), AGENT)[1] == ("assistant", "I see it", None)
    assert heard(step("go", "go"), AGENT)[:2] == [("assistant", "go", None), ("user", "go", None)]


@pytest.mark.parametrize(
    ("results", "answers"),
    [
        ([{}], [ALL]),
        ([{}, {}], ["c", "d"]),
        ([{}, {}, {}], ["c", "d", None]),
        ([{}, {"source_call_id": "c"}], ["d", "c"]),
        ([{"source_call_id": "c"}, {"source_call_id": "d"}, {}], ["c", "d", None]),
    ],
)
def test_atif_results_without_a_call_answer_the_first_open_one(
    results: list[dict[str, str]], answers: list[str | None]
) -> None:
    observed = {"results": [{"content": "$ ok", **result} for result in results]}
    found = heard({**AGENT, "tool_calls": TWO, "observation": observed}, AGENT)
    assert found[1:-1] == [("user" if a is None else "tool", "$ ok", None if a == ALL else a) for a in answers]


@pytest.mark.parametrize("mark", [{"is_copied_context": True}, {"llm_call_count": 0}])
def test_atif_steps_that_no_model_made(mark: dict[str, Any]) -> None:
    copied = {**AGENT, **mark, "observation": {"results": [{"content": "a room"}]}}
    found = read(atif(USER, copied, {**AGENT, "message": "go"}), "atif")
    assert (found.context_turns, [(s.observation, s.action) for s in found.steps]) == (1, [("a room", "go")])
    with pytest.raises(DataError, match="reply 2 was copied or made without a model"):
        read(atif(USER, AGENT, copied, AGENT), "atif")


def test_atif_metadata() -> None:
    definition = {"type": "function", "function": {"name": "get"}}
    agent = {"name": "hand", "version": "1", "model_name": "m", "tool_definitions": [definition]}
    extra = {"reward": 0.5, "instance_id": "i-1", "truncated": True}
    found = read(atif(USER, AGENT, agent=agent, extra=extra), "atif")
    assert (found.policy, found.score, found.task, found.outcome) == ("m", 0.5, "i-1", Outcome.TRUNCATED)
    assert [json.loads(t) for t in found.tools] == [definition]
    late = atif(USER, {**AGENT, "model_name": "n"}, extra=None, final_metrics={"extra": {"reward": 0.25}})
    assert (read(late, "atif").policy, read(late, "atif").score) == ("n", 0.25)


IMAGE = [{"type": "image", "source": {"media_type": "image/png", "path": "a.png"}}]
SUBAGENT = [{"trajectory_path": "b.json"}]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (atif(USER, AGENT, schema_version="ATIF-v2.0"), "schema_version: 'ATIF-v2.0'"),
        (atif(USER, {**AGENT, "message": IMAGE}), "steps.1.message.0: a part of type 'image'"),
        (
            atif(USER, {**AGENT, "observation": {"results": [{"content": IMAGE}]}}),
            "results.0.content.0: a part of type",
        ),
        (
            atif(
                USER,
                {**AGENT, "tool_calls": [CALL], "observation": {"results": [{"subagent_trajectory_ref": SUBAGENT}]}},
            ),
            "subagent_trajectory_ref: the call's result is recorded only in a subagent's run",
        ),
        (atif(USER, AGENT, subagent_trajectories=[atif(AGENT)]), "subagent_trajectories: "),
        (atif(USER, AGENT, continued_trajectory_ref="next.json"), "continued_trajectory_ref: "),
        (atif(USER, AGENT, session_id="s-cont-2"), "session_id: this is the later part of a run"),
        (atif(USER, AGENT, agent={"extra": {"continuation_index": 1}}), "session_id: this is the later part of a run"),
        (atif(USER, AGENT, agent={"extra": {"summarization_index": 1}}), "a helper call that summarises"),
        (atif(USER, {**AGENT, "tool_calls": [{"function_name": "get"}]}), "steps.1.tool_calls.0: a call needs"),
        (atif({**USER, "tool_calls": [CALL]}, AGENT), "steps.0: only an agent's step"),
        (atif(USER, {**AGENT, "source": "robot"}), "steps.1.source: 'robot'"),
        (
            atif(USER, {**AGENT, "observation": {"results": [{"source_call_id": "z"}]}}),
            "source_call_id: 'z' is not a call",
        ),
        (atif(USER), "the agent never replies"),
        (atif(USER, AGENT, extra={}), "no score: none of .*extra.score, extra.reward"),
    ],
)
def test_what_atif_may_hold_and_we_cannot(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read(record, "atif")


# verifiers


def node(parent: int | None, role: str, content: str, sampled: bool | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"parent": parent, "message": {"role": role, "content": content}}
    return made if sampled is None else {**made, "sampled": sampled}


def trace(*nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    rewards = {"r": {"score": 1.0, "weight": 0.5}, "s": {"score": 0.5, "weight": 0.5}, "t": None}
    return {"version": 1, "task": {"key": "k", "hash": "h"}, "nodes": list(nodes), "rewards": rewards, **changes}


CHAT = (node(None, "user", "Q", False), node(0, "assistant", "A", True))


def test_the_last_branch_is_the_run() -> None:
    found = read(trace(*CHAT, node(1, "user", "dead end", False), node(0, "assistant", "B", True)), "verifiers")
    assert [m.content for m in found.messages] == ["Q", "B"]
    assert (found.metadata, found.score, found.task) == ({"branches": 2}, 0.75, "k")
    assert read(trace(*CHAT), "verifiers").metadata == {}


def test_only_sampled_replies_are_the_agents() -> None:
    made_up = (node(None, "user", "Q", False), node(0, "assistant", "example", False), node(1, "user", "R", False))
    found = read(trace(*made_up, node(2, "assistant", "A", True)), "verifiers")
    assert (found.context_turns, [(s.observation, s.action) for s in found.steps]) == (1, [("R", "A")])
    with pytest.raises(DataError, match="reply 2 was not written by the model"):
        read(trace(*CHAT, node(1, "assistant", "forged", False)), "verifiers")


@pytest.mark.parametrize(
    "changes",
    [
        {"stop_condition": "max_turns"},
        {"stop_condition": "max_total_tokens"},
        {"is_completed": False},
        {"calls": [{"finish_reason": "stop"}, {"finish_reason": "length"}]},
        {"nodes": [CHAT[0], {**CHAT[1], "finish_reason": "length"}]},
    ],
)
def test_traces_that_were_cut_short(changes: dict[str, Any]) -> None:
    assert read(trace(*CHAT, **changes), "verifiers").outcome is Outcome.TRUNCATED
    done = trace(*CHAT, stop_condition="agent_completed", is_completed=True, calls=[{"finish_reason": "stop"}])
    assert read(done, "verifiers").outcome is Outcome.COMPLETED


ERRORS = [{"type": "ProviderError", "message": "503"}]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (trace(*CHAT, rewards={"r": None}, errors=ERRORS), "errors: ProviderError: 503; the run failed"),
        (trace(*CHAT, rewards={}), "no score: none of reward, score"),
        (trace(*CHAT, rewards={"r": "x"}), r"rewards\.r: must be"),
        (trace(*CHAT, rewards={"r": 2}), "rewards: 2.0 is outside"),
        (trace(*CHAT, node(7, "user", "x")), r"nodes\.2\.parent: 7"),
        (trace(*CHAT, node(2, "user", "x")), r"nodes\.2\.parent: 2"),
        (trace(*CHAT, node(True, "user", "x")), r"nodes\.2\.parent: True"),
        ({"prompt": "Q", "completion": "A", "reward": 0.0, "error": {"error": "boom"}}, "error: boom; the run failed"),
    ],
)
def test_traces_that_say_nothing_about_the_agent(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read(record, "verifiers")


def test_a_reward_that_was_given_counts_in_spite_of_errors() -> None:
    assert read(trace(*CHAT, rewards={"r": 0.25}, errors=ERRORS), "verifiers").score == 0.25


def test_older_traces() -> None:
    bare = [{"message": n["message"]} for n in CHAT]
    found = read({"task": {"hash": "h"}, "nodes": bare, "reward": 1}, "verifiers")
    assert ([m.content for m in found.messages], found.task, found.score) == (["Q", "A"], "h", 1.0)
    call = json.dumps({"id": "c", "type": "function", "function": {"name": "get", "arguments": "{}"}})
    said = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "c"},
    ]
    row = {
        "prompt": [{"role": "user", "content": "Q"}],
        "completion": said,
        "reward": 1,
        "example_id": 3,
        "task": "math",
    }
    old = read(row, "verifiers")
    assert (old.task, old.steps[0].action, old.messages[2].tool_call_id) == ("math/3", "get({})", "c")


# Fields


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"score": "high"}, 'score: "high" is not a score; name a field with a number: --score FIELD'),
        ({"score": 7}, r"score: 7 is outside \[0, 1\]; .*--score-range LOW HIGH"),
        ({"score": -0.1}, "score: -0.1 is outside"),
        ({"score": 1.0001}, "score: 1.0001 is outside"),
        ({"score": float("inf")}, "score: Infinity is outside"),
        ({"score": float("nan")}, "score: NaN is outside"),
        ({"score": 10**400}, "score: 1000.* is outside"),
        ({"score": 10**5000}, "score: int is outside"),
        ({"score": [1]}, r"score: \[1\] is not a score"),
        (
            {},
            "no score: none of score, reward, final_reward, success, .* is there; say where it is",
        ),
        ({"score": 1, "images": ["a.png"]}, "images: only text"),
        ({"score": 1, "tools": "a hammer"}, "tools: not JSON"),
        (
            {"score": 1, "messages": [{"role": "assistant", "content": [{"type": "image_url"}]}]},
            "only text can be kept",
        ),
        (
            {
                "score": 1,
                "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": [1]}}]}],
            },
            "must be a JSON object or its text",
        ),
    ],
)
def test_reasons_name_the_field_and_the_way_out(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read({"messages": [{"role": "assistant", "content": "x"}], **record}, "messages")


@pytest.mark.parametrize(
    ("call", "read_as"),
    [
        ({"id": "p", "function": {"name": "run", "arguments": '{"a": '}}, ToolCall("p", "run", '{"a": ')),
        ({"id": "p", "function": {"name": "run", "arguments": "[1]"}}, ToolCall("p", "run", "[1]")),
        ({"id": "p", "function": {"name": "run", "arguments": ""}}, ToolCall("p", "run", "{}")),
        (
            {"id": "p", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
            ToolCall("p", "patch", "*** Begin"),
        ),
        ({"id": "p", "type": "custom", "custom": {"name": "patch", "input": ""}}, ToolCall("p", "patch", "")),
    ],
)
def test_arguments_are_kept_as_the_agent_wrote_them(call: dict[str, Any], read_as: ToolCall) -> None:
    found = read({"messages": [{"role": "assistant", "tool_calls": [call]}], "score": 0}, "messages")
    assert found.messages[0].tool_calls == (read_as,)
    assert found.steps[0].action == f"{read_as.name}({read_as.arguments})"


def test_fields_that_are_asked_for() -> None:
    record = {**as_messages(Run((Message("assistant", "x"),), (), 0)), "a": {"b": [{"s": 0.5}]}, "c.d": 1, "e": "t"}
    assert read(record, "messages", score="a.b.0.s", task="e").score == 0.5
    assert read(record, "messages", score="c.d", task="e").task == "t"
    with pytest.raises(DataError, match=r"a\.b\.1\.s: no such field; --score"):
        read(record, "messages", score="a.b.1.s")
    with pytest.raises(DataError, match=r"a: .* does not name a task; --task"):
        read(record, "messages", task="a")
    with pytest.raises(DataError, match=r"nope: no such field; --task"):
        read(record, "messages", task="nope")


def test_a_field_that_is_misspelt_is_answered_with_those_there_are() -> None:
    record = {"messages": [{"role": "assistant", "content": "x"}], "info": {"reward": 0.5, "judge": {}}, "name": "t"}
    with pytest.raises(DataError) as score:
        read(record, "messages", score="info.rewrd")
    assert str(score.value) == (
        "info.rewrd: no such field; --score must name the one that holds the score; did you mean 'info.reward'?; "
        "the fields are messages, info.reward, info.judge, name"
    )
    with pytest.raises(DataError, match=r"--task must name .*; did you mean 'name'\?; the fields are messages, info"):
        read(record, "messages", score="info.reward", task="nam")
    with pytest.raises(DataError, match=r"no score: none of .* the fields are messages, info\.reward"):
        read(record, "messages")
    many = {**record, **{f"f{i}": i for i in range(100)}}
    with pytest.raises(DataError, match=r"f19 and 80 more$"):
        read(many, "messages", score="zzz")


@pytest.mark.parametrize(
    ("score", "expected"), [(1.0000000000000002, 1.0), (-1e-17, 0.0), (1 + 5e-7, 1.0), (-5e-7, 0.0), (0.5, 0.5)]
)
def test_scores_beside_the_edge_by_a_rounding_are_the_edge(score: float, expected: float) -> None:
    record = {"messages": [{"role": "assistant", "content": "x"}], "score": score}
    assert read(record, "messages").score == expected
    wide = FORMATS["messages"].read({**record, "score": score * 100}, score=None, task=None)
    assert trajectory_of(wide, "messages", (0.0, 100.0)).score == expected


def test_half_a_character_in_arguments_is_refused() -> None:
    call = {"function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}
    with pytest.raises(DataError, match="half a character"):
        read({"messages": [{"role": "assistant", "tool_calls": [call]}], "score": 1}, "messages")


@pytest.mark.parametrize("kind", WRITERS)
@quick
@given(st.data())
def test_the_format_is_recognised(kind: str, data: st.DataObject) -> None:
    write, name, full = WRITERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        path.write_text("{broken\n" + lines_of([write(data.draw(runs(tools=True, reasoning=full)))]))
        assert beginning_of(path).format == name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no run found: the file is empty"),
        ("hello\n", "no run found: not JSON"),
        (
            '{"chosen": 1, "rejected": 2}',
            "line 1: in no known format .its fields: chosen, rejected.; known formats: atif",
        ),
    ],
)
def test_other_files_are_in_no_format(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(DataError, match=reason) as caught:
        beginning_of(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"schema_version": "ATIF-v9", "nodes": [], "messages": []}, "atif"),
        ({"nodes": [], "conversations": [{"from": "human"}]}, "verifiers"),
        ({"conversations": [{"from": "human"}], "prompt": "", "completion": "", "example_id": 1}, "sharegpt"),
        ({"conversations": [{"role": "user"}], "prompt": "", "completion": "", "example_id": 1}, "messages"),
        ({"conversations": ["hello"], "prompt": "", "completion": "", "example_id": 1}, "verifiers"),
        ({"prompt": "", "completion": ""}, "messages"),
    ],
)
def test_a_record_with_marks_of_several_formats(tmp_path: Path, record: dict[str, Any], name: str) -> None:
    (tmp_path / "x.jsonl").write_text(lines_of([record]))
    assert beginning_of(tmp_path / "x.jsonl").format == name


def test_example_rows_of_verifiers_v0_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(lines_of([{"prompt": [], "completion": [], "reward": 1, "example_id": 0}]))
    assert beginning_of(path).format == "verifiers"


def aside(**fields: Any) -> Any:
    found = read({"messages": [{"role": "assistant", "content": "go", **fields}], "score": 1}, "messages")
    kept = json.loads(str(found.metadata.get("message_fields", "{}"))).get("messages.0", {})
    return found.messages[0].reasoning, kept


def test_thoughts_beside_the_thoughts_that_are_read_are_kept() -> None:
    assert aside(reasoning_content="a b", reasoning="a  b") == ("a b", {})
    assert aside(reasoning_content="a b and c", reasoning="and c") == ("a b and c", {})
    assert aside(reasoning_content="a", reasoning="b") == ("a", {"reasoning": "b"})
    assert aside(reasoning="a", reasoning_details=DETAILS) == ("a", {"reasoning_details": DETAILS})
    assert aside(reasoning="plan\n\nnorth is free", reasoning_details=DETAILS) == ("plan\n\nnorth is free", {})
    assert aside(reasoning="south", thinking_blocks=BLOCKS) == ("south", {"thinking_blocks": BLOCKS[1:]})


SAID = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
STEPS = [{"source": "user", "message": "Q"}, {"source": "agent", "message": "A"}]
BESIDE = [
    ("messages", {"messages": SAID, "score": 1}, ("system", "system_prompt", "instructions")),
    ("messages", {"prompt": SAID[:1], "completion": SAID[1:], "score": 1}, ("system", "system_prompt", "instructions")),
    ("messages", {"prompt": "Q", "completion": "A", "score": 1}, ("system", "instructions")),
    ("verifiers", {"prompt": "Q", "completion": "A", "reward": 1, "example_id": 1}, ("system", "system_prompt")),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "score": 1},
        ("system", "system_prompt", "instructions"),
    ),
    (
        "atif",
        {"schema_version": "ATIF-v1.7", "steps": STEPS, "extra": {"score": 1}},
        ("agent.extra.system_prompt", "agent.extra.instructions"),
    ),
]


@pytest.mark.parametrize(("name", "record", "places"), BESIDE)
def test_instructions_beside_the_messages_are_the_system_message(
    name: str, record: dict[str, Any], places: tuple[str, ...]
) -> None:
    for place in places:
        for value in ("Be kind.", [{"type": "text", "text": "Be kind."}]):
            found: Any = value
            for key in reversed(place.split(".")):
                found = {key: found}
            assert read({**record, **found}, name).messages == (
                Message("system", "Be kind."),
                Message("user", "Q"),
                Message("assistant", "A"),
            )
        with pytest.raises(DataError, match=f"{place}: must be text, got int"):
            broken: Any = 7
            for key in reversed(place.split(".")):
                broken = {key: broken}
            read({**record, **broken}, name)


def test_instructions_that_contradict_the_first_message_are_refused() -> None:
    document = {**BESIDE[-1][1], "steps": [{"source": "system", "message": "Be kind."}, *STEPS]}
    assert len(read({**document, "agent": {"extra": {"system_prompt": "Be kind."}}}, "atif").messages) == 3
    with pytest.raises(DataError, match="begin with another system message"):
        read({**document, "agent": {"extra": {"system_prompt": "Be cruel."}}}, "atif")


def test_how_replies_were_made_is_kept() -> None:
    """Wherever the format has it; a model is repeated only where it is not the run's."""
    ids = [5, 7]
    openai = {"content": [{"token": "x", "logprob": -0.5}, {"token": "y", "logprob": -1}]}
    said = [
        {"role": "user", "content": "Q", "timestamp": "t0"},
        {"role": "assistant", "content": "A", "model": "weak", "timestamp": "t1", "token_ids": ids, "logprobs": openai},
        {"role": "user", "content": "R"},
        {"role": "assistant", "content": "B", "model": "strong", "created": 17, "usage": {"cost": 0.5}},
    ]
    found = read({"messages": said, "score": 1, "model": "weak"}, "messages")
    assert found.made == (
        Made(time="t1", token_ids=(5, 7), logprobs=(-0.5, -1.0)),
        Made(model="strong", time="17", cost=0.5),
    )
    assert found.first(1).made == found.made[:1]
    alone = read({"messages": said[:2], "score": 1}, "messages")
    assert (alone.policy, alone.made[0].model) == ("weak", None)
    assert read({"prompt": said[:1], "completion": said[1:2], "reward": 1, "example_id": 1}, "verifiers").made[0] == (
        Made(model="weak", time="t1", token_ids=(5, 7), logprobs=(-0.5, -1.0))
    )
    metrics = {"cost_usd": 0.25, "completion_token_ids": ids, "logprobs": [-1, -2]}
    steps = [
        {"source": "user", "message": "Q"},
        {"source": "agent", "message": "A", "timestamp": "t", "metrics": metrics},
    ]
    document = {"schema_version": "ATIF-v1.7", "steps": steps, "extra": {"score": 1}}
    assert read(document, "atif").made == (Made(time="t", cost=0.25, token_ids=(5, 7), logprobs=(-1.0, -2.0)),)


@pytest.mark.parametrize(
    "value", [None, [], {}, "x", [None], [1.5], [10**30], [-1], {"content": None}, float("nan"), True]
)
def test_what_is_no_token_or_cost_is_not_taken_for_one(value: Any) -> None:
    reply = {"role": "assistant", "content": "A", "token_ids": value, "cost": value}
    assert read({"messages": [reply], "score": 1}, "messages").made == ()
    store_row(read({"messages": [{**reply, "logprobs": value, "time": value}], "score": 1}, "messages"))


def store_row(run: Trajectory) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(Path(folder) / "s.jsonl", create=True)
        store.append([run])
        assert list(store) == [run]


def test_an_agent_of_calls_that_talks_first_acts_from_its_first_reply() -> None:
    turns = [
        {"from": "human", "value": "A recipe, please."},
        {"from": "gpt", "value": "What do you have?"},
        {"from": "human", "value": "Eggs."},
        {"from": "function_call", "value": '{"name": "search", "arguments": {"of": "eggs"}}'},
        {"from": "observation", "value": "Omelette"},
        {"from": "gpt", "value": "Action: an omelette."},
    ]
    found = read({"conversations": turns, "score": 1, "task": "t"}, "sharegpt")
    assert (found.context_turns, len(found.steps)) == (0, 3)


ASKED = {
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}]},
    "messages": {"messages": [{"role": "user", "content": "Hi"}]},
}
ANSWERED = {
    "sharegpt": {"conversations": [*ASKED["sharegpt"]["conversations"], {"from": "gpt", "value": "Yes?"}]},
    "messages": {"messages": [*ASKED["messages"]["messages"], {"role": "assistant", "content": "Yes?"}]},
}


@pytest.mark.parametrize("of", ["", "_messages", "_response"])
@pytest.mark.parametrize("name", ASKED)
def test_a_preference_is_not_a_run(name: str, of: str) -> None:
    for run, side in ((ASKED[name], "A"), (ASKED[name], {"value": "A"}), (ANSWERED[name], [])):
        row = {**run, f"chosen{of}": side, f"rejected{of}": side, "score": 1, "task": "t"}
        with pytest.raises(DataError, match=f"^chosen{of}, rejected{of}: a preference"):
            read(row, name)
    for other in ({"chosen": True, "rejected": False}, {"chosen": "model-a", "rejected": "model-b"}):
        assert read({**ANSWERED[name], **other, "score": 1, "task": "t"}, name).score == 1


def test_a_preference_in_no_known_format_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "dpo.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "chosen": "A", "rejected": "B"}))
    with pytest.raises(DataError, match="a preference"):
        beginning_of(path)


def test_a_table_of_text_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("run,saw,did\n1,a room,look\n")
    with pytest.raises(DataError, match=r"steps\.csv: no run found: tables of text are not read; write a JSON object"):
        beginning_of(path)
