"""TRL's DPOTrainer on given tokens, to be measured beside a training step of ours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from peft import LoraConfig
from torch import Tensor

from trajtree.train.examples import PairExample


def trl_trainer(model: Any, tokenizer: Any, device: str) -> Any:
    """TRL's trainer over the model, with an adapter of its own.

    Raises:
        ImportError: TRL is not installed.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Given(DPOTrainer):  # type: ignore[misc]
        """Takes token ids as they are."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    trainer = Given(
        model=model,
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"),
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(),
            use_cpu=device == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}]),
        processing_class=tokenizer,
    )
    trainer.model.to(device)
    return trainer


def trl_step(trainer: Any, examples: Sequence[PairExample], *, precomputed: bool) -> Callable[[], float]:
    """A step of TRL's trainer on the very same tokens, forward and backward; it returns the loss."""
    rows = []
    for example in examples:
        start = example.chosen.agent[0][0]
        row: dict[str, Any] = {
            "prompt_ids": list(example.chosen.ids[:start]),
            "chosen_ids": list(example.chosen.ids[start:]),
            "rejected_ids": list(example.rejected.ids[start:]),
        }
        rows.append(row | ({"ref_chosen_logps": -50.0, "ref_rejected_logps": -50.0} if precomputed else {}))
    batch = {
        name: value.to(trainer.model.device) if isinstance(value, Tensor) else value
        for name, value in trainer.data_collator(rows).items()
    }

    def step() -> float:
        trainer.precompute_ref_logps = precomputed
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        return float(loss.detach())

    return step


__all__ = ["trl_step", "trl_trainer"]
