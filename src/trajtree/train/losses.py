"""Losses over the log-probabilities of branches.

Each maker returns an `Objective`: the weight of every item of a batch, and the items' losses. An item is a pair, a
branch or a token. What is minimised is the weighted mean over all items of an optimiser step, however they are divided
into batches, rows or processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trajtree.train.batch import Batch
from trajtree.train.settings import CHOSEN, REJECTED, LossSettings, Method

Metrics = dict[str, float]


@dataclass(frozen=True, eq=False)
class Scores:
    """The models' log-probabilities for the trained tokens of a batch.

    Attributes:
        policy: [K] log-probabilities.
        reference: [K] the same under the reference; None if the objective does not need it.
        kl: [K] KL(policy || reference) over the whole vocabulary where the token is predicted; None likewise.
    """

    policy: Tensor
    reference: Tensor | None = None
    kl: Tensor | None = None

    @property
    def gained(self) -> Tensor:
        """[K] log-ratio of policy and reference."""
        assert self.reference is not None
        return self.policy - self.reference


@dataclass(frozen=True)
class Objective:
    """A loss, and what it needs.

    Attributes:
        name: name in files and messages.
        items: maps a batch to [items] weights.
        loss: maps scores and batch to [items] losses, and figures to show.
        reference, kl: whether it needs the reference, and the whole distribution.
    """

    name: str
    items: Callable[[Batch], Tensor]
    loss: Callable[[Scores, Batch], tuple[Tensor, Metrics]]
    reference: bool = True
    kl: bool = False


def objective_of(method: Method, settings: LossSettings) -> Objective:
    """The objective of a method: its maker, called with the settings that the method names."""
    maker: Callable[..., Objective] = globals()[method.loss]
    return maker(**{knob: getattr(settings, knob) for knob in method.knobs})


def sft(diversity: float = 0.0) -> Objective:
    """Negative log-likelihood of the agent's tokens, each branch weighted; an item is a token of a branch.

    With `diversity`, less that many times KL(policy || reference) where the token is predicted: the diversity term of
    arXiv 2507.18858 for a model that is to explore, L_SFT - lambda KL(pi_w || pi'). That pi' is a frozen earlier
    checkpoint, here the reference, is our reading; so is that the KL is a mean over tokens, as in `dpo`. It has no
    lower bound, so a large weight drives the model away from everything that it knew.
    """

    def loss(scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        if scores.kl is None:
            return -scores.policy[batch.token], {}
        away = scores.kl[batch.token]
        return -scores.policy[batch.token] - diversity * away, {"kl": float(away.detach().mean())}

    return Objective(
        "diverse-sft" if diversity else "sft",
        lambda batch: batch.weight[batch.branch],
        loss,
        reference=diversity > 0,
        kl=diversity > 0,
    )


def dpo(beta: float, *, label_smoothing: float = 0.0, kl: float = 0.0, anchor: float = 0.0) -> Objective:
    """DPO at forks; with `kl`, the paper's TreeDPO with its explicit KL to the reference; with `anchor`, anchored DPO.

    The KL of a pair is the mean over the trained tokens of both its sides. The anchor is the negative log-likelihood of
    the chosen side, a mean over its tokens (Pang et al. 2024): without it, both sides may become unlikely together.
    Where pairs hold the whole run of their chosen side, it is the anchor.
    Rafailov et al. 2023, equation 7; label smoothing as in conservative DPO (Mitchell 2023); the KL term from the loss
    of arXiv 2507.18858.
    """

    def loss(scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        gained = _sides(batch.branch_sums(scores.gained), batch)
        margin = beta * (gained[0] - gained[1])
        losses: Tensor = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
        metrics = _metrics(margin, gained)
        if scores.kl is not None:
            away, lengths = (_sides(a, batch)[:2].sum(0) for a in (batch.branch_sums(scores.kl), batch.lengths))
            losses = losses + kl * away / lengths
            metrics["kl"] = float((away / lengths).detach().mean())
        if anchor:
            unlikely = _unlikely(scores, batch)
            losses = losses + anchor * unlikely
            metrics["nll"] = float(unlikely.detach().mean())
        return losses, metrics

    return Objective("tree-dpo" if kl else "anchored-dpo" if anchor else "dpo", _weights, loss, kl=kl > 0)


def bounded(beta: float, anchor: float) -> Objective:
    """The anchor of `dpo`, and a push on the rejected side that ends: max(0, 1 + beta * its log-ratio), a hinge.

    Once the rejected side is exp(-1 / beta) times as likely as under the reference, it is left alone, and nothing that
    it shares with other replies is pushed down with it. Unlike in DPO, the chosen side's gain does not count for it.
    """

    def loss(scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        gained = _sides(batch.branch_sums(scores.gained), batch)
        unlikely = _unlikely(scores, batch)
        metrics = {**_metrics(beta * (gained[0] - gained[1]), gained), "nll": float(unlikely.detach().mean())}
        return (1 + beta * gained[1]).clamp(min=0) + anchor * unlikely, metrics

    return Objective("bounded", _weights, loss)


def multi_turn_dpo(beta: float, gamma: float) -> Objective:
    """Length-normalised DPO over turns: turn t of T has weight (1 - gamma^(T - t)) / (1 - gamma^T), early turns more.

    DMPO, Shi et al. 2024, equation 13. `gamma` is in (0, 1).
    """

    def loss(scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        turns = batch.turns[batch.branch]
        share: Tensor = (1 - gamma ** (turns - batch.turn)) / (1 - gamma**turns)
        shared = _sides(batch.branch_sums(scores.gained, share), batch)
        margin = beta * (shared[0] - shared[1])
        return -logsigmoid(margin), _metrics(margin, _sides(batch.branch_sums(scores.gained), batch))

    return Objective("multi-turn-dpo", _weights, loss)


def ipo(beta: float) -> Objective:
    """IPO on the log-ratio per token: squared distance of the difference from 1 / (2 beta). Azar et al. 2023."""

    def loss(scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        gained = batch.branch_sums(scores.gained)
        per_token = _sides(gained / batch.lengths, batch)
        difference = per_token[0] - per_token[1]
        return torch.square(difference - 1 / (2 * beta)), _metrics(beta * difference, _sides(gained, batch))

    return Objective("ipo", _weights, loss)


def kto(beta: float) -> Objective:
    """KTO on single branches: those with positive weight are wanted, those with negative weight are not.

    Ethayarajh et al. 2024, equation 8. The reference point is the KL over whole sequences of the batch, that is, of a
    row, and is computed exactly, whereas the original estimates it from mismatched pairs.
    """

    def loss(scores: Scores, batch: Batch) -> tuple[Tensor, Metrics]:
        assert scores.kl is not None
        zero = batch.branch_sums(scores.kl).detach().mean()
        gained = batch.branch_sums(scores.gained)
        signed = torch.sign(batch.weight) * beta * (gained - zero)
        wanted = batch.weight > 0
        metrics = {"kl": float(zero), "accuracy": float((signed > 0).float().mean())}
        return torch.sigmoid(-signed), {**metrics, **_watched(gained[wanted], gained[~wanted])}

    return Objective("kto", lambda batch: batch.weight.abs(), loss, kl=True)


def _weights(batch: Batch) -> Tensor:
    return batch.weight


def _sides(branches: Tensor, batch: Batch) -> Tensor:
    """[sides, n] values of the branches [B] of n pairs: chosen, rejected and, if pairs have it, the chosen run."""
    return branches.view(-1, len(batch.weight))


def _unlikely(scores: Scores, batch: Batch) -> Tensor:
    """[n] mean negative log-likelihood of what anchors each pair: the chosen side's whole run, else the chosen side."""
    mean = _sides(batch.branch_sums(scores.policy) / batch.lengths, batch)
    return -mean[2 if len(mean) > 2 else 0]


def _metrics(margin: Tensor, gained: Tensor) -> Metrics:
    return {
        "accuracy": float((margin > 0).float().mean()),
        "margin": float(margin.detach().mean()),
        **_watched(gained[0], gained[1]),
    }


def _watched(chosen: Tensor, rejected: Tensor) -> Metrics:
    """Mean log-ratio to the reference of either side, in nats; NaN where a batch has none."""
    return {CHOSEN: float(chosen.detach().mean()), REJECTED: float(rejected.detach().mean())}


__all__ = [
    "Metrics",
    "Objective",
    "Scores",
    "bounded",
    "dpo",
    "ipo",
    "kto",
    "multi_turn_dpo",
    "objective_of",
    "sft",
]
