"""The guarantee where everything is known: random tree environments, and the exact minimisers of three losses.

    python -m benchmarks.guarantee --out benchmarks/results/guarantee.json --plot docs/guarantee.svg
    python -m benchmarks.guarantee --out benchmarks/results/guarantee.json --table

Part one draws N independent pairs with labels by Bradley and Terry and follows the regret as N grows: its rate, how
loose the bound is, how large the theorem's constant must be. Part two draws runs, makes pairs of them as trajtree does,
at forks or at random, with the runs that failed or without them, and with labels that are right, as trajtree's always
are, or noisy: in which environments do failures help?
docs/theory.md has the derivation, and says what came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from benchmarks.tabular import (
    SHAPES,
    Floats,
    Weights,
    Worlds,
    divergence,
    draw_pairs,
    draw_worlds,
    lowest,
    pair_chances,
    policy,
)

from trajtree.statistics.guarantee import least_constant, utility_error
from trajtree.trajectory import Outcome, Sampling, Step, Trajectory
from trajtree.trees.forks import PairSettings, pairs_of
from trajtree.trees.merge import build_tree

BETA, DELTA = 0.1, 0.05
PAIRS = (4, 16, 64, 256, 1024, 4096)
RUNS = (6, 24)
SOLVED = 0.5
"""The score from which on an episode counts as solved."""
DATA = {"forks": "every", "random": "matched", "forks, no failures": "every"}
"""What pairs are made of, and trajtree's mode for it."""
IMITATED = ("imitate what solved", "imitate the best run")
RIGHT, NOISY = "right", "noisy"
LABELS = (RIGHT, NOISY)
"""Of the pairs made from runs: the better side is chosen, as trajtree does, or is so by Bradley and Terry."""
CHUNK = 25
"""Environments of one task of a process."""

FIXED, FALLING, ANCHORED, CHOSEN = "DPO + .1 KL", "DPO + falling KL", "anchored DPO", "chosen sides alone"
LOSSES = (FIXED, FALLING, ANCHORED, CHOSEN)
"""The paper's loss, the same with the weight that the derivation asks for, ours, and its control."""


def weights_of(loss: str, pairs: int, depth: int) -> Weights:
    """What a loss is made of; the anchor of .5 is a mean over an episode's steps, each of which is one token here."""
    return {
        FIXED: Weights(beta=BETA, kl=0.1),
        FALLING: Weights(beta=BETA, kl=1 / max(pairs, 1)),
        ANCHORED: Weights(beta=BETA, nll=0.5 / depth),
    }[loss]


def learned(loss: str, won: Floats, pairs: int, worlds: Worlds) -> tuple[Floats, Floats | None, Floats]:
    """What minimises the loss: the policy [E, Y], its utilities where it has them, and what a descent finds [E, Y].

    The descent starts at the reference, as training does. Without any pair, what is learned is the reference.
    """
    if loss == CHOSEN:
        pi = np.where(won.any((1, 2))[:, None], won.sum(2), worlds.reference)
        return pi, None, pi
    utility, left, first = lowest(won, worlds, weights_of(loss, pairs, worlds.depth))
    if left.max() > 1e-4:
        raise RuntimeError(f"{loss}, {pairs} pairs: a descent did not reach its minimum, {left.max():.1e} is left")
    return policy(utility, worlds.reference, BETA), utility, policy(first, worlds.reference, BETA)


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
            pi, utility, reached = learned(loss, won, pairs, worlds)
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
                    weight=0.1 if loss == FIXED else 1 / pairs,
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
            made = [_pairs_of(worlds, e, kept[e], mode, rng) for e in range(len(drawn))]
            number = np.array([len(sides) for sides, _ in made])
            found[f"{runs}/{data}/pairs"] = number.astype(float)
            found[f"{runs}/{data}/flipped"] = np.array([float(flipped.sum()) for _, flipped in made])
            for labels in LABELS:
                won = np.array([_won(sides, flipped & (labels == NOISY), worlds) for sides, flipped in made])
                for loss in LOSSES:
                    found[f"{runs}/{data}/{labels}/{loss}"] = _returns(loss, won, number, worlds)
        found[f"solved of {runs}"] = np.array([float(len(leaves)) for leaves in solved])
        for name, leaves in zip(IMITATED, (solved, _best(worlds, drawn)), strict=True):
            counted = np.array([np.bincount(some, minlength=worlds.score.shape[1]) for some in leaves], float)
            shares = np.where(counted.any(1)[:, None], counted, worlds.reference)
            shares /= shares.sum(1, keepdims=True)
            found[f"{runs}/runs/{name}"] = (shares * worlds.score).sum(1)
    return found


