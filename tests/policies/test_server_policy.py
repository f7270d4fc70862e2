"""The server policy against a stub: what is sent, what is made of the answers, and what is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("openai")
from tests.policies.stub_server import Answer, Body, Stub, ok, probed, said, stub, wrong

from trajtree.errors import LimitError, PolicyError
from trajtree.models.weights import ModelRef
from trajtree.policies import server, server_probe
from trajtree.policies.base import Reply, ServedPolicy, ToolCaller, turn_seed
from trajtree.policies.opening import Opening
from trajtree.policies.server import ServerPolicy
from trajtree.policies.server_name import ServerName, parse_name
from trajtree.policies.spending import Price, Spending
from trajtree.trajectory import Cause, Message, Sampling

SYSTEM = "You stand in a room."
WARM = Sampling(0.7, 0.9)
KEY = "sk-secret-0123456789"


def policy_of(*urls: str, **settings: Any) -> ServerPolicy:
    return ServerPolicy(ServerName("stub", urls), **{"max_new_tokens": 20, **settings})


def talk(policy: ServerPolicy, *turns: str, sampling: Sampling = WARM, seed: int = 1) -> Any:
    conversation = policy.start(SYSTEM, sampling, (seed,))
    replies = []
    for text in turns or ("Go.",):
        conversation.messages.append(Message("user", text))
        replies += policy.reply([conversation])
    return conversation, replies


def once(answer: Answer, **settings: Any) -> tuple[Any, Reply]:
    """The one reply that a server's answer means."""
    with stub(lambda body: probed(body) or answer) as served:
        conversation, (reply,) = talk(policy_of(served.url, **settings))
    return conversation, reply


def test_a_request_says_all_of_the_sampling() -> None:
    with stub(lambda body: probed(body) or ok(said("look"))) as served:
        policy = policy_of(served.url)
        talk(policy, "Go.", "On.")
        first, second = served.requests
    assert first["messages"] == [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Go."}]
    assert [m["role"] for m in second["messages"]] == ["system", "user", "assistant", "user"]
    for body in (first, second):
        sent = {name: body[name] for name in ("model", "temperature", "top_p", "max_tokens", "top_k", "min_p", "stop")}
        assert sent == {
            "model": "stub", "temperature": 0.7, "top_p": 0.9, "max_tokens": 20, "top_k": -1, "min_p": 0, "stop": ["\n"]
        }  # fmt: skip
    assert first["seed"] == turn_seed((1,), 0) != second["seed"] == turn_seed((1,), 1)


def test_a_policy_of_thoughts_has_no_stop_sequence() -> None:
    with stub(lambda body: probed(body) or ok(said("Thought: a\nAction: b"))) as served:
        _, (reply,) = talk(policy_of(served.url, one_line=False))
        assert "stop" not in served.requests[0]
    assert reply == Reply("Thought: a\nAction: b")


def test_it_keeps_the_contract() -> None:
    with stub(lambda body: probed(body) or ok(said("look"))) as served:
        ref = ModelRef(f"openai:stub@{served.url}")
        opening = Opening(ref=ref, max_new_tokens=8, one_line=True, dtype="auto", name="weak")
        policy = opening.open()
        assert isinstance(policy, ServedPolicy) and policy.name == "weak"
        conversation = policy.start(SYSTEM, Sampling(), (3,))
        assert isinstance(conversation, ToolCaller)
        conversation.messages.append(Message("user", "Go."))
        assert policy.reply([conversation]) == [Reply("look")]
        assert conversation.messages[-1] == Message("assistant", "look") and conversation.tokens() == ()
        assert dict(policy.identity) == {
            "id": "stub", "object": "model", "owned_by": "us", "system_fingerprint": "fp_stub"
        }  # fmt: skip
        with pytest.raises(PolicyError, match="adapter"):
            replace(opening, ref=ModelRef(ref.base, ("a/b",))).open()


LLAMA_OVERFLOW = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 5031, "n_ctx": 1024}
VLLM_OVERFLOW = (
    "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (2036 in the messages, 64 "
    "in the completion). Please reduce the length of the messages or completion."
)
SGLANG_OVERFLOW = "The input (5031 tokens) is longer than the model's context length (1024 tokens)."


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (ok(said("so it goes on", "length", reply=20)), Cause.REPLY_TOO_LONG, "reply too long"),
        (ok(said("so it", "length", reply=4)), Cause.CONTEXT_OVERFLOW, "context was full"),
        (ok(said(None, "content_filter")), Cause.PERMANENT_ENGINE_FAULT, "content filter"),
        (wrong(400, "flagged", code="content_filter"), Cause.PERMANENT_ENGINE_FAULT, "content filter"),
        (wrong(403, "moderation"), Cause.PERMANENT_ENGINE_FAULT, "HTTP 403.*moderation"),
        (ok(said(None, refusal="I cannot.")), Cause.UNPARSEABLE_REPLY, "refused: 'I cannot.'"),
        (Answer(200, json.dumps(said("look")).encode()[:60]), Cause.TRANSIENT_ENGINE_FAULT, "cannot be read"),
        (Answer(200, b"<html>busy</html>"), Cause.TRANSIENT_ENGINE_FAULT, "cannot be read"),
        (ok({"choices": []}), Cause.TRANSIENT_ENGINE_FAULT, "0 choices"),
        (ok({"choices": [{"finish_reason": "stop"}]}), Cause.TRANSIENT_ENGINE_FAULT, "message"),
        (ok(said(3)), Cause.TRANSIENT_ENGINE_FAULT, "content"),  # type: ignore[arg-type]
        (ok(said("lo", "abort")), Cause.TRANSIENT_ENGINE_FAULT, "'abort'"),
        (ok({"choices": [{"message": {"content": "x"}}]}), Cause.TRANSIENT_ENGINE_FAULT, "finish_reason"),
    ],
)
def test_what_goes_wrong_has_a_type(answer: Answer, cause: Cause, words: str) -> None:
    _, reply = once(answer)
    assert reply.cause is cause
    assert reply.error is not None and re.search(words, reply.error), reply.error


