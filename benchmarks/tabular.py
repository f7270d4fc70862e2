"""Tree environments so small that everything is known of them, and the exact minimisers of losses over all policies.

An environment is a tree in which every episode takes `depth` actions, each one of `arms`. A policy may act differently
at every node, so it is any distribution over the leaves; pairs of episodes are pairs of leaves, and a beginning that
both share has dropped out of DPO's margin. The likelihood of a chosen side counts from the node on from which it is
trained: its pair's fork, or the root. Environments of one shape are handled together, as arrays whose first axis [E] is
the environment; Y is the number of leaves. docs/theory.md has the notation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPES = ((2, 4), (3, 3), (4, 2))
"""(arms, depth): 16, 27 and 16 leaves."""


@dataclass(frozen=True, eq=False)
class Worlds:
    """E environments of one shape. The leaf below node `i` of level k is any `leaf` with leaf // arms^(depth-k) == i.

    Attributes:
        arms, depth: the shape; Y = arms ** depth.
        score: [E, Y] G of each leaf, in [0, 1]; leaves of at least a half count as solved.
        reference: [E, Y] chance that the reference ends there.
        temperature: [E] of the preferences: y is preferred to z with chance sigmoid((G(y) - G(z)) / temperature).
        features: [E] each, by name: what the environments were drawn with.
    """

    arms: int
    depth: int
    score: Floats
    reference: Floats
    temperature: Floats
    features: dict[str, Floats]

    @property
    def utility(self) -> Floats:
        """[E, Y] u* = G / temperature."""
        return self.score / self.temperature[:, None]

    @property
    def most(self) -> Floats:
        """[E] U, the largest utility that the class of policies allows."""
        return 1 / self.temperature


def draw_worlds(arms: int, depth: int, count: int, rng: np.random.Generator) -> Worlds:
    """Random environments: how rare success is, how graded failures are, and how good the reference is all vary."""
    leaves = arms**depth
    solvable = np.exp(rng.uniform(np.log(0.04), np.log(0.5), count))
    credit, spread = rng.uniform(0, 1, count), rng.uniform(0, 1, count)
    skill, sharpness = rng.uniform(-0.5, 1.5, count), rng.uniform(0.3, 2.0, count)
    temperature = np.exp(rng.uniform(np.log(0.1), np.log(1.0), count))
    # Every edge adds to the merit of the leaves below it, so what leads to one good leaf tends to lead to others.
    merit = np.zeros((count, leaves))
    logits = np.zeros((count, leaves))
    noise = []
    for level in range(1, depth + 1):
        below = leaves // arms**level
        merit += np.repeat(rng.normal(size=(count, arms**level)), below, axis=1)
        noise.append(rng.normal(size=(count, arms**level)))
    merit += 0.5 * rng.normal(size=merit.shape)
    rank = merit.argsort(1).argsort(1) / (leaves - 1)
    solved = rank >= 1 - np.maximum(solvable, 0.5 / (leaves - 1))[:, None]
    lowest = np.where(solved, rank, np.inf).min(1, keepdims=True)
    within = np.where(solved, (rank - lowest) / np.maximum(1 - lowest, 1e-9), rank / np.maximum(lowest, 1e-9))
    score = np.where(solved, 1 - 0.5 * spread[:, None] * (1 - within), 0.5 * credit[:, None] * within)
    # The reference is a softmax at every node, of how good the children are (as far as it is skilled) and of chance.
    for level, chance in enumerate(noise, start=1):
        worth = rank.reshape(count, arms**level, -1).mean(2)
        raw = 3 * skill[:, None] * worth + sharpness[:, None] * chance
        raw = raw.reshape(count, -1, arms)
        raw -= np.log(np.exp(raw).sum(2, keepdims=True))
        logits += np.repeat(raw.reshape(count, -1), leaves // arms**level, axis=1)
    reference = np.exp(logits)
    reference /= reference.sum(1, keepdims=True)
    features = {
        "solvable": solved.mean(1),
        "solve rate": (reference * solved).sum(1),
        "credit": credit,
        "spread": spread,
        "skill": skill,
        "sharpness": sharpness,
        "temperature": temperature,
        "reference's return": (reference * score).sum(1),
    }
    return Worlds(arms, depth, score, reference, temperature, features)


@dataclass(frozen=True, eq=False)
class Weights:
    """What a loss is made of.

    Attributes:
        dpo, beta: of DPO, and its inverse temperature.
        kl: of KL(pi || reference) over whole episodes, that is, summed over their steps; one number, or [E].
        nll: [E, depth, Y] of -log pi(leaf | its node of this level), summed over the steps from that node on; at level
            0 that is the whole episode. None for no such term.
    """

    dpo: float = 1.0
    beta: float = 0.1
    kl: float | Floats = 0.0
    nll: Floats | None = None

    def of(self, some: Ints | NDArray[np.bool_]) -> Weights:
        """Those of some of the environments."""
        kl = self.kl[some] if isinstance(self.kl, np.ndarray) else self.kl
        return replace(self, kl=kl, nll=None if self.nll is None else self.nll[some])


def whole(won: Floats, depth: int) -> Floats:
    """[E, depth, Y] how often leaves are chosen, where each pair is of whole episodes, trained from the root on."""
    chosen = np.zeros((len(won), depth, won.shape[1]))
    chosen[:, 0] = won.sum(2)
    return chosen


def sums(values: Floats, nodes: int) -> Floats:
    """[E, Y] for each leaf the sum of the `values` [E, Y] of all leaves below its node, at a level of so many nodes."""
    below = values.reshape(len(values), nodes, -1).sum(2)
    return np.repeat(below, values.shape[1] // nodes, axis=1)


def stepwise(wanted: Floats, reference: Floats, arms: int) -> Floats:
    """[E, Y] the policy that at a node of each level acts as often in each way as `wanted` [E, depth, Y] below it says.

    At nodes with nothing below them it acts as the reference does: a training that never looks there leaves it so.
    """
    pi = np.ones_like(reference)
    for level in range(wanted.shape[1]):
        own = [sums(wanted[:, level], arms**step) for step in (level, level + 1)]
        theirs = [sums(reference, arms**step) for step in (level, level + 1)]
        pi *= np.where(own[0] > 0, own[1] / np.where(own[0] > 0, own[0], 1), theirs[1] / theirs[0])
    return pi


def imitation(chosen: Floats, reference: Floats, arms: int) -> Floats:
    """[E, Y] what maximises the likelihood of chosen sides alone: each step as often as chosen after a fork."""
    return stepwise(chosen.cumsum(1), reference, arms)


def as_trained(pi: Floats, chosen: Floats, reference: Floats, arms: int) -> Floats:
    """[E, Y] the policy that acts as `pi` where chosen sides are trained, and as the reference at other nodes.

    Nodes on rejected sides alone are reached only by what an anchored minimiser never does, so they do not matter.
    """
    trained = chosen.cumsum(1)
    here = [sums(trained[:, level], arms**level) > 0 for level in range(chosen.shape[1])]
    return stepwise(np.where(np.stack(here, 1), pi[:, None], 0.0), reference, arms)


def policy(utility: Floats, reference: Floats, beta: float) -> Floats:
    """[E, Y] the reference tilted by exp(utility / beta)."""
    logits = np.log(reference) + utility / beta
    logits -= logits.max(1, keepdims=True)
    weight = np.exp(logits)
    return weight / weight.sum(1, keepdims=True)


def divergence(one: Floats, other: Floats) -> Floats:
    """[E] KL(one || other); infinite where `other` does not cover `one`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(one > 0, one * np.log(one / other), 0.0)
    return terms.sum(1)


