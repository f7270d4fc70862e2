"""Chat messages in OpenAI's format, and parsing of replies: a bare action, or a thought and an action."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from trajtree.errors import DataError, TooDeep
from trajtree.trajectory import Message, ToolCall

_sort_keys = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
_plain = json.JSONEncoder(ensure_ascii=False).encode
"""Created once: json.dumps would create an encoder at each call."""


def _no_float(text: str) -> float:
    raise ValueError(f"{text} may be written in another way than json does")


_decode_without_floats = msgspec.json.Decoder(float_hook=_no_float).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


ASIDE = frozenset(
    (
        *("id", "uuid", "index", "object", "type", "status", "model", "created", "created_at", "timestamp", "date"),
        *("usage", "finish_reason", "stop_reason", "logprobs", "token_ids", "prompt_token_ids", "annotations"),
        *("cache_control", "weight", "loss"),
    )
)
"""Fields of a message that are irrelevant to what was said. Other unknown ones are kept, see `unread`."""

FIELDS = ASIDE | {
    *("role", "content", "refusal", "reasoning_content", "reasoning", "thinking", "tool_calls", "function_call"),
    *("tool_call_id", "name"),
}
"""Fields of a message that `message_from_dict` reads, or that are irrelevant to what was said."""

_USUAL = frozenset(("role", "content", "tool_calls", "tool_call_id", "name"))
"""A message with only these fields, and text or nothing as its content, has no other place for text or thoughts."""

MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Fields with content that is not text and can never be kept."""

_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_THOUGHT_PARTS = ("reasoning_details", "thinking_blocks")
"""Thoughts in parts: OpenRouter's, and Anthropic's as passed on by LiteLLM. Often the same as in a text field."""

_ALL_THOUGHTS = frozenset((*_THOUGHTS, *_THOUGHT_PARTS))
_PARTS = frozenset(_THOUGHT_PARTS)
_NOTHING: tuple[object, ...] = (None, "", [], {})


def message_to_dict(message: Message) -> dict[str, Any]:
    """One message with OpenAI's keys; empty fields are left out, arguments stay JSON text."""
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        written["reasoning_content"] = message.reasoning
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        written["name"] = message.name
    return written


