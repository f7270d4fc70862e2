"""The local policy against plain `generate`: whatever it shares, pads or remembers, the tokens are the same."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from tests.tiny import characters, save_model  # noqa: E402
from tests.toy import TASKS, Toy  # noqa: E402

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.explore.episode import EpisodeSpec, Start  # noqa: E402
from trajtree.explore.rollout import rollout  # noqa: E402
from trajtree.models.transcript import tokenise  # noqa: E402
from trajtree.models.weights import ModelRef, load_model  # noqa: E402
from trajtree.policies import local  # noqa: E402
from trajtree.policies.base import Reply  # noqa: E402
from trajtree.policies.kv import BatchCache  # noqa: E402
from trajtree.policies.local import LocalConversation, LocalPolicy  # noqa: E402
from trajtree.store.trajectory_store import TrajectoryStore  # noqa: E402
from trajtree.train.trainable import Lora, with_adapter  # noqa: E402
from trajtree.trajectory import Cause, Message, Origin, Sampling, Tokens  # noqa: E402

GREEDY = Sampling()
WARM = Sampling(1.0, 0.95)
HOT = Sampling(1.5)
SYSTEM = "You stand in a room with keys and doors."
SCRIPTS = (
    ("Task 1: leave through the red door.", "You hold the red key.", "It is locked.", "Nothing happens."),
    ("Task 2: leave through the blue door. " * 4, "A pit!", "?", "Keys and doors are red, blue, green. " * 3),
    ("Go.", "You hold nothing. " * 9, "No.", "Yes. " * 5),
    ("Task 1: leave through the red door. Or not.", "Hm", "You are outside. " * 2, "The end."),
    ("look", "Keys", "Doors", "Pits and doors and keys and pits. " * 6),
    ("Task 2: leave through the blue door. ", "You see a long list: " + "key, " * 40, "ok", "ok"),
    ("A", "B", "C", "D"),
)


def policy_of(folder: Path, **kwargs: object) -> LocalPolicy:
    return LocalPolicy(ModelRef(str(folder)), **{"max_new_tokens": 10, "dtype": "float32", **kwargs})


@pytest.fixture(scope="module")
def policy(tiny: Path) -> LocalPolicy:
    return policy_of(tiny)


def talk(
    policy: LocalPolicy,
    scripts: Sequence[Sequence[str]],
    samplings: Sequence[Sampling] = (GREEDY,),
    seeds: Sequence[int] = (),
) -> list[LocalConversation]:
    """Play all scripts together, one user message per turn."""
    seeds = seeds or range(len(scripts))
    talks = [policy.start(SYSTEM, samplings[i % len(samplings)], (seed,)) for i, seed in enumerate(seeds)]
    for turn in range(max(map(len, scripts))):
        waiting = [(t, s[turn]) for t, s in zip(talks, scripts, strict=True) if turn < len(s)]
        for conversation, text in waiting:
            conversation.messages.append(Message("user", text))
        replies = policy.reply([t for t, _ in waiting])
        # A random model talks on: many replies are cut, and the conversation goes on all the same.
        assert all(r.cause in (None, Cause.REPLY_TOO_LONG) for r in replies)
        assert [r.text for r in replies] == [t.messages[-1].content for t, _ in waiting]
    return talks


def test_an_opening_with_an_example_is_read_as_it_is_trained(tiny: Path) -> None:
    opening = (Message("user", "You stand in a room."), Message("assistant", "OK"))
    policy = policy_of(tiny, opening=opening, max_new_tokens=6)
    talks = [policy.start("unused", GREEDY, (seed,)) for seed in range(2)]
    for conversation in talks:
        conversation.messages.append(Message("user", "Task 1: leave."))
    policy.reply(talks)
    for conversation in talks:
        assert tuple(conversation.messages[:2]) == opening
        (tokens,) = conversation.tokens()
        assert len(tokens.agent) == 2, "the example's reply, and its own"
        (example,) = tokenise(policy.chat, opening)
        assert tokens.ids[: len(example.ids)] == example.ids and tokens.agent[0] == example.agent[0]
        prompt = policy.chat.encode(policy.chat.prompt(conversation.messages[:3]))
        assert list(tokens.ids[: tokens.agent[1][0]]) == prompt


def test_an_opening_does_not_hide_that_the_first_prompt_is_too_long(tiny: Path) -> None:
    policy = policy_of(tiny, opening=(Message("user", "x"), Message("assistant", "OK")))
    policy.context = 20
    conversation = policy.start("", GREEDY, (0,))
    conversation.messages.append(Message("user", "a very long first observation, longer than the context"))
    with pytest.raises(PolicyError, match="tokens needed, the context holds 20"):
        policy.reply([conversation])


def drawn(conversation: LocalConversation) -> list[tuple[int, ...]]:
    """The agent's tokens, one tuple per turn."""
    return [t.ids[start:end] for t in conversation.tokens() for start, end in t.agent]


