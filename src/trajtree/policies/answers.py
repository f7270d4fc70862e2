"""Parsing a server's answer into a reply or a typed error.

Nothing of an answer is taken on trust: it is decoded against the fields that are needed, and what does not fit is a
fault of the engine, not of the agent.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from trajtree.chat import is_object
from trajtree.policies.base import Reply, too_long
from trajtree.trajectory import Cause, Message, ToolCall


class _Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class Token(msgspec.Struct):
    """A token of a reply: its bytes and log-probability, and its id where the server tells (llama.cpp)."""

    logprob: float
    bytes: list[int] | None = None
    id: int | None = None


class _LogProbs(msgspec.Struct):
    content: list[Token] | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    logprobs: _LogProbs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class Completion(msgspec.Struct):
    """The fields of a chat completion that are read here; vLLM's are among them, servers may send more.

    Attributes:
        prompt_token_ids: ids of the prompt (vLLM); ids of the reply are in its choice.
    """

    choices: list[_Choice]
    usage: _Usage | None = None
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | None = None


class BadAnswer(Exception):
    """The server answered with something that is no chat completion; the message says what is wrong with it."""


class Read(NamedTuple):
    """A reply, and the message that stands for it in the conversation; None where there is nothing to keep."""

    reply: Reply
    message: Message | None


_ENDS = ("stop", "length", "tool_calls", "content_filter")
"""Why a reply ends; engines say more when they gave up, SGLang for example "abort"."""

_decode = msgspec.json.Decoder(Completion).decode


def decode(body: bytes) -> Completion:
    """A server's answer, which has exactly one choice that ended.

    Raises:
        BadAnswer: it is not JSON, or not a chat completion.
    """
    try:
        completion = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the server's answer cannot be read ({error})") from None
    if len(completion.choices) != 1:
        raise BadAnswer(f"the server's answer has {len(completion.choices)} choices, not one")
    if (end := completion.choices[0].finish_reason) not in _ENDS:
        raise BadAnswer(f"the server's reply ended for no reason that is known (finish_reason {end!r})")
    return completion


def read(completion: Completion, most: int) -> Read:
    """What the agent said.

    Args:
        completion: the server's answer.
        most: longest reply, in tokens.
    """
    choice = completion.choices[0]
    said = choice.message
    # Servers write no arguments as {}, as an empty text, or not at all.
    called = ((c.id or f"call_{i}", c.function.name, c.function.arguments or "{}") for i, c in _numbered(said))
    calls = tuple(ToolCall(*call) for call in called)
    text = said.content or said.refusal or ""
    message = Message("assistant", text, said.reasoning_content or said.reasoning or None, calls)
    return Read(_judged(completion, message, most), None if choice.finish_reason == "content_filter" else message)


def _judged(completion: Completion, message: Message, most: int) -> Reply:
    choice, usage = completion.choices[0], completion.usage
    if choice.finish_reason == "content_filter":
        return Reply("", "the server's content filter held the reply back", Cause.PERMANENT_ENGINE_FAULT)
    if choice.finish_reason == "length":
        if usage is not None and usage.completion_tokens < most:
            # Shorter than was asked for: the context was full before the reply had ended.
            held = usage.prompt_tokens + usage.completion_tokens
            return Reply(message.content, f"the context was full after {held} tokens", Cause.CONTEXT_OVERFLOW)
        return too_long(most, message.content)
    if choice.message.refusal and not choice.message.content:
        return Reply(message.content, f"the model refused: {message.content!r}", Cause.UNPARSEABLE_REPLY)
    if len(message.tool_calls) > 1:
        names = ", ".join(call.name for call in message.tool_calls)
        return Reply(message.content, f"calls several tools in one reply ({names})", Cause.UNPARSEABLE_REPLY)
    for call in message.tool_calls:
        if not is_object(call.arguments):
            problem = f"the arguments of tool {call.name} are no JSON object: {call.arguments[:80]!r}"
            return Reply(message.content, problem, Cause.UNPARSEABLE_REPLY)
    return Reply(message.content)


def _numbered(said: _Said) -> list[tuple[int, _Call]]:
    return list(enumerate(said.tool_calls or ()))


# llama.cpp and OpenAI name an overflow in type; vLLM and SGLang only say it, in an error of type BadRequestError.
_OVERFLOWS = ("exceed_context_size_error", "context_length_exceeded")
_SAYS_OVERFLOW = re.compile(r"maximum context length|longer than the model's context length|context window", re.I)
_FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")


def refused(status: int, body: Any, said: str) -> Reply:
    """What an HTTP status from 400 to 499 means for the episode that asked.

    Args:
        status: the status.
        body: the error object of the answer, where it has one.
        said: the server's words.
    """
    error = body if isinstance(body, dict) else {}
    names = {str(error.get("type")), str(error.get("code"))}
    if names & set(_OVERFLOWS) or (status in (400, 413, 422) and _SAYS_OVERFLOW.search(said)):
        return Reply("", f"the prompt does not fit the server's context: {said}", Cause.CONTEXT_OVERFLOW)
    if names & set(_FILTERED):
        return Reply("", f"the server's content filter held the prompt back: {said}", Cause.PERMANENT_ENGINE_FAULT)
    return Reply("", f"the server refused the request (HTTP {status}): {said}", Cause.PERMANENT_ENGINE_FAULT)


__all__ = ["BadAnswer", "Completion", "Read", "Token", "decode", "read", "refused"]
