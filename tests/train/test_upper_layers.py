"""An adapter on the uppermost layers alone: nothing below is tuned, or kept for the way back; it loads as any does.

What is below it is computed once for the model and its reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.train.branching import adapt, branching_pairs, build, gradients, value  # noqa: E402

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.models.weights import ModelRef, load_model  # noqa: E402
from trajtree.train import lower_layers  # noqa: E402
from trajtree.train.batch import collate  # noqa: E402
from trajtree.train.losses import Objective, dpo, ipo  # noqa: E402
from trajtree.train.settings import Lora  # noqa: E402
from trajtree.train.trainable import save_weights, with_adapter  # noqa: E402
from trajtree.train.tree_attention import use_tree_attention  # noqa: E402

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
    model(input_ids=IDS.to(model.device))
    assert seen == [False, True]


def test_it_is_saved_and_merged_as_any(tiny_words: Path, tmp_path: Path) -> None:
    model = adapted(tiny_words, layers=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
        save_weights(model, tmp_path, str(tiny_words))
        expected = model(input_ids=IDS.to(model.device)).logits.cpu()
        merged = load_model(ModelRef(str(tiny_words), (str(tmp_path),)), dtype="float32", device="cpu")
        plain = load_model(ModelRef(str(tiny_words)), dtype="float32", device="cpu")
        assert torch.allclose(merged(input_ids=IDS).logits, expected, atol=1e-5)
        assert not torch.allclose(plain(input_ids=IDS).logits, expected, atol=1e-2)


def test_more_layers_than_there_are(tiny_words: Path) -> None:
    with pytest.raises(PolicyError, match="has 2 layers, so 3 of them cannot get an adapter"):
        adapted(tiny_words, layers=3)


# --- what is below, once for the model and its reference ---


def calls(model: Any) -> list[int]:
    """How often each layer will have been computed from now on; grows with each pass."""
    with lower_layers.lower_layers_once(model):
        pass  # the first time, it is tried whether layers can be shared
    layers = lower_layers.layer_stack(model)[1]
    counts = [0] * len(layers)

    def count(number: int) -> Any:
        def hook(*_: Any) -> None:
            counts[number] += 1

        return hook

    for number, layer in enumerate(layers):
        # The attention's, because the layer is called even where it hands on what it was given.
        (layer.self_attn if hasattr(layer, "self_attn") else layer).register_forward_hook(count(number))
    return counts


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("objective", [dpo(0.3), dpo(0.3, kl=0.5), ipo(0.4)], ids=["dpo", "kl", "ipo"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gpt_oss"])
def test_losses_and_gradients_are_the_same_to_the_last_bit(
    architecture: str, objective: Objective, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapt(build(architecture, num_hidden_layers=4), spread=0.2, above=2)
    if packed:
        use_tree_attention(model)
    counts, batch = calls(model), collate(branching_pairs(4), packed=packed)
    shared, _ = value(model, batch, objective)
    assert counts == [1, 1, 2, 2]
    found = gradients(model, shared)
    monkeypatch.setattr(lower_layers, "untrained_layers", lambda model: [])
    each, _ = value(model, batch, objective)
    assert counts == [3, 3, 4, 4]
    assert torch.equal(shared, each)
    expected = gradients(model, each)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_recomputing_and_bfloat16_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapt(build("llama", num_hidden_layers=4), spread=0.2, above=2).train()
    # transformers renamed it and warns about the old name.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    batch, found = collate(branching_pairs(4), packed=False), list[Any]()
    for once in (True, False):
        if not once:
            monkeypatch.setattr(lower_layers, "untrained_layers", lambda model: [])
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = value(model, batch, dpo(0.3, kl=0.5))
        found.append((loss, gradients(model, loss)))
    (shared, slopes), (each, expected) = found
    assert torch.equal(shared, each)
    assert slopes.keys() == expected.keys() and all(torch.equal(slopes[name], expected[name]) for name in slopes)


def test_a_pass_outside_is_computed_anew_also_after_an_error() -> None:
    model = adapt(build("llama"), spread=0.2, above=1)
    value(model, collate(branching_pairs(1), packed=False), dpo(0.3))
    counts = calls(model)
    with pytest.raises(RuntimeError, match="stop"), lower_layers.lower_layers_once(model):
        model(input_ids=IDS.to(model.device))
        model(input_ids=IDS.to(model.device))
        raise RuntimeError("stop")
    assert counts == [1, 2]
    model(input_ids=IDS.to(model.device))
    assert counts == [2, 3]


def test_what_is_trained_elsewhere_is_not_passed_over() -> None:
    model = adapt(build("llama"), above=1)
    assert len(lower_layers.untrained_layers(model)) == 1
    model.get_input_embeddings().weight.requires_grad_(True)
    assert lower_layers.untrained_layers(model) == []
    assert lower_layers.untrained_layers(adapt(build("llama"))) == []
    sharing = adapt(build("llama"), above=1)
    sharing.config.num_kv_shared_layers = 1
    assert lower_layers.untrained_layers(sharing) == []
    # OPT projects its embeddings, and the adapter reaches this projection.
    narrow = adapt(build("opt", word_embed_proj_dim=16, ffn_dim=48, activation_function="relu"), above=1)
    assert any("project_in" in name for name, weight in narrow.named_parameters() if weight.requires_grad)
    assert lower_layers.untrained_layers(narrow) == []


class Remembering(torch.nn.Module):
    """A layer that reads what the model's first layer was given, as some models' upper layers do."""

    def __init__(self, layer: Any, first: Any) -> None:
        super().__init__()
        self.layer, self.given = layer, list[Any]()
        first.register_forward_hook(lambda module, given, made: self.given.append(made))

    def forward(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return self.layer(hidden_states + self.given[-1], *args, **kwargs)


@pytest.mark.parametrize("why", ["reads more than the hidden state", "hands on more", "drops out"])
def test_models_whose_layers_do_otherwise_are_computed_twice(why: str) -> None:
    changes = {"attention_dropout": 0.5} if why == "drops out" else {}
    model = adapt(build("llama", num_hidden_layers=4, **changes), spread=0.2, above=2)
    layers = lower_layers.layer_stack(model)[1]
    match why:
        case "reads more than the hidden state":
            layers[3] = Remembering(layers[3], layers[0])
        case "hands on more":
            layers[1].register_forward_hook(lambda module, given, made: (made,))
            layers[2].register_forward_pre_hook(lambda module, given: (given[0][0], *given[1:]))
        case _:
            model.train()
    counts = calls(model)
    assert len(lower_layers.untrained_layers(model)) == 2
    with lower_layers.lower_layers_once(model):
        before = counts[:2]
        model(input_ids=IDS.to(model.device))
        model(input_ids=IDS.to(model.device))
    assert [now - then for now, then in zip(counts[:2], before, strict=True)] == [2, 2]
