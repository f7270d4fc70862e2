"""Packs, padded rows and single sequences give equal log-probabilities, losses and gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tests.train.branching import (  # noqa: E402
    ARCHITECTURES,
    REFUSED,
    VOCABULARY,
    WINDOW,
    adapt,
    alone,
    apart,
    branches,
    branching_pairs,
    build,
    distributions,
    gradients,
    referenced,
    together,
    value,
)
from torch import Tensor  # noqa: E402
from torch.nn.functional import logsigmoid  # noqa: E402

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.train import tree_attention as attention  # noqa: E402
from trajtree.train.batch import collate  # noqa: E402
from trajtree.train.examples import PairExample, SftExample  # noqa: E402
from trajtree.train.losses import Objective, dpo, sft  # noqa: E402
from trajtree.train.packing import pack  # noqa: E402
from trajtree.train.tree_attention import packed_inputs, plan_of, tree_attention, use_tree_attention  # noqa: E402
from trajtree.trajectory import Tokens  # noqa: E402

PAIRS = referenced(branching_pairs(5, seed=1))
BRANCHES = branches(PAIRS)
BETA = 0.3


def slow_sft(model: Any, examples: Sequence[SftExample]) -> Tensor:
    said = [(example.weight, alone(model, example.tokens)) for example in examples]
    return -sum(w * lp.sum() for w, lp in said) / sum(w * len(lp) for w, lp in said)


def slow_dpo(model: Any, pairs: Sequence[PairExample]) -> Tensor:
    losses = []
    for pair in pairs:
        assert pair.reference is not None
        chosen, rejected = (
            (alone(model, side) - torch.from_numpy(told)).sum()
            for side, told in zip(pair.sides, pair.reference, strict=True)
        )
        losses.append(-pair.weight * logsigmoid(BETA * (chosen - rejected)))
    return torch.stack(losses).sum() / sum(pair.weight for pair in pairs)


OBJECTIVES: dict[str, tuple[Objective, Any, Any]] = {
    "sft": (sft(), slow_sft, BRANCHES),
    "dpo": (dpo(BETA), slow_dpo, PAIRS),
}


def recomputing(model: Any) -> Any:
    # transformers 5.2x renames it.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return model.train()


def test_the_examples_branch_as_they_should() -> None:
    """Forks at several depths, sides longer than the window, trained ranges of one token, weights that differ."""
    assert len({pair.chosen.agent[0][0] for pair in PAIRS}) >= 3
    assert min(len(side.ids) for pair in PAIRS for side in pair.sides) > WINDOW
    assert 1 in {end - start for pair in PAIRS for side in pair.sides for start, end in side.agent}
    assert len({pair.weight for pair in PAIRS}) > 1
    batch = collate(PAIRS, packed=True)
    assert batch.tokens > 1.5 * batch.ids.numel() and len(batch.token) > len(batch.target)


@pytest.mark.parametrize("which", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_ways_are_equal(architecture: str, which: str) -> None:
    """Full tuning in float32, with gradient checkpointing and without."""
    objective, slow, examples = OBJECTIVES[which]
    model = build(architecture)
    loss = slow(model, examples)
    expected = gradients(model, loss)
    assert len(expected) == sum(1 for _ in model.parameters())

    def check(packed: bool) -> None:
        found, _ = value(model, collate(examples, packed=packed), objective)
        torch.testing.assert_close(found, loss, rtol=2e-6, atol=2e-6)
        assert apart(gradients(model, found), expected) < 2e-5

    check(packed=False)
    use_tree_attention(model)
    check(packed=True)
    recomputing(model)
    check(packed=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probabilities_are_equal(architecture: str) -> None:
    model = build(architecture)
    with torch.no_grad():
        expected = torch.cat([alone(model, example.tokens) for example in BRANCHES])
        assert expected.std() > 0.2, "a model that says the same of every token tells nothing"
        padded, _ = together(model, BRANCHES, packed=False)
        use_tree_attention(model)
        packed, batch = together(model, BRANCHES, packed=True)
        unshared, whole = together(model, BRANCHES, packed=True, share=False)
    assert whole.ids.numel() == batch.tokens > batch.ids.numel()
    for found in (padded, packed, unshared):
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' RMSNorm computes in float32 whatever it is given; here it stays in float64."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
    monkeypatch.setattr(Qwen3RMSNorm, "forward", forward)


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_exact(monkeypatch)


@pytest.mark.parametrize("which", OBJECTIVES)
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.usefixtures("exact_norms")
def test_in_float64_they_are_equal_to_ten_digits(architecture: str, which: str) -> None:
    objective, slow, examples = OBJECTIVES[which]
    model = build(architecture, dtype=torch.float64)
    loss = slow(model, examples)
    expected = gradients(model, loss)
    said = torch.cat([alone(model, example.tokens) for example in BRANCHES]).detach()
    use_tree_attention(model)
    for prepare in (lambda m: m, recomputing):
        prepare(model)
        found, _ = value(model, collate(examples, packed=True), objective)
        torch.testing.assert_close(found, loss, rtol=0, atol=1e-10)
        assert apart(gradients(model, found), expected) < 1e-10
        torch.testing.assert_close(together(model, BRANCHES, packed=True)[0], said, rtol=0, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_bfloat16_packing_rounds_no_worse_than_padding(architecture: str) -> None:
    """Against float32: the mean error of packs is that of padded rows, give or take half of it."""
    # Rounding may decide between two experts that are nearly equal, so all of them are used.
    changes = {"num_experts_per_tok": 4} if architecture == "gpt_oss" else {}
    with torch.no_grad():
        precise = build(architecture, **changes)
        truth = torch.cat([alone(precise, example.tokens) for example in BRANCHES])
        model = build(architecture, dtype=torch.bfloat16, **changes)
        padded, _ = together(model, BRANCHES, packed=False)
        use_tree_attention(model)
        packed, _ = together(model, BRANCHES, packed=True)
    errors = [float((found - truth).abs().mean()) for found in (padded, packed)]
    assert 0 < errors[1] <= 1.5 * errors[0] and errors[1] < 0.05


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gpt_oss"])
def test_adapters_against_the_model_without(architecture: str) -> None:
    """LoRA as the trainer uses it: the reference is the policy with its adapter off; with KL; checkpointing on, off."""
    model = adapt(build(architecture))
    pairs = branching_pairs(5, seed=1)
    losses = []
    for pair in pairs:
        gained, away = [], []
        for side in pair.sides:
            with torch.no_grad(), model.disable_adapter():
                told = distributions(model, side)
            policy = distributions(model, side)
            picked = torch.tensor([side.ids[p] for start, end in side.agent for p in range(start, end)])[:, None]
            gained.append((policy - told).gather(1, picked).sum())
            away.append((policy.exp() * (policy - told)).sum(-1))
        losses.append(pair.weight * (-logsigmoid(BETA * (gained[0] - gained[1])) + 0.5 * torch.cat(away).mean()))
    loss = torch.stack(losses).sum() / sum(pair.weight for pair in pairs)
    expected = gradients(model, loss)
    assert expected and all("lora_" in name for name in expected)
    use_tree_attention(model)
    for prepare in (lambda m: m, recomputing):
        prepare(model)
        found, _ = value(model, collate(pairs, packed=True), dpo(BETA, kl=0.5))
        torch.testing.assert_close(found, loss, rtol=5e-6, atol=5e-6)
        assert apart(gradients(model, found), expected) < 2e-5


# --- random trees ---


def grow(draw: st.DrawFn) -> list[SftExample]:
    """Branches off earlier ones, at any depth, down to continuations of a single token that is trained."""
    token = st.integers(3, VOCABULARY - 1)
    found: list[tuple[int, ...]] = [tuple(draw(st.lists(token, min_size=2, max_size=10)))]
    for _ in range(draw(st.integers(0, 6))):
        base = draw(st.sampled_from(found))
        kept = base[: draw(st.integers(1, len(base)))]
        found.append(kept + tuple(draw(st.lists(token, min_size=1, max_size=draw(st.sampled_from([1, 2, 9]))))))
    examples = []
    for ids in found:
        start = draw(st.integers(1, len(ids) - 1))
        end = draw(st.integers(start + 1, len(ids)))
        last = ((len(ids) - 1, len(ids)),) if end < len(ids) else ()
        examples.append(SftExample(Tokens(ids, ((start, end), *last))))
    return examples


@pytest.fixture(scope="module")
def llama() -> Iterator[Any]:
    """In float64 throughout."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        stay_exact(monkeypatch)
        model = build("llama", dtype=torch.float64)
        use_tree_attention(model)
        yield model


