"""Checks before an export: whatever the target cannot represent is refused, never dropped.

Every function takes the names of the pair or trajectory and of the target, for the error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trajtree.errors import DataError
from trajtree.formats.pairs import PairMessages
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, ToolCall, Trajectory

HOLDS_MORE = "export to trl or ms-swift"
"""The advice for targets that can represent less of a pair."""
RENDER_CALLS = "write calls as text (--render-calls)"
RENDER_THOUGHTS = "write thoughts as text (--render-thoughts)"
"""The advice for targets that have no place for them; see `rendering`."""
_KEEPS_IDS = "export to trl or openai, which keep ids"


def refusal(name: str, target: str, reason: str, way_out: str) -> DataError:
    """The error for a pair or trajectory that the target cannot represent."""
    return DataError(f"{name} cannot be written for {target}: {reason}; {way_out}")


def trajectory_name(trajectory: Trajectory) -> str:
    """The name of a trajectory in errors."""
    return f"task {trajectory.task}, sample {trajectory.sample}"


def check_roles(messages: Sequence[Message], name: str, target: str) -> None:
    """Refuse fields on messages whose role does not have them, because every target would lose them.

    Raises:
        DataError: a thought or tool call that is not the assistant's, or a call's id on a message that is not a tool's.
    """
    for index, m in enumerate(messages):
        if m.role != "assistant" and (m.tool_calls or m.reasoning is not None):
            raise refusal(name, target, f"message {index} of role {m.role} has thoughts or tool calls", "fix the data")
        if m.role != "tool" and m.tool_call_id is not None:
            raise refusal(name, target, f"message {index} of role {m.role} answers a tool call", "fix the data")


def check_answered(messages: Sequence[Message], name: str, target: str) -> None:
    """Refuse calls that no tool's message answers before the conversation goes on, and results that answer no call.

    Trainers and services reject them. Calls of the last message may be open. A result without an id answers all that
    are.

    Raises:
        DataError: naming the message and the tool.
    """
    open_calls: list[ToolCall] = []
    known: set[str] = set()
    caller = -1
    for index, m in enumerate(messages):
        if m.role == "tool":
            answered = m.tool_call_id
            if answered is not None and answered not in known:
                reason = f"message {index} answers call {answered!r}, which is not before it"
                raise refusal(name, target, reason, "fix the data, or leave the run out")
            open_calls = [] if answered is None else [call for call in open_calls if call.id != answered]
            continue
        if open_calls:
            break
        open_calls, caller = list(m.tool_calls), index
        known.update(call.id for call in open_calls)
    if open_calls and caller < len(messages) - 1:
        reason = f"no tool's message answers the call of {open_calls[0].name} in message {caller}"
        raise refusal(name, target, reason, "add the results to the data, or leave the run out")


def trained(trajectory: Trajectory, target: str) -> list[bool]:
    """[messages] which of them are trained: the agent's replies after the context turns.

    Raises:
        DataError: there are none.
    """
    flags, turn = [], 0
    for message in trajectory.messages:
        turn += message.role == "assistant"
        flags.append(message.role == "assistant" and turn > trajectory.context_turns)
    if not any(flags):
        raise refusal(trajectory_name(trajectory), target, "it has no reply of the agent to learn from", "leave it out")
    return flags


def no_context(trajectory: Trajectory, target: str, way_out: str) -> None:
    """Refuse a trajectory with context turns for a target that trains every reply.

    Raises:
        DataError: some reply is not the agent's, or there is no reply.
    """
    for message, flag in zip(trajectory.messages, trained(trajectory, target), strict=True):
        if message.role == "assistant" and not flag:
            reason = f"it trains every reply, and the first {trajectory.context_turns} are context, not the agent's own"
            raise refusal(trajectory_name(trajectory), target, reason, way_out)


def no_thoughts(messages: Sequence[Message], name: str, target: str, way_out: str) -> None:
    """Refuse thoughts beside the text (`reasoning`) for a target that has no field for them."""
    if any(m.reasoning is not None for m in messages):
        raise refusal(name, target, "it has no field for thoughts (reasoning)", way_out)


def one_reply(pair: PairMessages, target: str) -> tuple[Message, Message]:
    """The two replies of a pair with one message per side. Raises DataError if a side has more."""
    if len(pair.chosen) > 1 or len(pair.rejected) > 1:
        reason = f"it holds one message per side, and the sides have {len(pair.chosen)} and {len(pair.rejected)}"
        raise refusal(
            pair.name, target, reason, f"cut the sides to the step at the fork (--step-only), or {HOLDS_MORE}"
        )
    return pair.chosen[0], pair.rejected[0]


def check_turns(messages: Sequence[Message], name: str, target: str) -> None:
    """Refuse conversations that break the pattern [system] (user | tool...) assistant (user | tool...) assistant ...

    Targets with that pattern join, skip or misread anything else.

    Raises:
        DataError: a message is out of place (the first one is named), or the last is not a reply.
    """
    way_out = "export to trl or openai, whose messages come in any order"
    previous = "assistant"
    for index, message in enumerate(messages):
        role = message.role
        if role == "system":
            fits = index == 0
        elif role == "assistant":
            fits = previous in ("user", "tool") and index > 0
        else:
            fits = previous == "assistant" or (role == previous == "tool")
        if not fits:
            before = messages[index - 1].role if index else "nothing"
            raise refusal(name, target, f"message {index} is of role {role} after {before}", way_out)
        previous = previous if role == "system" else role
    ends_with_reply(messages, name, target)


def ends_with_reply(messages: Sequence[Message], name: str, target: str) -> None:
    """Refuse a conversation that continues after its last reply. Raises DataError."""
    if messages[-1].role != "assistant":
        reason = f"its last message must be a reply and is of role {messages[-1].role}"
        raise refusal(name, target, reason, "cut what follows the last reply")


def check_order(messages: Sequence[Message], name: str, target: str) -> None:
    """Refuse names of messages and, as `check_results`, results out of order, for targets without names and ids.

    Raises:
        DataError: a result is out of order, has another name or answers no call; a message of another role has a name.
    """
    for index, m in enumerate(messages):
        if m.role != "tool" and m.name is not None:
            reason = f"message {index} has a name ({m.name!r}), which it cannot hold"
            raise refusal(name, target, reason, _KEEPS_IDS)
    check_results(messages, name, target)


def check_results(messages: Sequence[Message], name: str, target: str) -> None:
    """Refuse tool results that do not answer the calls before them one by one, in order.

    For where no ids are kept and only the order says which result answers which call.

    Raises:
        DataError: a result is out of order, has another name or answers no call.
    """
    open_calls: list[ToolCall] = []
    for index, m in enumerate(messages):
        if m.role != "tool":
            open_calls = list(m.tool_calls)
        elif open_calls:
            call = open_calls.pop(0)
            if m.tool_call_id not in (None, call.id) or m.name not in (None, call.name):
                reason = f"message {index} does not answer the calls before it in their order, and it keeps no ids"
                raise refusal(name, target, reason, _KEEPS_IDS)
        elif m.tool_call_id is not None or m.name is not None:
            reason = f"message {index} answers a call that is not right before it, and it keeps no ids"
            raise refusal(name, target, reason, "export to trl, which keeps ids")


def arguments_of(call: ToolCall, name: str, target: str) -> JsonObject:
    """Arguments of a call as an object.

    Raises:
        DataError: they are not a JSON object, contain a key twice, or a number that JSON does not have.
    """
    try:
        arguments = json.loads(call.arguments, object_pairs_hook=_unique)
        json.dumps(arguments, allow_nan=False)
    except ValueError as error:
        reason = f"the arguments of a call of {call.name} are not JSON that can be kept ({error})"
        raise refusal(name, target, reason, "fix the data or leave it out") from None
    if not isinstance(arguments, dict):
        reason = f"the arguments of a call of {call.name} are not an object"
        raise refusal(name, target, reason, "fix the data or leave it out")
    return arguments


def tools_of(tools: Sequence[str], name: str, target: str) -> list[JsonObject]:
    """Tool definitions as objects. Raises DataError if one is not a JSON object."""
    found = []
    for index, text in enumerate(tools):
        try:
            tool = json.loads(text, object_pairs_hook=_unique)
        except ValueError as error:
            raise refusal(name, target, f"the definition of tool {index} is not JSON ({error})", "fix it") from None
        if not isinstance(tool, dict):
            raise refusal(name, target, f"the definition of tool {index} is not an object", "fix it")
        found.append(tool)
    return found


def with_thoughts(message: Message, text: str, name: str, target: str) -> str:
    """The text preceded by its thoughts in <think> tags, as ms-swift and LLaMA-Factory read them.

    Raises:
        DataError: the tags occur in the thoughts or in the text, so it would be unclear where the thoughts end.
    """
    if message.reasoning is None:
        return text
    if any(tag in part for tag in ("<think>", "</think>") for part in (message.reasoning, text)):
        reason = "its thoughts go into <think> tags, and a reply holds such a tag already"
        raise refusal(name, target, reason, "export to trl, axolotl or atif, which have a field for thoughts")
    return f"<think>\n{message.reasoning}\n</think>\n\n{text}"


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


__all__ = [
    "HOLDS_MORE",
    "RENDER_CALLS",
    "RENDER_THOUGHTS",
    "arguments_of",
    "check_answered",
    "check_order",
    "check_results",
    "check_roles",
    "check_turns",
    "ends_with_reply",
    "no_context",
    "no_thoughts",
    "one_reply",
    "refusal",
    "tools_of",
    "trained",
    "trajectory_name",
    "with_thoughts",
]
