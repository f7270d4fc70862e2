"""The events of OpenHands' version 1 (its software agent SDK), each with its `kind`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from trajtree.chat import message_from_dict, text_of
from trajtree.errors import DataError
from trajtree.formats.read.aside import FLAT_CALL, Known, left_over, left_within
from trajtree.formats.read.fields import Record, at, objects, text_at
from trajtree.trajectory import Message

_UNSAID = frozenset(
    (
        *("ConversationStateUpdateEvent", "HookExecutionEvent", "LLMCompletionLogEvent", "StreamingDeltaEvent"),
        *("TokenEvent", "PauseEvent", "InterruptEvent", "CondensationRequest", "CondensationSummaryEvent"),
    )
)
"""Events between the SDK's parts, which the model never sees, or sees only in place of what it saw before."""

_READ = ("role", "content", "reasoning_content", "thinking_blocks", "name")
"""The fields of a message that are read."""

_PART = Known(frozenset(("type", "text", "cache_prompt", "enable_truncation")))
_MESSAGE = Known(
    frozenset(
        (
            *(*_READ, "tool_calls", "tool_call_id", "cache_enabled", "vision_enabled", "function_calling_enabled"),
            *("force_string_serializer", "send_reasoning_content"),
        )
    ),
    {"content": _PART},
)
_EVENT = Known(
    frozenset(
        (
            *("id", "timestamp", "source", "kind", "system_prompt", "dynamic_context", "tools", "llm_message"),
            *("sender", "llm_response_id", "activated_skills", "extended_content", "thought"),
            *("reasoning_content", "tool_call", "thinking_blocks", "action", "tool_name", "tool_call_id"),
            *("security_risk", "summary", "observation", "action_id", "error", "rejection_reason", "code"),
            *("detail", "rejection_source", "critic_result", "forgotten_event_ids", "summary_offset"),
        )
    ),
    {
        "llm_message": _MESSAGE,
        "tool_call": Known(FLAT_CALL.fields | {"origin"}),
        **dict.fromkeys(("system_prompt", "dynamic_context", "thought", "extended_content"), _PART),
    },
)
"""What is read of an event, or irrelevant to what was said."""

_SEEN = {"content": _PART, "output": _PART}
"""The fields of an observation that the model is shown; the others are the tool's own."""


@dataclass(slots=True)
class Told:
    """What the model was told and replied.

    Attributes:
        messages: the conversation.
        tools: definitions of the agent's tools in OpenAI's form, where the log has them so.
        condensations: how often earlier messages were replaced by a summary for the model.
        cut_short: whether a limit ended the conversation.
        aside: the fields of the events that are not read, by position.
    """

    messages: list[Message] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    condensations: int = 0
    cut_short: bool = False
    aside: dict[str, object] = field(default_factory=dict)


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
        found.aside.update(left_over(event, _EVENT, where))
        if isinstance(seen := event.get("observation"), dict):
            found.aside.update(left_within(seen, _SEEN, f"{where}.observation"))
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
    said = message_from_dict({k: v for k, v in message.items() if k in _READ}, f"{where}.llm_message")
    return structs.replace(
        said, content=said.content + text_of(event.get("extended_content"), f"{where}.extended_content")
    )


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
