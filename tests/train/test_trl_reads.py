"""TRL trains on what is written: pairs and KTO rows from Parquet, converted runs from JSON Lines, two steps each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")
trl = pytest.importorskip("trl", reason="comes with the dev extra")

import json  # noqa: E402

from datasets import load_dataset  # noqa: E402
from tests.cli.commands import done  # noqa: E402

from trajtree.models.weights import ModelRef, load_tokenizer  # noqa: E402
from trajtree.train.settings import Lora  # noqa: E402
from trajtree.train.trainable import with_adapter  # noqa: E402

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CASES = [
    ("pairs", "DPO", "pairs.parquet", ()),
    ("pairs", "KTO", "kto.parquet", ("--to", "trl-kto")),
    ("convert", "SFT", "runs.parquet", ("--to", "trl")),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = []
    for number in range(8):
        word = ("red", "blue")[number % 2]
        said = [
            ("user", f"room {number // 4}"),
            ("assistant", f"open {word} door"),
            ("user", "key"),
            ("assistant", word),
        ]
        messages = [{"role": role, "content": content} for role, content in said]
        rows.append({"task": f"t{number // 4}", "messages": messages, "score": number % 2})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "log.jsonl"


@pytest.mark.parametrize(("command", "name", "file", "options"), CASES, ids=[case[1] for case in CASES])
def test_two_steps(
    tmp_path: Path, tiny_words: Path, log: Path, command: str, name: str, file: str, options: tuple[str, ...]
) -> None:
    out = tmp_path / file
    if command == "convert":
        done("convert", log, out, *options)
    else:
        done("import", log, "--out", tmp_path / "store.jsonl")
        done("build", tmp_path / "store.jsonl", "--out", tmp_path / "trees.jsonl")
        done("pairs", tmp_path / "trees.jsonl", "--out", out, *options)
    data = load_dataset("parquet", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer: Any = load_tokenizer(str(tiny_words))
    tokenizer.chat_template = TEMPLATE
    arguments = getattr(trl, f"{name}Config")(
        output_dir=str(tmp_path / "trained"),
        per_device_train_batch_size=2,
        max_steps=2,
        bf16=False,
        activation_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = getattr(trl, f"{name}Trainer")(
        model=with_adapter(ModelRef(str(tiny_words)), Lora(4, 8), dtype="float32", seed=0),
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
    )
    assert trainer.train().global_step == 2