def _returns(loss: str, won: Floats, number: np.ndarray, worlds: Worlds) -> Floats:
    """[E] returns; the weight of the KL depends on the number of pairs, so those with as many go together."""
    result = np.zeros(len(won))
    for pairs in np.unique(number) if loss == FALLING else [0]:
        here = number == pairs if loss == FALLING else np.ones(len(won), bool)
        some = Worlds(
            worlds.arms, worlds.depth, worlds.score[here], worlds.reference[here], worlds.temperature[here], {}
        )
        pi, _, _ = learned(loss, won[here], int(pairs), some)
        result[here] = (pi * some.score).sum(1)
    return result


def _best(worlds: Worlds, drawn: list[np.ndarray]) -> list[np.ndarray]:
    return [leaves[[worlds.score[e, leaves].argmax()]] for e, leaves in enumerate(drawn)]


def _pairs_of(
    worlds: Worlds, index: int, leaves: np.ndarray, mode: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that trajtree makes of these runs: [P, 2] leaves, the better side first; [P] which labels noise flips.

    Noise is Bradley and Terry's, from the values of the two options.
    """
    if len(leaves) < 2:
        return np.zeros((0, 2), int), np.zeros(0, bool)
    tree = build_tree([_run(worlds, index, int(leaf), n) for n, leaf in enumerate(leaves)])
    pairs = pairs_of(tree, PairSettings(mode=mode, per_tree=64))
    sides = np.array([leaves[[p.chosen_sample, p.rejected_sample]] for p in pairs], int).reshape(-1, 2)
    right = 1 / (1 + np.exp(-np.array([p.gap for p in pairs]) / worlds.temperature[index]))
    return sides, rng.random(len(pairs)) > right


def _won(sides: np.ndarray, swapped: np.ndarray, worlds: Worlds) -> Floats:
    """[Y, Y] share of the pairs in which the first leaf was chosen over the second."""
    size = worlds.score.shape[1]
    won = np.zeros((size, size))
    chosen, rejected = np.where(swapped[:, None], sides[:, ::-1], sides).T
    np.add.at(won, (chosen, rejected), 1)
    return won / max(len(sides), 1)


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


FEATURES = ("solve rate", "solvable", "credit", "spread", "skill", "sharpness", "temperature")


def summarise(found: dict[str, Floats]) -> dict:
    """What the figures say over all environments."""
    learning = []
    for pairs in PAIRS:
        for loss in LOSSES:
            of = {name: found[key] for name in _FIGURES if (key := f"{pairs}/{loss}/{name}") in found}
            row = {"pairs": pairs, "loss": loss, "regret": _mean(of["regret"])}
            # A chosen side alone may rule out what the ideal does, so only the mean of the others' gap is finite.
            row["violated, C = 1"] = float((of["constant"] > 1).mean())
            row["C, 95%"], row["C, most"] = float(np.quantile(of["constant"], 0.95)), float(of["constant"].max())
            if "rms" in of:
                row |= {
                    "gap": _mean(of["gap"]),
                    "rms": float(of["rms"].mean()),
                    "loose: all": float(np.median(of["gap bound"] / of["gap"])),
                    "loose: error": float(np.median(of["rms bound"] / of["rms"])),
                    "loose: coverage": float(np.median(of["gap by rms"] / of["gap"])),
                    "bound violated": int(
                        sum((of[one] > of[f"{one} bound"]).sum() for one in ("gap", "rms", "regret"))
                    ),
                    "bound below 1": float((of["regret bound"] < 1).mean()),
                    "stuck": float(of["stuck"].mean()),
                    "regret of a descent": _mean(of["regret of a descent"]),
                }
            learning.append(row)
    return {
        "reference's return": _mean(found["reference's return"]),
        "reference's regret": _mean(found["reference's return"], minus=found["best"]),
        "ideal's regret": _mean(found["ideal's regret"]),
        "regret of what solves": _mean(found["regret of what solves"]),
        "rate": {loss: _rate(found, loss) for loss in (FIXED, FALLING)},
        "learning": learning,
        "constants": _constants(found),
        "runs": [
            {"runs": runs, "data": data, "labels": labels, "loss": loss, "return": _mean(found[key])}
            for runs in RUNS
            for data in DATA
            for labels in LABELS
            for loss in LOSSES
            for key in [f"{runs}/{data}/{labels}/{loss}"]
        ],
        "imitated": [
            {"runs": runs, "data": data, "return": _mean(found[f"{runs}/runs/{data}"])}
            for runs in RUNS
            for data in IMITATED
        ],
        "pairs": {key.removesuffix("/pairs"): float(found[key].mean()) for key in found if key.endswith("/pairs")},
        "flipped by noise": {
            f"{runs}/{data}": float(found[f"{runs}/{data}/flipped"].sum() / found[f"{runs}/{data}/pairs"].sum())
            for runs in RUNS
            for data in DATA
        },
        "forks over random": [
            {
                "runs": runs,
                "labels": labels,
                "loss": loss,
                "gained": _mean(found[f"{runs}/forks/{labels}/{loss}"] - found[f"{runs}/random/{labels}/{loss}"]),
            }
            for runs in RUNS
            for labels in LABELS
            for loss in LOSSES
        ],
        "anchored over chosen alone": [
            {"runs": runs, "labels": labels, "gained": _mean(rejected)}
            for runs in RUNS
            for labels in LABELS
            for of in [f"{runs}/forks/{labels}"]
            for rejected in [found[f"{of}/{ANCHORED}"] - found[f"{of}/{CHOSEN}"]]
        ],
        "failures": _failures(found),
    }


_FIGURES = (
    *("regret", "gap", "constant", "stuck", "rms", "rms bound"),
    *("coverage", "gap bound", "gap by rms", "regret bound", "regret of a descent"),
)


def _mean(values: Floats, *, minus: Floats | None = None) -> list[float]:
    """Mean over the environments, and its standard error."""
    values = values if minus is None else minus - values
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]


def _rate(found: dict[str, Floats], loss: str) -> dict[str, float]:
    """Slopes against the number of pairs, both in logarithms, over the last three numbers."""
    pairs = PAIRS[-3:]

    def slope(name: str, over: Callable[[Floats], float]) -> float:
        values = [over(found[f"{n}/{loss}/{name}"]) for n in pairs]
        return float(np.polyfit(np.log(pairs), np.log(values), 1)[0])

    return {
        f"{what} of the {name}": slope(name, over)
        for name in ("gap", "rms")
        for what, over in (("mean", np.mean), ("median", np.median))
    }


def _constants(found: dict[str, Floats]) -> list[dict[str, float]]:
    """How large C must be for 95% of the environments with about such a KL, over all numbers of pairs."""
    kl = found["KL of the best"]
    needed = np.max([found[f"{n}/{FALLING}/constant"] for n in PAIRS], axis=0)
    edges = np.unique(np.append(np.arange(0, 8.5, 1.0), np.ceil(kl.max())))
    rows = []
    for low, high in pairwise(edges):
        here = (kl >= low) & (kl < high)
        if here.sum() >= 10:
            rows.append(
                {
                    "KL": float(kl[here].mean()),
                    "environments": int(here.sum()),
                    "C, median": float(np.median(needed[here])),
                    "C, 95%": float(np.quantile(needed[here], 0.95)),
                    "C, most": float(needed[here].max()),
                    "least C": least_constant(float(kl[here].mean()), DELTA),
                }
            )
    return rows


def _failures(found: dict[str, Floats]) -> list[dict]:
    """What the runs that failed are worth, overall and where: return with them less return without them."""
    rows = []
    for runs in RUNS:
        solved = found[f"solved of {runs}"] > 0
        for labels in LABELS:
            for loss in LOSSES:
                learned = found[f"{runs}/forks/{labels}/{loss}"]
                gained = learned - found[f"{runs}/forks, no failures/{labels}/{loss}"]
                beyond = learned - found[f"{runs}/runs/imitate what solved"]
                start = learned - found["reference's return"]
                rows.append(
                    {
                        "runs": runs,
                        "labels": labels,
                        "loss": loss,
                        "gained": _mean(gained),
                        "helped": float((gained > 0.01).mean()),
                        "hurt": float((gained < -0.01).mean()),
                        "over the reference": _mean(start),
                        "over imitating what solved": _mean(beyond),
                        "beats imitating what solved": float((beyond > 0.01).mean()),
                        "loses to imitating what solved": float((beyond < -0.01).mean()),
                        "over the reference where none solved": [int((~solved).sum()), *_mean(start[~solved])],
                        "over imitating where some solved": [int(solved.sum()), *_mean(beyond[solved])],
                        "quarters": {name: _quarters(found[name], gained) for name in FEATURES},
                        "over imitating, quarters": {name: _quarters(found[name], beyond) for name in FEATURES},
                    }
                )
    return rows


def _quarters(feature: Floats, values: Floats) -> list[list[float]]:
    """For each quarter of the environments by a feature: its upper end, the mean of the values, its standard error."""
    ends = np.quantile(feature, [0.25, 0.5, 0.75, 1.0])
    of = np.searchsorted(ends, feature)
    return [[float(end), *_mean(values[of == quarter])] for quarter, end in enumerate(ends)]


def plot(done: dict, path: Path) -> None:
    """Regret against pairs, the constant that the theorem needs against KL, and what failures are worth."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained")
    for loss, mark in zip(LOSSES, "osD^", strict=True):
        rows = [row for row in done["learning"] if row["loss"] == loss]
        left.semilogx([r["pairs"] for r in rows], [r["regret"][0] for r in rows], marker=mark, label=loss)
    left.axhline(done["reference's regret"][0], color="k", linestyle=":", label="reference")
    left.axhline(done["regret of what solves"][0], color="k", linestyle="-.", label="reference where it solves")
    left.axhline(done["ideal's regret"][0], color="k", linestyle="--", label="KL-regularised optimum")
    left.set(xlabel="independent pairs", ylabel="mean regret")
    left.set_ylim(0, 0.75)
    left.legend(frameon=False, fontsize=6.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.27))
    rows = done["constants"]
    kl = [row["KL"] for row in rows]
    middle.semilogy(kl, [r["C, median"] for r in rows], marker="o", label="needed, median")
    middle.semilogy(kl, [r["C, 95%"] for r in rows], marker="s", label="needed, 95 %")
    fine = np.linspace(0.7, max(kl), 100)
    middle.semilogy(fine, [least_constant(x, DELTA) or np.nan for x in fine], "k--", label="least possible (18)")
    middle.set(xlabel="KL(best || reference), nats", ylabel="C")
    middle.legend(frameon=False, fontsize=7)
    for loss, mark in zip(LOSSES, "osD^", strict=True):
        row = next(r for r in done["failures"] if (r["loss"], r["runs"], r["labels"]) == (loss, RUNS[0], RIGHT))
        quarters = row["over imitating, quarters"]["solve rate"]
        right.errorbar(
            range(4), [q[1] for q in quarters], yerr=[1.96 * q[2] for q in quarters], marker=mark, capsize=2, label=loss
        )
    ends = [q[0] for q in quarters]
    right.set_xticks(range(4), [f"{a:.0%} to {b:.0%}" for a, b in zip([0, *ends[:-1]], ends, strict=True)], fontsize=8)
    right.axhline(0, color="k", linewidth=0.5)
    right.set(xlabel="reference's success rate, by quarter", ylabel=f"over imitating what solved, {RUNS[0]} runs")
    right.legend(frameon=False, fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.18))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def table(done: dict) -> str:
    """Markdown tables."""
    lines = [
        "| pairs | loss | regret | C = 1 violated | C for 95 % | bound / gap | error bound / error |",
        "|---" * 7 + "|",
    ]
    for row in done["learning"]:
        loose = [f"{row[name]:,.0f}" if name in row else "" for name in ("loose: all", "loose: error")]
        lines.append(
            f"| {row['pairs']} | {row['loss']} | {_pm(row['regret'])} | {100 * row['violated, C = 1']:.1f} % | "
            f"{row['C, 95%']:.2f} | {' | '.join(loose)} |"
        )
    lines += ["", "Return of the reference: " + _pm(done["reference's return"])]
    lines += ["", "| runs | learned from | labels | loss | return |", "|---" * 5 + "|"]
    lines += [f"| {r['runs']} | {r['data']} | {r['labels']} | {r['loss']} | {_pm(r['return'])} |" for r in done["runs"]]
    lines += [f"| {r['runs']} | {r['data']} | | | {_pm(r['return'])} |" for r in done["imitated"]]
    lines += ["", "| runs | labels | loss | failures gain | help in | hurt in | over imitating what solved |"]
    lines += ["|---" * 7 + "|"]
    for row in done["failures"]:
        cells = (_pm(row["gained"]), f"{100 * row['helped']:.0f} %", f"{100 * row['hurt']:.0f} %")
        of = f"{row['runs']} | {row['labels']} | {row['loss']}"
        lines.append(f"| {of} | {' | '.join(cells)} | {_pm(row['over imitating what solved'])} |")
    lines += ["", "| runs | labels | loss | forks over random |", "|---" * 4 + "|"]
    lines += [f"| {r['runs']} | {r['labels']} | {r['loss']} | {_pm(r['gained'])} |" for r in done["forks over random"]]
    return "\n".join(lines)


def _pm(figure: Iterable[float]) -> str:
    value, error = figure
    return f"{value:.3f} ± {1.96 * error:.3f}"


def main() -> None:
    """Measure, draw the plot, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "guarantee.json")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--environments", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the tables of what is measured")
    args = parser.parse_args()
    if not args.table:
        start = time.perf_counter()
        found = measure(args.environments, args.seed, args.processes)
        done = {
            "command": " ".join(["python -m benchmarks.guarantee", *sys.argv[1:]]),
            "environments": args.environments,
            "seconds": time.perf_counter() - start,
            "CPU seconds": float(found["CPU seconds"].sum()),
            **summarise(found),
        }
        args.out.write_text(json.dumps(done, indent=1) + "\n")
    done = json.loads(args.out.read_text())
    if args.plot:
        plot(done, args.plot)
    print(table(done))


if __name__ == "__main__":
    main()
