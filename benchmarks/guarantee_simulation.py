"""The exact minimisers of five losses in random tree environments where everything is known.

Part one draws N independent pairs with labels by Bradley and Terry and follows the regret as N grows: its rate, how
loose the bound is, how large the theorem's constant must be. Part two draws runs, makes pairs of them as trajtree does,
at forks or at random, with the runs that failed or without them, and with labels that are right, as trajtree's always
are, or noisy: in which environments do failures help? As in training, the likelihood of a chosen side counts from its
pair's fork on.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from benchmarks.tabular import (
    SHAPES,
    Floats,
    Weights,
    Worlds,
    as_trained,
    divergence,
    draw_pairs,
    draw_worlds,
    imitation,
    lowest,
    minimise,
    pair_chances,
    policy,
    whole,
)

from trajtree.statistics.guarantee import utility_error
from trajtree.trajectory import Outcome, Sampling, Step, Trajectory
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.merge import build_tree

BETA, KL_WEIGHT, DELTA = 0.1, 0.1, 0.05
PAIRS = (4, 16, 64, 256, 1024, 4096)
RUNS = (6, 24)
SOLVED = 0.5
"""The score from which on an episode counts as solved."""
DATA = {"forks": "every", "random": "matched", "forks, no failures": "every"}
"""What pairs are made of, and trajtree's mode for it."""
MIN_GAP, PER_TREE = 0.1, 64
"""Of the pairs made from runs. trajtree's default is at most 8 per tree, which few of these trees reach."""
IMITATED = ("imitate what solved", "imitate the best run")
RIGHT, NOISY = "right", "noisy"
LABELS = (RIGHT, NOISY)
"""Of the pairs made from runs: the better side is chosen, as trajtree does, or is so by Bradley and Terry."""
CHUNK = 25
"""Environments of one task of a process."""

FIXED, FALLING, ANCHORED = "DPO + .1 KL", "DPO + falling KL", "anchored DPO"
CHOSEN, CHOSEN_RUNS = "chosen sides alone", "chosen sides' whole runs"
LOSSES = (FIXED, FALLING, ANCHORED, CHOSEN)
"""The paper's loss, the same with the weight that the derivation asks for, ours, and its control."""
LOSSES_ON_RUNS = (*LOSSES, CHOSEN_RUNS)
"""On pairs at forks the control can also imitate the whole runs that chosen sides belong to."""
ANCHOR = 0.5
FREE = 20.0
"""The largest utility with an anchor, which needs no bound to have a minimiser: exp(FREE / BETA) is past counting."""


def anchor(chosen: Floats) -> Floats:
    """[E, depth, Y] weights of anchored DPO: a mean over the steps (one token each) from the fork on."""
    depth = chosen.shape[1]
    return ANCHOR * chosen / (depth - np.arange(depth))[:, None]


def learned(loss: str, won: Floats, chosen: Floats, pairs: int, worlds: Worlds) -> tuple[Floats, Floats | None, Floats]:
    """What minimises the loss: the policy [E, Y], its utilities where it has them, and what a descent finds [E, Y].

    The descent starts at the reference, as training does. Where nothing is learned, the reference stays: everywhere
    without a pair, and with losses that count from the fork on, at nodes that no chosen side passes after a fork.

    Args:
        loss: its name.
        won: [E, Y, Y] share of the pairs in which the first leaf was chosen over the second.
        chosen: [E, depth, Y] share of the pairs in which a leaf was chosen, by the level of the pair's fork.
        pairs: their number.
        worlds: the environments.
    """
    ref, arms = worlds.reference, worlds.arms
    if loss in (CHOSEN, CHOSEN_RUNS):
        pi = imitation(chosen if loss == CHOSEN else whole(won, worlds.depth), ref, arms)
        return pi, None, pi
    if loss == ANCHORED:
        utility, left = minimise(won, ref, np.full(len(ref), FREE), Weights(beta=BETA, nll=anchor(chosen)))
        pi = reached = as_trained(policy(utility, ref, BETA), chosen, ref, arms)
    else:
        weight = KL_WEIGHT if loss == FIXED else 1 / max(pairs, 1)
        utility, left, first = lowest(won, worlds, Weights(beta=BETA, kl=weight))
        pi, reached = (policy(u, ref, BETA) for u in (utility, first))
    if left.max() > 1e-4:
        raise RuntimeError(f"{loss}, {pairs} pairs: a descent did not reach its minimum, {left.max():.1e} is left")
    return pi, utility, reached


