"""ms-swift: messages of role, content and `loss`; calls are separate messages, thoughts are in <think> tags.

ms-swift deletes all other keys of a message, so nothing may be stored there. A reply is written as an assistant's
message, empty if the agent only called tools, followed by its `tool_call` messages: ms-swift joins them into one turn
and takes the turn's `loss` from the first.

Source: ms-swift's pages "Custom dataset" (`rejected_messages`, `rejected_tools`, `loss`) and "Agent support"
(`tool_call`, `tool_response`, `tools` as JSON text).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.checks import (
    arguments_of,
    check_answered,
    check_order,
    check_roles,
    check_turns,
    tools_of,
    trained,
    trajectory_name,
    with_thoughts,
)
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, Trajectory

TARGET = "ms-swift"


def swift_pair(pair: PairMessages) -> JsonObject:
    """`messages` with the chosen side, `rejected_messages` with the whole rejected conversation, tools for both.

    Raises:
        DataError: the turns do not alternate, a side does not end with a reply, results do not answer their calls
            in order, a call is not answered, or a reply with thoughts holds <think> tags already.
    """
    tools = _tools(pair.tools, pair.name)
    row: JsonObject = {}
    for prefix, side in (("", pair.chosen), ("rejected_", pair.rejected)):
        flags = [False] * len(pair.prompt) + [m.role == "assistant" for m in side]
        row[f"{prefix}messages"] = _messages([*pair.prompt, *side], flags, pair.name)
        if tools is not None:
            row[f"{prefix}tools"] = tools
    return row


def swift_trajectory(trajectory: Trajectory) -> JsonObject:
    """`messages` with `loss` on every reply, false for context turns, and `tools`. Raises DataError as `swift_pair`."""
    name = trajectory_name(trajectory)
    row: JsonObject = {"messages": _messages(trajectory.messages, trained(trajectory, TARGET), name)}
    tools = _tools(trajectory.tools, name)
    return row if tools is None else row | {"tools": tools}


def _messages(messages: Sequence[Message], flags: Sequence[bool], name: str) -> list[JsonObject]:
    check_roles(messages, name, TARGET)
    check_turns(messages, name, TARGET)
    check_answered(messages, name, TARGET)
    check_order(messages, name, TARGET)
    written: list[JsonObject] = []
    for message, flag in zip(messages, flags, strict=True):
        if message.role == "assistant":
            text = with_thoughts(message, message.content, name, TARGET)
            written.append({"role": "assistant", "content": text, "loss": flag})
            for call in message.tool_calls:
                content = {"name": call.name, "arguments": arguments_of(call, name, TARGET)}
                text = json.dumps(content, ensure_ascii=False)
                written.append({"role": "tool_call", "content": text, "loss": flag})
        else:
            written.append(
                {"role": "tool_response" if message.role == "tool" else message.role, "content": message.content}
            )
    return written


def _tools(tools: Sequence[str], name: str) -> str | None:
    return json.dumps(tools_of(tools, name, TARGET), ensure_ascii=False) if tools else None


__all__ = ["swift_pair", "swift_trajectory"]
