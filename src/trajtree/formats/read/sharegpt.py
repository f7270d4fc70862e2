"""Runs as ShareGPT conversations: `from` and `value`, as ETO, AgentGym and LLaMA-Factory write them."""

from __future__ import annotations

from pydantic_core import from_json

from trajtree.chat import ASIDE, arguments_text, unread
from trajtree.errors import DataError
from trajtree.formats.read.aside import FUNCTION, fields_aside, left_over
from trajtree.formats.read.fields import (
    Record,
    at,
    first_turn,
    leading,
    objects,
    refuse_media,
    system_beside,
)
from trajtree.formats.read.preferences import refuse_preferences
from trajtree.formats.read.to_trajectory import Imported, action_part, with_usual_fields
from trajtree.trajectory import Message, ToolCall

_USER = ("human", "user")
_AGENT = ("gpt", "assistant")
_CALL = ("function_call", "tool_call")
_FIELDS = ASIDE | {"from", "value"}
_RESULT = ("observation", "tool", "function_response", "tool_response")


def recognises(record: Record) -> bool:
    """Whether a record has conversations whose first turn says whom it is from."""
    return "from" in (first_turn(record) or {})


def read(record: Record, *, score: str | None, task: str | None) -> Imported:
    """Read one run.

    Leading replies are context if the record marks them as not trained (`loss` is false), and so are those before the
    first `Action:` if there is one and the agent makes no calls: the acknowledgement of an instruction is not a
    decision. ETO's own run files, recognised by `meta.terminate_reason`, are named after their tasks.

    Args:
        record: `conversations`, and optionally `tools`, and instructions beside them (see `fields.INSTRUCTIONS`).
        score: dotted path of the score; without one, the usual names are tried.
        task: dotted path of the task, likewise.

    Raises:
        DataError: naming the field that is wrong.
    """
    refuse_media(record)
    refuse_preferences(record)
    turns = objects(record.get("conversations"), "conversations")
    messages: list[Message] = []
    aside: dict[str, object] = {}
    unlearned = []
    for index, turn in enumerate(turns):
        message = _message(turn, f"conversations.{index}", messages, aside)
        messages.append(message)
        if message.role == "assistant":
            unlearned.append(turn.get("loss") is False)
    messages[:0] = system_beside(record, messages)
    context = leading(unlearned, "is marked as not trained (loss is false)")
    return with_usual_fields(
        record,
        messages,
        max(context, _before_first_action(messages)),
        score=score,
        task=task,
        metadata=fields_aside([("conversations", turns)], _FIELDS, aside, within={}),
        named_by_file=at(record, "meta.terminate_reason") is not None,
    )


def _before_first_action(messages: list[Message]) -> int:
    """How many replies come before the first `Action:`; 0 where the agent acts by calls, beside which it also talks."""
    replies = [m for m in messages if m.role == "assistant"]
    if any(m.tool_calls for m in replies):
        return 0
    return next((i for i, m in enumerate(replies) if action_part(m.content) is not None), 0)


def _message(turn: Record, where: str, before: list[Message], aside: dict[str, object]) -> Message:
    """A turn as a message; `before` are those before it, and `aside` gains what is not read of its calls."""
    who, value = turn.get("from"), turn.get("value")
    if not isinstance(value, str):
        raise DataError(f"{where}.value: must be text, got {type(value).__name__}")
    if not value and any(isinstance(beside, str | list | dict) for beside in unread(turn, _FIELDS).values()):
        raise DataError(f"{where}.value: is empty, and another field may contain the text; put it into value")
    if who in _USER:
        return Message("user", value)
    if who in _AGENT:
        return Message("assistant", value)
    if who == "system":
        return Message("system", value)
    if who in _CALL:
        return Message("assistant", "", tool_calls=_calls(value, f"{where}.value", aside))
    if who in _RESULT:
        return Message("tool" if _answers_call(before) else "user", value)
    known = ", ".join((*_USER, *_AGENT, "system", *_CALL, *_RESULT))
    raise DataError(f"{where}.from: {str(who)[:80]!r} is not one of {known}")


def _answers_call(before: list[Message]) -> bool:
    """An observation answers a call if only other results are between them."""
    last = next((m for m in reversed(before) if m.role != "tool"), None)
    return last is not None and bool(last.tool_calls)


def _calls(value: str, where: str, aside: dict[str, object]) -> tuple[ToolCall, ...]:
    """One call or a list of them as JSON text; the format gives them no ids."""
    try:
        found = from_json(value)
    except ValueError:
        raise DataError(f"{where}: not JSON: {value[:80]!r}") from None
    calls = objects(found if isinstance(found, list) else [found], where)
    if not calls:
        raise DataError(f"{where}: the list contains no call")
    made = []
    for index, call in enumerate(calls):
        aside.update(left_over(call, FUNCTION, f"{where}.{index}"))
        if not isinstance(call.get("name"), str):
            raise DataError(f"{where}: a call needs a name and arguments, got {value[:80]!r}")
        made.append(ToolCall("", call["name"], arguments_text(call.get("arguments", "{}"), f"{where}.arguments")))
    return tuple(made)


__all__ = ["read", "recognises"]