def follow_pairs(worlds: Worlds, rng: np.random.Generator) -> dict[str, Floats]:
    """[E] figures by `pairs/loss/figure`: what N independent pairs teach, and the terms of the bound."""
    ref, true = worlds.reference, worlds.utility
    rows = np.arange(len(ref))
    best = worlds.score.argmax(1)
    ideal = policy(true, ref, BETA)
    kl_best, kl_ideal = -np.log(ref[rows, best]), divergence(ideal, ref)
    top, chances = worlds.score.max(1), pair_chances(ref)
    found = {"best": top, "KL of the best": kl_best, "ideal's regret": top - (ideal * worlds.score).sum(1)}
    solving = ref * (worlds.score >= SOLVED)
    found["regret of what solves"] = top - (solving * worlds.score).sum(1) / solving.sum(1)
    for pairs in PAIRS:
        won = draw_pairs(worlds, pairs, rng)
        for loss in LOSSES:
            pi, utility, reached = learned(loss, won, whole(won, worlds.depth), pairs, worlds)
            regret = top - (pi * worlds.score).sum(1)
            gap = BETA * divergence(pi, ideal)  # J of the ideal less J of what was learned: (4)
            root = np.sqrt((kl_best + np.log(pairs / DELTA)) / pairs)
            stuck = np.abs(pi - reached).max(1) > 1e-3
            figures = {"regret": regret, "gap": gap, "constant": regret / root, "stuck": stuck}
            figures["regret of a descent"] = top - (reached * worlds.score).sum(1)
            if loss in (FIXED, FALLING):
                assert utility is not None
                error = utility - true
                apart = (error[:, :, None] - error[:, None, :]) ** 2
                rms = np.sqrt((chances * apart).sum((1, 2)))
                cover = coverage(ideal, pi, chances)
                certain = utility_error(
                    pairs=pairs,
                    leaves=ref.shape[1],
                    most=worlds.most,
                    weight=KL_WEIGHT if loss == FIXED else 1 / pairs,
                    kl=kl_ideal,
                    delta=DELTA,
                )
                at_best = np.zeros_like(ref)
                at_best[rows, best] = 1
                bound = np.sqrt(coverage(at_best, pi, chances)) * certain + BETA * kl_best
                figures |= {
                    "rms": rms,
                    "rms bound": certain,
                    "coverage": cover,
                    "gap bound": np.sqrt(cover) * certain,
                    "gap by rms": np.sqrt(cover) * rms,
                    "regret bound": worlds.temperature * bound,
                }
            found |= {f"{pairs}/{loss}/{name}": value for name, value in figures.items()}
    return found


