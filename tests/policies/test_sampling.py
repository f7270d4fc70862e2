"""Drawing tokens: greedily, by temperature, from the nucleus, and independently of the rest of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from tests.builders import quick

from trajtree.errors import EngineError
from trajtree.policies.sampling import draw, stream
from trajtree.trajectory import Sampling

SMALL = torch.tensor([1.0, 3.0, -1.0, 2.0, 0.5])


def plain_draw(logits: NDArray[np.float64], sampling: Sampling, uniform: float) -> tuple[int, float]:
    """The token by the textbook, and how far `uniform` is from where another token would be drawn."""
    weights = np.exp(logits / sampling.temperature - np.max(logits / sampling.temperature))
    probabilities = weights / weights.sum()
    order = np.arange(len(logits))
    margin = 1.0
    if sampling.top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        before = np.cumsum(probabilities[order]) - probabilities[order]
        margin = float(np.abs(before - sampling.top_p).min())
        order = order[before < sampling.top_p]
    mass = np.cumsum(probabilities[order]) / probabilities[order].sum()
    margin = min(margin, float(np.abs(mass[:-1] - uniform).min(initial=1.0)))
    return int(order[min(np.searchsorted(mass, uniform, side="right"), len(order) - 1)]), margin


def draws(logits: torch.Tensor, sampling: Sampling, count: int, seed: int = 0) -> NDArray[np.int64]:
    uniforms = stream((seed,)).random(count)
    return np.bincount(draw(logits.repeat(count, 1), [sampling] * count, uniforms.tolist()), minlength=len(logits))


@quick
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(0, 1, exclude_max=True))
def test_greedy_is_the_most_likely(logits: list[float], uniform: float) -> None:
    row = torch.tensor(logits)
    assert draw(row[None], [Sampling()], [uniform]) == [int(row.argmax())]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.6])
def test_distribution(temperature: float, top_p: float) -> None:
    counts = draws(SMALL, Sampling(temperature, top_p), 4000)
    probabilities = torch.softmax(SMALL.double() / temperature, 0).numpy()
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    inside = order[before < top_p]
    assert counts.sum() == counts[inside].sum() == 4000
    if len(inside) > 1:
        expected = probabilities[inside] / probabilities[inside].sum()
        assert chisquare(counts[inside], expected * 4000).pvalue > 1e-3


def test_nucleus_leaves_the_tail_out() -> None:
    logits = torch.log(torch.tensor([0.05, 0.5, 0.3, 0.15]))
    assert set(np.flatnonzero(draws(logits, Sampling(1.0, 0.75), 500))) == {1, 2}
    assert set(np.flatnonzero(draws(logits, Sampling(1.0, 0.85), 500))) == {1, 2, 3}
    assert set(np.flatnonzero(draws(logits, Sampling(1.0, 0.01), 500))) == {1}
    assert set(np.flatnonzero(draws(logits, Sampling(1.0, 1.0), 500))) == {0, 1, 2, 3}


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0, 8.0])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999, 1.0])
def test_large_vocabulary_against_numpy(spread: float, top_p: float) -> None:
    """Flat distributions, whose nucleus is larger than the head that is looked at first, and peaked ones."""
    random = np.random.default_rng(7)
    compared = 0
    for _ in range(60):
        logits = torch.tensor(random.normal(0, spread, 500) + (np.arange(500) * 1e-3), dtype=torch.float32)
        sampling, uniform = Sampling(float(random.uniform(0.5, 1.5)), top_p), float(random.random())
        expected, margin = plain_draw(logits.double().numpy(), sampling, uniform)
        if margin > 1e-5:  # nearer than this, single precision may decide otherwise
            assert draw(logits[None], [sampling], [uniform]) == [expected]
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53])
def test_ends_of_the_unit_interval(uniform: float) -> None:
    impossible = torch.tensor([-torch.inf, 0.0, 1.0, -torch.inf])
    for top_p in (0.5, 0.99, 1.0):
        (token,) = draw(impossible[None], [Sampling(1.0, top_p)], [uniform])
        assert token in (1, 2)


@quick
@given(
    st.lists(
        st.tuples(
            st.integers(0, 99), st.sampled_from((0.0, 0.7, 1.5)), st.sampled_from((0.5, 0.95, 1.0)), st.floats(0, 0.999)
        ),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_rows_do_not_depend_on_the_rest_of_the_batch(
    rows: list[tuple[int, float, float, float]], data: st.DataObject
) -> None:
    logits = torch.stack([torch.tensor(np.random.default_rng(r[0]).normal(size=100)) for r in rows])
    settings, uniforms = [Sampling(t, p) for _, t, p, _ in rows], [u for *_, u in rows]
    together = draw(logits, settings, uniforms)
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = draw(logits[list(order)], [settings[i] for i in order], [uniforms[i] for i in order])
    assert [together[i] for i in order] == shuffled
    assert together == [draw(logits[i : i + 1], [settings[i]], [uniforms[i]])[0] for i in range(len(rows))]


def test_streams() -> None:
    assert stream((1, 2)).random() == stream((1, 2)).random()
    seeds = [(a, b) for a in (-1, 0, 1, 2) for b in range(50)]
    assert len({stream(seed).random() for seed in seeds}) == len(seeds)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0), Sampling(1.0, 0.9)])
@pytest.mark.parametrize("row", [[NAN, 1.0], [1.0, NAN], [INF, 1.0], [INF, INF], [-INF, -INF]])
def test_what_is_no_distribution_is_not_drawn_from(row: list[float], sampling: Sampling) -> None:
    logits = torch.tensor([[0.0, 1.0], row])
    with pytest.raises(EngineError, match="the logits of 1 row of 2 are NaN or infinite"):
        draw(logits, [sampling] * 2, [0.5, 0.5])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0), Sampling(1.0, 0.9)])
def test_tokens_that_are_ruled_out_are_not_drawn(sampling: Sampling) -> None:
    assert draw(torch.tensor([[-INF, 1.0, -INF]]), [sampling], [0.99]) == [1]