def message_from_dict(data: object, where: str) -> Message:
    """Read one message.

    A refusal is what the assistant said, where it said nothing else. Thoughts are in a field of text, or in parts.

    Args:
        data: role, content (text, text parts or nothing) | refusal, reasoning_content | reasoning | thinking |
            reasoning_details | thinking_blocks, tool_calls | function_call, tool_call_id, name.
        where: the field that holds it, for errors.

    Raises:
        DataError: naming the field that is wrong; images and sound are not text and cannot be kept; or there is no
            content, and a field that is not known may hold it.
    """
    if not isinstance(data, dict):
        raise DataError(f"{where}: a message is an object, got {type(data).__name__}")
    role = _ROLES.get(str(data.get("role")))
    if role is None:
        raise DataError(f"{where}.role: {str(data.get('role'))[:80]!r} is not one of {', '.join(_ROLES)}")
    if len(data) == 2 and isinstance(data.get("content"), str):
        return Message(role, data["content"])
    calls = data.get("tool_calls") or []
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise DataError(f"{where}.tool_calls: must be a list")
    if not calls and data.get("function_call"):
        # OpenAI's older form of a single call, which has no id.
        calls = [{"function": data["function_call"]}]
    if calls and role != "assistant":
        raise DataError(f"{where}.tool_calls: only an assistant's message can have tool calls")
    content = data.get("content")
    plain = (content is None or type(content) is str) and data.keys() <= _USUAL
    return Message(
        role=role,
        content=content or "" if plain else _said(data, where, bool(calls)),
        reasoning=None if plain else _thought(data, where),
        tool_calls=tuple([_call(call, f"{where}.tool_calls.{index}") for index, call in enumerate(calls)]),
        tool_call_id=_optional(data, "tool_call_id", where),
        name=_optional(data, "name", where),
    )


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is plain: an object with no other fields than these."""


class _Function(_Plain):
    name: str
    arguments: str


class _Call(_Plain):
    function: _Function
    id: str = ""
    type: Literal["function"] = "function"
    index: int = 0


class _Turn(_Plain):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None


def plain_messages(turns: Sequence[Mapping[str, Any]]) -> list[Message] | None:
    """Messages as `message_from_dict` reads them, if all are text, calls of functions and their results, with no other
    field; else None. Most messages are plain, and are read several times as fast here.
    """
    try:
        if set(map(len, turns)) <= {2}:
            return msgspec.convert(turns, list[Message])
        plain = msgspec.convert(turns, list[_Turn])
    except msgspec.ValidationError:  # another role, content that is not text, or another field
        return None
    if any(turn.tool_calls and turn.role != "assistant" for turn in plain):
        return None
    return [
        Message(
            turn.role,
            turn.content or "",
            None,
            tuple([ToolCall(call.id, call.function.name, call.function.arguments or "{}") for call in turn.tool_calls])
            if turn.tool_calls
            else (),
            turn.tool_call_id,
            turn.name,
        )
        for turn in plain
    ]


def unread(data: Mapping[str, Any], read: frozenset[str] = FIELDS) -> dict[str, Any]:
    """What is not read of a message: its fields other than those in `read`, and thoughts beside those that are read.

    Those are thoughts in parts that are not text (encrypted), and text that the field which is read does not contain.
    """
    if data.keys() <= read and len(data.keys() & _ALL_THOUGHTS) < 2 and not data.keys() & _PARTS:
        return {}
    second = _second_thoughts(data)
    return {
        name: left
        for name, value in data.items()
        if (name not in read or name in second)
        and (left := _hidden(value) if name in _PARTS and name not in second else value) not in _NOTHING
    }


def _second_thoughts(data: Mapping[str, Any]) -> list[str]:
    """Names of the fields with thoughts that the first of them does not contain, apart from white space."""
    found = [(name, _squeezed(data[name])) for name in (*_THOUGHTS, *_THOUGHT_PARTS) if data.get(name)]
    return [name for name, text in found[1:] if text not in found[0][1]]


def _squeezed(thoughts: object) -> str:
    parts = thoughts if isinstance(thoughts, list) else [thoughts]
    texts = (part if isinstance(part, str) else _thought_text(part) for part in parts)
    return "".join("".join(text.split()) for text in texts if text)


def _said(data: Mapping[str, Any], where: str, calls: bool) -> str:
    content = text_of(data.get("content"), f"{where}.content")
    refusal = data.get("refusal")
    if refusal:
        if content:
            raise DataError(f"{where}.refusal: a message has content or a refusal, this one has both")
        content = text_of(refusal, f"{where}.refusal")
    if not content and not calls:
        left = unread(data).items()
        elsewhere = [name for name, value in left if name not in FIELDS and isinstance(value, str | list | dict)]
        if elsewhere:
            raise DataError(
                f"{where}: has no content, but {', '.join(map(repr, elsewhere[:5]))[:200]}, which may be what was said "
                "and cannot be read; put the text into content"
            )
    return content


def _thought(data: Mapping[str, Any], where: str) -> str | None:
    for name in _THOUGHTS:
        if data.get(name):
            return text_of(data[name], f"{where}.{name}")
    for name in _THOUGHT_PARTS:
        if data.get(name):
            if not isinstance(data[name], list):
                raise DataError(f"{where}.{name}: must be a list, got {type(data[name]).__name__}")
            texts = [text for text in map(_thought_text, data[name]) if text]
            return "\n".join(texts) or None
    return None


def _thought_text(part: object) -> str | None:
    found = (part.get(name) for name in ("text", "summary", "thinking")) if isinstance(part, dict) else ()
    return next((text for text in found if isinstance(text, str)), None)


def _hidden(parts: object) -> object:
    return [part for part in parts if _thought_text(part) is None] if isinstance(parts, list) else parts


def text_of(content: object, where: str) -> str:
    """Text of a content field: a string, null, or parts of type text. Raises DataError for anything else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        texts = []
        for index, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise DataError(f"{where}.{index}: a part of type {kind!r}; only text can be kept")
            texts.append(part["text"])
        return "".join(texts)
    raise DataError(f"{where}: must be text, got {type(content).__name__}")


