"""Branching sequences, tiny random models of many architectures, and log-probabilities one sequence at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trajtree.train.batch import Batch, collate
from trajtree.train.examples import Example, PairExample, SftExample
from trajtree.train.losses import Objective
from trajtree.train.scoring import scores_of
from trajtree.trajectory import Tokens

VOCABULARY = 64
SETTINGS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 6
"""Shorter than the sequences, so that a window counted along the pack instead of the branch would show."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {"num_hidden_layers": 4},
    "gemma": {},
    "gemma2": {"sliding_window": WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "phi": {},
    "phi3": {"sliding_window": None},
    "mistral": {"sliding_window": WINDOW},
    "granite": {"logits_scaling": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5},
    "cohere2": {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"], "logit_scale": 0.5},
    "gpt_oss": {
        "sliding_window": WINDOW,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2},
    "mamba": {},
    "qwen3_next": {"num_hidden_layers": 4, "num_experts": 4, "num_experts_per_tok": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "stablelm": {},
    "mpt": {},
}


def build(architecture: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model in eval mode, attending as its class does by default."""
    from transformers import AutoConfig, AutoModelForCausalLM

    special = {**ARCHITECTURES, **REFUSED}.get(architecture, {})
    config = AutoConfig.for_model(architecture, **{**SETTINGS, **special, **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # biases, norms and sinks that are all 0 or 1 hide mistakes
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.to(dtype).eval()


def adapt(model: Any, *, seed: int = 0, spread: float = 0.1, above: int = 0) -> Any:
    """The model under an adapter like that of `trajtree.train.trainable`, which does something, above some layers."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        target_modules="all-linear",
        exclude_modules=rf".*\.({'|'.join(map(str, range(above)))})\..*" if above else None,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=spread)
    return adapted.eval()


def saved(folder: Path, architecture: str = "llama", **changes: Any) -> Path:
    """Folder of a random model without a tokenizer."""
    build(architecture, **changes).save_pretrained(folder)
    return folder


# --- examples ---


def branching_pairs(count: int = 4, *, seed: int = 0, trunk: int = 12) -> list[PairExample]:
    """Pairs that fork at different depths of the same few trunks: turns of 1 to 4 tokens, weights, observations.

    Every third pair takes the chosen side of an earlier one, so that trained tokens are shared as well.
    """
    draw = random.Random(seed)
    trunks = [_tokens(draw, trunk)]
    found = []
    for number in range(count):
        old = draw.choice(found).chosen if number % 3 == 2 else None
        base = draw.choice(trunks) if old is None else old.ids
        fork = draw.randrange(2, len(base)) if old is None else old.agent[0][0]
        prefix = base[:fork]
        first, second = draw.sample(range(3, VOCABULARY), 2)  # the sides differ from their very first token
        chosen = _played(draw, prefix, first) if old is None else old
        rejected = _played(draw, prefix, second)
        trunks += [chosen.ids, rejected.ids]
        found.append(PairExample(chosen, rejected, draw.choice([0.5, 1.0, 2.0]), f"pair {number}"))
    return found


def branches(pairs: Sequence[PairExample]) -> list[SftExample]:
    """Every side by itself, with its pair's weight."""
    return [
        SftExample(side, pair.weight, f"{pair.name}, side {i}") for pair in pairs for i, side in enumerate(pair.sides)
    ]


def referenced(examples: Sequence[PairExample], *, seed: int = 0) -> list[PairExample]:
    """With made up log-probabilities of a reference: equal tokens after equal beginnings have equal ones."""
    made: dict[tuple[int, ...], float] = {}
    random = np.random.default_rng(seed)
    found = []
    for example in examples:
        sides = []
        for side in example.sides:
            beginnings = [side.ids[: p + 1] for p in trained(side)]
            sides.append(np.array([made.setdefault(b, float(random.normal(-4, 1))) for b in beginnings], np.float32))
        found.append(replace(example, reference=tuple(sides)))
    return found


def _tokens(draw: random.Random, length: int) -> tuple[int, ...]:
    return tuple(draw.randrange(3, VOCABULARY) for _ in range(length))


def _played(draw: random.Random, prefix: tuple[int, ...], start: int) -> Tokens:
    ids, agent = prefix, []
    for turn in range(draw.randint(1, 3)):
        said = (start, *_tokens(draw, draw.randint(0, 3))) if turn == 0 else _tokens(draw, draw.randint(1, 4))
        agent.append((len(ids), len(ids) + len(said)))
        ids += said + _tokens(draw, draw.randint(1, 3))
    return Tokens(ids, tuple(agent))


# --- the slow way ---


def trained(side: Tokens) -> list[int]:
    """Positions of the agent's tokens, without a sequence's first token, which nothing predicts."""
    return [p for start, end in side.agent for p in range(max(start, 1), end)]


def distributions(model: Any, side: Tokens) -> Tensor:
    """[trained, vocabulary] log-probabilities where the agent's tokens are predicted: one sequence, all its logits."""
    logits = model(input_ids=torch.tensor([side.ids]), use_cache=False).logits[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.log_softmax(-1)[[p - 1 for p in trained(side)]]


def alone(model: Any, side: Tokens) -> Tensor:
    """[trained] log-probabilities of the agent's tokens, computed from the sequence by itself."""
    said = torch.tensor([side.ids[p] for p in trained(side)])
    return distributions(model, side).gather(1, said[:, None])[:, 0]


# --- the quick way ---


def together(model: Any, examples: Sequence[Example], *, packed: bool, share: bool = True) -> tuple[Tensor, Batch]:
    """[trained tokens of all branches, in order] log-probabilities from one forward pass, and the batch."""
    from trajtree.train.losses import sft

    batch = collate(examples, packed=packed, share=share)
    return scores_of(model, batch, sft()).policy[batch.token], batch


def value(model: Any, batch: Batch, objective: Objective, reference: Any = None) -> tuple[Tensor, dict[str, float]]:
    """Weighted mean over the items of one batch, as the trainer takes it over those of a step."""
    losses, metrics = objective.loss(scores_of(model, batch, objective, reference), batch)
    weights = objective.items(batch)
    return (losses * weights).sum() / weights.sum(), metrics


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """Of all parameters that are trained and reached, by name; those of the model are left empty."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest difference of a parameter's gradient, as a share of the largest of its own entries or 1e-3 of all's."""
    assert found.keys() == expected.keys() and found
    largest = max(float(g.abs().max()) for g in expected.values())
    assert largest > 0
    return max(
        float((found[n] - g).abs().max()) / max(float(g.abs().max()), 1e-3 * largest) for n, g in expected.items()
    )


def moved(model: Any, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """By how much each trained parameter changed."""
    return {n: p.detach() - before[n] for n, p in model.named_parameters() if p.requires_grad}
