"""Every objective against its formula, written out sequence by sequence; packed and padded alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("peft", reason="needs the train extra")

from tests.train.branching import (  # noqa: E402
    adapt,
    alone,
    apart,
    branches,
    branching_pairs,
    build,
    distributions,
    gradients,
    trained,
    value,
)
from torch import Tensor  # noqa: E402

from trajtree.errors import PolicyError  # noqa: E402
from trajtree.train.batch import Batch, collate  # noqa: E402
from trajtree.train.examples import Example, PairExample, SftExample  # noqa: E402
from trajtree.train.losses import Objective, bounded, dpo, ipo, kto, multi_turn_dpo, objective_of, sft  # noqa: E402
from trajtree.train.scoring import scores_of  # noqa: E402
from trajtree.train.settings import METHODS, LossSettings  # noqa: E402
from trajtree.train.tree_attention import use_tree_attention  # noqa: E402
from trajtree.trajectory import Tokens  # noqa: E402

PAIRS = branching_pairs(6, seed=3)
SIDES = [
    replace(branch, weight=branch.weight * (1 if number % 2 else -1)) for number, branch in enumerate(branches(PAIRS))
]
"""Single branches of which some are to be avoided."""

RUNS = [replace(pair, run=replace(pair.chosen, agent=((2, 4), *pair.chosen.agent))) for pair in PAIRS]
"""Pairs with their chosen sides' whole runs, in whose past there is a reply of the agent's."""

Slow = tuple[Tensor, dict[str, float]]

both_ways = pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])


def policy(packed: bool = False) -> Any:
    model = adapt(build("llama"), spread=0.2)
    if packed:
        use_tree_attention(model)
    return model


def told(model: Any, side: Tokens, ask: Callable[[Any, Tokens], Tensor]) -> Tensor:
    with torch.no_grad(), model.disable_adapter():
        return ask(model, side)


def gains(model: Any, side: Tokens) -> Tensor:
    """[trained] log-ratios of policy and reference."""
    return alone(model, side) - told(model, side, alone)


def divergences(model: Any, side: Tokens) -> Tensor:
    """[trained] KL to the reference over the vocabulary."""
    ours, theirs = distributions(model, side), told(model, side, distributions)
    return torch.stack([(p.exp() * (p - r)).sum() for p, r in zip(ours, theirs, strict=True)])


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def over_pairs(
    pairs: Sequence[PairExample], one: Callable[[PairExample], tuple[Tensor, Tensor]], **more: float
) -> Slow:
    """Weighted mean of (loss, margin) pair by pair, and the figures."""
    found = [one(pair) for pair in pairs]
    total = sum(pair.weight * loss for pair, (loss, _) in zip(pairs, found, strict=True))
    margins = [float(margin.detach()) for _, margin in found]
    metrics = {"accuracy": sum(m > 0 for m in margins) / len(margins), "margin": sum(margins) / len(margins), **more}
    return total / sum(pair.weight for pair in pairs), metrics


def watched(model: Any, chosen: Sequence[Tokens], rejected: Sequence[Tokens]) -> dict[str, float]:
    """Mean log-ratio of either side."""
    both = {"chosen": chosen, "rejected": rejected}
    with torch.no_grad():
        return {name: sum(float(gains(model, s).sum()) for s in sides) / len(sides) for name, sides in both.items()}


def of_pairs(model: Any) -> dict[str, float]:
    return watched(model, [p.chosen for p in PAIRS], [p.rejected for p in PAIRS])


def slow_dpo(beta: float, smoothing: float, kl: float, anchor: float = 0) -> Callable[[Any], Slow]:
    def slow(model: Any) -> Slow:
        away, unlikely = [], []

        def one(pair: PairExample) -> tuple[Tensor, Tensor]:
            margin = beta * (gains(model, pair.chosen).sum() - gains(model, pair.rejected).sum())
            loss = -(1 - smoothing) * torch.log(sigmoid(margin)) - smoothing * torch.log(sigmoid(-margin))
            if kl:
                away.append(torch.cat([divergences(model, side) for side in pair.sides]).mean())
                loss = loss + kl * away[-1]
            if anchor:
                unlikely.append(-alone(model, pair.chosen).mean())
                loss = loss + anchor * unlikely[-1]
            return loss, margin

        loss, metrics = over_pairs(PAIRS, one)
        figures = {"kl": away, "nll": unlikely}
        shown = {name: float(torch.stack(v).mean().detach()) for name, v in figures.items() if v}
        return loss, metrics | shown | of_pairs(model)

    return slow


def slow_ipo(beta: float) -> Callable[[Any], Slow]:
    def slow(model: Any) -> Slow:
        def one(pair: PairExample) -> tuple[Tensor, Tensor]:
            difference = gains(model, pair.chosen).mean() - gains(model, pair.rejected).mean()
            return (difference - 1 / (2 * beta)) ** 2, beta * difference

        return over_pairs(PAIRS, one, **of_pairs(model))

    return slow


def slow_multi_turn(beta: float, gamma: float) -> Callable[[Any], Slow]:
    def slow(model: Any) -> Slow:
        def branch(side: Tokens) -> Tensor:
            total, done, gained = torch.tensor(0.0), 0, gains(model, side)
            for turn, (start, end) in enumerate(side.agent):
                share = (1 - gamma ** (len(side.agent) - turn)) / (1 - gamma ** len(side.agent))
                total = total + share * gained[done : done + end - start].sum()
                done += end - start
            return total

        def one(pair: PairExample) -> tuple[Tensor, Tensor]:
            margin = beta * (branch(pair.chosen) - branch(pair.rejected))
            return -torch.log(sigmoid(margin)), margin

        return over_pairs(PAIRS, one, **of_pairs(model))

    return slow


def slow_bounded(beta: float, anchor: float) -> Callable[[Any], Slow]:
    def slow(model: Any) -> Slow:
        unlikely = []

        def one(pair: PairExample) -> tuple[Tensor, Tensor]:
            chosen, rejected = gains(model, pair.chosen).sum(), gains(model, pair.rejected).sum()
            unlikely.append(-alone(model, pair.chosen).mean())
            return torch.relu(1 + beta * rejected) + anchor * unlikely[-1], beta * (chosen - rejected)

        loss, metrics = over_pairs(PAIRS, one, **of_pairs(model))
        return loss, {**metrics, "nll": float(torch.stack(unlikely).mean().detach())}

    return slow


def slow_run_anchored(model: Any) -> Slow:
    """The anchor is the mean over all replies of the chosen side's run."""
    unlikely = []

    def one(pair: PairExample) -> tuple[Tensor, Tensor]:
        assert pair.run is not None
        margin = 0.3 * (gains(model, pair.chosen).sum() - gains(model, pair.rejected).sum())
        unlikely.append(-alone(model, pair.run).mean())
        return -torch.log(sigmoid(margin)) + 0.7 * unlikely[-1], margin

    loss, metrics = over_pairs(RUNS, one, **of_pairs(model))
    return loss, {**metrics, "nll": float(torch.stack(unlikely).mean().detach())}


