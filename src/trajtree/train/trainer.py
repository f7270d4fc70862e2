"""transformers' Trainer around our objectives, with checkpoints from which a killed training resumes.

The optimiser, the schedule, accumulation, processes and checkpoints are the Trainer's; the rows and the loss are ours.
What is minimised is the weighted mean over the items of an optimiser step, so it is the same whether they come in one
batch, in several, or in several processes, provided that examples divide evenly among processes (accelerate uses some
twice to fill up) and the loss treats items separately, which KTO's does not. Batches are drawn by the Trainer's seeded
sampler, so a training that is killed and resumed sees the same batches in the same order.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME

from trajtree.errors import DataError, PolicyError, RunError
from trajtree.explore.trackers import PROJECT, Logbook, check_trackers
from trajtree.models.weights import pick_dtype
from trajtree.store.progress import SILENT, Progress
from trajtree.train.batch import Batch, collate
from trajtree.train.checkpoints import last_whole, mark_whole
from trajtree.train.dropout import without_dropout
from trajtree.train.examples import Example, PairExample, check_pair
from trajtree.train.losses import Objective
from trajtree.train.packing import packs
from trajtree.train.repeatable import repeatable
from trajtree.train.scoring import check_head, check_reference, has_adapter, logits_of, scores_of, token_logprobs
from trajtree.train.settings import CHOSEN, REJECTED, Optimisation
from trajtree.train.tree_attention import tree_attention_where_possible
from trajtree.train.vocabulary import placed

Save = Callable[[dict[str, float]], None]
"""Called with the last metrics."""


@dataclass(frozen=True, slots=True)
class History:
    """How a training went.

    Attributes:
        steps: number of optimiser steps.
        epochs: for each epoch, the means over its steps of the loss and of the log-ratios of either side of pairs
            (`settings.CHOSEN`, `settings.REJECTED`), as far as the objective has them.
    """

    steps: int
    epochs: tuple[dict[str, float], ...]


Watch = Callable[[History], None]
"""Called with how the training went."""

_WATCHED = ("loss", CHOSEN, REJECTED)

_SELF_CHECK = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.15}
"""Largest mean difference in a trained token's log-probability, in nats, between packed and separate computation."""


