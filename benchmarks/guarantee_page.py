"""What the simulation of the guarantee says: summaries over all environments, and the tables and the plot of the page.

Every figure that docs/theory.md quotes of the simulation comes from `blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count, pairwise, product
from math import log
from pathlib import Path

import numpy as np
from benchmarks.guarantee_simulation import (
    ANCHOR,
    ANCHORED,
    BETA,
    CHOSEN,
    CHOSEN_RUNS,
    DATA,
    DELTA,
    FALLING,
    FIXED,
    IMITATED,
    KL_WEIGHT,
    LABELS,
    LOSSES,
    LOSSES_ON_RUNS,
    MIN_GAP,
    PAIRS,
    PER_TREE,
    RIGHT,
    RUNS,
)
from benchmarks.tabular import SHAPES, Floats

from trajtree.statistics.guarantee import guarantee, least_constant

FEATURES = {
    "solve rate": "how often the reference solves the task",
    "credit": "how much failures score",
}
"""What environments are sorted into quarters by."""
_FORKS, _RANDOM, _SOLVED_ONLY = DATA
_MATTERS = 0.01
"""A difference in return that counts as one."""

# --- summaries ---


def summarise(found: dict[str, Floats]) -> dict:
    """What the figures [E] say over all environments."""
    return {
        "reference": {
            "return": _mean(found["reference's return"]),
            "regret": _mean(found["best"] - found["reference's return"]),
            "regret where it solves": _mean(found["regret of what solves"]),
        },
        "ideal": {"regret": _mean(found["ideal's regret"])},
        "rate": {loss: _rate(found, loss) for loss in (FIXED, FALLING)},
        "learning": [_learning(found, pairs, loss) for pairs in PAIRS for loss in LOSSES],
        "constants": _constants(found),
        "runs": [
            {"runs": runs, "data": data, "labels": labels, "loss": loss, "return": _mean(found[key])}
            for runs, data, labels, loss in product(RUNS, DATA, LABELS, LOSSES_ON_RUNS)
            for key in [f"{runs}/{data}/{labels}/{loss}"]
        ],
        "imitated": [
            {"runs": runs, "data": data, "return": _mean(found[f"{runs}/runs/{data}"])}
            for runs, data in product(RUNS, IMITATED)
        ],
        "pairs": [
            {
                "runs": runs,
                "data": data,
                "pairs": float(number.mean()),
                "flipped by noise": float(found[f"{runs}/{data}/flipped"].sum() / number.sum()),
                "more than 8": float((number > 8).mean()),
            }
            for runs, data in product(RUNS, DATA)
            for number in [found[f"{runs}/{data}/pairs"]]
        ],
        "none solved": [{"runs": runs, "environments": int((found[f"solved of {runs}"] == 0).sum())} for runs in RUNS],
        "differences": list(_differences(found)),
    }


def _mean(values: Floats) -> list[float]:
    """Mean over the environments, and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]


def _learning(found: dict[str, Floats], pairs: int, loss: str) -> dict:
    """What so many independent pairs teach, and what becomes of the bound."""
    of = {key.rpartition("/")[2]: found[key] for key in found if key.startswith(f"{pairs}/{loss}/")}
    row = {
        "pairs": pairs,
        "loss": loss,
        "regret": _mean(of["regret"]),
        "regret of a descent": _mean(of["regret of a descent"]),
        "stuck": float(of["stuck"].mean()),
        "violated, C = 1": float((of["constant"] > 1).mean()),
        "C, 95%": float(np.quantile(of["constant"], 0.95)),
    }
    if "rms" in of:  # What an anchored loss rules out may be what the ideal does, so only the others' gap is finite.
        row |= {
            "gap": _mean(of["gap"]),
            "loose: all": float(np.median(of["gap bound"] / of["gap"])),
            "loose: error": float(np.median(of["rms bound"] / of["rms"])),
            "loose: coverage": float(np.median(of["gap by rms"] / of["gap"])),
            "bound violated": int(sum((of[one] > of[f"{one} bound"]).sum() for one in ("gap", "rms", "regret"))),
            "bound below 1": float((of["regret bound"] < 1).mean()),
        }
    return row


