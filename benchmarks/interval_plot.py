"""The same differences with the interval by situation and the one over tasks: the plot in docs/statistics.md.

    python benchmarks/interval_plot.py benchmarks/results/demo-demonstrated-seed0.json --out docs/intervals.svg

The plot is the report's own, with the page's colours written into the file so that it stands alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trajtree.experiment.situations import in_situations
from trajtree.report import read_results_json
from trajtree.report.plots import difference_plot, standalone


def main() -> None:
    """Write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = in_situations(read_results_json(args.results))
    plot = difference_plot(data)
    if plot is None:
        raise SystemExit(f"{args.results}: nothing to plot; {' '.join(data.notes)}")
    args.out.write_text(standalone(plot), encoding="utf-8")


if __name__ == "__main__":
    main()