def by_generate(policy: LocalPolicy, script: Sequence[str]) -> list[tuple[int, ...]]:
    """The same greedy conversation with transformers alone: in each turn render, encode and generate everything."""
    tokenizer, model = policy.chat.tokenizer, policy.model
    breaks = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i]) and not tokenizer.decode([i]).strip()]
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
    chat, turns = [{"role": "system", "content": SYSTEM}], []
    for text in script:
        chat.append({"role": "user", "content": text})
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            output = model.generate(
                **inputs, do_sample=False, max_new_tokens=policy.max_new_tokens, eos_token_id=[*ends, *breaks]
            )
        new = [t for t in output[0, inputs["input_ids"].shape[1] :].tolist() if t not in breaks]
        turns.append(tuple(new))
        chat.append({"role": "assistant", "content": tokenizer.decode([t for t in new if t not in ends])})
    return turns


def test_greedy_replies_are_those_of_generate(policy: LocalPolicy) -> None:
    together = talk(policy, SCRIPTS)
    expected = [by_generate(policy, script) for script in SCRIPTS]
    assert policy.remembers
    assert [drawn(t) for t in together] == expected
    lengths = {len(turn) for turns in expected for turn in turns}
    assert len(lengths) > 1, "some replies must end early, or nothing is tested about endings"
    assert len({turn for turns in expected for turn in turns}) > len(SCRIPTS)


@pytest.mark.parametrize("seed", range(1, 5))
def test_greedy_replies_of_other_models_too(tmp_path: Path, seed: int) -> None:
    tied = policy_of(save_model(tmp_path, characters(), seed=seed, tie_word_embeddings=seed % 2 == 0))
    assert [drawn(t) for t in talk(tied, SCRIPTS)] == [by_generate(tied, script) for script in SCRIPTS]


def test_a_reply_that_did_not_end_is_too_long(policy: LocalPolicy) -> None:
    """Those, and only those, whose last token ends nothing; what was said is kept."""
    lengths = []
    for script in SCRIPTS:
        conversation = policy.start(SYSTEM, GREEDY, (0,))
        conversation.messages.append(Message("user", script[0]))
        (reply,) = policy.reply([conversation])
        tokens = by_generate(policy, script[:1])[0]
        ended = len(tokens) < policy.max_new_tokens or tokens[-1] in policy.chat.stop_ids
        lengths.append(len(tokens))
        assert reply.cause is (None if ended else Cause.REPLY_TOO_LONG)
        assert reply.error == (None if ended else "reply too long: it had not ended after 10 tokens")
        assert conversation.messages[-1] == Message("assistant", reply.text) and len(drawn(conversation)) == 1
    assert min(lengths) < policy.max_new_tokens == max(lengths), "replies of both kinds must occur"


def test_who_else_plays_changes_nothing(policy: LocalPolicy) -> None:
    samplings = (WARM, HOT, GREEDY)
    together = talk(policy, SCRIPTS, samplings)
    for index, script in enumerate(SCRIPTS):
        (alone,) = talk(policy, [script], [samplings[index % 3]], [index])
        assert drawn(alone) == drawn(together[index])
        assert alone.messages == together[index].messages