def _rate(found: dict[str, Floats], loss: str) -> dict[str, float]:
    """Slopes of the gap of J against the number of pairs, both in logarithms, over the last three numbers."""
    pairs = PAIRS[-3:]

    def slope(over: Callable[[Floats], float]) -> float:
        values = [over(found[f"{n}/{loss}/gap"]) for n in pairs]
        return float(np.polyfit(np.log(pairs), np.log(values), 1)[0])

    return {"mean": slope(np.mean), "median": slope(np.median)}


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
                }
            )
    return rows


def _differences(found: dict[str, Floats]) -> Iterator[dict]:
    """Returns of one way to learn less those of another, environment by environment."""
    start = found["reference's return"]
    for runs, labels, loss in product(RUNS, LABELS, LOSSES_ON_RUNS):
        own = found[f"{runs}/{_FORKS}/{labels}/{loss}"]
        solved = found[f"solved of {runs}"] > 0
        compared = {
            "over the reference": own - start,
            "over random pairs": own - found[f"{runs}/{_RANDOM}/{labels}/{loss}"],
            "over pairs without failures": own - found[f"{runs}/{_SOLVED_ONLY}/{labels}/{loss}"],
            "over imitating what solved": own - found[f"{runs}/runs/{IMITATED[0]}"],
            "over the chosen sides alone": own - found[f"{runs}/{_FORKS}/{labels}/{CHOSEN}"],
        }
        for what, gained in compared.items():
            yield {
                "runs": runs,
                "labels": labels,
                "loss": loss,
                "what": what,
                "gained": _mean(gained),
                "better": float((gained > _MATTERS).mean()),
                "worse": float((gained < -_MATTERS).mean()),
                "where none solved": _mean(gained[~solved]),
                "quarters": {name: _quarters(found[name], gained) for name in FEATURES},
            }


def _quarters(feature: Floats, values: Floats) -> list[list[float]]:
    """For each quarter of the environments by a feature: its upper end, the mean of the values, its standard error."""
    ends = np.quantile(feature, [0.25, 0.5, 0.75, 1.0])
    of = np.searchsorted(ends, feature)
    return [[float(end), *_mean(values[of == quarter])] for quarter, end in enumerate(ends)]


# --- the page ---


def written(page: str, done: dict) -> str:
    """The page with its blocks of figures replaced by those of `done`.

    Raises:
        ValueError: the page lacks one.
    """
    for name, block in blocks(done).items():
        begin, end = f"<!-- guarantee {name}:begin -->\n", f"<!-- guarantee {name}:end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"the page has no block for the figures of {name!r}: {begin.strip()} ... {end}")
        page = pattern.sub(lambda _, text=f"{begin}{block}\n{end}": text, page)
    return page


def blocks(done: dict) -> dict[str, str]:
    """The page's figures in Markdown, by the names of its blocks."""
    return {
        "run": _of_a_run(),
        "settings": _settings(done),
        "learning": _learning_table(done),
        "bound": _bound_table(done),
        "constants": _constants_table(done),
        "returns": _returns_table(done),
        "differences": _differences_table(done),
        "quarters": _quarters_table(done),
    }


def _of_a_run() -> str:
    """The theorem's terms for a run of ordinary size."""
    found = guarantee(pairs=51, kl=20.0, constant=1.0, delta=DELTA, best=0.9)
    ruled_out = next(kl for kl in map(log, count(3)) if least_constant(kl, DELTA) > found.constant)
    return (
        f"For example: {found.pairs} pairs, where the nearest best policy is {found.kl:.0f} nats from the reference, "
        f"give a root term of {_f(found.root, 2)} C (δ = {_f(DELTA, 2)}); and one C for all numbers of pairs is at "
        f"least {found.least_constant:.0f} (18), which rules out C = 1 from {ruled_out:.1f} nats on."
    )


