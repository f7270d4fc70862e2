"""Answers as vLLM and SGLang give them, field for field, and which token ids are kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajtree.policies.answers import decode, read, refused
from trajtree.policies.base import Reply
from trajtree.policies.engine_tokens import EngineTokens, Spelt, spelt_reply
from trajtree.trajectory import Cause, Message, Tokens, ToolCall

PROMPT = [151644, 8948, 198, 2610, 151645, 198, 151644, 77091, 198]
PIECES = [("take", 22769), (" red", 2518), (" key", 1376)]


def _entry(piece: str) -> dict[str, Any]:
    return {"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": []}


def vllm(end: tuple[str, int] = ("<|im_end|>", 151645), **choice: Any) -> bytes:
    """vLLM 0.11 with return_token_ids and logprobs."""
    pieces = [*PIECES, end]
    message = {
        "role": "assistant", "content": "take red key", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "tool_calls": [], "reasoning_content": None,
    }  # fmt: skip
    answer = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1760000000, "model": "Qwen/Qwen3-8B",
        "choices": [{
            "index": 0, "message": message, "logprobs": {"content": [_entry(piece) for piece, _ in pieces]},
            "finish_reason": "stop", "stop_reason": None, "token_ids": [i for _, i in pieces], **choice,
        }],
        "service_tier": None, "system_fingerprint": None,
        "usage": {"prompt_tokens": 9, "total_tokens": 13, "completion_tokens": 4, "prompt_tokens_details": None},
        "prompt_logprobs": None, "prompt_token_ids": PROMPT, "kv_transfer_params": None,
    }  # fmt: skip
    return json.dumps(answer).encode()


def sglang(**choice: Any) -> bytes:
    """SGLang 0.5: no ids, its own matched_stop."""
    message = {"role": "assistant", "content": "take red key", "reasoning_content": None, "tool_calls": None}
    answer = {
        "id": "a1", "object": "chat.completion", "created": 1760000000, "model": "Qwen/Qwen3-8B",
        "choices": [{
            "index": 0, "message": message, "logprobs": {"content": [_entry(piece) for piece, _ in PIECES]},
            "finish_reason": "stop", "matched_stop": 151645, **choice,
        }],
        "usage": {"prompt_tokens": 9, "total_tokens": 13, "completion_tokens": 4, "prompt_tokens_details": None},
        "metadata": {"weight_version": "default"},
    }  # fmt: skip
    return json.dumps(answer).encode()


@pytest.mark.parametrize("body", [vllm(), sglang()])
def test_a_reply(body: bytes) -> None:
    assert read(decode(body), 24) == (Reply("take red key"), Message("assistant", "take red key"))


def test_ids_of_a_turn_that_ended_by_itself() -> None:
    completion = decode(vllm())
    ids = EngineTokens()
    ids.add(completion.prompt_token_ids, spelt_reply(completion))
    assert ids.tokens() == (Tokens((*PROMPT, 22769, 2518, 1376, 151645), ((9, 13),), 4 * (-0.1,)),)


def test_a_stop_sequence_is_no_part_of_the_reply() -> None:
    stopped = Spelt([22769, 2518, 1376], [-0.1, -0.1, -0.1])
    assert spelt_reply(decode(vllm(("\n", 198), stop_reason="\n"))) == stopped
    assert spelt_reply(decode(vllm(("\n", 198)))) == stopped, "also where no stop_reason says so (llama.cpp)"


@pytest.mark.parametrize(
    "body",
    [
        sglang(),
        vllm(token_ids=[1, 2]),
        vllm(message={"role": "assistant", "content": "take red keys"}),
        vllm(message={"role": "assistant", "content": "take re"}),
        vllm(message={"role": "assistant", "content": "take red key", "reasoning_content": "hm"}),
        vllm(logprobs=None),
    ],
    ids=["no ids", "other number", "other text", "cut within a token", "reasoning", "no bytes"],
)
def test_ids_that_do_not_spell_the_reply_are_given_up(body: bytes) -> None:
    completion = decode(body)
    assert spelt_reply(completion) is None
    ids = EngineTokens()
    ids.add([1, 2], Spelt([3], [-1.0]))
    ids.add(completion.prompt_token_ids, None)
    ids.add([1, 2, 3], Spelt([4], [-1.0]))
    assert ids.tokens() == ()


def test_history_that_was_rewritten_begins_a_new_sequence() -> None:
    ids = EngineTokens()
    ids.add([1, 2], Spelt([3, 4], [-0.5, -1.0]))
    ids.add([1, 2, 3, 4, 5], Spelt([6], [-2.0]))
    ids.add([1, 2, 9, 5, 7], Spelt([8], [-3.0]))
    assert ids.tokens() == (
        Tokens((1, 2, 3, 4, 5, 6), ((2, 4), (5, 6)), (-0.5, -1.0, -2.0)),
        Tokens((1, 2, 9, 5, 7, 8), ((5, 6),), (-3.0,)),
    )


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1)), max_size=5)
)
def test_every_reply_has_its_range(turns: list[tuple[list[int], list[int]]]) -> None:
    ids = EngineTokens()
    for prompt, reply in turns:
        ids.add(prompt, Spelt(reply, [-float(token) for token in reply]))
    said = [list(tokens.ids[a:b]) for tokens in ids.tokens() for a, b in tokens.agent]
    assert said == [reply for _, reply in turns]
    assert [p for tokens in ids.tokens() for p in tokens.logprobs] == [-float(i) for _, reply in turns for i in reply]


def test_sampled_end_of_context() -> None:
    """SGLang shortens the longest reply to what the context holds, and says no more than "length"."""
    full, _ = read(decode(sglang(finish_reason="length")), 24)
    assert full.cause is Cause.CONTEXT_OVERFLOW
    assert read(decode(vllm(finish_reason="length")), 4)[0].cause is Cause.REPLY_TOO_LONG


def test_reasoning_under_either_name() -> None:
    for field in ("reasoning_content", "reasoning"):
        _, message = read(decode(vllm(message={"content": "look", field: "hm"})), 24)
        assert message == Message("assistant", "look", reasoning="hm")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            {"type": "exceed_context_size_error", "code": 400},
            "request (5031 tokens) exceeds the available context size",
        ),
        ({"type": "BadRequestError", "code": 400}, "This model's maximum context length is 2048 tokens. However, ..."),
        (
            {"type": "BadRequestError", "code": 400},
            "The input (9 tokens) is longer than the model's context length (8).",
        ),
        ({"type": "BadRequestError", "code": 400}, "Requested token count exceeds the model's maximum context length"),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, "Too long"),
    ],
)
def test_overflow_in_every_servers_words(error: dict[str, Any], said: str) -> None:
    assert refused(400, error, said).cause is Cause.CONTEXT_OVERFLOW
    assert refused(400, {"type": "BadRequestError"}, "unknown field").cause is Cause.PERMANENT_ENGINE_FAULT


@pytest.mark.parametrize("function", [{}, {"arguments": ""}, {"arguments": None}, {"arguments": "{}"}])
def test_a_call_without_arguments_however_a_server_writes_them(function: dict[str, Any]) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", **function}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    found = read(decode(vllm(message=said, finish_reason="tool_calls")), 64)
    assert found.reply.cause is None
    assert found.message == Message("assistant", "", None, (ToolCall("c1", "look", "{}"),))