def test_the_order_in_a_batch_changes_nothing(policy: LocalPolicy) -> None:
    there = talk(policy, SCRIPTS, [WARM])
    back = talk(policy, SCRIPTS[::-1], [WARM], list(range(len(SCRIPTS)))[::-1])
    assert [t.messages for t in there] == [t.messages for t in back[::-1]]


def test_a_seed_is_a_seed(policy: LocalPolicy) -> None:
    first, again, other = talk(policy, [SCRIPTS[0]] * 3, [HOT], [1, 1, 2])
    assert drawn(first) == drawn(again)
    assert drawn(first) != drawn(other)


def test_memory_between_turns_changes_nothing(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory = talk(policy, SCRIPTS, [GREEDY, WARM])
    assert all(t.cached > 0 for t in with_memory)
    monkeypatch.setattr(policy, "remembers", False)
    assert [drawn(t) for t in talk(policy, SCRIPTS, [GREEDY, WARM])] == [drawn(t) for t in with_memory]


def counting(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of the prefills that the model reads from now on."""
    shapes: list[tuple[int, int]] = []
    forward = policy._forward

    def counted(ids: torch.Tensor, mask: torch.Tensor, memory: BatchCache) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        return forward(ids, mask, memory)

    monkeypatch.setattr(policy, "_forward", counted)
    return shapes


def test_duplicates_and_openings_are_read_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(tiny)
    scripts = [SCRIPTS[0]] * 3 + [SCRIPTS[3]] * 2
    expected = [drawn(t) for script in scripts for t in talk(policy_of(tiny), [script], seeds=[5])]
    shapes = counting(policy, monkeypatch)
    talks = [policy.start(SYSTEM, GREEDY, (5,)) for _ in scripts]
    for conversation, script in zip(talks, scripts, strict=True):
        conversation.messages.append(Message("user", script[0]))
    policy.reply(talks)
    prefill = [(rows, columns) for rows, columns in shapes if columns > 1]
    opening, rest = prefill[0], prefill[1:]
    assert opening[0] == 1 and opening[1] > len(SYSTEM), "the shared text, read once"
    assert sum(rows for rows, _ in rest) == 2, "two different conversations, however many play them"
    assert [drawn(t) for t in talks] == [turns[:1] for turns in expected]
    assert [drawn(t) for t in talk(policy, scripts, seeds=[5] * 5)] == expected


def test_a_turn_costs_its_new_tokens(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(tiny)
    shapes = counting(policy, monkeypatch)
    (conversation,) = talk(policy, [("x" * 400, "y" * 10)])
    assert max(columns for _, columns in shapes) > 400
    second = [columns for _, columns in shapes if columns > 1][-1]
    assert second < 10 + policy.max_new_tokens + len("<|im_start|>user\nassistant\n")
    assert drawn(conversation) == by_generate(policy, ("x" * 400, "y" * 10))


class _Broken(BatchCache):
    def __init__(self, *args: object) -> None:
        raise TypeError("no such cache")


def test_a_model_with_another_kind_of_cache_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not decode its first reply either."""
    monkeypatch.setattr(local, "BatchCache", _Broken)
    with pytest.raises(PolicyError, match=r"cannot be played here, .*TypeError: no such cache.*play it on a server"):
        policy_of(tiny)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
        ("DeepseekV3", {"q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
                        "v_head_dim": 8, "head_dim": 8, "first_k_dense_replace": 2, "num_key_value_heads": 4}),
    ],
)  # fmt: skip
def test_real_models_with_another_kind_of_cache(tmp_path: Path, architecture: str, changes: dict[str, Any]) -> None:
    folder = save_model(tmp_path, characters(), architecture, **changes)
    with pytest.raises(PolicyError, match="cannot be played here"):
        policy_of(folder)