def _settings(done: dict) -> str:
    shapes = ", ".join(f"{arms} actions at each of {depth} steps" for arms, depth in SHAPES)
    widest = max(row["regret"][1] for row in done["learning"])
    sizes = sorted({arms**depth for arms, depth in SHAPES})
    return (
        f"{done['environments']:,} random trees of {' or '.join(map(str, sizes))} episodes ({shapes}); "
        f"β = {_f(BETA, 1)}, fixed KL weight {_f(KL_WEIGHT, 1)}, anchor {_f(ANCHOR, 1)}, δ = {_f(DELTA, 2)}. This "
        f"took {done['CPU seconds']:,.0f} CPU seconds; {done['seconds']:,.0f} seconds passed, on {done['processes']} "
        "of two cores that others used too. ± is half of a 95 % interval; of the mean regrets it is at most "
        f"{_f(1.96 * widest)}."
    )


def _learning_table(done: dict) -> str:
    reference, ideal = done["reference"], done["ideal"]
    lines = [
        f"Mean regret. The reference's own is {_pm(reference['regret'])}, that of the KL-regularised optimum "
        f"{_pm(ideal['regret'])}, and that of a policy which does only what the reference does when it solves the "
        f"task {_pm(reference['regret where it solves'])}.",
        "",
        *_head(
            "pairs",
            "DPO + .1 KL (paper)",
            "the same, descent from the reference",
            "which ends elsewhere in",
            "DPO + KL/N",
            "anchored DPO",
            "chosen sides alone",
        ),
    ]
    for pairs in PAIRS:
        of = {row["loss"]: row for row in done["learning"] if row["pairs"] == pairs}
        lines.append(
            _row(
                f"{pairs:,}",
                _f(of[FIXED]["regret"][0]),
                _f(of[FIXED]["regret of a descent"][0]),
                _percent(of[FIXED]["stuck"]),
                *(_f(of[loss]["regret"][0]) for loss in (FALLING, ANCHORED, CHOSEN)),
            )
        )
    return "\n".join(lines)


def _bound_table(done: dict) -> str:
    held = [row for row in done["learning"] if "gap" in row]
    cases, violated = len(held) * done["environments"], sum(row["bound violated"] for row in held)
    rate, last = done["rate"][FALLING], PAIRS[-3:]
    lines = [
        f"(11), (15) for J and (16) for the best path are violated {violated} times in {cases:,} cases. "
        f"With a weight of 1/N the gap of J falls as N^{_f(rate['mean'], 2)} in the mean and as "
        f"N^{_f(rate['median'], 2)} in the median, from {last[0]:,} to {last[-1]:,} pairs.",
        "",
        *_head(
            "pairs",
            "gap of J, KL/N",
            "bound over gap (median)",
            "lost in (11)",
            "lost in (12), (13)",
            "(16) is below 1 in",
            "C = 1 violated, KL/N",
            "C = 1 violated, .1 KL",
        ),
    ]
    for pairs in PAIRS:
        of = {row["loss"]: row for row in held if row["pairs"] == pairs}
        row = of[FALLING]
        lines.append(
            _row(
                f"{pairs:,}",
                _pm(row["gap"]),
                *(f"{row[name]:,.0f}" for name in ("loose: all", "loose: error", "loose: coverage")),
                _percent(row["bound below 1"], 1),
                *(_percent(of[loss]["violated, C = 1"]) for loss in (FALLING, FIXED)),
            )
        )
    return "\n".join(lines)


def _constants_table(done: dict) -> str:
    lines = [
        *_head("KL of the best, nats", "environments", "C, median", "C for 95 %", "C, most", "least possible (18)")
    ]
    for row in done["constants"]:
        of = (row["C, median"], row["C, 95%"], row["C, most"], least_constant(row["KL"], DELTA))
        lines.append(_row(f"{row['KL']:.1f}", str(row["environments"]), *(f"{constant:.2f}" for constant in of)))
    return "\n".join(lines)


_SHOWN = {FIXED: "DPO + .1 KL", ANCHORED: "anchored", CHOSEN: "chosen sides", CHOSEN_RUNS: "chosen sides' runs"}
"""Losses on pairs that are made from runs."""
_NAMED = {
    _FORKS: "pairs at forks",
    _RANDOM: "as many random pairs",
    _SOLVED_ONLY: "pairs at forks of the runs that solved it",
    IMITATED[0]: "imitating all runs that solved it",
    IMITATED[1]: "imitating the best run",
}


