"""The events of OpenHands' version 1 (its software agent SDK), each with its `kind`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from trajtree.chat import message_from_dict, text_of
from trajtree.errors import DataError
from trajtree.formats.read.fields import Record, at, objects, text_at
from trajtree.trajectory import Message

_UNSAID = frozenset(
    (
        *("ConversationStateUpdateEvent", "HookExecutionEvent", "LLMCompletionLogEvent", "StreamingDeltaEvent"),
        *("TokenEvent", "PauseEvent", "InterruptEvent", "CondensationRequest", "CondensationSummaryEvent"),
    )
)
"""Events between the SDK's parts, which the model never sees, or sees only in place of what it saw before."""


@dataclass(slots=True)
class Told:
    """What the model was told and replied.

    Attributes:
        messages: the conversation.
        tools: definitions of the agent's tools in OpenAI's form, where the log has them so.
        condensations: how often earlier messages were replaced by a summary for the model.
        cut_short: whether a limit ended the conversation.
    """

    messages: list[Message] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    condensations: int = 0
    cut_short: bool = False


def told(events: Sequence[Record]) -> Told:
    """What the model was told and replied.

    Raises:
        DataError: an event is of another kind, or a field is wrong.
    """
    found = Told()
    replies: dict[str, int] = {}
    for index, event in enumerate(events):
        where, kind = f"history.{index}", str(event.get("kind"))
        if kind in _UNSAID:
            continue
        if kind == "SystemPromptEvent":
            parts = [part for name in ("system_prompt", "dynamic_context") if (part := event.get(name)) is not None]
            found.messages.append(Message("system", text_of(parts, f"{where}.system_prompt")))
            found.tools = [tool for tool in objects(event.get("tools") or [], f"{where}.tools") if "function" in tool]
        elif kind == "MessageEvent":
            found.messages.append(_message(event, where))
        elif kind == "ActionEvent":
            # The calls of one reply are one event each, and only the first of them has its text.
            said, id_ = _reply(event, where), str(event.get("llm_response_id") or index)
            if id_ in replies:
                first = found.messages[replies[id_]]
                found.messages[replies[id_]] = structs.replace(first, tool_calls=first.tool_calls + said.tool_calls)
            else:
                replies[id_] = len(found.messages)
                found.messages.append(said)
        elif kind in ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation"):
            found.messages.append(_result(event, where))
        elif kind == "Condensation":
            found.condensations += 1
        elif kind == "ConversationErrorEvent" and "MaxIterations" in str(event.get("code")):
            found.cut_short = True
        else:
            said_ = f": {event.get('code')}: {str(event.get('detail'))[:200]}" if "code" in event else ""
            raise DataError(f"{where}: an event of kind {kind[:80]!r} cannot be read{said_}")
    return found


def _message(event: Record, where: str) -> Message:
    message = event.get("llm_message")
    if not isinstance(message, dict):
        raise DataError(f"{where}.llm_message: must be an object, got {type(message).__name__}")
    said = message_from_dict({k: v for k, v in message.items() if k in _MESSAGE}, f"{where}.llm_message")
    return structs.replace(
        said, content=said.content + text_of(event.get("extended_content"), f"{where}.extended_content")
    )


_MESSAGE = ("role", "content", "reasoning_content", "thinking_blocks", "name")


def _reply(event: Record, where: str) -> Message:
    call = event.get("tool_call")
    plain = {
        "role": "assistant",
        "content": event.get("thought"),
        "reasoning_content": event.get("reasoning_content"),
        "thinking_blocks": event.get("thinking_blocks"),
        "tool_calls": [{"id": at(call, "id"), "function": call}],
    }
    return message_from_dict(plain, where)


def _result(event: Record, where: str) -> Message:
    if event["kind"] == "AgentErrorEvent":
        content = text_of(event.get("error"), f"{where}.error")
    elif event["kind"] == "UserRejectObservation":
        content = f"Action rejected: {text_of(event.get('rejection_reason'), f'{where}.rejection_reason')}"
    else:
        seen = event.get("observation")
        name = next((name for name in ("content", "output") if at(seen, name) is not None), None)
        if name is None:
            raise DataError(f"{where}.observation: has no content; what {at(seen, 'kind')} showed is not in the log")
        before, after = (text_at(seen, f"metadata.{side}") or "" for side in ("prefix", "suffix"))
        content = before + text_of(at(seen, name), f"{where}.observation.{name}") + after
        content += text_of(event.get("extended_content"), f"{where}.extended_content")
    return Message("tool", content, tool_call_id=text_at(event, "tool_call_id"))


__all__ = ["Told", "told"]
