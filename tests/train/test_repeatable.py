"""Deterministic training on a GPU, and going on without where an operation has no deterministic form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.train.branching import adapt, branching_pairs, build, gradients  # noqa: E402

from trajtree.train import trainer as training  # noqa: E402
from trajtree.train.losses import dpo  # noqa: E402
from trajtree.train.repeatable import repeatable  # noqa: E402
from trajtree.train.settings import Optimisation  # noqa: E402
from trajtree.train.trainer import train  # noqa: E402

SAID = (
    "histc_cuda does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'."
)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_it_is_for_gpus_and_ends_with_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with repeatable(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


class Refusing:
    """A step's log-probabilities, except that torch refuses them at some calls, as where there is no such kernel."""

    def __init__(self, real: Any, refused: set[int], said: str = SAID) -> None:
        self.real, self.refused, self.said, self.calls = real, refused, said, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        if self.calls in self.refused and torch.are_deterministic_algorithms_enabled():
            raise RuntimeError(self.said)
        return self.real(*args)


def trained(model: Any, folder: Path) -> Any:
    how = Optimisation(epochs=2, lr=1e-2, batch=2, accumulate=2, packed=True)
    train(model, branching_pairs(4), dpo(0.3), how, folder, seed=1, dtype="float32")
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.usefixtures("deterministic")
def test_without_a_deterministic_form_the_first_step_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, model = trained(adapt(build("llama")), tmp_path / "one"), adapt(build("llama"))
    monkeypatch.setattr(training, "scores_of", Refusing(training.scores_of, {1}))
    with pytest.warns(UserWarning, match="can differ in the last digits.*histc_cuda does not have a deterministic"):
        found = trained(model, tmp_path / "other")
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("at", "said"), [({2}, SAID), ({1}, "out of everything")])
def test_other_errors_and_later_ones_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: set[int], said: str
) -> None:
    monkeypatch.setattr(training, "scores_of", Refusing(training.scores_of, at, said))
    with pytest.raises(RuntimeError, match=said.split(",")[0]):
        trained(adapt(build("llama")), tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_gradients_are_the_same_to_the_last_bit() -> None:
    from trajtree.train.batch import collate
    from trajtree.train.scoring import scores_of

    model, objective = adapt(build("llama")).to("cuda"), dpo(0.3)
    training.tree_attention_where_possible([model], True).__enter__()
    batch = collate(branching_pairs(8), packed=True).to("cuda")
    found = []
    with repeatable(torch.device("cuda")):
        for _ in range(3):
            losses, _ = objective.loss(scores_of(model, batch, objective), batch)
            found.append(gradients(model, losses.sum()))
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])