@settings(max_examples=30, deadline=None)
@given(st.composite(grow)())
def test_random_trees(llama: Any, examples: list[SftExample]) -> None:
    """Gradients of a sum in which every branch counts differently."""
    # Weighted with roots, so that branches with equal gradients never cancel, which would leave nothing to compare.
    counts = torch.tensor([math.sqrt(1 + i) for i in range(len(examples))], dtype=torch.float64)
    expected = torch.cat([alone(llama, example.tokens) for example in examples])
    found, batch = together(llama, examples, packed=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    slow, quick = (gradients(llama, (values * counts[batch.branch]).sum()) for values in (expected, found))
    assert apart(quick, slow) < 1e-9


# --- what it does not touch ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_a_plan_nothing_changes(architecture: str) -> None:
    """Padded prompts, and generation with a cache, as under the model's own attention."""
    model = build(architecture)
    torch.manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (2, 11))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    asked = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        own = model(input_ids=ids, attention_mask=mask).logits
        written = model.generate(ids, attention_mask=mask, **asked)
        use_tree_attention(model)
        assert model.config._attn_implementation == "trajtree"
        logits = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(logits[mask.bool()], own[mask.bool()], rtol=0, atol=1e-5)
        assert torch.equal(model.generate(ids, attention_mask=mask, **asked), written)