def train(
    model: Any,
    examples: Sequence[Example],
    objective: Objective,
    how: Optimisation,
    folder: Path,
    *,
    seed: int,
    dtype: str = "auto",
    progress: Progress = SILENT,
    reference: Any | None = None,
    save: Save = lambda metrics: None,
    watch: Watch = lambda history: None,
    logbook: Logbook | None = None,
) -> dict[str, float]:
    """Tune `model` in place, without dropout.

    Args:
        model: a peft model, or a whole one.
        examples: examples of the kind that `objective` takes.
        objective: a loss from `trajtree.train.losses`.
        how: the optimisation, with epochs and learning rate (`settings.resolved`).
        folder: folder for checkpoints, from which a killed training resumes; they are removed after `save`.
        seed: seed for the order of batches.
        dtype: dtype of the arithmetic (see `pick_dtype`), not float16; trained weights, and their optimiser state, stay
            in float32.
        progress: counts the optimiser steps.
        reference: a reference model; by default the policy with its adapter switched off.
        save: saves the tuned model; called by the first process.
        watch: called with how the training went, by the first process, before `save`.
        logbook: where trackers report to; by default in `folder`, by its name.

    Returns:
        Metrics of the last step, over all processes, and `self_check`: the difference between log-probabilities
        computed packed and separately.

    Raises:
        DataError: there is nothing to train.
        PolicyError: the model, or the reference, cannot be used.
        RunError: the loss is not a number, or a tracker is not installed.
    """
    device, precision = next(model.parameters()).device, getattr(torch, pick_dtype(dtype))
    if precision not in _SELF_CHECK:
        raise PolicyError(f"{dtype}: small gradients vanish in this dtype; train in bfloat16 or float32")
    check_head(model)
    _check_trained(examples)
    if reference is not None:
        check_reference(model, reference)
    elif objective.reference and not has_adapter(model) and _needs_model(examples, objective):
        raise PolicyError("a model without an adapter cannot be its own reference: name a reference model")
    if how.recompute:
        # transformers renamed it and warns about the old name.
        newer = getattr(model, "activation_checkpointing_enable", None)
        (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    check_trackers(how.report_to)
    logbook = logbook or logbook_of(folder)
    checkpoints = folder / "checkpoints"
    reporting = _Reporting(progress)
    models = [model] if reference is None else [model, reference]
    with without_dropout(models), tree_attention_where_possible(models, how.packed) as packed:
        units = _units(examples, how, packed, seed)
        apart = _self_check(model, units[0], precision) if packed else 0.0
        trainer = _ObjectiveTrainer(
            model=model,
            args=_arguments(how, checkpoints, device, seed, logbook.title),
            train_dataset=units,
            data_collator=lambda drawn: {"batch": placed(model, collate([e for u in drawn for e in u], packed=packed))},
            objective=objective,
            reference=reference,
            dtype=precision,
            warm_up=how.warm_up,
            callbacks=[reporting],
        )
        reporting.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        _keep_events(trainer, logbook)
        with _uncast_inputs(model, precision), repeatable(device) if how.deterministic else nullcontext():
            last, trainer.last, trainer.watched = last_whole(checkpoints, clean_up=trainer.is_world_process_zero())
            trainer.go_on(last)
    metrics = {**trainer.last, "self_check": apart}
    if trainer.is_world_process_zero():
        watch(History(trainer.state.global_step, _by_epoch(trainer.watched)))
        save(metrics)
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return metrics


class _ObjectiveTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that minimises an objective over `Batch`es."""

    def __init__(
        self, *, objective: Objective, reference: Any | None, dtype: torch.dtype, warm_up: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.objective, self.reference, self.dtype, self.warm_up = objective, reference, dtype, warm_up
        self.loss_is_scaled_for_ga = True
        self.last: dict[str, float] = {}
        self.watched: list[dict[str, float]] = []
        self._began = time.monotonic()
        self._parts: list[tuple[float, dict[str, float]]] = []
        self._tokens = self._packed = 0

    def go_on(self, checkpoint: str | None) -> None:
        """Train from a checkpoint, or from the beginning; after a checkpoint of the last step no step is left.

        Trainer.train would take one more where the last epoch is a part of one.
        """
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
            per_epoch = math.ceil(len(self.get_train_dataloader()) / self.args.gradient_accumulation_steps)
            if state.global_step >= math.ceil(self.args.num_train_epochs * per_epoch):
                self.state = state
                self._load_from_checkpoint(checkpoint)
                return
        self.train(resume_from_checkpoint=checkpoint)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        total = sum(self.objective.items(sample["batch"]).sum() for sample in batch_samples)
        counted = torch.as_tensor(total, dtype=torch.float32, device=device)
        return self.accelerator.gather(counted).sum() if self.args.world_size > 1 else counted

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """See Trainer.create_scheduler; the first step of a warm-up has rate 0, so a single one would be lost."""
        steps = math.ceil(self.warm_up * num_training_steps)
        self.args.warmup_steps = steps if steps > 1 else 0
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Tensor | None = None, **_: Any
    ) -> Any:
        """See Trainer.compute_loss."""
        assert num_items_in_batch is not None
        batch: Batch = inputs["batch"].to(self.args.device)
        with torch.autocast(self.args.device.type, self.dtype, enabled=self.dtype is torch.bfloat16):
            losses, metrics = self.objective.loss(scores_of(model, batch, self.objective, self.reference), batch)
        # Every process divides by the items of all processes, but gradients are averaged over processes, not added.
        value = (losses * self.objective.items(batch)).sum() / num_items_in_batch * self.args.world_size
        if not torch.isfinite(value):
            raise RunError(
                f"the loss is {float(value.detach())} at step {self.state.global_step + 1}, "
                f"on {'; '.join(batch.names[:3])}; lower the learning rate, or compute in float32"
            )
        self._parts.append((float(value.detach()), metrics))
        self._tokens, self._packed = self._tokens + batch.tokens, self._packed + batch.ids.numel()
        return (value, {}) if return_outputs else value

    def end_step(self) -> None:
        """Combine the figures of an optimiser step."""
        parts, self._parts = self._parts, []
        names = list(parts[-1][1])
        means = [_mean(metrics[name] for _, metrics in parts) for name in names]
        loss, tokens, packed, *means = self._over_processes(
            [sum(value for value, _ in parts), self._tokens, self._packed, *means]
        )
        self.last = {
            "loss": loss,
            # A step may lack a figure: one without wanted examples, for example, does not show how likely those are.
            **{name: mean for name, mean in zip(names, means, strict=True) if not math.isnan(mean)},
            "tokens/s": tokens * self.args.world_size / (time.monotonic() - self._began),
            "shared": tokens / packed,
        }
        # The share of epochs done, this step included.
        epoch = math.ceil(round(self.state.epoch, 6))
        self.watched.append({"epoch": epoch, **{name: self.last[name] for name in _WATCHED if name in self.last}})
        if self.args.report_to:
            self.log(self.last)

    def _over_processes(self, figures: list[float]) -> list[float]:
        """Means of the figures over all processes."""
        if self.args.world_size == 1:
            return figures
        means: list[float] = self.accelerator.reduce(torch.tensor(figures, device=self.args.device), "mean").tolist()
        return means


class _Reporting(TrainerCallback):  # type: ignore[misc]
    def __init__(self, progress: Progress) -> None:
        self.progress, self.reported = progress, 0
        self.trainer: _ObjectiveTrainer | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.total(state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self.trainer is not None
        self.trainer.end_step()
        self.progress.advance(state.global_step - self.reported, self.trainer.last)
        self.reported = state.global_step

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the checkpoint's contents once every process has written its part; without a record it is ignored."""
        assert self.trainer is not None
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            mark_whole(folder, self.trainer.last, self.trainer.watched)


def logbook_of(folder: Path) -> Logbook:
    """Where a training reports that is not part of a run."""
    return Logbook(folder / "tensorboard", folder.name)


def _keep_events(trainer: Trainer, logbook: Logbook) -> None:
    """Have TensorBoard's files where they stay: transformers puts them among the checkpoints, which are removed."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(logbook.folder)


def _arguments(how: Optimisation, folder: Path, device: torch.device, seed: int, title: str) -> Any:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=how.epochs,
        learning_rate=how.lr,
        per_device_train_batch_size=how.batch or 1,
        gradient_accumulation_steps=how.accumulate,
        lr_scheduler_type=how.schedule,
        weight_decay=how.weight_decay,
        max_grad_norm=how.clip,
        optim=how.optimiser,
        use_cpu=device.type == "cpu",
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_steps=how.checkpoint_steps,
        save_total_limit=2,
        logging_strategy="no",
        report_to=list(how.report_to) or "none",
        run_name=title,
        project=PROJECT,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
    )
    # A single process uses only one of several GPUs: torch's DataParallel would split packed rows.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _units(examples: Sequence[Example], how: Optimisation, packed: bool, seed: int) -> list[list[Example]]:
    """What the sampler draws: packs of whole trees, or single examples."""
    if how.batch is not None:
        return [[example] for example in examples]
    return packs(
        examples, lambda example: [side.ids for side in example.sides], how.pack_tokens, seed=seed, share=packed
    )


def _needs_model(examples: Sequence[Example], objective: Objective) -> bool:
    return objective.kl or any(example.reference is None for example in examples)


def _check_trained(examples: Sequence[Example]) -> None:
    if not examples:
        raise DataError("there is nothing to train on")
    for example in examples:
        if not all(any(end > max(start, 1) for start, end in side.agent) for side in example.sides):
            raise DataError(f"{example.name or 'an example'}: has no trained token, so it teaches nothing")
        if isinstance(example, PairExample):
            check_pair(example.chosen, example.rejected, example.name or "a pair")


def _self_check(model: Any, examples: Sequence[Example], dtype: torch.dtype) -> float:
    """Mean difference in nats between log-probabilities of the first row's first branch, packed and separate.

    Raises:
        PolicyError: the difference is larger than rounding.
    """
    device = next(model.parameters()).device
    together, alone = (
        placed(model, collate(some, packed=packed)).to(device)
        for some, packed in ((examples, True), (examples[:1], False))
    )
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype is torch.bfloat16):
        found = [token_logprobs(logits_of(model, batch), batch)[batch.token] for batch in (together, alone)]
    length = int(alone.lengths[0])
    apart = float((found[0][:length] - found[1][:length]).abs().mean())
    if not apart <= _SELF_CHECK[dtype]:
        raise PolicyError(f"packed log-probabilities differ by {apart:.1e} nats from separate ones: train padded")
    return apart


def _uncast_inputs(model: Any, dtype: torch.dtype) -> Any:
    """Under autocast, float32 adapters are cast down; peft would first cast every input up, to no effect."""
    if not hasattr(model, "peft_config"):
        return nullcontext()
    from peft.helpers import disable_input_dtype_casting

    return disable_input_dtype_casting(model, active=dtype is not torch.float32)


def _by_epoch(watched: Sequence[dict[str, float]]) -> tuple[dict[str, float], ...]:
    """Means of what was watched over the steps of each epoch; the last epoch may be a part of one."""
    epochs: dict[float, list[dict[str, float]]] = {}
    for step in watched:
        epochs.setdefault(step["epoch"], []).append(step)
    means = ({name: _mean(s[name] for s in steps if name in s) for name in _WATCHED} for steps in epochs.values())
    return tuple({name: mean for name, mean in found.items() if not math.isnan(mean)} for found in means)


def _mean(values: Iterable[float]) -> float:
    """Mean of those that are numbers; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


__all__ = ["History", "Watch", "train"]