@pytest.mark.parametrize(
    "answer", [wrong(400, "too big", **LLAMA_OVERFLOW), wrong(400, VLLM_OVERFLOW), wrong(400, SGLANG_OVERFLOW)]
)
def test_a_prompt_that_is_too_long_is_an_overflow(answer: Answer) -> None:
    """In vLLM's, SGLang's and llama.cpp's words. A first prompt that is too long is the user's to fix, as locally."""

    def later(body: Body) -> Answer:
        return probed(body) or (answer if len(body["messages"]) > 2 else ok(said("look")))

    with stub(later) as served:
        _, (first, second) = talk(policy_of(served.url), "Go.", "On.")
        assert first == Reply("look") and second.cause is Cause.CONTEXT_OVERFLOW
    for opening in ((), (Message("user", "You stand in a room."), Message("assistant", "OK"))):
        with pytest.raises(PolicyError, match="does not fit"):
            once(answer, opening=opening)


def test_transport_is_retried_by_openai_and_then_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RETRIES", 3)
    soon = {"Retry-After-Ms": "5"}
    troubles = [wrong(429, headers=soon), wrong(503, headers=soon), Answer(500, b"oops", soon), ok(said("look"))]

    def passing(body: Body) -> Answer:
        return probed(body) or troubles[len(served.requests) - 1]

    with stub(passing) as served:
        _, (reply,) = talk(policy_of(served.url))
    assert reply == Reply("look") and len(served.requests) == 4
    with stub(lambda body: probed(body) or wrong(503, "busy", soon)) as served:
        _, (reply,) = talk(policy_of(served.url))
    assert reply.cause is Cause.PERMANENT_ENGINE_FAULT and len(served.requests) == 4
    assert reply.error == "the server failed 4 times, at last with HTTP 503: busy"


