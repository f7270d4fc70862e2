"""Runs come back from every target as they were, with what is trained, or the target says why it cannot hold them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import atif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.builders import quick
from tests.formats.export_cases import (
    Can,
    own_replies,
    plain,
    read_atif,
    read_messages,
    read_sharegpt,
    read_swift,
    run,
    runs,
)

from trajtree.errors import DataError
from trajtree.formats.write import TRAJECTORY_TARGETS
from trajtree.trajectory import Message, ToolCall, Trajectory

NO_CONTEXT = Can(context=False)
SHAREGPT = Can(tags=False, context=False, several=False, text_beside_calls=False, ids=False)
HOLDS = {
    "trl": NO_CONTEXT,
    "trl-completion": Can(),
    "ms-swift": Can(ids=False, tags=False),
    "sharegpt": SHAREGPT,
    "llamafactory": SHAREGPT,
    "axolotl": Can(),
    "openai": Can(thoughts=False),
    "atif": Can(),
}
USER, YES = Message("user", "Buy a red shoe."), Message("assistant", "click[Red]")
CALLS = Message("assistant", "", tool_calls=(ToolCall("c1", "go", "{}"), ToolCall("c2", "look", "{}")))
FIRST, SECOND = (Message("tool", "ok", tool_call_id=call) for call in ("c1", "c2"))


def read(target: str, row: dict[str, Any]) -> tuple[list[Message], list[bool]]:
    """The messages, and for every reply whether it is trained."""
    if target == "trl-completion":
        before, after = read_messages(row["prompt"]), read_messages(row["completion"])
        return [*before, *after], [side is after for side in (before, after) for m in side if m.role == "assistant"]
    if target in ("sharegpt", "llamafactory"):
        messages = read_sharegpt(row["conversations"])
        return messages, [True for m in messages if m.role == "assistant"]
    if target == "atif":
        agents = [step for step in row["steps"] if step["source"] == "agent"]
        return read_atif(row), [not step.get("is_copied_context", False) for step in agents]
    if target == "ms-swift":
        found = read_swift(row["messages"])
        return [m for m, _ in found], [loss for m, loss in found if m.role == "assistant"]
    messages = read_messages(row["messages"])
    flag = {"axolotl": "train", "openai": "weight"}.get(target)
    for line in row["messages"]:
        assert line["role"] == "assistant" or not line.get(flag or "", False)
    return messages, [bool(line[flag]) if flag else True for line in row["messages"] if line["role"] == "assistant"]


def comes_back(target: str, given_: Trajectory) -> None:
    row = json.loads(json.dumps(TRAJECTORY_TARGETS[target].row(given_)))
    messages, flags = read(target, row)
    assert plain(messages, HOLDS[target]) == plain(given_.messages, HOLDS[target])
    assert flags == own_replies(given_)
    tools = row["agent"].get("tool_definitions", []) if target == "atif" else row.get("tools", [])
    tools = json.loads(tools) if isinstance(tools, str) else tools
    assert tools == [json.loads(tool) for tool in given_.tools]


@pytest.mark.parametrize("target", TRAJECTORY_TARGETS)
def test_what_a_target_holds_comes_back(target: str) -> None:
    @quick
    @given(runs(HOLDS[target]))
    def check(given_: Trajectory) -> None:
        comes_back(target, given_)

    check()


@pytest.mark.parametrize("target", TRAJECTORY_TARGETS)
def test_anything_comes_back_or_is_refused_with_a_reason(target: str) -> None:
    @quick
    @given(runs(Can()), st.data())
    def check(given_: Trajectory, data: st.DataObject) -> None:
        broken = replace(given_, messages=tuple(data.draw(st.permutations(given_.messages))))
        try:
            comes_back(target, data.draw(st.sampled_from((given_, broken))))
        except DataError as error:
            named = "sharegpt" if target == "llamafactory" else target
            reason = f"task shop/7, sample 2 cannot be written for {named}: .+; .+"
            assert re.fullmatch(reason, str(error), re.DOTALL)

    check()


@pytest.mark.parametrize(
    ("target", "given_", "reason"),
    [
        ("trl", run([USER, YES, USER, YES], context=1), "the first 1 are context.*; export to trl-completion"),
        ("sharegpt", run([USER, YES, USER, YES], context=1), "the first 1 are context.*; export to ms-swift, axolotl"),
        ("trl-completion", run([YES, USER]), "nothing comes before its first reply; export to trl"),
        *((target, run([USER]), "no reply of the agent") for target in TRAJECTORY_TARGETS if target != "atif"),
        ("ms-swift", run([USER, YES], context=1), "no reply of the agent to learn from; leave it out"),
        ("sharegpt", run([USER, CALLS, FIRST, SECOND, YES]), "a second result in a row.*; .*export to trl or ms-swift"),
        (
            "sharegpt",
            run([USER, structs.replace(YES, reasoning="<think>")]),
            "holds such a tag already; export to trl, axolotl",
        ),
        ("ms-swift", run([USER, CALLS, SECOND, FIRST, YES]), "message 2 does not answer .* in their order"),
        ("ms-swift", run([USER, CALLS, structs.replace(FIRST, name="x"), SECOND, YES]), "message 2 does not answer"),
        ("ms-swift", run([structs.replace(USER, name="Eva"), YES]), "message 0 has a name"),
        ("ms-swift", run([USER, YES, FIRST, YES]), "message 2 answers call '.*', which is not before it; fix the data"),
        ("ms-swift", run([USER, YES, YES]), "message 2 is of role assistant after assistant; export to trl or openai"),
        ("ms-swift", run([USER, CALLS, FIRST, USER, YES]), "message 3 is of role user after tool"),
        ("openai", run([USER, YES, USER]), "last message must be a reply"),
        ("openai", run([USER, structs.replace(YES, reasoning="")]), "no field for thoughts"),
        ("openai", run([USER, Message("assistant", "", tool_calls=(ToolCall("", "go", "{}"),))]), "ids of their own"),
        ("openai", run([USER, CALLS, FIRST, YES, SECOND, YES]), "no tool's message answers the call of"),
        (
            "axolotl",
            run([USER, Message("assistant", "", tool_calls=(ToolCall("c", "go", "no"),))]),
            "arguments of a call",
        ),
        ("atif", run([USER, FIRST, YES]), "message 1 is a tool's, and no reply comes right before it"),
        ("atif", run([USER, YES, FIRST]), "message 2 answers a call that is not right before it; fix the data"),
        ("atif", run([USER, structs.replace(CALLS, tool_calls=CALLS.tool_calls[:1] * 2)]), "ids of their own"),
    ],
)
def test_refusals_name_the_run_the_reason_and_the_way_out(target: str, given_: Trajectory, reason: str) -> None:
    named = "sharegpt" if target == "llamafactory" else target
    with pytest.raises(DataError, match=f"task shop/7, sample 2 cannot be written for {named}: .*{reason}"):
        TRAJECTORY_TARGETS[target].row(given_)


@pytest.mark.parametrize("context", [0, 1])
def test_a_reply_without_an_action_at_the_end_is_the_agents(context: int) -> None:
    whole = run([USER, YES, USER, YES, USER, YES], context=context)
    shorter = replace(whole, steps=whole.steps[:1])
    for target in ("ms-swift", "axolotl", "openai", "trl-completion"):
        assert TRAJECTORY_TARGETS[target].row(shorter) == TRAJECTORY_TARGETS[target].row(whole)


@quick
@given(runs(Can()))
def test_atif_documents_are_valid(given_: Trajectory) -> None:
    document = TRAJECTORY_TARGETS["atif"].row(given_)
    assert atif.Trajectory.model_validate(document).to_json_dict() == document
    assert document["extra"]["score"] == given_.score and document["extra"]["task"] == given_.task


def test_atif_keeps_what_a_step_earned() -> None:
    steps = TRAJECTORY_TARGETS["atif"].row(run([USER, YES, USER, YES], context=1))["steps"]
    assert [step.get("extra") for step in steps] == [None, None, None, {"reward": 0.5}]


def test_atif_says_what_went_wrong() -> None:
    document = TRAJECTORY_TARGETS["atif"].row(replace(run([USER, YES]), error="no action", metadata={"source": "x"}))
    assert document["extra"]["error"] == "no action" and document["extra"]["metadata"] == {"source": "x"}


ANSWERED = [target for target in TRAJECTORY_TARGETS if target != "atif"]


@pytest.mark.parametrize("target", ANSWERED)
@pytest.mark.parametrize(
    "said",
    [
        [USER, CALLS, FIRST, YES],
        [USER, CALLS, USER, YES],
        [USER, structs.replace(CALLS, tool_calls=CALLS.tool_calls[:1]), USER, YES],
        [USER, YES, USER, CALLS, SECOND, YES],
    ],
)
def test_calls_that_no_result_answers_are_refused(target: str, said: list[Message]) -> None:
    with pytest.raises(DataError, match="cannot be written for"):
        TRAJECTORY_TARGETS[target].row(run(said))


@pytest.mark.parametrize("target", ["trl", "trl-completion", "axolotl", "openai"])
def test_the_call_without_a_result_is_named(target: str) -> None:
    with pytest.raises(DataError, match=r"no tool's message answers the call of look in message 1; add the results"):
        TRAJECTORY_TARGETS[target].row(run([USER, CALLS, FIRST, YES]))


@pytest.mark.parametrize("target", ["trl", "ms-swift", "axolotl", "openai"])
def test_the_last_reply_may_call(target: str) -> None:
    assert TRAJECTORY_TARGETS[target].row(run([USER, CALLS, FIRST, SECOND, CALLS]))
