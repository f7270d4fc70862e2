"""OpenAI's fine-tuning files, which other services also accept.

Source: OpenAI's guides "Direct preference optimization" (`input`, `preferred_output`, `non_preferred_output`) and
"Supervised fine-tuning" (`messages`, `weight` 0 or 1 on an assistant's message).
"""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.chat import message_to_dict
from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.checks import (
    RENDER_THOUGHTS,
    arguments_of,
    check_answered,
    check_roles,
    ends_with_reply,
    no_thoughts,
    one_reply,
    refusal,
    tools_of,
    trained,
    trajectory_name,
)
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, Trajectory

TARGET = "openai"


def openai_pair(pair: PairMessages) -> JsonObject:
    """`input` with messages, tools and `parallel_tool_calls`; `preferred_output` and `non_preferred_output`.

    Raises:
        DataError: a side has several messages; there are thoughts; a call or its result has no id; a call is not
            answered.
    """
    chosen, rejected = one_reply(pair, TARGET)
    for side in (chosen, rejected):
        _check([*pair.prompt, side], pair.name)
    prompt = {
        "messages": [message_to_dict(m) for m in pair.prompt],
        "tools": tools_of(pair.tools, pair.name, TARGET),
        "parallel_tool_calls": True,
    }
    outputs = [message_to_dict(chosen)], [message_to_dict(rejected)]
    return {"input": prompt, "preferred_output": outputs[0], "non_preferred_output": outputs[1]}


def openai_trajectory(trajectory: Trajectory) -> JsonObject:
    """`messages` with `weight` 1 on the agent's own replies and 0 on context turns, and `tools`.

    Raises:
        DataError: there are thoughts; a call or its result has no id; a call is not answered; the last message is no
            reply.
    """
    name, flags = trajectory_name(trajectory), trained(trajectory, TARGET)
    _check(trajectory.messages, name)
    ends_with_reply(trajectory.messages, name, TARGET)
    messages = [
        message_to_dict(m) | ({"weight": int(flag)} if m.role == "assistant" else {})
        for m, flag in zip(trajectory.messages, flags, strict=True)
    ]
    return {"messages": messages} | ({"tools": tools_of(trajectory.tools, name, TARGET)} if trajectory.tools else {})


def _check(messages: Sequence[Message], name: str) -> None:
    check_roles(messages, name, TARGET)
    no_thoughts(messages, name, TARGET, f"{RENDER_THOUGHTS}, or export to trl, ms-swift or atif")
    check_answered(messages, name, TARGET)
    known: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "assistant":
            known = {call.id for call in message.tool_calls}
            for call in message.tool_calls:
                arguments_of(call, name, TARGET)
            if "" in known or len(known) < len(message.tool_calls):
                raise refusal(name, TARGET, f"the calls of message {index} need ids of their own", "fix the data")
        elif message.role == "tool" and message.tool_call_id not in known:
            reason = f"message {index} must name the call right before it that it answers"
            raise refusal(name, TARGET, reason, "export to trl")


__all__ = ["openai_pair", "openai_trajectory"]