def loss_of(utility: Floats, won: Floats, reference: Floats, weights: Weights) -> Floats:
    """[E] the loss of the policies with these implicit rewards, [E, Y] `utility`.

    Args:
        utility: [E, Y] beta log(pi / reference), up to a constant.
        won: [E, Y, Y] share of the pairs in which the first leaf was chosen over the second.
        reference: [E, Y].
        weights: of the parts.
    """
    margin = utility[:, :, None] - utility[:, None, :]
    # What pairs cost: log(1 + exp(-margin)), written so that it does not overflow.
    loss = weights.dpo * (won * np.logaddexp(0, -margin)).sum((1, 2))
    pi = policy(utility, reference, weights.beta)
    if np.any(weights.kl):
        loss = loss + weights.kl * divergence(pi, reference)
    for level, nodes in _levels(weights):
        within = np.maximum(pi / sums(pi, nodes), 1e-300)
        loss = loss - (weights.nll[:, level] * np.log(within)).sum(1)
    return loss


def _levels(weights: Weights) -> list[tuple[int, int]]:
    """The levels from which chosen sides are trained, and how many nodes each has."""
    if weights.nll is None:
        return []
    _, depth, leaves = weights.nll.shape
    return [(level, round(leaves ** (level / depth))) for level in range(depth) if weights.nll[:, level].any()]


