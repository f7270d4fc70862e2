"""Calls and thoughts that a chat template has no place for are trained as text, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick
from tests.formats.export_cases import run

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.tiny import CHATML, characters  # noqa: E402

from trajtree.errors import DataError, PolicyError  # noqa: E402
from trajtree.formats.write.rendering import Part, as_text  # noqa: E402
from trajtree.models.transcript import ChatFormat, tokenise  # noqa: E402
from trajtree.train.examples import sequences_of  # noqa: E402
from trajtree.train.tuning import Training  # noqa: E402
from trajtree.trajectory import Message, ToolCall  # noqa: E402

LOOK = {"type": "function", "function": {"name": "look", "parameters": {}}}
CALLS_TOO = "message['content'] + (message.tool_calls | tojson if message.tool_calls else '') +"
words = st.text("ab {}", max_size=6)


def rewrite(
    messages: Sequence[Message], tools: Sequence[str], name: str, parts: Sequence[Part]
) -> tuple[Sequence[Message], Sequence[str]]:
    return as_text(messages, tools, parts, name, "tiny")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(characters(), "tiny", partial(rewrite, parts=("calls", "thoughts")))


def test_the_agents_tokens_are_those_of_the_reply_as_text(chat: ChatFormat) -> None:
    @quick
    @given(words, words, words)
    def check(said: str, thought: str, value: str) -> None:
        call = ToolCall("c1", "look", json.dumps({"at": value}))
        messages = [
            Message("user", "Where?"),
            Message("assistant", said, thought, (call,)),
            Message("tool", "HALL", tool_call_id="c1"),
            Message("assistant", "Here."),
        ]
        (tokens,) = sequences_of(run(messages, tools=[LOOK]), chat)
        trained = [chat.decode(tokens.ids[start:end]) for start, end in tokens.agent]
        written, _ = as_text(messages, [json.dumps(LOOK)], ("calls", "thoughts"), "it", "tiny")
        assert trained == [m.content + "<|im_end|>" for m in written if m.role == "assistant"]
        whole = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in written)
        assert chat.decode(tokens.ids) == whole.removesuffix("\n")

    check()


def test_what_the_template_leaves_out_names_the_option() -> None:
    chat = ChatFormat(characters(), "tiny")
    call = Message("assistant", "", tool_calls=(ToolCall("c1", "look", "{}"),))
    for reply, option in ((call, "--render-calls"), (Message("assistant", "a", "because"), "--render-thoughts")):
        with pytest.raises(PolicyError, match=f"leaves out .*{option}"):
            tokenise(chat, [Message("user", "Where?"), reply])


def test_a_template_with_a_place_for_calls_refuses_to_write_them_as_text(tmp_path: Path) -> None:
    tokenizer = characters()
    assert not ChatFormat(tokenizer).has_place_for("calls") and not ChatFormat(tokenizer).has_place_for("thoughts")
    tokenizer.chat_template = CHATML.replace("message['content'] +", CALLS_TOO)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    training = Training(str(tmp_path), render=("thoughts",))
    assert training.chat().rewrite is not None
    with pytest.raises(DataError, match=r"--render-calls: .*'s chat template writes calls itself; leave it out"):
        replace(training, render=("calls",)).chat()
