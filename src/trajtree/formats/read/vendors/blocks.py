"""Anthropic's content blocks: text, thinking, tool_use and tool_result. Source: Anthropic's Messages API reference."""

from __future__ import annotations

from trajtree.chat import arguments_text, text_of
from trajtree.errors import DataError
from trajtree.formats.read.aside import TEXT_PART, Known
from trajtree.formats.read.fields import Record, objects
from trajtree.formats.read.vendors.talk import Talk, kind_of
from trajtree.trajectory import Message, ToolCall

_KINDS = {
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "user": ("text", "tool_result"),
}
"""The blocks that are read, by role."""

_KNOWN = {
    "text": Known(frozenset(("type", "text", "cache_control"))),
    "thinking": Known(frozenset(("type", "thinking", "signature", "cache_control"))),
    "redacted_thinking": Known(frozenset(("type", "cache_control"))),
    "tool_use": Known(frozenset(("type", "id", "name", "input", "caller", "cache_control"))),
    "tool_result": Known(frozenset(("type", "tool_use_id", "content", "cache_control")), {"content": TEXT_PART}),
}
"""What is read of a block, or irrelevant to what was said; the rest is kept aside."""

_ONLY_HERE = frozenset(("thinking", "redacted_thinking", "tool_use", "tool_result"))


def has_blocks(content: object) -> bool:
    """Whether a message's content has blocks that other APIs do not have."""
    return isinstance(content, list) and any(isinstance(p, dict) and kind_of(p) in _ONLY_HERE for p in content)


def add_blocks(talk: Talk, role: object, content: object, where: str, name: str | None = None) -> None:
    """Add a message to a conversation; results of tools become messages of their own, in the order of the blocks.

    Args:
        talk: the conversation.
        role: `user` or `assistant`.
        content: text, or a list of blocks.
        where: the field with the message, for errors.
        name: what a reply's parts have in common, if they are recorded apart.

    Raises:
        DataError: a block is of an unknown type or not text, or a field of it is wrong.
    """
    if role not in ("user", "assistant"):
        raise DataError(f"{where}.role: {str(role)[:80]!r} is not one of user, assistant")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    texts: list[str] = []
    for index, block in enumerate(objects(content, f"{where}.content")):
        here, kind = f"{where}.content.{index}", kind_of(block)
        if kind not in _KINDS[role]:
            known = ", ".join(_KINDS[role])
            raise DataError(f"{here}: a block of type {kind[:80]!r}; of role {role} only {known} can be kept")
        talk.keep_aside(here, block, _KNOWN[kind])
        if kind == "tool_result":
            talk.hear_user(texts)
            talk.hear(_result(block, here))
        elif kind == "tool_use":
            talk.reply(Message("assistant", "", tool_calls=(_call(block, here),)), name)
        elif kind != "redacted_thinking":
            text = block.get(kind)
            if not isinstance(text, str):
                raise DataError(f"{here}.{kind}: must be text, got {type(text).__name__}")
            if role == "user":
                texts.append(text)
            elif kind == "text":
                talk.reply(Message("assistant", text), name)
            elif text:
                talk.reply(Message("assistant", "", text), name)
    talk.hear_user(texts)


def _call(block: Record, where: str) -> ToolCall:
    id_, name = block.get("id"), block.get("name")
    if not isinstance(id_, str) or not isinstance(name, str):
        raise DataError(f"{where}: a tool_use needs an id and a name")
    return ToolCall(id_, name, arguments_text(block.get("input", {}), f"{where}.input"))


def _result(block: Record, where: str) -> Message:
    call = block.get("tool_use_id")
    if not isinstance(call, str):
        raise DataError(f"{where}.tool_use_id: must name the call, got {type(call).__name__}")
    return Message("tool", text_of(block.get("content"), f"{where}.content"), tool_call_id=call)


__all__ = ["add_blocks", "has_blocks"]
