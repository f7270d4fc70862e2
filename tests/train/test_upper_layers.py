"""An adapter on the uppermost layers alone: nothing below is tuned, or kept for the way back; it loads as any does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.models.weights import ModelRef, load_model  # noqa: E402
from trajtree.train.settings import Lora  # noqa: E402
from trajtree.train.trainable import save_weights, with_adapter  # noqa: E402

IDS = torch.arange(2, 9)[None]


def adapted(folder: Path, **lora: Any) -> Any:
    return with_adapter(ModelRef(str(folder)), Lora(4, 8, **lora), dtype="float32", seed=0)


def layers_of(model: Any) -> set[str]:
    return {name.split(".layers.")[1].split(".")[0] for name, p in model.named_parameters() if p.requires_grad}


def test_only_the_uppermost_layers_get_one(tiny_words: Path) -> None:
    assert layers_of(adapted(tiny_words)) == {"0", "1"}
    assert layers_of(adapted(tiny_words, layers=2)) == {"0", "1"}
    assert layers_of(adapted(tiny_words, layers=1)) == {"1"}
    assert layers_of(adapted(tiny_words, layers=1, targets=("q_proj", "up_proj"))) == {"1"}


def test_below_it_nothing_is_kept_for_going_back(tiny_words: Path) -> None:
    model, seen = adapted(tiny_words, layers=1), list[bool]()
    for layer in model.get_base_model().model.layers:
        layer.register_forward_hook(lambda module, given, made: seen.append(made.requires_grad))
    model(input_ids=IDS)
    assert seen == [False, True]


def test_it_is_saved_and_merged_as_any(tiny_words: Path, tmp_path: Path) -> None:
    model = adapted(tiny_words, layers=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
        save_weights(model, tmp_path, str(tiny_words))
        expected = model(input_ids=IDS).logits
        merged = load_model(ModelRef(str(tiny_words), (str(tmp_path),)), dtype="float32", device="cpu")
        plain = load_model(ModelRef(str(tiny_words)), dtype="float32", device="cpu")
        assert torch.allclose(merged(input_ids=IDS).logits, expected, atol=1e-5)
        assert not torch.allclose(plain(input_ids=IDS).logits, expected, atol=1e-2)


def test_more_layers_than_there_are(tiny_words: Path) -> None:
    with pytest.raises(PolicyError, match="has 2 layers, so 3 of them cannot get an adapter"):
        adapted(tiny_words, layers=3)