def arguments_text(arguments: object, where: str) -> str:
    """Arguments of a tool call as text: objects as JSON, text as the agent wrote it, even if that is not JSON.

    An agent that writes broken arguments has made a mistake worth learning from. Raises DataError for anything else.
    """
    if isinstance(arguments, str):
        return arguments or "{}"
    if isinstance(arguments, dict):
        return _plain(arguments)
    raise DataError(f"{where}: must be a JSON object or its text")


def action_of(message: Message) -> str:
    """The action of a reply: its tool calls, one per line, else its text.

    Arguments that are JSON have their keys sorted; others are kept as they are. Trajectory stores leave out an action
    that equals this text, so the result for a given reply must never change.

    Raises:
        TooDeep: arguments are nested more deeply than JSON is read.
    """
    if not message.tool_calls:
        return message.content
    return "\n".join(f"{c.name}({_sorted(c.arguments)})" for c in message.tool_calls)


@lru_cache(maxsize=256)
def _sorted(arguments: str) -> str:
    """JSON text with sorted keys; cached, because it is needed again when the run is stored."""
    try:  # most arguments; what msgspec reads or writes in another way than json, it refuses here
        return msgspec.json.format(_encode_sorted(_decode_without_floats(arguments)), indent=0).decode()
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        pass
    try:
        return _sort_keys(json.loads(arguments))
    except ValueError:
        return arguments
    except RecursionError:
        raise TooDeep("a tool call's arguments are nested too deeply") from None


def is_object(arguments: str) -> bool:
    """Whether a tool call's arguments are a JSON object, as they should be."""
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _call(data: object, where: str) -> ToolCall:
    kind = "custom" if isinstance(data, dict) and isinstance(data.get("custom"), dict) else "function"
    function = data.get(kind) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call needs an id and a function with name and arguments")
    field = "input" if kind == "custom" else "arguments"
    given = function.get(field, "" if kind == "custom" else "{}")
    if kind == "custom" and isinstance(given, str):
        return ToolCall(str(data.get("id") or ""), function["name"], given)
    arguments = arguments_text(given, f"{where}.{kind}.{field}")
    return ToolCall(str(data.get("id") or ""), function["name"], arguments)


def _optional(data: Mapping[str, Any], key: str, where: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}.{key}: must be text")
    return value


class Parsed(NamedTuple):
    """A parsed reply."""

    thought: str | None
    action: str


Parser = Callable[[str], Parsed | None]

REACT = "First write one line 'Thought:' with your reasoning, then one line 'Action:' with the action."
"""Added to the environment's instruction when replies include thoughts."""

_REACT = re.compile(r"(?:Thought:(?P<thought>.*?))?^\s*Action:(?P<action>.*)", re.DOTALL | re.MULTILINE)


def parse_act(text: str) -> Parsed | None:
    """The first non-blank line is the action; None if there is none."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), None)
    return None if line is None else Parsed(None, line)


def parse_react(text: str) -> Parsed | None:
    """`Thought: ...` (optional) and `Action: ...`; None if there is no action."""
    match = _REACT.search(text)
    action = parse_act(match["action"]) if match else None
    if match is None or action is None:
        return None
    thought = match["thought"]
    return Parsed(thought.strip() if thought is not None else None, action.action)


__all__ = [
    "ASIDE",
    "FIELDS",
    "MEDIA",
    "REACT",
    "Parsed",
    "Parser",
    "action_of",
    "arguments_text",
    "is_object",
    "message_from_dict",
    "message_to_dict",
    "parse_act",
    "parse_react",
    "plain_messages",
    "text_of",
    "unread",
]
