"""Deterministic training on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.train.branching import adapt, branching_pairs, build, gradients  # noqa: E402

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.train import trainer as training  # noqa: E402
from trajtree.train.batch import collate  # noqa: E402
from trajtree.train.losses import dpo  # noqa: E402
from trajtree.train.repeatable import repeatable  # noqa: E402
from trajtree.train.scoring import scores_of  # noqa: E402
from trajtree.train.settings import Optimisation  # noqa: E402
from trajtree.train.tree_attention import tree_attention_where_possible  # noqa: E402

SAID = (
    "histc_cuda does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'."
)


def test_it_is_for_gpus_and_ends_with_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with repeatable(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    with repeatable(torch.device("cuda")):
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)


def test_what_has_no_deterministic_form_is_named() -> None:
    said = r"^histc_cuda does not have a deterministic implementation: leave out --deterministic \(in a recipe: determ"
    with pytest.raises(PolicyError, match=said), repeatable(torch.device("cuda")):
        raise RuntimeError(SAID)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(PolicyError, match="with CUBLAS_WORKSPACE_CONFIG=:4096:8 in"), repeatable(torch.device("cuda")):
        raise RuntimeError("not deterministic because it uses CuBLAS; set CUBLAS_WORKSPACE_CONFIG=:16:8")
    with pytest.raises(RuntimeError, match="out of everything"), repeatable(torch.device("cuda")):
        raise RuntimeError("out of everything")


@pytest.mark.parametrize("asked", [True, False])
def test_it_is_for_the_training_that_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    seen = []

    @contextmanager
    def noted(device: torch.device) -> Iterator[None]:
        seen.append(device.type)
        yield

    monkeypatch.setattr(training, "repeatable", noted)
    model = adapt(build("llama"))
    how = Optimisation(epochs=1, lr=1e-2, deterministic=asked)
    training.train(model, branching_pairs(2), dpo(0.3), how, tmp_path, seed=1, dtype="float32")
    assert seen == (["cpu"] if asked else [])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_gradients_are_the_same_to_the_last_bit() -> None:
    model, objective = adapt(build("llama")).to("cuda"), dpo(0.3)
    batch = collate(branching_pairs(8), packed=True).to("cuda")
    found = []
    with tree_attention_where_possible([model], True), repeatable(torch.device("cuda")):
        for _ in range(3):
            losses, _ = objective.loss(scores_of(model, batch, objective), batch)
            found.append(gradients(model, losses.sum()))
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])