def _returns_table(done: dict) -> str:
    at = {(row["runs"], row["data"]): row for row in done["pairs"]}
    few = " and ".join(f"{at[runs, _FORKS]['pairs']:.1f}" for runs in RUNS)
    fewer = " and ".join(f"{at[runs, _SOLVED_ONLY]['pairs']:.1f}" for runs in RUNS)
    crowded = max(at[runs, _FORKS]["more than 8"] for runs in RUNS)
    flips = [_percent(at[runs, _FORKS]["flipped by noise"]) for runs in RUNS]
    lines = [
        f"{' or '.join(map(str, RUNS))} runs of the reference give {few} pairs (one per fork, a gap of "
        f"{_f(MIN_GAP, 1)} or more, at most {PER_TREE} per tree; at most {_percent(crowded, 1)} of the trees have more "
        f"than 8, the package's default), and {fewer} if only the runs that solved the task are kept. Noise flips "
        f"{' and '.join(flips)} of the labels at forks. Mean return; the reference's own is "
        f"{_f(done['reference']['return'][0])}:",
        "",
        *_head("learned from", "labels", *(f"{name}, {runs} runs" for runs in RUNS for name in _SHOWN.values())),
    ]
    of = {(row["runs"], row["data"], row["labels"], row["loss"]): row["return"][0] for row in done["runs"]}
    for data, labels in product(DATA, LABELS):
        cells = (_f(of[runs, data, labels, loss]) for runs, loss in product(RUNS, _SHOWN))
        lines.append(_row(_NAMED[data] if labels == RIGHT else "", labels, *cells))
    imitated = {(row["runs"], row["data"]): row["return"][0] for row in done["imitated"]}
    for data in IMITATED:
        cells = (_f(imitated[runs, data]) if loss == FIXED else "" for runs, loss in product(RUNS, _SHOWN))
        lines.append(_row(_NAMED[data], "", *cells))
    return "\n".join(lines)


_ASKED = {
    "over the reference": tuple(_SHOWN),
    "over random pairs": (FIXED, ANCHORED, CHOSEN),
    "over pairs without failures": (FIXED, ANCHORED, CHOSEN),
    "over imitating what solved": tuple(_SHOWN),
    "over the chosen sides alone": (ANCHORED, CHOSEN_RUNS),
}


def _differences_table(done: dict) -> str:
    of = {(row["what"], row["loss"], row["labels"], row["runs"]): row for row in done["differences"]}
    columns = list(product(LABELS, RUNS))
    lines = [*_head("gain of pairs at forks", "by", *(f"{labels}, {runs} runs" for labels, runs in columns))]
    for what, losses in _ASKED.items():
        for loss in losses:
            cells = (_gain(of[what, loss, labels, runs]["gained"]) for labels, runs in columns)
            lines.append(_row(what if loss == losses[0] else "", _SHOWN[loss], *cells))
    what = "over imitating what solved"
    for name, sign in (("better", f"better by more than {_f(_MATTERS, 2)} in"), ("worse", "worse by as much in")):
        for loss in (ANCHORED, CHOSEN):
            cells = (_percent(of[what, loss, labels, runs][name]) for labels, runs in columns)
            lines.append(_row(f"{what}, {sign}" if loss == ANCHORED else "", _SHOWN[loss], *cells))
    none = {row["runs"]: row["environments"] for row in done["none solved"]}
    counts = " and ".join(f"{none[runs]}" for runs in RUNS)
    for loss in (FIXED, ANCHORED, CHOSEN):
        cells = (_gain(of["over the reference", loss, labels, runs]["where none solved"]) for labels, runs in columns)
        where = f"over the reference, where no run solved the task ({counts} environments)"
        lines.append(_row(where if loss == FIXED else "", _SHOWN[loss], *cells))
    return "\n".join(lines)


