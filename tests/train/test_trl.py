"""TRL's DPOTrainer as oracle: the same pairs give the same tokens, the same losses and the same adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")
trl = pytest.importorskip("trl", reason="TRL is the oracle: it comes with the dev extra")

from datasets import Dataset  # noqa: E402
from tests.train.told import Told  # noqa: E402

from trajtree.formats.pairs import PairMessages  # noqa: E402
from trajtree.models.transcript import ChatFormat  # noqa: E402
from trajtree.models.weights import ModelRef, load_tokenizer  # noqa: E402
from trajtree.train.examples import PairExample, message_pairs  # noqa: E402
from trajtree.train.losses import dpo  # noqa: E402
from trajtree.train.settings import Lora, Optimisation  # noqa: E402
from trajtree.train.trainable import with_adapter  # noqa: E402
from trajtree.train.trainer import train  # noqa: E402
from trajtree.trajectory import Message  # noqa: E402

SYSTEM = "You stand in a room with coloured keys and doors."
PAIRS = [
    (f"Task {n}: leave through the {colour} door. {'Keys and doors are here. ' * (n % 4)}", chosen, rejected)
    for n, (colour, chosen, rejected) in enumerate(
        [
            ("red", "take red key", "look"),
            ("red", "open red door", "take blue key"),
            ("blue", "take blue key", "take red key"),
            ("blue", "look", "drop blue key"),
            ("green", "take green key", "open green door"),
        ]
        * 2
    )
]
"""Single turns: TRL trains on whatever follows the prompt, so there must be no observation in it."""

APPENDING = (
    "{% for message in messages %}"
    "{{ ('' if loop.first else '\\n') + '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML in which nothing follows the end of the last turn: TRL would train on that line break."""

STEPS = 10
RATE = 0.2
BETA = 0.3


def conversation(prompt: str, chosen: str, rejected: str) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def adapter(model: Any) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def fresh(folder: Path) -> Any:
    return with_adapter(ModelRef(str(folder)), Lora(4, 8), dtype="float32", seed=0)


@pytest.fixture(scope="module")
def tokenizer(tiny_words: Path) -> Any:
    tokenizer = load_tokenizer(str(tiny_words))
    tokenizer.chat_template = APPENDING
    return tokenizer


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[PairExample]:
    chat = ChatFormat(tokenizer, "tiny")
    pairs = [
        PairMessages(
            (Message("system", SYSTEM), Message("user", prompt)),
            (Message("assistant", chosen),),
            (Message("assistant", rejected),),
        )
        for prompt, chosen, rejected in PAIRS
    ]
    return message_pairs(pairs, chat, context=4096)


@pytest.fixture(scope="module")
def oracle(tiny_words: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A DPOTrainer that has trained: its model, its data and the loss of every step."""
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        beta=BETA,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="sgd",
        weight_decay=0.0,
        per_device_train_batch_size=2,
        max_steps=STEPS,
        max_length=None,
        bf16=False,
        activation_checkpointing=False,
        use_cpu=True,
        seed=1,
        data_seed=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = trl.DPOTrainer(
        model=fresh(tiny_words),
        args=arguments,
        train_dataset=Dataset.from_list([conversation(*pair) for pair in PAIRS]),
        processing_class=tokenizer,
    )
    losses: list[float] = []
    compute = trainer.compute_loss

    def recorded(*args: Any, **kwargs: Any) -> Any:
        loss = compute(*args, **kwargs)
        losses.append(float(loss.detach()))
        return loss

    trainer.compute_loss = recorded
    trainer.train()
    return trainer, losses


def test_the_tokens_are_the_same(oracle: Any, examples: list[PairExample]) -> None:
    for row, example in zip(oracle[0].train_dataset, examples, strict=True):
        start = len(row["prompt_ids"])
        assert list(example.chosen.ids) == [*row["prompt_ids"], *row["chosen_ids"]]
        assert list(example.rejected.ids) == [*row["prompt_ids"], *row["rejected_ids"]]
        assert [side.agent for side in example.sides] == [((start, len(side.ids)),) for side in example.sides]


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_losses_and_adapter_are_trls(
    tiny_words: Path, tmp_path: Path, oracle: Any, examples: list[PairExample], packed: bool
) -> None:
    trainer, expected = oracle
    model = fresh(tiny_words)
    before = adapter(model)
    losses: list[float] = []
    how = Optimisation(epochs=2, lr=RATE, batch=2, packed=packed, optimiser="sgd", schedule="constant")
    told = Told(lambda done, total, figures: losses.append(figures["loss"]))
    train(model, examples, dpo(BETA), how, tmp_path, seed=1, dtype="float32", progress=told)
    assert len(losses) == len(expected) == STEPS
    assert max(expected) - min(expected) > 0.05, "ten steps must teach something"
    assert max(abs(a - b) for a, b in zip(losses, expected, strict=True)) < 2e-5
    ours, theirs = adapter(model), adapter(trainer.accelerator.unwrap_model(trainer.model))
    theirs = {name: weight for name, weight in theirs.items() if name in ours}
    assert theirs.keys() == ours.keys()
    assert max(float((ours[name] - before[name]).abs().max()) for name in ours) > 1e-2
    assert max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items()) < 1e-6