def test_positions_counted_in_columns_are_found_out(tmp_path: Path) -> None:
    """MPT's distances are between columns, so padding between two turns would put them further apart."""
    sizes = {"d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2, "num_key_value_heads": 4}
    folder = save_model(tmp_path, characters(), "Mpt", **sizes)
    with pytest.warns(UserWarning, match="its logits differ"):
        policy = policy_of(folder)
    assert [drawn(t) for t in talk(policy, SCRIPTS)] == [by_generate(policy, script) for script in SCRIPTS]


def test_a_memory_that_lies_is_found_out(tiny: Path, policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LocalPolicy._forward

    def careless(self: LocalPolicy, ids: torch.Tensor, mask: torch.Tensor, memory: BatchCache) -> torch.Tensor:
        memory.buffer[:, 1] *= 0.5
        return forward(self, ids, mask, memory)

    with monkeypatch.context() as patched, pytest.warns(UserWarning, match="its logits differ"):
        patched.setattr(LocalPolicy, "_forward", careless)
        forgetful = policy_of(tiny)
    assert [drawn(t) for t in talk(forgetful, SCRIPTS)] == [drawn(t) for t in talk(policy, SCRIPTS)]


def test_rounding_with_some_tokens_is_not_taken_for_a_lie(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    differs, tried = LocalPolicy._differs, []

    def unlucky_at_first(self: LocalPolicy, ids: torch.Tensor) -> str:
        tried.append(ids.tolist())
        return differs(self, ids) if len(tried) > 1 else "its logits differ"

    monkeypatch.setattr(LocalPolicy, "_differs", unlucky_at_first)
    assert policy_of(tiny).remembers
    assert len(tried) == 2 and tried[0] != tried[1]


ARCHITECTURES = {
    "qwen2": ("Qwen2", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen3 with its own head width": ("Qwen3", {"head_dim": 16}),
    "sliding mistral": ("Mistral", {"sliding_window": 16}),
    "sliding qwen2": ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    "sliding gemma2": ("Gemma2", {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    architecture, changes = ARCHITECTURES[name]
    # transformers gives some architectures their own tokenizer, whatever the folder holds.
    monkeypatch.setattr(local, "load_tokenizer", lambda base: characters())
    folder = save_model(tmp_path, characters(), architecture, **changes)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        policy = policy_of(folder)
    if changes.get("sliding_window"):
        assert not policy.remembers
        assert any("memory cannot be kept between turns (it has sliding" in str(w.message) for w in told)
    else:
        assert policy.remembers and not told
    assert [drawn(t) for t in talk(policy, SCRIPTS)] == [by_generate(policy, script) for script in SCRIPTS]


def test_a_first_prompt_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    policy = policy_of(save_model(tmp_path, characters(), max_position_embeddings=100))
    conversation = policy.start(SYSTEM, GREEDY, (0,))
    conversation.messages.append(Message("user", "x" * 200))
    need = len(policy.chat.encode(policy.chat.prompt(conversation.messages))) + policy.max_new_tokens
    with pytest.raises(PolicyError, match=rf"{need} tokens needed, the context holds 100; use a model"):
        policy.reply([conversation])


def test_a_full_context_ends_one_episode_alone(tmp_path: Path) -> None:
    folder = save_model(tmp_path, characters(), max_position_embeddings=250)
    policy = policy_of(folder)
    full, fits = (policy.start(SYSTEM, GREEDY, (0,)) for _ in range(2))
    for text in ("hello", "x" * 150):
        full.messages.append(Message("user", text))
        fits.messages.append(Message("user", text[:8]))
        replies = policy.reply([full, fits])
    assert replies[0].text == "" and replies[0].error is not None
    assert "tokens needed, the context holds 250" in replies[0].error
    assert full.messages[-1].role == "user"
    assert replies[1].error is None
    assert drawn(fits) == by_generate(policy, ("hello", "x" * 8))


def test_rotary_frequencies_are_not_rounded(tiny: Path, tmp_path: Path) -> None:
    exact = load_model(ModelRef(str(tiny)), dtype="float32", device="cpu").model.rotary_emb.inv_freq
    assert not torch.equal(exact.bfloat16().float(), exact), "or the test tests nothing"
    with_adapter(ModelRef(str(tiny)), Lora(2, 4), dtype="float32", seed=0).save_pretrained(tmp_path / "adapter")
    for adapters in ((), (str(tmp_path / "adapter"),)):
        model = load_model(ModelRef(str(tiny), adapters), dtype="bfloat16", device="cpu")
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert torch.equal(model.model.rotary_emb.inv_freq, exact)


def test_a_quantised_model_without_its_package(tmp_path: Path, tiny: Path) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    folder = Path(shutil.copytree(tiny, tmp_path / "quantised"))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PolicyError, match=r"quantised: .*requires bitsandbytes"):
        load_model(ModelRef(str(folder)), dtype="float32", device="cpu")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nothing/here: not a model folder \(it has no config\.json\)"):
        policy_of(tmp_path / "nothing" / "here")


def test_a_folder_without_config(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "half")
    (tmp_path / "half" / "config.json").unlink()
    with pytest.raises(PolicyError, match=r"half: not a model folder"):
        policy_of(tmp_path / "half")


def test_a_folder_without_weights(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"half: the model cannot be loaded \(.+\); give a hub id"):
        policy_of(tmp_path / "half")


def test_torn_weights(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PolicyError, match=r"torn: the model cannot be loaded"):
        policy_of(tmp_path / "torn")


def test_a_tokenizer_without_chat_template(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    with pytest.raises(PolicyError, match=r"mute: its tokenizer has no chat template.*chat or instruct variant"):
        policy_of(tmp_path / "mute")


def test_a_template_that_does_not_end_turns(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "endless")
    (tmp_path / "endless" / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    with pytest.raises(PolicyError, match=r"endless: its chat template does not end an assistant turn"):
        policy_of(tmp_path / "endless")


def spoken(policy: LocalPolicy, tokens: Sequence[Tokens]) -> list[str]:
    """Text of the agent's ranges, without the token that ends a turn."""
    ranges = [t.ids[start:end] for t in tokens for start, end in t.agent]
    for ids in ranges:
        assert not policy.chat.stop_ids & set(ids[:-1]), "a turn ends once"
    return [policy.chat.decode([i for i in ids if i not in policy.chat.stop_ids]) for ids in ranges]


def test_agent_ranges_are_the_replies(policy: LocalPolicy) -> None:
    for conversation in talk(policy, SCRIPTS, [GREEDY, WARM, HOT]):
        said = [m.content for m in conversation.messages if m.role == "assistant"]
        assert [text for text in spoken(policy, conversation.tokens()) if text] == [text for text in said if text]


def test_one_sequence_is_the_rendered_conversation(policy: LocalPolicy) -> None:
    """Where no turn ended with another token than the template's, nothing was rewritten: one sequence, whole."""
    whole = 0
    for conversation in talk(policy, SCRIPTS * 3, [GREEDY, WARM, HOT, WARM]):
        tokens = conversation.tokens()
        if any(policy.chat.tokenizer.eos_token_id in t.ids for t in tokens):
            continue
        whole += 1
        assert len(tokens) == 1
        rendered = policy.chat.prompt(conversation.messages[:-1]) + conversation.messages[-1].content
        assert policy.chat.decode(tokens[0].ids).removesuffix("<|im_end|>") == rendered
    assert whole >= 3


def test_a_history_that_is_rewritten_closes_the_sequence(tmp_path: Path, tiny: Path) -> None:
    shutil.copytree(tiny, tmp_path / "forgets")
    template = tmp_path / "forgets" / "chat_template.jinja"
    template.write_text(
        template.read_text().replace(
            "message['content']",
            "(message['content'] if message['role'] != 'assistant' or loop.last else message['content'][:3])",
        )
    )
    policy = policy_of(tmp_path / "forgets")
    (conversation,) = talk(policy, [SCRIPTS[0]])
    said = [m.content for m in conversation.messages if m.role == "assistant"]
    assert max(map(len, said)) > 3
    assert len(conversation.tokens()) > 1
    assert spoken(policy, conversation.tokens()) == said
    last = policy.chat.prompt(conversation.messages[:-1])
    assert policy.chat.decode(conversation.tokens()[-1].ids).startswith(last)


def test_thoughts_may_take_several_lines(tiny: Path) -> None:
    policy = policy_of(tiny, one_line=False, max_new_tokens=40)
    talks = talk(policy, SCRIPTS, [HOT])
    texts = [m.content for t in talks for m in t.messages if m.role == "assistant"]
    assert any("\n" in text for text in texts)
    cut = policy_of(tiny, max_new_tokens=40)
    assert not any("\n" in m.content for t in talk(cut, SCRIPTS, [HOT]) for m in t.messages if m.role == "assistant")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [(["g", "o", ".", "\n", "x"], "go."), (["g", "o", ".\n", "n", "o"], "go.\n"), (["\n", "g", "o"], "")],
)
def test_a_line_break_ends_a_reply_wherever_its_token_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: list[str], said: str
) -> None:
    """Many vocabularies have tokens such as a full stop with a line break."""
    tokenizer = characters(".\n")
    policy = policy_of(save_model(tmp_path / "model", tokenizer), max_new_tokens=5)
    forward, ids = policy._forward, iter(tokenizer.convert_tokens_to_ids(tokens))

    def scripted(*given: Any) -> torch.Tensor:
        logits = torch.full_like(forward(*given), -50.0)
        logits[:, next(ids)] = 50.0
        return logits

    monkeypatch.setattr(policy, "_forward", scripted)
    conversation = policy.start("s", GREEDY, (1,))
    conversation.messages.append(Message("user", "u"))
    (reply,) = policy.reply([conversation])
    assert reply == Reply(said)


def test_the_name_is_the_model_and_its_adapters(tiny: Path, policy: LocalPolicy) -> None:
    assert policy.name == str(tiny)
    assert policy_of(tiny, name="weak").name == "weak"
    assert json.loads((tiny / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_a_branched_episode_has_the_tokens_of_the_whole_one(tiny: Path, tmp_path: Path, sampling: Sampling) -> None:
    """Greedily it is its parent once more; and whatever it draws, its beginning is its parent's, token for token."""
    parents, branched = (TrajectoryStore(tmp_path / f"{name}.jsonl", create=True) for name in ("parents", "branched"))
    policy = policy_of(tiny, max_new_tokens=40)  # in which more replies end
    rollout([EpisodeSpec(task, 0, GREEDY) for task in TASKS[:12]], policy, Toy, parents, seed=1)
    starts = [Start(run, steps) for run in parents for steps in range(1, len(run.steps))]
    assert len(starts) >= 4
    specs = [EpisodeSpec(start.parent.task, 1 + n, sampling, start) for n, start in enumerate(starts)]
    rollout(specs, policy, Toy, branched, seed=1)
    for start, run in zip(starts, branched, strict=True):
        parent = start.parent
        assert run.origin == Origin(0, start.steps)
        if sampling == GREEDY:
            assert replace(run, sample=0, origin=None) == parent
        own, theirs = said(run.tokens), said(parent.tokens)
        assert own[: start.steps] == theirs[: start.steps] and len(own) >= len(run.steps)


def said(tokens: Sequence[Tokens]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each reply's tokens, with all that came before them in their sequence."""
    return [(seq.ids[:start], seq.ids[start:end]) for seq in tokens for start, end in seq.agent]


@pytest.mark.parametrize("sampling", [GREEDY, HOT])
def test_a_model_that_gives_no_distribution_is_an_engine_fault(tiny: Path, sampling: Sampling) -> None:
    """Of the conversation that it happens to, for good; the others are as they are without it."""
    policy = policy_of(tiny)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[policy.chat.tokenizer.convert_tokens_to_ids("~")] = float("nan")
    sound = [policy.start(SYSTEM, sampling, (seed,)) for seed in range(3)]
    for conversation in sound:
        conversation.messages.append(Message("user", "Where?"))
    alone = [policy.reply([conversation])[0] for conversation in sound]
    together = [policy.start(SYSTEM, sampling, (seed,)) for seed in (0, 1, 7, 2)]
    for conversation in together:
        conversation.messages.append(Message("user", "Wh~re?" if conversation is together[2] else "Where?"))
    replies = policy.reply(together)
    assert [replies[0], replies[1], replies[3]] == alone
    assert replies[2].cause is Cause.PERMANENT_ENGINE_FAULT and "NaN or infinite" in str(replies[2].error)
    assert [m.role for m in together[2].messages] == ["system", "user"]