def _quarters_table(done: dict) -> str:
    lines = []
    for name, about in FEATURES.items():
        rows = [
            row
            for row in done["differences"]
            if row["labels"] == RIGHT
            and (row["what"], row["loss"])
            in product(("over pairs without failures", "over imitating what solved"), (FIXED, ANCHORED))
        ]
        ends = [end for end, *_ in rows[0]["quarters"][name]]
        form = _percent if name == "solve rate" else lambda value: f"{value:.2f}"
        lines += [
            "",
            f"By {about}:",
            "",
            *_head("gain of pairs at forks", "by", "runs", *(f"up to {form(end)}" for end in ends)),
        ]
        for row in sorted(rows, key=lambda row: (row["what"], list(_SHOWN).index(row["loss"]), row["runs"])):
            cells = (_gain(rest) for _, *rest in row["quarters"][name])
            lines.append(_row(row["what"], _SHOWN[row["loss"]], str(row["runs"]), *cells))
    return "\n".join(lines[1:])


def _head(*names: str) -> list[str]:
    return [_row(*names), "|---" * len(names) + "|"]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _f(value: float, digits: int = 3) -> str:
    """A number below 1 without its leading zero."""
    return f"{value:.{digits}f}".removeprefix("0") if value >= 0 else "−" + _f(-value, digits)


def _pm(figure: Iterable[float]) -> str:
    value, error = figure
    return f"{_f(value)} ± {_f(1.96 * error)}"


def _gain(figure: Iterable[float]) -> str:
    value, error = figure
    sign = "+" if round(value, 3) > 0 else "−" if round(value, 3) < 0 else ""
    return f"{sign}{_f(abs(value))} ± {_f(1.96 * error)}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def plot(done: dict, path: Path) -> None:
    """Regret against pairs, the constant that the theorem needs against KL, and what failures are worth."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained")
    for loss, mark in zip(LOSSES, "osD^", strict=True):
        rows = [row for row in done["learning"] if row["loss"] == loss]
        left.semilogx([r["pairs"] for r in rows], [r["regret"][0] for r in rows], marker=mark, label=loss)
    left.axhline(done["reference"]["regret"][0], color="k", linestyle=":", label="reference")
    left.axhline(
        done["reference"]["regret where it solves"][0], color="k", linestyle="-.", label="reference where it solves"
    )
    left.axhline(done["ideal"]["regret"][0], color="k", linestyle="--", label="KL-regularised optimum")
    left.set(xlabel="independent pairs", ylabel="mean regret")
    left.set_ylim(0, 0.75)
    left.legend(frameon=False, fontsize=6.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.27))
    rows = done["constants"]
    kl = [row["KL"] for row in rows]
    middle.semilogy(kl, [r["C, median"] for r in rows], marker="o", label="needed, median")
    middle.semilogy(kl, [r["C, 95%"] for r in rows], marker="s", label="needed, 95 %")
    fine = np.linspace(1.1, max(kl), 100)
    middle.semilogy(fine, [least_constant(x, DELTA) or np.nan for x in fine], "k--", label="least possible (18)")
    middle.set(xlabel="KL(best || reference), nats", ylabel="C")
    middle.legend(frameon=False, fontsize=7)
    wanted = {"what": "over imitating what solved", "runs": RUNS[0], "labels": RIGHT}
    for (loss, label), mark in zip(_SHOWN.items(), "osD^", strict=True):
        row = next(r for r in done["differences"] if {**r, **wanted, "loss": loss} == r)
        quarters = row["quarters"]["solve rate"]
        right.errorbar(
            range(4),
            [q[1] for q in quarters],
            yerr=[1.96 * q[2] for q in quarters],
            marker=mark,
            capsize=2,
            label=label,
        )
    ends = [q[0] for q in quarters]
    right.set_xticks(range(4), [f"{a:.0%} to {b:.0%}" for a, b in zip([0, *ends[:-1]], ends, strict=True)], fontsize=8)
    right.axhline(0, color="k", linewidth=0.5)
    right.set(xlabel="reference's success rate, by quarter", ylabel=f"over imitating what solved, {RUNS[0]} runs")
    right.legend(frameon=False, fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.18))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