def minimise(
    won: Floats, reference: Floats, most: Floats, weights: Weights, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """The minimiser over utilities in [0, most], by projected Newton steps from the reference.

    A minimiser exists because utilities are bounded: where labels never contradict, DPO alone falls for ever.

    Args:
        won: [E, Y, Y] share of the pairs in which the first leaf was chosen over the second; all 0 without a pair.
        reference: [E, Y].
        most: [E] U.
        weights: of the loss.
        start: [E, Y] utilities to begin with; half of `most`, which is the reference, by default.

    Returns:
        [E, Y] utilities, and [E] the largest part of the gradient that is left within the bounds.
    """
    most = np.broadcast_to(most[:, None], reference.shape)
    found = most / 2 if start is None else start.copy()
    left = np.full(len(found), np.inf)
    live = np.arange(len(found))
    for _ in range(400):
        here = weights.of(live)
        u, w, ref, top = found[live], won[live], reference[live], most[live]
        gradient, hessian = _slope(u, w, ref, here)
        left[live] = np.abs(u - np.clip(u - gradient, 0, top)).max(1)
        go = left[live] > 1e-8
        if not go.any():
            break
        live, u, w, ref, top = live[go], u[go], w[go], ref[go], top[go]
        found[live], moved = _step(u, gradient[go], hessian[go], w, ref, top, weights.of(live))
        live = live[moved]
        if not len(live):
            break
    return found, left


def lowest(won: Floats, worlds: Worlds, weights: Weights) -> tuple[Floats, Floats, Floats]:
    """The lowest minimum that is found, and what a descent from the reference finds.

    With the KL the loss has many minima, so a single descent is not enough. Descents start at the reference, at the
    true utilities (so that the result is never above them, as (5) asks) and at the minimiser without the KL. From the
    lowest of their ends single leaves jump to another utility, for as long as that finds a lower one.

    Returns:
        [E, Y] utilities; [E] what is left of their gradient; [E, Y] where the descent from the reference ends.
    """
    settings = worlds.reference, worlds.most, weights
    first, left = minimise(won, *settings)
    if not np.any(weights.kl):
        return first, left, first
    free, _ = minimise(won, worlds.reference, worlds.most, replace(weights, kl=0.0))
    found, least = first, loss_of(first, won, worlds.reference, weights)
    starts, jumps = [worlds.utility, free], 0
    while starts and jumps < 30:
        tried, slope = minimise(won, *settings, start=starts.pop(0))
        loss = loss_of(tried, won, worlds.reference, weights)
        lower = loss < least - 1e-10
        found, least = np.where(lower[:, None], tried, found), np.where(lower, loss, least)
        left = np.where(lower, slope, left)
        if not starts and (lower.any() or not jumps):
            starts, jumps = [_jump(found, won, *settings)], jumps + 1
    return found, left, first


def _jump(u: Floats, won: Floats, reference: Floats, most: Floats, weights: Weights) -> Floats:
    """[E, Y] the utilities with one leaf of each environment moved to where that lowers the loss most."""
    places = most[:, None] * np.linspace(0, 1, 9)  # [E, K]

    def cost(own: Floats) -> Floats:
        """[E, Y, K] what the pairs of each leaf cost where its utility is `own` [E, Y, K]."""
        margin = own[..., None] - u[:, None, None, :]
        as_first = won[:, :, None, :] * np.logaddexp(0, -margin)
        return (as_first + won.transpose(0, 2, 1)[:, :, None, :] * np.logaddexp(0, margin)).sum(3)

    own, moved = u[:, :, None], np.broadcast_to(places[:, None, :], (*u.shape, places.shape[1]))
    change = weights.dpo * (cost(moved) - cost(own))
    # The KL is the mean utility over beta, less the logarithm of the normaliser; one leaf changes both by a term.
    mass, mass_moved = (reference[:, :, None] * np.exp((v - most[:, None, None]) / weights.beta) for v in (own, moved))
    total, sum_ = mass.sum(1, keepdims=True), (mass * own).sum(1, keepdims=True)
    after = np.maximum(total - mass + mass_moved, 1e-300)
    mean, mean_after = sum_ / total, (sum_ - mass * own + mass_moved * moved) / after
    kl = np.broadcast_to(np.asarray(weights.kl, float), len(u))[:, None, None]
    change = change + kl * ((mean_after - mean) / weights.beta - np.log(after / total))
    flat = change.reshape(len(u), -1)
    leaf, place = np.divmod(flat.argmin(1), places.shape[1])
    rows = np.flatnonzero(flat.min(1) < -1e-9)
    result = u.copy()
    result[rows, leaf[rows]] = places[rows, place[rows]]
    return result


def _step(
    u: Floats, gradient: Floats, hessian: Floats, won: Floats, reference: Floats, top: Floats, weights: Weights
) -> tuple[Floats, NDArray[np.bool_]]:
    """One projected Newton step (Bertsekas 1982).

    Utilities close to a bound that the slope presses on go to that bound, and the others take a Newton step without
    them; how close, falls with the slope. Where rounding leaves no such step that descends, the slope is followed.
    """
    near = np.minimum(np.abs(u - np.clip(u - gradient, 0, top)).max(1, keepdims=True), 1e-3 * top)
    low, high = (u <= near) & (gradient > 0), (u >= top - near) & (gradient < 0)
    held = low | high
    eye = np.eye(u.shape[1])
    system = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    system += eye * np.where(held, 1.0, 1e-10 + 1e-9 * np.abs(np.einsum("eyy->ey", hessian)))[:, :, None]
    newton = np.linalg.solve(system, np.where(held, 0.0, gradient)[..., None])[..., 0]
    now = loss_of(u, won, reference, weights)
    found, open_ = u.copy(), np.ones(len(u), bool)
    for direction in (np.where(low, u, np.where(high, u - top, newton)), gradient):
        size = np.ones(len(u))
        for _ in range(40):
            tried = np.clip(u - size[:, None] * direction, 0, top)
            fall = (gradient * (u - tried)).sum(1)
            enough = open_ & (fall > 0) & (loss_of(tried, won, reference, weights) <= now - 1e-4 * fall)
            found[enough] = tried[enough]
            open_ &= ~enough
            if not open_.any():
                break
            size = np.where(open_, size / 2, size)
    return found, ~open_


def _slope(u: Floats, won: Floats, reference: Floats, weights: Weights) -> tuple[Floats, Floats]:
    """[E, Y] the gradient of the loss and [E, Y, Y] its Hessian, of which only what curves upwards is kept for KL."""
    beta, pi = weights.beta, policy(u, reference, weights.beta)
    missed = 0.5 * (1 - np.tanh((u[:, :, None] - u[:, None, :]) / 2))  # sigmoid(-margin)
    pull = weights.dpo * won * missed
    gradient = pull.sum(1) - pull.sum(2)
    curve = pull * (1 - missed)
    curve = curve + curve.transpose(0, 2, 1)
    hessian = np.eye(u.shape[1]) * curve.sum(2)[:, :, None] - curve
    centred = (u - (pi * u).sum(1, keepdims=True)) / beta
    kl = np.broadcast_to(np.asarray(weights.kl, float), len(u))[:, None]
    gradient = gradient + kl * pi * centred / beta
    hessian = hessian + _curve(kl * pi * np.maximum(1 + centred, 0.1) / beta**2, 1)
    for level, nodes in _levels(weights):
        chosen = weights.nll[:, level]
        expected = sums(chosen, nodes) * pi / sums(pi, nodes)
        gradient = gradient + (expected - chosen) / beta
        hessian = hessian + _curve(expected / beta**2, nodes)
    return gradient, hessian


def _curve(mass: Floats, nodes: int) -> Floats:
    """[E, Y, Y] how the logarithm of the normaliser curves, in each node of a level by itself: its variance."""
    size = mass.shape[1] // nodes
    same = np.kron(np.eye(nodes), np.ones((size, size)))
    total = np.maximum(sums(mass, nodes), 1e-300)
    return np.eye(mass.shape[1]) * mass[:, :, None] - same * mass[:, :, None] * (mass / total)[:, None, :]


def pair_chances(reference: Floats) -> Floats:
    """[E, Y, Y] how likely two independent episodes of the reference that differ are these two."""
    both = reference[:, :, None] * reference[:, None, :]
    np.einsum("eyy->ey", both)[:] = 0
    return both / both.sum((1, 2), keepdims=True)


def draw_pairs(worlds: Worlds, pairs: int, rng: np.random.Generator) -> Floats:
    """[E, Y, Y] shares of `pairs` independent pairs with labels by Bradley and Terry: first leaf over second."""
    chances = pair_chances(worlds.reference)
    drawn = rng.multinomial(pairs, chances.reshape(len(chances), -1)).reshape(chances.shape)
    u = worlds.utility
    wins = rng.binomial(drawn, 0.5 * (1 + np.tanh((u[:, :, None] - u[:, None, :]) / 2)))
    return (wins + (drawn - wins).transpose(0, 2, 1)) / max(pairs, 1)
