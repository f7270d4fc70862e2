"""The tables of docs/results.md and docs/results-dev.md, from the stored results of the experiments on ScienceWorld.

    trajtree run benchmarks/recipes/failures.yaml --run runs/failures/seed0 --set seed=0
    cp runs/failures/seed0/reports/NAME-HASH/results.json benchmarks/results/failures-seed0.json
    python benchmarks/experiment_tables.py benchmarks/results/failures-seed*.json

`--whole` adds the gap recovered, success by type of task, and what each row was made of; `--also ROW:ROW[:METRIC]` a
comparison that was not named beforehand, in success, in the final score (`score`) or in the best score of an episode
(`best_score`). `trajtree compare` prints the same figures, and more of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trajtree.errors import counted
from trajtree.experiment.comparing import compare_runs
from trajtree.report import comparison_json, read_results_json
from trajtree.statistics.seeds import over_seeds

METRICS = {"success": "", "score": ", final score", "best_score": ", best score so far"}
"""What a comparison may be in, and how its label says so."""


def rate(found: Mapping[str, float]) -> str:
    """A rate and its interval, in percent."""
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def points(found: Mapping[str, float]) -> str:
    """A difference and its interval, in points."""
    return f"{100 * found['value']:+.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def chance(p_value: float) -> str:
    """A p-value."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def compared_runs(paths: Sequence[Path]) -> dict[str, Any]:
    """What `trajtree compare --json` writes."""
    found: dict[str, Any] = json.loads(comparison_json(compare_runs(paths)))
    return found


def tables(compared: Mapping[str, Any]) -> str:
    """The rows, then the comparisons that were named beforehand."""
    label = compared["labels"]
    lines = [
        "| row | seeds | success, % | by seed | best score so far, % | completed, % |",
        "|---|---|---|---|---|---|",
    ]
    for row in compared["rows"]:
        by_seed = ", ".join(f"{100 * one:.1f}" for one in row["success_by_seed"])
        figures = (rate(row["success"]), by_seed, rate(row["reward"]), f"{100 * row['completed']['value']:.1f}")
        lines.append(f"| {label[row['row']]} | {len(row['seeds'])} | {' | '.join(figures)} |")
    lines += [
        "",
        "| named beforehand | success, points | p | p after Holm | by seed | these models | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for named in compared["named"]:
        found = named["success"]
        figures = (
            f"{label[found['row']]} - {label[found['against']]}",
            points(found["difference"]),
            chance(found["p_value"]),
            chance(named["holm"]),
            ", ".join(f"{100 * one:+.1f}" for one in found["by_seed"]),
            points(found["these_models"]),
            chance(found["these_models_p"]),
        )
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def gaps(compared: Mapping[str, Any]) -> str:
    """How much of the gap between the weak model and a ceiling each row recovers."""
    lines = ["| gap recovered, % | ceiling | PGR | ceiling - weak, points |", "|---|---|---|---|"]
    for found in compared["recovered"]:
        figures = (compared["labels"][found["ceiling_row"]], recovered(found), points(found["gap"]))
        lines.append(f"| {compared['labels'][found['row']]} | {' | '.join(figures)} |")
    return "\n".join(lines)


def recovered(found: Mapping[str, Any]) -> str:
    """The gap recovered; its ends are missing where any value is possible, and all of it where the gap may be 0."""
    if found["value"] is None:
        return "none"
    return f"{100 * found['value']:.1f}, no end" if found["low"] is None else rate(found)


def types(compared: Mapping[str, Any]) -> str:
    """Success by type of task, over all seeds."""
    found = {row["row"]: row["by_task_type"] for row in compared["rows"]}
    columns = list(next(iter(found.values())))
    sizes = next(iter(found.values()))
    named = (
        f"{one} ({counted(sizes[one]['n'], 'task')}, {counted(sizes[one]['situations'], 'situation')})"
        for one in columns
    )
    lines = [f"| success, % | {' | '.join(named)} |", f"|---|{'---|' * len(columns)}"]
    for row, by_type in found.items():
        figures = (f"{100 * by_type[one]['success']:.0f}" if one in by_type else "" for one in columns)
        lines.append(f"| {compared['labels'][row]} | {' | '.join(figures)} |")
    return "\n".join(lines)


def makings(compared: Mapping[str, Any], stored: Sequence[Mapping[str, Any]]) -> str:
    """What each row starts from and learns from, and what it took with each seed."""
    said: dict[str, dict[int, Mapping[str, Any]]] = {}  # by row and seed
    for block in stored:
        for one in block["statements"]:
            said.setdefault(one["row"], {})[int(block["provenance"]["seed"])] = one
    words = ("start", "reference", "data", "loss")
    counts = ("demonstrations", "episodes", "agent_tokens", "examples", "steps", "all_steps")
    titles = ["row", *words, *(count.replace("_", " ") for count in counts)]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in (each["row"] for each in compared["rows"]):
        by_seed = [said[row][seed] for seed in sorted(said[row])]
        figures = (*(by_seed[0][word] for word in words), *(by_seeds(by_seed, count) for count in counts))
        lines.append(f"| {' | '.join([compared['labels'][row], *figures])} |")
    return "\n".join(lines)


def afterwards(paths: Sequence[Path], asked: Sequence[str], labels: Mapping[str, str]) -> str:
    """Comparisons that nobody named beforehand; their p-values are not corrected."""
    results = [read_results_json(path).results for path in paths]
    lines = ["| not named beforehand, not corrected | points | p | by seed | these models |", "|---|---|---|---|---|"]
    for one in asked:
        row, against, metric = f"{one}:success".split(":")[:3]
        found = over_seeds(results, row, against, metric)
        figures = (
            f"{labels[row]} - {labels[against]}{METRICS[metric]}",
            points(asdict(found.difference)),
            chance(found.p_value),
            ", ".join(f"{100 * one:+.1f}" for one in found.by_seed),
            points(asdict(found.these_models)),
        )
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def add_also(parser: argparse.ArgumentParser) -> None:
    """The option `--also`."""
    parser.add_argument(
        "--also", action="append", default=[], help="a comparison not named beforehand: ROW:ROW[:METRIC]"
    )


def by_seeds(said: Sequence[Mapping[str, Any]], key: str) -> str:
    """A number, or one for each seed where they differ."""
    numbers = ["unknown" if one[key] is None else f"{one[key]:,}" for one in said]
    return numbers[0] if len(set(numbers)) == 1 else ", ".join(numbers)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument(
        "--whole", action="store_true", help="also gaps, types of tasks, and what the rows were made of"
    )
    add_also(parser)
    args = parser.parse_args()
    compared = compared_runs(args.results)
    print(tables(compared))
    if args.also:
        print("", afterwards(args.results, args.also, compared["labels"]), sep="\n")
    if args.whole:
        stored = [json.loads(path.read_text()) for path in args.results]
        print("", gaps(compared), "", types(compared), "", makings(compared, stored), sep="\n")


if __name__ == "__main__":
    main()
