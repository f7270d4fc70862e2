"""Pairs come back from every target as they were, or the target says why it cannot hold them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.export_cases import Can, pair, pairs, plain, read_messages, read_sharegpt, read_swift

from trajtree.errors import DataError
from trajtree.formats.pairs import PairMessages
from trajtree.formats.write import PAIR_TARGETS
from trajtree.trajectory import Message, ToolCall

HOLDS = {
    "trl": Can(),
    "trl-kto": Can(),
    "ms-swift": Can(ids=False, tags=False),
    "llamafactory": Can(turns=False, several=False, text_beside_calls=False, ids=False, tags=False),
    "axolotl": Can(turns=False, calls=False, thoughts=False),
    "openai": Can(turns=False, thoughts=False),
}
USER, YES, NO = (
    Message("user", "Buy a red shoe."),
    Message("assistant", "click[Red]"),
    Message("assistant", "click[Ok]"),
)
CALL = Message("assistant", "", tool_calls=(ToolCall("c1", "go", '{"to": "shop"}'),))
RESULT = Message("tool", "You are in the shop.", tool_call_id="c1")


def sides(target: str, row: dict[str, Any]) -> list[list[Message]]:
    """Prompt, chosen and rejected, read back."""
    if target in ("trl", "trl-kto"):
        return [read_messages(row[key]) for key in ("prompt", "chosen", "rejected")]
    if target == "axolotl":
        return [read_messages(m) for m in (row["messages"], [row["chosen"]], [row["rejected"]])]
    if target == "openai":
        assert row["input"]["parallel_tool_calls"] is True
        return [
            read_messages(m) for m in (row["input"]["messages"], row["preferred_output"], row["non_preferred_output"])
        ]
    if target == "llamafactory":
        before = row["conversations"]
        chosen, rejected = (read_sharegpt([*before, row[side]]) for side in ("chosen", "rejected"))
        return [chosen[:-1], chosen[-1:], rejected[-1:]]
    read = [read_swift(row[key]) for key in ("messages", "rejected_messages")]
    forks = [next(i for i, (_, loss) in enumerate(side) if loss) for side in read]
    assert forks[0] == forks[1] and read[0][: forks[0]] == read[1][: forks[1]]
    for side in read:
        assert all(loss == (m.role == "assistant") for m, loss in side[forks[0] :])
    messages = [[m for m, _ in side] for side in read]
    return [messages[0][: forks[0]], messages[0][forks[0] :], messages[1][forks[0] :]]


def tools(target: str, row: dict[str, Any]) -> list[Any]:
    if target == "openai":
        return list(row["input"]["tools"])
    if target == "ms-swift":
        assert row.get("tools") == row.get("rejected_tools")
    found = row.get("tools", [])
    return list(json.loads(found) if isinstance(found, str) else found)


def comes_back(target: str, given_: PairMessages) -> None:
    row = json.loads(json.dumps(PAIR_TARGETS[target].row(given_)))
    read = [plain(side, HOLDS[target]) for side in sides(target, row)]
    assert read == [plain(side, HOLDS[target]) for side in (given_.prompt, given_.chosen, given_.rejected)]
    assert tools(target, row) == [json.loads(tool) for tool in given_.tools]


@pytest.mark.parametrize("target", PAIR_TARGETS)
def test_what_a_target_holds_comes_back(target: str) -> None:
    @quick
    @given(pairs(HOLDS[target]))
    def check(given_: PairMessages) -> None:
        if target == "axolotl":
            assume(all(m.content and m.content == m.content.strip() for m in (*given_.chosen, *given_.rejected)))
        comes_back(target, given_)

    check()


@pytest.mark.parametrize("target", PAIR_TARGETS)
def test_anything_comes_back_or_is_refused_with_a_reason(target: str) -> None:
    @quick
    @given(pairs(Can()), st.data())
    def check(given_: PairMessages, data: st.DataObject) -> None:
        messages = data.draw(st.permutations(given_.prompt))
        broken = PairMessages(tuple(messages), given_.chosen, given_.rejected, given_.tools, given_.provenance)
        try:
            comes_back(target, data.draw(st.sampled_from((given_, broken))))
        except DataError as error:
            assert re.fullmatch(
                f"pair task shop/7, depth 1 cannot be written for {target}: .+; .+", str(error), re.DOTALL
            )

    check()


LONG = pair([USER], [YES, USER, YES], [NO])
THOUGHT = Message("assistant", "click[Red]", reasoning="red it is")


@pytest.mark.parametrize(
    ("target", "given_", "reason"),
    [
        ("llamafactory", LONG, "one message per side, and the sides have 3 and 1; cut .*--step-only.* trl or ms-swift"),
        ("axolotl", LONG, "one message per side, and the sides have 3 and 1; cut .*--step-only.* trl or ms-swift"),
        ("openai", LONG, "one message per side, and the sides have 3 and 1; cut .*--step-only.* trl or ms-swift"),
        ("axolotl", pair([USER], [CALL], [NO]), "no tools, calls or names; .*--render-calls.*, or export to trl"),
        ("axolotl", pair([USER, CALL, RESULT], [YES], [NO]), "no tools, calls or names"),
        ("axolotl", pair([USER], [YES], [NO], tools=[{}]), "no tools, calls or names"),
        ("axolotl", pair([USER], [YES], [THOUGHT]), "no field for thoughts"),
        ("axolotl", pair([USER], [YES], [Message("assistant", "no \n")]), "edged with white space"),
        ("axolotl", pair([USER], [Message("assistant", "")], [NO]), "cannot be empty"),
        (
            "openai",
            pair([USER], [YES], [THOUGHT]),
            "no field for thoughts .*; .*--render-thoughts.*, or export to trl, ",
        ),
        (
            "openai",
            pair([USER, CALL, Message("tool", "hm")], [YES], [NO]),
            "message 2 must name the call right before it .*; export to trl",
        ),
        ("llamafactory", pair([USER, USER], [YES], [NO]), "message 1 is of role user after user"),
        ("llamafactory", pair([USER, CALL, RESULT, RESULT], [YES], [NO]), "message 3 answers a call that is not right"),
        ("trl", pair([USER, YES, RESULT], [YES], [NO]), "message 2 answers call 'c1', which is not before it; fix the"),
        ("trl", pair([USER], [YES], [NO, RESULT, NO]), "message 2 answers call 'c1', which is not before it; fix the"),
        ("ms-swift", pair([USER], [YES], [NO, RESULT, NO]), "message 2 answers call 'c1', which is not before it; fix"),
        ("openai", pair([USER, YES, RESULT], [YES], [NO]), "message 2 answers call 'c1', which is not before it; fix"),
        ("llamafactory", pair([USER, YES, Message("tool", "a"), Message("tool", "b")], [YES], [NO]), "a second result"),
        ("llamafactory", pair([USER], [Message("assistant", "go", None, CALL.tool_calls)], [NO]), "both text and tool"),
        ("ms-swift", pair([USER], [YES, USER], [NO]), "last message must be a reply and is of role user; cut what"),
        ("ms-swift", pair([USER], [YES], [Message("assistant", "</think>", "so")]), "<think> tags"),
        ("ms-swift", pair([YES], [YES], [NO]), "message 0 is of role assistant after nothing"),
        ("ms-swift", pair([USER, Message("system", "s")], [YES], [NO]), "message 1 is of role system after user"),
        ("trl", pair([Message("user", "u", reasoning="r")], [YES], [NO]), "message 0 of role user has thoughts"),
        ("trl", pair([Message("user", "u", tool_call_id="x")], [YES], [NO]), "message 0 of role user answers"),
    ],
)
def test_refusals_name_the_pair_the_reason_and_the_way_out(target: str, given_: PairMessages, reason: str) -> None:
    with pytest.raises(DataError, match=f"pair task shop/7, depth 1 cannot be written for {target}: .*{reason}"):
        PAIR_TARGETS[target].row(given_)


@pytest.mark.parametrize("target", ["trl", "ms-swift", "llamafactory", "openai"])
@pytest.mark.parametrize("arguments", ["to: shop", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', ""])
def test_arguments_that_are_no_plain_object_are_refused(target: str, arguments: str) -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("c1", "go", arguments),))
    with pytest.raises(DataError, match="arguments of a call of go are not"):
        PAIR_TARGETS[target].row(pair([USER], [call], [NO]))


@pytest.mark.parametrize("target", ["trl", "ms-swift", "llamafactory", "openai"])
@pytest.mark.parametrize("tool", ["look around", "[]"])
def test_tools_that_are_no_object_are_refused(target: str, tool: str) -> None:
    with pytest.raises(DataError, match="the definition of tool 0 is not"):
        PAIR_TARGETS[target].row(PairMessages((USER,), (YES,), (NO,), (tool,)))


def test_trl_keeps_observations_inside_a_side() -> None:
    row = PAIR_TARGETS["trl"].row(pair([USER], [CALL, RESULT, YES], [NO], tools=[{"type": "function"}]))
    assert row == {
        "prompt": [{"role": "user", "content": "Buy a red shoe."}],
        "chosen": [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "go", "arguments": {"to": "shop"}}}
                ],
            },
            {"role": "tool", "content": "You are in the shop.", "tool_call_id": "c1"},
            {"role": "assistant", "content": "click[Red]"},
        ],
        "rejected": [{"role": "assistant", "content": "click[Ok]"}],
        "tools": [{"type": "function"}],
    }


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [((), (YES,), (NO,)), ((USER,), (), (NO,)), ((USER,), (YES,), (USER, NO))],
)
def test_pairs_have_a_prompt_and_begin_with_replies(
    prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> None:
    with pytest.raises(ValueError, match="pair"):
        PairMessages(prompt, chosen, rejected)


@pytest.mark.parametrize("target", ["trl", "ms-swift", "openai"])
@pytest.mark.parametrize("unanswered", ["prompt", "chosen", "rejected"])
def test_calls_that_no_result_answers_are_refused(target: str, unanswered: str) -> None:
    broken = {"prompt": [USER, CALL, USER], "chosen": [CALL, USER, YES], "rejected": [CALL, USER, NO]}
    if target == "openai":  # one reply per side
        broken = dict.fromkeys(broken, broken["prompt"])
        unanswered = "prompt"
    whole = {"prompt": [USER], "chosen": [YES], "rejected": [NO]}
    with pytest.raises(DataError, match="no tool's message answers the call of go"):
        PAIR_TARGETS[target].row(pair(*(whole | {unanswered: broken[unanswered]}).values()))


def test_a_prompt_that_ends_with_a_call_is_refused() -> None:
    with pytest.raises(DataError, match="no tool's message answers the call of go in message 1"):
        PAIR_TARGETS["trl"].row(pair([USER, CALL], [YES], [NO]))
    assert PAIR_TARGETS["trl"].row(pair([USER, CALL, RESULT], [CALL], [NO]))