def coverage(wanted: Floats, learned: Floats, chances: Floats) -> Floats:
    """[E] how much likelier two episodes of these policies are, at most, than as a pair of the data: (13)."""
    both = wanted[:, :, None] * learned[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(both > 0, both / chances, 0.0)
    np.einsum("eyy->ey", ratio)[:] = 0  # an episode against itself weighs nothing
    return ratio.max((1, 2))


def follow_runs(worlds: Worlds, rng: np.random.Generator) -> dict[str, Floats]:
    """[E] returns by `runs/data/labels/loss`: what pairs of so many runs teach, with failures or without."""
    found = {}
    for runs in RUNS:
        drawn = [rng.choice(len(r), runs, p=r) for r in worlds.reference]
        solved = [leaves[worlds.score[e, leaves] >= SOLVED] for e, leaves in enumerate(drawn)]
        for data, mode in DATA.items():
            kept = solved if data == "forks, no failures" else drawn
            made = [pairs_of_leaves(worlds, e, kept[e], mode, rng) for e in range(len(drawn))]
            number = np.array([len(pairs.sides) for pairs in made])
            found[f"{runs}/{data}/pairs"] = number.astype(float)
            found[f"{runs}/{data}/flipped"] = np.array([float(pairs.flipped.sum()) for pairs in made])
            for labels in LABELS:
                won, chosen = (np.array(x) for x in zip(*(pairs.shares(labels, worlds) for pairs in made), strict=True))
                for loss in LOSSES_ON_RUNS:
                    found[f"{runs}/{data}/{labels}/{loss}"] = _returns(loss, won, chosen, number, worlds)
        found[f"solved of {runs}"] = np.array([float(len(leaves)) for leaves in solved])
        for name, leaves in zip(IMITATED, (solved, _best(worlds, drawn)), strict=True):
            counted = np.array([np.bincount(some, minlength=worlds.score.shape[1]) for some in leaves], float)
            shares = np.where(counted.any(1)[:, None], counted, worlds.reference)
            shares /= shares.sum(1, keepdims=True)
            found[f"{runs}/runs/{name}"] = (shares * worlds.score).sum(1)
    return found


def _returns(loss: str, won: Floats, chosen: Floats, number: np.ndarray, worlds: Worlds) -> Floats:
    """[E] returns; the weight of the KL depends on the number of pairs, so those with as many go together."""
    result = np.zeros(len(won))
    for pairs in np.unique(number) if loss == FALLING else [0]:
        here = number == pairs if loss == FALLING else np.ones(len(won), bool)
        some = Worlds(
            worlds.arms, worlds.depth, worlds.score[here], worlds.reference[here], worlds.temperature[here], {}
        )
        pi, _, _ = learned(loss, won[here], chosen[here], int(pairs), some)
        result[here] = (pi * some.score).sum(1)
    return result


def _best(worlds: Worlds, drawn: list[np.ndarray]) -> list[np.ndarray]:
    return [leaves[[worlds.score[e, leaves].argmax()]] for e, leaves in enumerate(drawn)]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs that trajtree makes of an environment's runs.

    Attributes:
        sides: [P, 2] leaves, the better side first.
        level: [P] of their fork; 0 for pairs of whole runs.
        flipped: [P] which labels noise flips: Bradley's and Terry's, from the values of the two options.
    """

    sides: np.ndarray
    level: np.ndarray
    flipped: np.ndarray

    def shares(self, labels: str, worlds: Worlds) -> tuple[Floats, Floats]:
        """[Y, Y] share of the pairs in which the first leaf was chosen over the second; [depth, Y] chosen, by level."""
        size = worlds.score.shape[1]
        won, at = np.zeros((size, size)), np.zeros((worlds.depth, size))
        swapped = self.flipped & (labels == NOISY)
        chosen, rejected = np.where(swapped[:, None], self.sides[:, ::-1], self.sides).T
        np.add.at(won, (chosen, rejected), 1)
        np.add.at(at, (self.level, chosen), 1)
        return won / max(len(self.sides), 1), at / max(len(self.sides), 1)


def pairs_of_leaves(worlds: Worlds, index: int, leaves: np.ndarray, mode: str, rng: np.random.Generator) -> Pairs:
    """The pairs that trajtree makes, in a mode, of the runs [M] of an environment that end at these leaves."""
    if len(leaves) < 2:
        return Pairs(np.zeros((0, 2), int), np.zeros(0, int), np.zeros(0, bool))
    tree = build_tree([_run(worlds, index, int(leaf), n) for n, leaf in enumerate(leaves)])
    pairs = pairs_of(tree, PairSettings(mode=mode, min_gap=MIN_GAP, per_tree=PER_TREE))
    sides = np.array([leaves[[p.chosen_sample, p.rejected_sample]] for p in pairs], int).reshape(-1, 2)
    right = 1 / (1 + np.exp(-np.array([p.gap for p in pairs]) / worlds.temperature[index]))
    return Pairs(sides, np.array([p.depth for p in pairs], int), rng.random(len(pairs)) > right)


def _run(worlds: Worlds, index: int, leaf: int, sample: int) -> Trajectory:
    """The episode that ends at a leaf."""
    names = [str(leaf // worlds.arms ** (worlds.depth - level)) for level in range(worlds.depth + 1)]
    steps = tuple(Step(seen, done) for seen, done in pairwise(names))
    score = float(worlds.score[index, leaf])
    return Trajectory(
        "tabular", sample, "reference", "tabular", "1", 0, Sampling(), (), steps, score, Outcome.COMPLETED
    )


def chunk(task: tuple[int, int, int]) -> dict[str, Floats]:
    """[E] all figures of `count` environments: (seed, number of the chunk, count)."""
    seed, number, count = task
    rng = np.random.default_rng([seed, number])
    worlds = draw_worlds(*SHAPES[number % len(SHAPES)], count, rng)
    start = time.process_time()
    found = worlds.features | follow_pairs(worlds, rng) | follow_runs(worlds, rng)
    return found | {"CPU seconds": np.full(count, (time.process_time() - start) / count)}


def measure(environments: int, seed: int, processes: int) -> dict[str, Floats]:
    """[E] all figures of so many environments."""
    sizes = [min(CHUNK, environments - first) for first in range(0, environments, CHUNK)]
    tasks = [(seed, number, size) for number, size in enumerate(sizes)]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(chunk, tasks))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
