"""TRL and axolotl: OpenAI-like messages with arguments as objects and thoughts in `reasoning_content`.

Source: TRL's "Dataset formats and types" (tool calling: `tool_calls` with argument objects, a `tools` column);
axolotl's "conversation" (`message_field_training`) and "RLHF" (`chat_template.default`) pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trajtree.chat import message_to_dict
from trajtree.formats.pairs import PairMessages
from trajtree.formats.write.checks import (
    HOLDS_MORE,
    arguments_of,
    check_roles,
    no_context,
    no_thoughts,
    one_reply,
    refusal,
    run_name,
    tools_of,
    trained,
)
from trajtree.trajectory import Message, Trajectory

Row = dict[str, Any]


def trl_pair(pair: PairMessages) -> Row:
    """`prompt`, `chosen`, `rejected` and `tools`. Raises DataError when arguments or tools are not JSON objects."""
    row: Row = {
        "prompt": _messages(pair.prompt, pair.name, "trl"),
        "chosen": _messages(pair.chosen, pair.name, "trl"),
        "rejected": _messages(pair.rejected, pair.name, "trl"),
    }
    return row | _tools(pair.tools, pair.name, "trl")


def trl_run(run: Trajectory) -> Row:
    """`messages` and `tools`, for `assistant_only_loss`.

    Raises:
        DataError: the run has context turns, which TRL would train; arguments or tools that are not JSON objects.
    """
    no_context(run, "trl", "export to trl-completion, which puts them into the prompt")
    name = run_name(run)
    return {"messages": _messages(run.messages, name, "trl")} | _tools(run.tools, name, "trl")


def trl_completion(run: Trajectory) -> Row:
    """`prompt` up to the agent's first own reply, `completion` from there, and `tools`; for `assistant_only_loss`.

    Raises:
        DataError: nothing comes before the first own reply; arguments or tools that are not JSON objects.
    """
    name, first = run_name(run), trained(run, "trl-completion").index(True)
    if first == 0:
        raise refusal(name, "trl-completion", "nothing comes before its first reply", "export to trl")
    row: Row = {
        "prompt": _messages(run.messages[:first], name, "trl-completion"),
        "completion": _messages(run.messages[first:], name, "trl-completion"),
    }
    return row | _tools(run.tools, name, "trl-completion")


def axolotl_pair(pair: PairMessages) -> Row:
    """`messages`, `chosen` and `rejected` of type `chat_template.default`, which reads roles and texts only.

    Raises:
        DataError: a side has several messages; there are tools, calls or thoughts; a reply begins or ends with
            white space or is empty (axolotl looks for it in the rendered text, which many templates trim).
    """
    one_reply(pair, "axolotl")
    messages = (*pair.prompt, *pair.chosen, *pair.rejected)
    check_roles(messages, pair.name, "axolotl")
    no_thoughts(messages, pair.name, "axolotl", HOLDS_MORE)
    if pair.tools or any(m.tool_calls or m.role == "tool" or m.name is not None for m in messages):
        reason = "its preference data hold roles and texts, no tools, calls or names"
        raise refusal(pair.name, "axolotl", reason, HOLDS_MORE)
    for side in (*pair.chosen, *pair.rejected):
        if not side.content or side.content != side.content.strip():
            reason = "it finds a reply again in the rendered text, so one cannot be empty or edged with white space"
            raise refusal(pair.name, "axolotl", reason, HOLDS_MORE)
    prompt, chosen, rejected = (
        [{"role": m.role, "content": m.content} for m in part] for part in (pair.prompt, pair.chosen, pair.rejected)
    )
    return {"messages": prompt, "chosen": chosen[0], "rejected": rejected[0]}


def axolotl_run(run: Trajectory) -> Row:
    """`messages`, each with the flag `train`, and `tools`; arguments stay JSON text, which axolotl parses.

    Raises:
        DataError: no reply is the agent's; arguments or tools that are not JSON objects.
    """
    name, flags = run_name(run), trained(run, "axolotl")
    _messages(run.messages, name, "axolotl")
    messages = [message_to_dict(m) | {"train": flag} for m, flag in zip(run.messages, flags, strict=True)]
    return {"messages": messages} | _tools(run.tools, name, "axolotl")


def _messages(messages: Sequence[Message], name: str, target: str) -> list[Row]:
    check_roles(messages, name, target)
    rows = []
    for message in messages:
        row = message_to_dict(message)
        for written, call in zip(row.get("tool_calls", []), message.tool_calls, strict=True):
            written["function"]["arguments"] = arguments_of(call, name, target)
        rows.append(row)
    return rows


def _tools(tools: Sequence[str], name: str, target: str) -> Row:
    return {"tools": tools_of(tools, name, target)} if tools else {}


__all__ = ["axolotl_pair", "axolotl_run", "trl_completion", "trl_pair", "trl_run"]