def test_use_leaves_the_mode_as_it_was() -> None:
    model = build("llama")
    for training in (True, False):
        model.train(training)
        use_tree_attention(model)
        assert model.training is training


# --- refusals ---


REASONS = {
    "bloom": "its layers do not use AttentionInterface",
    "mamba": "its layers do not use AttentionInterface",
    "qwen3_next": "only 1 of its 4 layers use",
    "lfm2": "only 1 of its 2 layers use",
    "stablelm": "only 0 of its 2 layers use",
    "mpt": "only 0 of its 2 layers use",
}


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_cannot_is_refused_by_name(architecture: str) -> None:
    model = build(architecture)
    before = model.config._attn_implementation
    with pytest.raises(PolicyError, match=rf"^{type(model).__name__}: cannot be trained .*{REASONS[architecture]}"):
        use_tree_attention(model)
    assert model.config._attn_implementation == before


def test_a_plan_that_does_not_arrive_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of two drops the keywords that it does not know."""
    model = build("llama")
    layer = model.model.layers[1].self_attn
    whole = layer.forward

    def deaf(*args: Any, tree_plan: Any = None, **kwargs: Any) -> Any:
        return whole(*args, **{**kwargs, "attention_mask": None})

    monkeypatch.setattr(layer, "forward", deaf)
    with pytest.raises(PolicyError, match="only 1 of its 2 layers use transformers' AttentionInterface"):
        use_tree_attention(model)
    assert model.config._attn_implementation == "sdpa"


def test_wrong_numbers_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer attends, but without its window, or along the pack instead of the branch."""
    right = attention._mask
    monkeypatch.setattr(attention, "_mask", lambda length, keys, window, device: right(length, keys, None, device))
    use_tree_attention(build("llama"))
    with pytest.raises(PolicyError, match="its packed logits are off by"):
        use_tree_attention(build("mistral"))
    monkeypatch.setattr(attention, "_mask", right)
    monkeypatch.setattr(attention, "plan_of", lambda forest, device: plan_of(_straight(forest), device))
    with pytest.raises(PolicyError, match="its packed logits are off by"):
        use_tree_attention(build("llama"))


