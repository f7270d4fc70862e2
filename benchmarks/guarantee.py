"""The guarantee where everything is known: simulate, and write the figures and the plot of docs/theory.md.

    python -m benchmarks.guarantee --page docs/theory.md --plot docs/guarantee.svg
    python -m benchmarks.guarantee --measured --page docs/theory.md

The first simulates, which takes some minutes; the second uses what was measured before. Both print all figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.guarantee_page import blocks, plot, summarise, written
from benchmarks.guarantee_simulation import measure

RESULTS = Path(__file__).parent / "results" / "guarantee.json"


def main() -> None:
    """Measure, draw the plot, write the page's figures and print all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown file, whose blocks of figures are replaced")
    parser.add_argument("--environments", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--measured", action="store_true", help="use what was measured before")
    args = parser.parse_args()
    if not args.measured:
        start = time.perf_counter()
        found = measure(args.environments, args.seed, args.processes)
        done = {
            "command": " ".join(["python -m benchmarks.guarantee", *sys.argv[1:]]),
            "environments": args.environments,
            "processes": args.processes,
            "seconds": time.perf_counter() - start,
            "CPU seconds": float(found["CPU seconds"].sum()),
            **summarise(found),
        }
        args.out.write_text(json.dumps(done, indent=1) + "\n")
    done = json.loads(args.out.read_text())
    if args.plot:
        plot(done, args.plot)
    if args.page:
        args.page.write_text(written(args.page.read_text(), done))
    print("\n\n".join(blocks(done).values()))


if __name__ == "__main__":
    main()
