"""Nothing is dropped out in training: packed as padded, resumed as unbroken, and no margin before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.train.branching import adapt, branching_pairs, build, moved  # noqa: E402
from tests.train.told import Told  # noqa: E402

from trajtree.store.progress import SILENT, Progress  # noqa: E402
from trajtree.train.dropout import without_dropout  # noqa: E402
from trajtree.train.losses import dpo  # noqa: E402
from trajtree.train.reference import with_reference  # noqa: E402
from trajtree.train.settings import Optimisation  # noqa: E402
from trajtree.train.trainer import train  # noqa: E402

PAIRS = branching_pairs(8, seed=2)
HOW = Optimisation(epochs=1, lr=0.05, batch=2, optimiser="sgd", schedule="constant", checkpoint_steps=2)
DROPPING: dict[str, dict[str, Any]] = {
    "phi": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attention_dropout": 0.3},  # modules, and a number in each layer
    "gpt_neox": {"hidden_dropout": 0.3, "attention_dropout": 0.3},  # modules, and a number in the configuration
    "opt": {"dropout": 0.3, "ffn_dim": 48, "word_embed_proj_dim": 32},  # numbers in each layer
}


def built(architecture: str, **how: Any) -> Any:
    return adapt(build(architecture, **DROPPING[architecture]), **how).train()


@pytest.mark.parametrize(
    ("architecture", "packed"), [("phi", True), ("phi", False), ("gpt_neox", True), ("gpt_neox", False), ("opt", False)]
)
def test_the_first_step_knows_no_difference(tmp_path: Path, architecture: str, packed: bool) -> None:
    told = Told()
    model = built(architecture, spread=0.0)
    how = replace(HOW, batch=8, packed=packed)
    train(model, PAIRS, dpo(0.3), how, tmp_path, seed=1, dtype="float32", progress=told)
    assert told.figures[0]["margin"] == pytest.approx(0, abs=1e-6)
    assert (told.figures[0]["shared"] > 1.3) is packed


@pytest.mark.parametrize("above", [0, 1])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, above: int) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, *_: Any) -> None:
        if done == 3:
            raise Killed

    def trained(folder: Path, progress: Progress = SILENT) -> dict[str, Any]:
        model = built("phi", above=above)
        before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        train(model, PAIRS, dpo(0.3), HOW, folder, seed=1, dtype="float32", progress=progress)
        return moved(model, before)

    expected = trained(tmp_path / "unbroken")
    with pytest.raises(Killed):
        trained(tmp_path / "broken", Told(kill))
    found = trained(tmp_path / "broken")
    assert all(torch.equal(found[name], change) for name, change in expected.items())


def test_a_reference_computed_twice_is_the_same(tmp_path: Path) -> None:
    model = built("phi")
    first, second = (
        with_reference(PAIRS, model, fingerprint="weights", cache=tmp_path / name, dtype="float32")
        for name in ("first", "second")
    )
    for one, other in zip(first, second, strict=True):
        assert one.reference is not None and other.reference is not None
        assert all((a == b).all() for a, b in zip(one.reference, other.reference, strict=True))


def test_shares_are_put_back() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(build("phi", **DROPPING["phi"]), LoraConfig(lora_dropout=0.2, target_modules="all-linear"))
    modules = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    attention = model.get_base_model().model.layers[0].self_attn
    shares = [m.p for m in modules]
    assert {0.2, 0.3} <= set(shares)
    with pytest.raises(KeyError), without_dropout([model]):
        assert {m.p for m in modules} == {0.0}
        assert attention.attention_dropout == model.config.attention_dropout == model.config.resid_pdrop == 0.0
        raise KeyError
    assert [m.p for m in modules] == shares
    assert attention.attention_dropout == model.config.attention_dropout == model.config.resid_pdrop == 0.3