def slow_kto(beta: float) -> Callable[[Any], Slow]:
    def slow(model: Any) -> Slow:
        zero = torch.stack([divergences(model, e.tokens).sum() for e in SIDES]).mean().detach()
        losses, right = [], 0
        for example in SIDES:
            gained = gains(model, example.tokens).sum()
            good = example.weight > 0
            losses.append(abs(example.weight) * (1 - sigmoid(beta * ((gained - zero) if good else (zero - gained)))))
            right += bool((gained > zero) == good)
        wanted, unwanted = ([e.tokens for e in SIDES if (e.weight > 0) == sign] for sign in (True, False))
        metrics = {"kl": float(zero), "accuracy": right / len(SIDES), **watched(model, wanted, unwanted)}
        return torch.stack(losses).sum() / sum(abs(e.weight) for e in SIDES), metrics

    return slow


def slow_sft(model: Any) -> Slow:
    examples = branches(PAIRS)
    total = sum(-e.weight * lp for e in examples for lp in alone(model, e.tokens))
    return total / sum(e.weight * len(trained(e.tokens)) for e in examples), {}  # type: ignore[return-value]


def slow_diverse_sft(diversity: float) -> Callable[[Any], Slow]:
    def slow(model: Any) -> Slow:
        examples = branches(PAIRS)
        away = [divergences(model, e.tokens) for e in examples]
        total = sum((e.weight * far.sum() for e, far in zip(examples, away, strict=True)), torch.tensor(0.0))
        tokens = sum(e.weight * len(trained(e.tokens)) for e in examples)
        return slow_sft(model)[0] - diversity * total / tokens, {"kl": float(torch.cat(away).mean().detach())}

    return slow