def test_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two: its conversations fail for now, further ones go to the other. The only one: it stays."""
    monkeypatch.setattr(server, "RETRIES", 0)
    with stub(lambda body: probed(body) or ok(said("look"))) as there:
        with stub(lambda body: probed(body) or ok(said("look"))) as gone:
            two, one = policy_of(gone.url, there.url), policy_of(gone.url)
        talks = [two.start(SYSTEM, Sampling(), (n,)) for n in range(20)]
        for number, conversation in enumerate(talks):
            conversation.messages.append(Message("user", f"Task {number}"))
        replies = two.reply(talks)
        lost = [reply for reply in replies if reply.error is not None]
        assert 0 < len(lost) < 20 and {reply.cause for reply in lost} == {Cause.TRANSIENT_ENGINE_FAULT}
    _, (reply,) = talk(one)
    assert reply.cause is Cause.PERMANENT_ENGINE_FAULT and "did not answer 1 times" in str(reply.error)
    with pytest.raises(PolicyError, match="no server answers"):
        policy_of(gone.url)


def test_a_server_that_is_still_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp's words and status; they are no refusal."""
    monkeypatch.setattr(server_probe, "_RETRIES", 0)
    said = re.escape("cannot play stub now (HTTP 503): Loading model; try again once it is ready")
    with stub(lambda body: wrong(503, "Loading model")) as served, pytest.raises(PolicyError, match=said):
        policy_of(served.url)


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_of_everything_ends_the_command(status: int) -> None:
    with pytest.raises(PolicyError, match=f"HTTP {status}.*nope"):
        once(wrong(status, "nope"))


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJTREE_API_KEY", KEY)
    echoing = wrong(400, f"who is {KEY}?")
    with stub(lambda body: probed(body) or echoing) as served:
        policy = policy_of(served.url)
        _, (reply,) = talk(policy)
        assert all(headers["authorization"] == f"Bearer {KEY}" for headers in served.headers)
    assert reply.error is not None and "[the key]" in reply.error and KEY not in repr(reply)
    monkeypatch.delenv("TRAJTREE_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with stub(lambda body: probed(body) or ok(said("look"))) as served:
        talk(policy_of(served.url))
        assert not any(KEY in str(headers) for headers in served.headers), "OpenAI's key is for OpenAI alone"
    with stub(lambda body: wrong(401, f"bad key {KEY}")) as served:
        monkeypatch.setenv("TRAJTREE_API_KEY", KEY)
        with pytest.raises(PolicyError) as raised:
            policy_of(served.url)
    assert KEY not in str(raised.value) and "TRAJTREE_API_KEY" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai:gpt", "write openai:MODEL@URL"),
        ("openai:@http://x/v1", "names no model"),
        ("openai:m@http://user:hunter2@host/v1", "holds no key"),
        ("openai:m@http://host/v1?key=hunter2", "holds no key"),
        ("openai:m@http:///v1", "no address"),
    ],
)
def test_names_that_mean_no_server(name: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words) as raised:
        parse_name(name)
    assert "hunter2" not in str(raised.value)


def test_names() -> None:
    assert parse_name("openai:a/b:c@http://h:1") == ServerName("a/b:c", ("http://h:1/v1",))
    assert parse_name("openai:m@https://h/api/v1/,http://i").addresses == ("https://h/api/v1", "http://i/v1")


def test_a_server_is_asked_in_the_dialect_that_it_takes() -> None:
    def plain(body: Body) -> Answer:
        unknown = [name for name in body if name in ("top_k", "seed", "logprobs", "max_completion_tokens")]
        return wrong(422, f"unknown: {unknown}") if unknown else (probed(body) or ok(said("look")))

    with stub(plain) as served:
        _, (reply,) = talk(policy_of(served.url))
        assert reply == Reply("look") and served.requests[0]["max_tokens"] == 20
    with stub(lambda body: wrong(400, "never")) as served, pytest.raises(PolicyError, match="never"):
        policy_of(served.url)


