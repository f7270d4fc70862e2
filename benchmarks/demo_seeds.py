"""The tables of the demo's earlier form in docs/results-demo.md, and of the other recipes in docs/results.md.

    python benchmarks/demo_seeds.py

Printed from the results that are stored under benchmarks/results. `--situations` rewrites them: with the situations of
their tasks, which earlier versions did not know, and with all figures and verdicts that follow from them.
"""

from __future__ import annotations

import argparse
from dataclasses import astuple, replace
from pathlib import Path

from trajtree.experiment.situations import in_situations
from trajtree.report import ReportData, read_results_json, verdict, write_results_json
from trajtree.report.text import ONE_SEED, unit
from trajtree.statistics.results import Interval, Results
from trajtree.statistics.seeds import over_seeds
from trajtree.statistics.summary import with_situations

RESULTS = Path(__file__).parent / "results"


def read(pattern: str) -> list[ReportData]:
    """The stored reports whose file names match, with the situations of their tasks where the environment is there."""
    return [in_situations(read_results_json(path)) for path in sorted(RESULTS.glob(pattern))]


def table(runs: list[ReportData]) -> str:
    """Markdown table, a line per row and seed; the last two columns are the field's practice."""
    if not runs:
        return "no results"
    lines = [
        "| row | seed | success | 95 % | score | best so far | completed | over weak | 95 % | p | least | PGR | 95 % "
        "| tasks: 95 % | p |",
        "|---" * 15 + "|",
    ]
    for name in dict.fromkeys(row.name for run in runs for row in run.results.rows):
        lines += [line(run.results, name) for run in runs if any(row.name == name for row in run.results.rows)]
    # The seeds are put together in a table of their own.
    units = [sentence for run in runs for sentence in unit(run) if sentence != ONE_SEED or len(runs) == 1]
    return "\n".join([*lines, "", *dict.fromkeys(units)])


def line(results: Results, name: str) -> str:
    """One row of one run."""
    row, over = results.row(name), results.compared(name, results.weak, "success")
    pgr = results.recovered(name, "success")
    cells = [
        name,
        str(results.seed),
        f"{row.success_rate.value:.3f}",
        span(row.success_rate),
        f"{row.score.value:.3f}",
        f"{row.best_score.value:.3f}",
        f"{row.completion_rate:.3f}",
    ]
    if over is None:
        cells += [""] * 4
    else:
        difference = f"{over.difference.value:+.3f}"
        cells += [difference, span(over.difference), chance(over.p_value), least(over.smallest)]
    if pgr is None or pgr.value is None:
        cells += ["", ""]
    else:
        cells += [f"{pgr.value:.2f}", "no end" if pgr.low is None else f"[{pgr.low:.2f}, {pgr.high:.2f}]"]
    cells += ["", ""] if over is None else [span(over.practice.difference), chance(over.practice.p_value)]
    return f"| {' | '.join(cells)} |"


def store_situations() -> None:
    """Rewrite the stored results with all that follows from their situations, which must be known for every one."""
    for path in sorted(
        path
        for name in ("demo-*-seed*", "recipe-*", "failures-seed*", "forms-seed*")
        for path in RESULTS.glob(f"{name}.json")
    ):
        data = in_situations(read_results_json(path))
        if not data.results.by_situation:
            raise SystemExit(f"{path}: {data.notes[-1]}")
        known = {task.task: task.situation for row in data.results.rows for task in row.tasks}
        data = replace(data, results=with_situations(data.results, known.__getitem__))
        write_results_json(data, path)
        print(f"{path.name}: {verdict(data)}")


def seeds_table(runs: list[ReportData], against: str) -> str:
    """Markdown table of the rows that every seed has, against one of them in success."""
    results = [run.results for run in runs]
    lines = [
        f"| row | over {against} | 95 %, situations and seeds | p | least | 95 %, these models | p | ICC "
        "| design effect | t-test over seeds: 95 % | p |",
        "|---" * 11 + "|",
    ]
    for row in results[0].rows:
        if row.name == against or any(all(row.name != one.name for one in other.rows) for other in results):
            continue
        found = over_seeds(results, row.name, against, "success")
        cells = [
            row.name,
            f"{found.difference.value:+.3f}",
            span(found.difference),
            chance(found.p_value),
            least(found.smallest),
            span(found.these_models),
            chance(found.these_models_p),
            *(("" if value is None else f"{value:.2f}") for value in astuple(found.dependence)),
            span(found.practice.difference),
            chance(found.practice.p_value),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def each_seed(runs: list[ReportData], against: str) -> str:
    """Markdown table of the rows against one of them in success, with each seed."""
    results = [run.results for run in runs]
    lines = [
        f"| over {against} | {' | '.join(f'seed {one.seed}: 95 %' for one in results)} |",
        "|---" * (1 + len(results)) + "|",
    ]
    for row in results[0].rows:
        found = [one.compared(row.name, against, "success") for one in results]
        cells = ["" if c is None else f"{c.difference.value:+.3f} {span(c.difference)}" for c in found]
        if any(cells):
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def least(smallest: float | None) -> str:
    """The smallest difference that could have been detected, where any could."""
    return "n/a" if smallest is None else f"{smallest:.2f}"


def span(interval: Interval) -> str:
    """[low, high]."""
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def chance(p_value: float | None) -> str:
    """A p-value, or nothing without one."""
    return "" if p_value is None else "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def main() -> None:
    """Print the tables, or rewrite the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--situations", action="store_true", help="rewrite the results with their tasks' situations")
    if parser.parse_args().situations:
        store_situations()
        return
    for explore in ("demonstrated", "unseen"):
        runs = read(f"demo-{explore}-seed*.json")
        print(f"\n### Exploring {explore} tasks\n\n{table(runs)}")
        if len(runs) > 1:
            for against in runs[0].results.baselines:
                print(f"\n#### Over {len(runs)} seeds, against {against}\n\n{seeds_table(runs, against)}")
                print(f"\n{each_seed(runs, against)}")
    for path in sorted(RESULTS.glob("recipe-*.json")):
        runs = read(path.name)
        print(f"\n### {path.stem.removeprefix('recipe-')}\n\n{table(runs)}")
        if (ceiling := runs[0].results.ceiling) is not None:
            print(f"\n{each_seed(runs, ceiling)}")


if __name__ == "__main__":
    main()
