"""A model trained on a part of its vocabulary has the same output once it has all its rows back."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.tiny import characters, save_model  # noqa: E402

from trajtree.models.weights import ModelRef, load_model  # noqa: E402
from trajtree.train.batch import collate  # noqa: E402
from trajtree.train.examples import SftExample  # noqa: E402
from trajtree.train.scoring import logits_of, token_logprobs  # noqa: E402
from trajtree.train.vocabulary import InputRows, OutputRows, placed, restore, trim  # noqa: E402
from trajtree.trajectory import Tokens  # noqa: E402

EXAMPLES = [
    SftExample(Tokens((5, 6, 7, 8, 9, 6), ((2, 4),))),
    SftExample(Tokens((5, 6, 9, 9, 20, 7), ((2, 3), (5, 6)))),
]
TARGETS = {7, 8, 9}


@pytest.fixture
def model(tmp_path: Path):
    return load_model(ModelRef(str(save_model(tmp_path, characters()))), dtype="float32", device="cpu")


def stepped(model, steps: int = 5) -> list[float]:
    """The losses of a few steps."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    batch = placed(model, collate(EXAMPLES, packed=False))
    found = []
    for _ in range(steps):
        loss = -token_logprobs(logits_of(model, batch), batch)[batch.token].mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(float(loss.detach()))
    return found


def logprobs(model) -> torch.Tensor:
    batch = placed(model, collate(EXAMPLES, packed=False))
    with torch.no_grad():
        return token_logprobs(logits_of(model, batch), batch)


def test_its_output_is_the_same_with_all_rows_back(model) -> None:
    trim(model, EXAMPLES)
    losses = stepped(model)
    assert losses[-1] < losses[0]
    trimmed = logprobs(model)
    assert torch.allclose(logprobs(restore(model)), trimmed, atol=1e-5)
    assert model.get_input_embeddings().weight.shape == model.get_output_embeddings().weight.shape


def test_other_tokens_are_equally_likely_and_all_add_up_to_one(model) -> None:
    trim(model, EXAMPLES)
    stepped(model)
    restore(model)
    with torch.no_grad():
        chances = model(torch.tensor([[5, 6, 7]])).logits[0, -1].softmax(-1)
    others = [token for token in range(len(chances)) if token not in TARGETS]
    assert torch.allclose(chances[others], chances[others[0]].expand(len(others)), rtol=1e-4)
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-5)


def test_rows_of_tokens_that_do_not_occur_stay_as_they_were(model) -> None:
    before = model.get_input_embeddings().weight.detach().clone()
    trim(model, EXAMPLES)
    stepped(model)
    after = restore(model).get_input_embeddings().weight.detach()
    occurring = {5, 6, 7, 8, 9, 20}
    for token in range(len(before)):
        assert torch.equal(before[token], after[token]) is (token not in occurring)


def test_the_whole_softmax_is_what_is_minimised(model) -> None:
    trim(model, EXAMPLES)
    batch = placed(model, collate(EXAMPLES, packed=False))
    with torch.no_grad():
        ours = logits_of(model, batch).logsumexp(-1)
        whole = restore(model)
        full = logits_of(whole, collate(EXAMPLES, packed=False)).logsumexp(-1)
    assert torch.allclose(ours, full, atol=1e-5)


def test_a_model_that_was_not_trimmed_is_left_alone(model) -> None:
    batch = collate(EXAMPLES, packed=True)
    assert placed(model, batch) is batch
    assert restore(model) is model
    assert not isinstance(model.get_output_embeddings(), OutputRows)


def test_where_every_token_is_a_target_nothing_is_left_for_others() -> None:
    everything = torch.arange(4)
    outputs = OutputRows(InputRows(torch.randn(4, 3), everything), everything)
    logits = outputs(torch.randn(2, 3))
    logits.softmax(-1)[:, 0].sum().backward()
    assert logits.softmax(-1)[:, -1].tolist() == [0.0, 0.0]
    assert outputs._inputs[0].weight.grad.isfinite().all()