def test_several_addresses_must_be_alike() -> None:
    other = {"data": [{"id": "stub", "owned_by": "them"}]}

    def look(body: Body) -> Answer:
        return probed(body) or ok(said("look"))

    with stub(look) as one, stub(look, other) as two, pytest.raises(PolicyError, match="not like"):
        policy_of(one.url, two.url)


def test_conversations_that_begin_alike_meet_on_one_server_and_the_first_opens_alone() -> None:
    def look(body: Body) -> Answer:
        return probed(body) or ok(said("look"))

    with stub(look) as one, stub(look) as two:
        policy = policy_of(one.url, two.url)
        talks = [policy.start(SYSTEM, Sampling(1.0), (task, sample)) for task in range(8) for sample in range(5)]
        for number, conversation in enumerate(talks):
            conversation.messages.append(Message("user", f"Task {number // 5}"))
        assert policy.reply(talks) == 40 * [Reply("look")]
        tasks = [[body["messages"][1]["content"] for body in served.requests] for served in (one, two)]
    assert not set(tasks[0]) & set(tasks[1]) and min(map(len, tasks)) > 0
    for served in tasks:
        different = len(set(served))
        assert len(set(served[:different])) == different, "every task's first request comes before any second one"


def test_tools_and_reasoning() -> None:
    tool = {"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "go", "arguments": '{"where": "north"}'}}
    calls = said(None, "tool_calls", tool_calls=[call], reasoning_content="north is best")
    with stub(lambda body: probed(body) or ok(calls)) as served:
        policy = policy_of(served.url)
        conversation = policy.start(SYSTEM, Sampling(), (0,))
        conversation.tools = (json.dumps(tool),)
        conversation.messages.append(Message("user", "Go."))
        (reply,) = policy.reply([conversation])
        conversation.messages.append(Message("tool", "You are north.", tool_call_id="c1"))
        policy.reply([conversation])
        first, second = served.requests
    assert reply == Reply("") and first["tools"] == [tool] and "stop" not in first
    assert conversation.messages[2].reasoning == "north is best"
    assert second["messages"][2:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "You are north.", "tool_call_id": "c1"},
    ]
    two = ok(said(None, "tool_calls", tool_calls=[call, call]))
    assert once(two)[1].cause is Cause.UNPARSEABLE_REPLY
    for arguments in ('{"where', '{"where":' * 100_000 + "1" + "}" * 100_000):
        broken = {**call, "function": {"name": "go", "arguments": arguments}}
        assert once(ok(said(None, "tool_calls", tool_calls=[broken])))[1].cause is Cause.UNPARSEABLE_REPLY


def limited(answer: Callable[[Body], Answer], **limits: Any) -> tuple[Stub, Spending]:
    spending = Spending(**limits)
    with stub(lambda body: probed(body) or answer(body)) as served:
        policy = policy_of(served.url, spending=spending)
        with pytest.raises(LimitError, match="run the same command again"):
            for number in range(100):
                talk(policy, f"Task {number}")
    return served, spending


def test_a_limit_of_tokens_is_not_passed() -> None:
    served, spending = limited(lambda body: ok(said("look", prompt=10, reply=5)), limit_tokens=200)
    assert 200 - 2 * 30 < spending.tokens <= 200
    assert spending.requests == len(served.requests) + 1, "the first look counts too"


def test_a_limit_of_money_is_not_passed() -> None:
    _, spending = limited(lambda body: ok(said("look")), limit_cost=0.001, price=Price(1.0, 20.0))
    assert 0.0005 < spending.cost <= 0.001
    assert f"${spending.cost:,.2f}" in str(spending)


def test_many_requests_at_once_do_not_pass_the_limit_together() -> None:
    spending = Spending(limit_tokens=500)
    with stub(lambda body: probed(body) or ok(said("look", reply=20))) as served:
        policy = policy_of(served.url, spending=spending)
        talks = [policy.start(SYSTEM, Sampling(), (n,)) for n in range(100)]
        for number, conversation in enumerate(talks):
            conversation.messages.append(Message("user", f"Task {number}"))
        with pytest.raises(LimitError):
            policy.reply(talks)
    assert spending.tokens <= 500