CASES: dict[str, tuple[Objective, Callable[[Any], Slow], Sequence[Example]]] = {
    "dpo": (dpo(0.3), slow_dpo(0.3, 0, 0), PAIRS),
    "dpo, smoothed": (dpo(0.3, label_smoothing=0.2), slow_dpo(0.3, 0.2, 0), PAIRS),
    "tree-dpo": (dpo(0.5, kl=0.7), slow_dpo(0.5, 0, 0.7), PAIRS),
    "tree-dpo, smoothed": (dpo(0.5, label_smoothing=0.1, kl=0.7), slow_dpo(0.5, 0.1, 0.7), PAIRS),
    "anchored-dpo": (dpo(0.3, label_smoothing=0.1, anchor=0.5), slow_dpo(0.3, 0.1, 0, 0.5), PAIRS),
    "run-anchored-dpo": (dpo(0.3, anchor=0.7), slow_run_anchored, RUNS),
    "bounded": (bounded(0.3, anchor=0.5), slow_bounded(0.3, 0.5), PAIRS),
    "bounded, narrow": (bounded(20.0, anchor=0.0), slow_bounded(20.0, 0.0), PAIRS),
    "ipo": (ipo(0.4), slow_ipo(0.4), PAIRS),
    "multi-turn": (multi_turn_dpo(0.3, 0.7), slow_multi_turn(0.3, 0.7), PAIRS),
    "kto": (kto(0.2), slow_kto(0.2), SIDES),
    "sft": (sft(), slow_sft, branches(PAIRS)),
    "diverse sft": (sft(0.3), slow_diverse_sft(0.3), branches(PAIRS)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_the_formulas(case: str) -> None:
    objective, slow, examples = CASES[case]
    model = policy()
    expected, figures = slow(model)
    slope = gradients(model, expected)
    for packed in (False, True):
        model = policy(packed)
        loss, metrics = value(model, collate(examples, packed=packed), objective)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        assert metrics == pytest.approx(figures, rel=1e-4, abs=1e-5)
        assert apart(gradients(model, loss), slope) < 1e-4


def test_the_pairs_tell_the_objectives_apart() -> None:
    """The adapter does something, margins have both signs, turns and lengths and weights differ."""
    model = policy()
    with torch.no_grad():
        margins = [float(gains(model, p.chosen).sum() - gains(model, p.rejected).sum()) for p in PAIRS]
        pushed = [1 + 20 * float(gains(model, p.rejected).sum()) > 0 for p in PAIRS]
    assert min(margins) < -0.05 and max(margins) > 0.05
    assert 0 < sum(pushed) < len(PAIRS), "some rejected sides are at the narrow bound"
    assert any(len(p.chosen.agent) != len(p.rejected.agent) for p in PAIRS)
    assert len({len(trained(side)) for p in PAIRS for side in p.sides}) > 2
    assert len({p.weight for p in PAIRS}) > 1 and {math.copysign(1, e.weight) for e in SIDES} == {-1.0, 1.0}


@both_ways
@pytest.mark.parametrize("objective", [dpo(0.3), ipo(0.4), multi_turn_dpo(0.3, 0.7), sft()], ids=lambda o: o.name)
def test_weight_is_how_often(objective: Objective, packed: bool) -> None:
    """An example of weight 2 is that example twice; of weight 0, none."""
    model = policy(packed)
    examples: list[Any] = [replace(e, weight=1.0) for e in (PAIRS if objective.reference else branches(PAIRS))][:3]
    weighted = [replace(examples[0], weight=2.0), examples[1], replace(examples[2], weight=0.0)]
    repeated = [examples[0], examples[1], examples[0]]
    with torch.no_grad():
        found, expected = (value(model, collate(e, packed=packed), objective)[0] for e in (weighted, repeated))
        evenly, _ = value(model, collate(examples, packed=packed), objective)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert abs(float(evenly - found)) > 1e-4


def test_names() -> None:
    named = {
        o.name for o in (sft(), sft(0.1), dpo(0.1), dpo(0.1, kl=0.1), ipo(0.1), kto(0.1), multi_turn_dpo(0.1, 0.9))
    }
    assert named == {"sft", "diverse-sft", "dpo", "tree-dpo", "ipo", "kto", "multi-turn-dpo"}


@pytest.mark.parametrize("gamma", [0.2, 0.9])
def test_single_turns_are_plain_dpo(gamma: float) -> None:
    first = [replace(p, chosen=_first_turn(p.chosen), rejected=_first_turn(p.rejected)) for p in PAIRS]
    model = policy()
    with torch.no_grad():
        batch = collate(first, packed=False)
        plain, turned = (value(model, batch, o) for o in (dpo(0.3), multi_turn_dpo(0.3, gamma)))
    torch.testing.assert_close(plain[0], turned[0])
    assert plain[1] == pytest.approx(turned[1])


def _first_turn(side: Tokens) -> Tokens:
    return Tokens(side.ids, side.agent[:1])


@both_ways
def test_diversity_drives_away_from_the_reference(packed: bool) -> None:
    """A small step down the loss increases the KL by more than a step down plain imitation does."""

    def after_a_step(objective: Objective) -> float:
        model = policy(packed)
        batch = collate(branches(PAIRS), packed=packed)
        slope = torch.autograd.grad(value(model, batch, objective)[0], weights := trainable(model))
        with torch.no_grad():
            for weight, down in zip(weights, slope, strict=True):
                weight -= 1e-3 * down
            return float(value(model, batch, sft(1.0))[1]["kl"])

    plain, diverse, more = (after_a_step(objective) for objective in (sft(), sft(1.0), sft(2.0)))
    assert plain < diverse < more


def trainable(model: Any) -> list[Any]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def test_no_diversity_is_plain_imitation() -> None:
    """To the last bit: the reference is not even asked, so a model without an adapter will do."""
    model, batch = build("llama"), collate(branches(PAIRS), packed=False)
    assert objective_of(METHODS["sft"], LossSettings()).name == "sft"
    scores = scores_of(model, batch, sft(0.0))
    assert scores.reference is None and scores.kl is None
    losses, figures = sft(0.0).loss(scores, batch)
    assert torch.equal(losses, -scores.policy[batch.token]) and figures == {}
    with pytest.raises(PolicyError, match="name a reference model"):
        scores_of(model, batch, sft(0.1))


# --- references ---


@both_ways
@pytest.mark.parametrize("objective", [dpo(0.3), ipo(0.4), multi_turn_dpo(0.3, 0.7)], ids=lambda o: o.name)
def test_a_reference_computed_beforehand_is_the_same(objective: Objective, packed: bool) -> None:
    """Also for a model without an adapter to turn off, which proves that it is used."""
    model = policy(packed)
    known = [replace(p, reference=tuple(told(model, side, alone).numpy() for side in p.sides)) for p in PAIRS]
    with torch.no_grad():
        expected, _ = value(model, collate(PAIRS, packed=packed), objective)
        merged = model.merge_and_unload()
        found, _ = value(merged, collate(known, packed=packed), objective)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_some_references_are_none() -> None:
    model = policy()
    side = told(model, PAIRS[0].chosen, alone).numpy(), told(model, PAIRS[0].rejected, alone).numpy()
    assert collate([replace(PAIRS[0], reference=side), *PAIRS[1:]], packed=True).reference is None


@both_ways
def test_another_model_as_reference(packed: bool) -> None:
    model, other = build("llama"), build("llama", seed=5)
    batch = collate(PAIRS, packed=packed)
    if packed:
        use_tree_attention(model)
        use_tree_attention(other)
    loss, _ = value(model, batch, dpo(0.3, kl=0.5), other)

    def one(pair: PairExample) -> tuple[Tensor, Tensor]:
        gained = [(alone(model, side) - alone(other, side).detach()).sum() for side in pair.sides]
        ours = torch.cat([distributions(model, side) for side in pair.sides])
        theirs = torch.cat([distributions(other, side) for side in pair.sides])
        margin = 0.3 * (gained[0] - gained[1])
        return -torch.log(sigmoid(margin)) + 0.5 * (ours.exp() * (ours - theirs)).sum(-1).mean(), margin

    torch.testing.assert_close(loss, over_pairs(PAIRS, one)[0], rtol=1e-5, atol=1e-5)
    loss.backward()
    assert all(p.grad is None for p in other.parameters()) and all(p.grad is not None for p in model.parameters())


def test_without_an_adapter_there_is_no_reference() -> None:
    batch = collate(PAIRS, packed=False)
    with pytest.raises(PolicyError, match="name a reference model"):
        scores_of(build("llama"), batch, dpo(0.1))
    assert scores_of(build("llama"), batch, sft()).reference is None


# --- batches ---


@both_ways
def test_a_batch_says_what_is_trained(packed: bool) -> None:
    batch = collate(PAIRS, packed=packed)
    sides = [p.chosen for p in PAIRS] + [p.rejected for p in PAIRS]
    assert batch.branches == len(sides) and batch.tokens == sum(len(s.ids) for s in sides)
    assert batch.lengths.tolist() == [len(trained(s)) for s in sides]
    assert batch.turns.tolist() == [len(s.agent) for s in sides]
    assert batch.names == tuple(p.name for p in PAIRS)
    said = [batch.target[batch.token[batch.branch == b]].tolist() for b in range(len(sides))]
    assert said == [[s.ids[p] for p in trained(s)] for s in sides]
    before = batch.ids[batch.row, batch.column][batch.source][batch.token]
    assert before.tolist() == [s.ids[p - 1] for s in sides for p in trained(s)]


def test_the_first_token_of_all_is_not_trained() -> None:
    """Nothing predicts it."""
    example = SftExample(Tokens((5, 6, 7), ((0, 2),)))
    for packed in (False, True):
        batch: Batch = collate([example], packed=packed)
        assert batch.target.tolist() == [6] and batch.column.tolist() == [0]


def test_shared_trained_tokens_are_predicted_once() -> None:
    shared, padded = collate(PAIRS, packed=True), collate(PAIRS, packed=False)
    assert len(shared.target) < len(padded.target) == len(shared.token)
    assert len(shared.row) < len(padded.row)