def test_rounding_with_some_tokens_is_not_taken_for_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 16 bits the largest difference exceeds what is tolerated for a few inputs, also without any packing."""
    compare, tried = attention._compare, []

    def unlucky_at_first(model: Any, causal: Any, sequences: list[list[int]], layers: int) -> str | None:
        tried.append(sequences)
        return compare(model, causal, sequences, layers) if len(tried) > 1 else "its packed logits are off by 1.2e-01"

    monkeypatch.setattr(attention, "_compare", unlucky_at_first)
    model = build("llama")
    use_tree_attention(model)
    assert model.config._attn_implementation == attention.NAME
    assert len(tried) == 2 and tried[0] != tried[1]


@pytest.mark.parametrize(
    ("architecture", "changes", "why"),
    [
        ("phimoe", {"sliding_window": 70, "num_local_experts": 4}, "its window of 70 tokens is only in the mask"),
        (
            "qwen2_moe",
            {"sliding_window": 70, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"]},
            "its window of 70 tokens is only in the mask",
        ),
        (
            "llama4_text",
            {"attention_chunk_size": 70, "num_local_experts": 4, "intermediate_size_mlp": 48},
            "it attends within chunks of 70 tokens",
        ),
    ],
)
def test_a_long_window_that_packs_would_ignore_is_refused(architecture: str, changes: dict[str, Any], why: str) -> None:
    """Longer than the sequences of the test, which are equal with and without it."""
    with pytest.raises(PolicyError, match=why):
        use_tree_attention(build(architecture, **changes))


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("mistral", {"sliding_window": 70}),
        ("phimoe", {"sliding_window": 256, "num_local_experts": 4}),  # as long as the model's context
        ("qwen2_moe", {"sliding_window": 70, "use_sliding_window": True, "layer_types": ["full_attention"] * 2}),
    ],
)
def test_a_long_window_that_is_passed_on_or_cuts_nothing_is_not(architecture: str, changes: dict[str, Any]) -> None:
    model, examples = build(architecture, **changes), branching_pairs(2, trunk=150)
    with torch.no_grad():
        expected = torch.cat([alone(model, example.sides[side]) for side in (0, 1) for example in examples])
        use_tree_attention(model)
        found, _ = together(model, examples, packed=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def _straight(forest: Any) -> Any:
    """A plan that takes the pack for one sequence."""
    return pack([forest.ids.tolist()])


def test_dropout_of_attention_is_refused() -> None:
    with pytest.raises(PolicyError, match="attention has dropout"):
        use_tree_attention(build("llama", attention_dropout=0.1))
    heads = torch.zeros(1, 1, 2, 4)
    plan = plan_of(pack([(1, 2)]))
    with pytest.raises(ValueError, match="dropout"):
        tree_attention(torch.nn.Module(), heads, heads, heads, None, tree_plan=plan, dropout=0.1)
    with pytest.raises(ValueError, match="position bias"):
        tree_attention(torch.nn.Module(), heads, heads, heads, None, tree_plan=plan, position_bias=heads)


# --- in one call, as on a GPU ---


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pack attends in one call under one mask, which on a processor none does."""
    monkeypatch.setattr(attention.TreePlan, "at_once", True)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=6), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_the_mask_of_a_pack_shows_what_the_paths_say(sequences: list[list[int]], window: int) -> None:
    forest = pack(sequences)
    count = len(forest.ids)
    seen, near = (torch.zeros(count, count, dtype=torch.bool) for _ in range(2))
    for path in forest.paths:
        for place, token in enumerate(path):
            seen[token, path[: place + 1]] = True
            near[token, path[max(0, place + 1 - window) : place + 1]] = True
    plan = plan_of(forest)
    assert torch.equal(plan.whole_mask(None), seen)
    assert torch.equal(plan.whole_mask(window), near)
    assert not plan.at_once, "a processor loops over the chains"


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ([(1, 2), (1, 3), (1, 4)], True),
        ([(1, 2), (1, 3)], False),  # few chains
        ([(1, *range(9, 1400)), (2, *range(9, 1400)), (3, *range(9, 1400))], False),  # too long
    ],
)
def test_on_a_gpu_several_short_chains_attend_at_once(sequences: list[tuple[int, ...]], expected: bool) -> None:
    plan = plan_of(pack(sequences))
    assert not plan.at_once
    elsewhere = replace(plan, positions=plan.positions.to("meta"))  # a device that is no processor
    assert elsewhere.at_once == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, WINDOW])
def test_on_a_gpu_both_ways_are_equal(dtype: torch.dtype, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(pack([side.ids for pair in PAIRS for side in pair.sides]), "cuda")
    torch.manual_seed(0)
    parts = [torch.randn(1, heads, len(plan.positions), 16, device="cuda", dtype=dtype) for heads in (4, 2, 2)]
    found = []
    for way in (True, False):
        monkeypatch.setattr(attention.TreePlan, "at_once", way)
        given = [part.clone().requires_grad_() for part in parts]
        out, _ = tree_attention(torch.nn.Module(), *given, None, tree_plan=plan, sliding_window=window)
        out.square().sum().backward()
        found.append([out, *(part.grad for part in given)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(
            one, other, rtol=5e-2 if dtype is torch.bfloat16 else 1e-4, atol=5e-2 if dtype is torch.bfloat16 else 1e-4
        )


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("which", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_one_call_losses_and_gradients_are_the_same(
    architecture: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, slow, examples = OBJECTIVES[which]
    model = build(architecture)
    loss = slow(model, examples)
    expected = gradients(model, loss)
    masks: list[int | None] = []
    whole = attention.TreePlan.whole_mask
    monkeypatch.setattr(
        attention.TreePlan, "whole_mask", lambda plan, window: masks.append(window) or whole(plan, window)
    )
    use_tree_attention(model)
    for _ in range(2):
        found, _ = value(model, collate(examples, packed=True), objective)
        torch.testing.assert_close(found, loss, rtol=2e-6, atol=2e-6)
        assert apart(gradients(model, found), expected) < 2e-5
        recomputing(model)
    # Explicit attention (a soft cap, sinks) keeps all scores, so it goes chain by chain.
    assert bool(masks) == (architecture not in ("gemma2", "gpt_oss"))


# --- no larger mask than it takes ---


def test_no_mask_of_row_by_row_is_made() -> None:
    """On a processor the largest mask is that of one chain, also in layers with a window."""
    model = build("mistral")
    use_tree_attention(model)
    forest = pack([(*range(3, 23), *range(first, first + 20)) for first in range(23, 43)])
    plan = plan_of(forest)
    with torch.no_grad():
        model(**packed_inputs(torch.from_numpy(forest.ids), plan))
    sizes = [mask.numel() for mask in plan.masks.values() if mask is not None]
    assert sizes and max(sizes) <= 40 * 40 < len(forest.ids) ** 2 / 100
