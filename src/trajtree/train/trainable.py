"""Models to be trained: a base with a new adapter, a base as a whole, or a small model from scratch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from transformers import set_seed

from trajtree.errors import PolicyError, counted
from trajtree.models.weights import ADAPTER_CONFIG, ModelRef, load_model, load_tokenizer, pick_device
from trajtree.train.lower_layers import layer_stack
from trajtree.train.settings import Lora, Scratch


def with_adapter(ref: ModelRef, lora: Lora, *, dtype: str, seed: int) -> Any:
    """The model of `ref`, frozen, with a new float32 adapter.

    Raises:
        PolicyError: the model cannot be loaded, or has fewer layers than the adapter.
    """
    from peft import LoraConfig, get_peft_model

    model = load_model(ref, dtype=dtype, device=pick_device())
    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        exclude_modules=None if lora.layers is None else _below(model, lora.layers, ref),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    # peft keeps a set, which each process would write in a different order; equal adapters should be equal files.
    adapted.peft_config["default"].target_modules = sorted(adapted.peft_config["default"].target_modules)
    return adapted


def _below(model: Any, upper: int, ref: ModelRef) -> str | None:
    """A pattern for the names of all modules in the layers below the `upper` ones; None if there are none."""
    count = model.config.get_text_config().num_hidden_layers
    if upper > count:
        raise PolicyError(f"{ref.name}: has {counted(count, 'layer')}, so {upper} of them cannot get an adapter")
    if upper == count:
        return None
    stack, layers = layer_stack(model)
    if not layers:
        raise PolicyError(f"{ref.name}: its layers are not in a list, so the adapter cannot be on the upper ones alone")
    return rf".*{re.escape(stack)}\.({'|'.join(map(str, range(count - upper)))})\..*"


def whole(ref: ModelRef, *, seed: int) -> Any:
    """The model of `ref` in float32, with all weights trainable. Raises PolicyError if it cannot be loaded."""
    set_seed(seed)
    model = load_model(ref, dtype="float32", device=pick_device())
    return model.train()


def from_scratch(scratch: Scratch, *, seed: int) -> Any:
    """A small randomly initialised Llama with another model's vocabulary and float32 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(scratch.tokenizer)
    set_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=scratch.hidden,
            intermediate_size=4 * scratch.hidden,
            num_hidden_layers=scratch.layers,
            num_attention_heads=max(1, scratch.hidden // 64),
            max_position_embeddings=scratch.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).to(pick_device())


def save_weights(model: Any, folder: Path, base: str) -> None:
    """Save a model, or its adapter, which then names its base as the user did, not by its path on this machine."""
    model.save_pretrained(folder)
    config = folder / ADAPTER_CONFIG
    if config.exists():
        # Written afterwards: with another name, peft would ask the hub for it at every checkpoint.
        fields = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
        config.write_text(json.dumps(fields, indent=2, sort_keys=True), encoding="utf-8")


__all__ = ["from_scratch", "save_weights", "whole", "with_adapter"]
