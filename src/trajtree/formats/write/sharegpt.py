"""ShareGPT conversations as LLaMA-Factory reads them: `from` and `value`, calls and results as turns.

LLaMA-Factory skips, with a warning, every conversation whose turns do not alternate, so they are refused here.

Source: LLaMA-Factory's data/README ("Sharegpt Format", "Preference Dataset").
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.checks import (
    HOLDS_MORE,
    RENDER_CALLS,
    arguments_of,
    check_answered,
    check_order,
    check_roles,
    check_turns,
    no_context,
    one_reply,
    refusal,
    tools_of,
    trajectory_name,
    with_thoughts,
)
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, Trajectory

_FROM = {"system": "system", "user": "human", "tool": "observation"}


def sharegpt_trajectory(trajectory: Trajectory) -> JsonObject:
    """`conversations` and `tools` (JSON text).

    Raises:
        DataError: there are context turns, which nothing could mark; turns that do not alternate; a reply with
            both text and calls; several results in a row, or results out of order; calls that are not answered.
    """
    no_context(trajectory, "sharegpt", "export to ms-swift, axolotl, trl-completion or openai")
    name = trajectory_name(trajectory)
    turns = _conversation(trajectory.messages, name, "sharegpt")
    return {"conversations": turns} | _tools(trajectory.tools, name, "sharegpt")


def llamafactory_pair(pair: PairMessages) -> JsonObject:
    """`conversations` up to the fork, `chosen` and `rejected` as one message each, and `tools` (JSON text).

    Raises:
        DataError: a side has several messages, or for the reasons of `sharegpt_trajectory`.
    """
    target = "llamafactory"
    chosen, rejected = (_conversation([*pair.prompt, side], pair.name, target) for side in one_reply(pair, target))
    row: JsonObject = {"conversations": chosen[:-1], "chosen": chosen[-1], "rejected": rejected[-1]}
    return row | _tools(pair.tools, pair.name, target)


def _conversation(messages: Sequence[Message], name: str, target: str) -> list[JsonObject]:
    check_roles(messages, name, target)
    check_turns(messages, name, target)
    check_answered(messages, name, target)
    check_order(messages, name, target)
    turns = []
    for index, message in enumerate(messages):
        if message.role == "tool" and messages[index - 1].role == "tool":
            reason = f"message {index} is a second result in a row, and it has one between two replies"
            raise refusal(name, target, reason, f"{RENDER_CALLS}, or {HOLDS_MORE}")
        if message.role != "assistant":
            turns.append({"from": _FROM[message.role], "value": message.content})
        elif message.tool_calls:
            turns.append({"from": "function_call", "value": _calls(message, name, target)})
        else:
            turns.append({"from": "gpt", "value": with_thoughts(message, message.content, name, target)})
    return turns


def _calls(message: Message, name: str, target: str) -> str:
    if message.content:
        reason = "a reply has both text and tool calls, and its function_call turn holds calls only"
        raise refusal(name, target, reason, f"{RENDER_CALLS}, or {HOLDS_MORE}")
    calls = [{"name": c.name, "arguments": arguments_of(c, name, target)} for c in message.tool_calls]
    text = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    return with_thoughts(message, text, name, target)


def _tools(tools: Sequence[str], name: str, target: str) -> JsonObject:
    return {"tools": json.dumps(tools_of(tools, name, target), ensure_ascii=False)} if tools else {}


__all__ = ["llamafactory_pair", "sharegpt_trajectory"]
