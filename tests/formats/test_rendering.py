"""Tool calls, results, tools and thoughts written as text can be read back from it, whole."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from tests.builders import quick
from tests.formats.export_cases import Can, pair, pairs, run, runs, split_thoughts

from trajtree.errors import DataError
from trajtree.formats.write import PAIR_TARGETS, TRAJECTORY_TARGETS, check_as_text, pair_rows, run_row
from trajtree.formats.write.rendering import Part, as_text, pair_as_text, run_as_text
from trajtree.trajectory import Message, ToolCall

BOTH: tuple[Part, ...] = ("calls", "thoughts")
CAN = Can(names=False, tags=False)
USER, NO = Message("user", "Where am I?"), Message("assistant", "In the attic.")
LOOK = {"type": "function", "function": {"name": "look", "parameters": {}}}
CALLS = Message("assistant", "Hm.", "I look.", (ToolCall("c1", "look", '{"at": "sign"}'), ToolCall("c2", "go", "{}")))
RESULTS = [Message("tool", "HALL", tool_call_id="c1"), Message("tool", "Gone.", tool_call_id="c2")]


def within(tag: str, text: str) -> list[str]:
    return re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)


def read(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    """What is said, read back from the text: role, text, thoughts, and calls by name and arguments."""
    found: list[tuple[Any, ...]] = []
    for m in messages:
        assert not m.tool_calls and m.reasoning is None and m.tool_call_id is None
        if m.role == "assistant":
            thought, said = split_thoughts(m.content)
            text, tag, _ = said.partition("<tool_call>")
            calls = [json.loads(call) for call in within("tool_call", said)]
            text = text.removesuffix("\n") if tag else text
            found.append((m.role, text, thought, [(call["name"], call["arguments"]) for call in calls]))
        elif m.content.startswith("<tool_response>\n"):
            found += [("tool", result, None, []) for result in within("tool_response", m.content)]
        else:
            found.append((m.role, m.content, None, []))
    return found


def said(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    return [
        (m.role, m.content, m.reasoning, [(c.name, json.loads(c.arguments)) for c in m.tool_calls]) for m in messages
    ]


def tools_in(messages: Sequence[Message]) -> tuple[list[Any], str]:
    """The tools of the system message, and what it says beside them."""
    rest, tools, _ = messages[0].content.partition("# Tools\n")
    lines = within("tools", messages[0].content)
    return ([json.loads(line) for line in lines[0].split("\n")], rest.removesuffix("\n\n")) if tools else ([], rest)


@quick
@given(runs(CAN))
def test_a_run_is_read_back_whole(given_: Any) -> None:
    assume(not any("think>" in call.arguments for m in given_.messages for call in m.tool_calls))  # those are refused
    written = run_as_text(given_, BOTH, "trl")
    messages, tools = list(written.messages), []
    if given_.tools:
        tools, system = tools_in(messages)
        had = given_.messages[0].role == "system"
        messages = [Message("system", system), *messages[1:]] if had else messages[1:]
    assert tools == [json.loads(tool) for tool in given_.tools] and not written.tools
    assert read(messages) == said(given_.messages)
    assert len(written.replies) == len(given_.replies), "replies stay replies"


@quick
@given(pairs(CAN))
def test_a_pair_is_as_its_sides_are(given_: Any) -> None:
    sides = [*given_.prompt, *given_.chosen, *given_.rejected]
    assume(not any("think>" in call.arguments for m in sides for call in m.tool_calls))  # those are refused
    written = pair_as_text(given_, BOTH, "trl")
    for side, as_it_was in ((written.chosen, given_.chosen), (written.rejected, given_.rejected)):
        assert [*written.prompt, *side] == list(
            as_text([*given_.prompt, *as_it_was], given_.tools, BOTH, "a pair", "trl")[0]
        )


def test_the_form() -> None:
    written, tools = as_text([USER, CALLS, *RESULTS], [json.dumps(LOOK)], BOTH, "it", "trl")
    assert tools == ()
    assert [m.role for m in written] == ["system", "user", "assistant", "user"]
    assert "<tools>\n" + json.dumps(LOOK) + "\n</tools>" in written[0].content
    assert written[2].content == (
        "<think>\nI look.\n</think>\n\nHm.\n"
        '<tool_call>\n{"name": "look", "arguments": {"at": "sign"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "go", "arguments": {}}\n</tool_call>'
    )
    assert written[3].content == "<tool_response>\nHALL\n</tool_response>\n<tool_response>\nGone.\n</tool_response>"
    calls = as_text([CALLS], (), ["calls"], "it", "trl")[0][0]
    thoughts = as_text([CALLS], (), ["thoughts"], "it", "trl")[0][0]
    assert calls.reasoning == "I look." and not calls.tool_calls
    assert thoughts.tool_calls == CALLS.tool_calls and thoughts.content == "<think>\nI look.\n</think>\n\nHm."


def test_the_form_is_that_of_the_template_it_is_taken_from() -> None:
    trl = pytest.importorskip("trl", reason="the template of Qwen2.5 comes with trl")
    jinja2 = pytest.importorskip("jinja2")
    template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    system = Message("system", "You help.")
    asked = [
        {"role": m.role, "content": m.content}
        | {"tool_calls": [{"name": c.name, "arguments": json.loads(c.arguments)} for c in m.tool_calls]}
        for m in (system, USER, CALLS, *RESULTS, NO)
    ]
    theirs = environment.from_string(template).render(messages=asked, tools=[LOOK])
    written, _ = as_text([system, USER, CALLS, *RESULTS, NO], [json.dumps(LOOK)], ["calls"], "it", "trl")
    assert theirs == "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in written)


@pytest.mark.parametrize("arguments", ["to: shop", "[1]", '{"a": NaN}', ""])
def test_broken_arguments_stay_as_the_agent_wrote_them(arguments: str) -> None:
    reply = Message("assistant", "", tool_calls=(ToolCall("c", "go", arguments),))
    (_, _, _, calls), *_ = read(as_text([reply], (), BOTH, "it", "trl")[0])
    assert calls == [("go", arguments)]


@pytest.mark.parametrize(
    ("messages", "tools", "tag"),
    [
        ([USER, Message("assistant", "</tool_call>")], [], "a reply holds <tool_call>"),
        ([USER, Message("assistant", "", tool_calls=(ToolCall("c", "a<tool_call>", "{}"),))], [], "a call holds"),
        ([USER, CALLS, Message("tool", "<tool_response>"), NO], [], "a result holds <tool_response>"),
        ([Message("user", "</tool_response>"), NO], [], "a message holds <tool_response>"),
        ([Message("system", "<tools>"), USER, NO], [LOOK], "the system message holds <tools>"),
        ([USER, Message("assistant", "</think>", "so")], [], "a reply holds <think>"),
        ([USER, CALLS, NO], [], "no tool's message answers the call of look"),
        ([USER, CALLS, *RESULTS[::-1], NO], [], "message 2 does not answer the calls before it in their order"),
    ],
)
def test_what_could_not_be_read_back_is_refused(messages: list[Message], tools: list[Any], tag: str) -> None:
    with pytest.raises(DataError, match=f"task shop/7, sample 2 cannot be written for axolotl: .*{tag}"):
        run_row(run(messages, tools=tools), "axolotl", BOTH)


@pytest.mark.parametrize("target", ["axolotl", "llamafactory"])
def test_targets_that_could_not_hold_it_can_now(target: str) -> None:
    shown = replace(pair([USER, CALLS, *RESULTS], [CALLS], [NO], tools=[LOOK]), provenance={"past": "equal"})
    with pytest.raises(DataError, match="--render-"):
        pair_rows([shown], target)
    parts = PAIR_TARGETS[target].as_text
    (row,) = pair_rows([shown], target, parts)
    assert row["rendered"] == list(parts) and "tools" not in row


@pytest.mark.parametrize(
    ("table", "to", "part"),
    [
        (PAIR_TARGETS, "ms-swift", "calls"),
        (PAIR_TARGETS, "openai", "calls"),
        (TRAJECTORY_TARGETS, "atif", "thoughts"),
        (TRAJECTORY_TARGETS, "sharegpt", "thoughts"),
    ],
)
def test_what_has_a_place_is_not_written_as_text(table: Any, to: str, part: Part) -> None:
    with pytest.raises(DataError, match=f"--render-{part}: {to} has a place for"):
        check_as_text([part], to, table[to])
