"""TRL and axolotl: OpenAI-like messages with arguments as objects and thoughts in `reasoning_content`.

Source: TRL's "Dataset formats and types" (tool calling: `tool_calls` with argument objects, a `tools` column);
axolotl's "conversation" (`message_field_training`) and "RLHF" (`chat_template.default`) pages.
"""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.chat import message_to_dict
from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.checks import (
    HOLDS_MORE,
    RENDER_CALLS,
    RENDER_THOUGHTS,
    arguments_of,
    check_answered,
    check_roles,
    no_context,
    no_thoughts,
    one_reply,
    refusal,
    tools_of,
    trained,
    trajectory_name,
)
from trajtree.store.lines import JsonObject
from trajtree.trajectory import Message, Trajectory


def trl_pair(pair: PairMessages, target: str = "trl") -> JsonObject:
    """`prompt`, `chosen`, `rejected` and `tools`.

    Raises:
        DataError: a call is not answered; arguments or tools that are not JSON objects.
    """
    for side in (pair.chosen, pair.rejected):
        check_answered([*pair.prompt, *side], pair.name, target)
    row: JsonObject = {
        "prompt": _messages(pair.prompt, pair.name, target),
        "chosen": _messages(pair.chosen, pair.name, target),
        "rejected": _messages(pair.rejected, pair.name, target),
    }
    return row | _tools(pair.tools, pair.name, target)


def trl_trajectory(trajectory: Trajectory) -> JsonObject:
    """`messages` and `tools`, for `assistant_only_loss`.

    Raises:
        DataError: there are context turns, which TRL would train; a call is not answered; arguments or tools that are
            not JSON objects.
    """
    no_context(trajectory, "trl", "export to trl-completion, which puts them into the prompt")
    name = trajectory_name(trajectory)
    check_answered(trajectory.messages, name, "trl")
    return {"messages": _messages(trajectory.messages, name, "trl")} | _tools(trajectory.tools, name, "trl")


def trl_completion(trajectory: Trajectory) -> JsonObject:
    """`prompt` up to the agent's first own reply, `completion` from there, and `tools`; for `assistant_only_loss`.

    Raises:
        DataError: nothing comes before the first own reply; a call is not answered; arguments or tools that are not
            JSON objects.
    """
    name, first = trajectory_name(trajectory), trained(trajectory, "trl-completion").index(True)
    if first == 0:
        raise refusal(name, "trl-completion", "nothing comes before its first reply", "export to trl")
    check_answered(trajectory.messages, name, "trl-completion")
    row: JsonObject = {
        "prompt": _messages(trajectory.messages[:first], name, "trl-completion"),
        "completion": _messages(trajectory.messages[first:], name, "trl-completion"),
    }
    return row | _tools(trajectory.tools, name, "trl-completion")


def axolotl_pair(pair: PairMessages) -> JsonObject:
    """`messages`, `chosen` and `rejected` of type `chat_template.default`, which reads roles and texts only.

    Raises:
        DataError: a side has several messages, there are tools, calls or thoughts, or a reply begins or ends with
            white space or is empty (axolotl looks for it in the rendered text, which many templates trim).
    """
    one_reply(pair, "axolotl")
    messages = (*pair.prompt, *pair.chosen, *pair.rejected)
    check_roles(messages, pair.name, "axolotl")
    no_thoughts(messages, pair.name, "axolotl", f"{RENDER_THOUGHTS}, or {HOLDS_MORE}")
    reason = "its preference data hold roles and texts, no tools, calls or names"
    if pair.tools or any(m.tool_calls or m.role == "tool" for m in messages):
        raise refusal(pair.name, "axolotl", reason, f"{RENDER_CALLS}, or {HOLDS_MORE}")
    if any(m.name is not None for m in messages):
        raise refusal(pair.name, "axolotl", reason, HOLDS_MORE)
    for side in (*pair.chosen, *pair.rejected):
        if not side.content or side.content != side.content.strip():
            reason = "it finds a reply again in the rendered text, so one cannot be empty or edged with white space"
            raise refusal(pair.name, "axolotl", reason, HOLDS_MORE)
    prompt, chosen, rejected = (
        [{"role": m.role, "content": m.content} for m in part] for part in (pair.prompt, pair.chosen, pair.rejected)
    )
    return {"messages": prompt, "chosen": chosen[0], "rejected": rejected[0]}


def axolotl_trajectory(trajectory: Trajectory) -> JsonObject:
    """`messages`, each with the flag `train`, and `tools`; arguments stay JSON text, which axolotl parses.

    Raises:
        DataError: no reply is the agent's; a call is not answered; arguments or tools that are not JSON objects.
    """
    name, flags = trajectory_name(trajectory), trained(trajectory, "axolotl")
    check_answered(trajectory.messages, name, "axolotl")
    _messages(trajectory.messages, name, "axolotl")
    messages = [message_to_dict(m) | {"train": flag} for m, flag in zip(trajectory.messages, flags, strict=True)]
    return {"messages": messages} | _tools(trajectory.tools, name, "axolotl")


def _messages(messages: Sequence[Message], name: str, target: str) -> list[JsonObject]:
    check_roles(messages, name, target)
    written = []
    for message in messages:
        fields = message_to_dict(message)
        for made, call in zip(fields.get("tool_calls", []), message.tool_calls, strict=True):
            made["function"]["arguments"] = arguments_of(call, name, target)
        written.append(fields)
    return written


def _tools(tools: Sequence[str], name: str, target: str) -> JsonObject:
    return {"tools": tools_of(tools, name, target)} if tools else {}


__all__ = ["axolotl_pair", "axolotl_trajectory", "trl_completion", "trl_pair", "trl_trajectory"]
