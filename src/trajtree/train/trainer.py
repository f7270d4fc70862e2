"""transformers' Trainer around our losses, with checkpoints from which a killed training goes on.

The optimiser, the schedule, accumulation and checkpoints are the Trainer's; ours are the sequences and the loss. One
process, one device. Batches are drawn by the Trainer's seeded sampler, so a training that is killed and resumed
sees the same batches in the same order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from trajtree.errors import DataError, PolicyError
from trajtree.policies.models import ModelRef, load_model, load_tokenizer, pick_device, pick_dtype
from trajtree.train.data import PairExample, SftExample
from trajtree.train.losses import Batch, collate, head_is_plain, sft_loss, tree_dpo_loss

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, last metrics)."""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How to train; the schedule is cosine after 3 % of warm-up, the optimiser AdamW without weight decay."""

    epochs: float
    lr: float
    batch: int
    accumulate: int = 1
    checkpoint_steps: int = 50
    dtype: str = "auto"
    """Of the arithmetic (see `pick_dtype`); weights that are trained, and their optimiser, stay in float32."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter on all linear layers of the decoder."""

    rank: int
    alpha: int


def train_sft(
    model: Any, examples: Sequence[SftExample], how: Optimisation, folder: Path, *, seed: int, progress: Progress
) -> dict[str, float]:
    """Minimise the negative log-likelihood of the agent's tokens; metrics of the last step."""

    def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        value = sft_loss(model, batch)
        return value, {"loss": float(value.detach())}

    return _train(model, examples, lambda e: [x.tokens for x in e], loss, how, folder, seed=seed, progress=progress)


def train_tree_dpo(
    model: Any,
    examples: Sequence[PairExample],
    how: Optimisation,
    folder: Path,
    *,
    beta: float,
    kl: float,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    """TreeDPO against the model with its adapter off; metrics of the last step."""

    def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        value, metrics = tree_dpo_loss(model, batch, beta=beta, kl=kl)
        return value, {"loss": float(value.detach()), **metrics}

    def sides(examples: Sequence[PairExample]) -> list[Any]:
        return [e.chosen for e in examples] + [e.rejected for e in examples]

    return _train(model, examples, sides, loss, how, folder, seed=seed, progress=progress)


def with_adapter(ref: ModelRef, lora: Lora, *, dtype: str, seed: int) -> Any:
    """The model of `ref`, frozen, under a fresh float32 adapter. Raises PolicyError when it cannot be loaded."""
    from peft import LoraConfig, get_peft_model

    model = load_model(ref, dtype=dtype, device=pick_device())
    set_seed(seed)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    # peft keeps a set, which each process would write in another order; equal adapters are to be equal files.
    adapted.peft_config["default"].target_modules = sorted(adapted.peft_config["default"].target_modules)
    return adapted


def from_scratch(tokenizer_of: str, *, hidden: int, layers: int, context: int, seed: int) -> Any:
    """A small randomly initialised Llama over another model's vocabulary, with float32 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(tokenizer_of)
    set_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=max(1, hidden // 64),
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class _LossTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is a function of (model, Batch)."""

    def __init__(
        self, *, loss: Callable[[Any, Batch], tuple[Tensor, dict[str, float]]], dtype: torch.dtype, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._dtype = dtype
        self._loss = loss
        self.model_accepts_loss_kwargs = False
        self.last: dict[str, float] = {}

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """See Trainer.compute_loss."""
        # The Trainer's own mixed precision wraps `model.forward` alone, which a loss on trained tokens goes around.
        with torch.autocast(self.args.device.type, self._dtype, enabled=self._dtype is not torch.float32):
            value, self.last = self._loss(model, inputs["batch"])
        return (value, {}) if return_outputs else value


class _Reporting(TrainerCallback):  # type: ignore[misc]
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.trainer: _LossTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self.trainer is not None
        self.progress(state.global_step, state.max_steps, self.trainer.last)


def _train(
    model: Any,
    examples: Sequence[Any],
    sequences: Callable[[Sequence[Any]], list[Any]],
    loss: Callable[[Any, Batch], tuple[Tensor, dict[str, float]]],
    how: Optimisation,
    folder: Path,
    *,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    device, dtype = next(model.parameters()).device, getattr(torch, pick_dtype(how.dtype))
    probe = collate(sequences(examples[:1]), device)
    if not len(probe.target):
        raise DataError("the first example has no trained token: training would do nothing")
    if not head_is_plain(model, probe):
        raise PolicyError(
            "this model scales or caps its logits, which the loss on trained tokens would miss; it is not supported"
        )
    checkpoints = folder / "checkpoints"
    reporting = _Reporting(progress)
    trainer = _LossTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=how.epochs,
            learning_rate=how.lr,
            per_device_train_batch_size=how.batch,
            gradient_accumulation_steps=how.accumulate,
            lr_scheduler_type="cosine",
            warmup_steps=0.03,
            weight_decay=0.0,
            use_cpu=device.type == "cpu",
            seed=seed,
            data_seed=seed,
            save_strategy="steps",
            save_steps=how.checkpoint_steps,
            save_total_limit=2,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device.type != "cpu",
        ),
        train_dataset=list(examples),
        data_collator=lambda rows: {"batch": collate(sequences(rows), device)},
        loss=loss,
        dtype=dtype,
        callbacks=[reporting],
    )
    reporting.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    # Under autocast the adapters' float32 weights are cast down; peft would first cast every input up, to no effect.
    with disable_input_dtype_casting(model, active=dtype is not torch.float32):
        trainer.train(resume_from_checkpoint=_last_complete(checkpoints))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return trainer.last


def _last_complete(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes trainer_state.json last."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(path)
            continue
        return str(path)
    return None


__all__ = ["Lora", "Optimisation", "Progress", "from_scratch", "train_sft", "train_tree_dpo", "with_adapter"]
