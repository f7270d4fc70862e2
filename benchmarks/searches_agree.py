"""How often the searches find the path that the exact search finds, in the trees of a run.

    python benchmarks/searches_agree.py RUN --out benchmarks/results/searches-agree.json

RUN is the run directory of a recipe; its trees `trees-weak` are searched. Of each search: the trees in which its path
scores less than the exact search's, and those, among the trees whose exact path scores at least --min-score, in which
it has other actions, or more of them. If the run has stitched paths, they are compared in the same way.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import trajtree
from trajtree.trajectory import SCORE_TOLERANCE
from trajtree.trees.search import best_path

WALKS = (20, 100, 1000)


def main() -> None:
    """Search, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--min-score", type=float, default=0.7)
    args = parser.parse_args()
    (file,) = args.run.glob("trees-weak/*/trees.jsonl")
    trees = list(trajtree.read_trees(file))
    exact = [best_path(tree, trajtree.exact) for tree in trees]
    kept = [n for n, path in enumerate(exact) if path.score >= args.min_score]
    counts = []
    for walks in WALKS:
        for name, may_stop in (("mcts", True), ("mcts-published", False)):
            find = partial(trajtree.mcts, iterations=walks, seed=0, may_stop=may_stop)
            found = [best_path(tree, find) for tree in trees]
            counts.append(
                {
                    "search": name,
                    "walks": walks,
                    "lower_score": sum(a.score < b.score - SCORE_TOLERANCE for a, b in zip(found, exact, strict=True)),
                    "other_actions": sum(
                        [s.action for s in found[n].steps] != [s.action for s in exact[n].steps] for n in kept
                    ),
                    "longer": sum(len(found[n].steps) > len(exact[n].steps) for n in kept),
                }
            )
            print(counts[-1], flush=True)
    stitched = None
    for file in args.run.glob("stitched-weak/*/trajectories.jsonl"):
        joined = {path.task: path for path in trajtree.TrajectoryStore(file)}
        both = [(joined[exact[n].task], exact[n]) for n in kept if exact[n].task in joined]
        stitched = {
            "paths": len(joined),
            "other_actions": sum([s.action for s in a.steps] != [s.action for s in b.steps] for a, b in both),
            "shorter": sum(len(a.steps) < len(b.steps) for a, b in both),
            "better": sum(a.score > b.score + SCORE_TOLERANCE for a, b in both),
        }
        print(stitched)
    result = {
        "command": " ".join(["python", "benchmarks/searches_agree.py", *sys.argv[1:]]),
        "trees": len(trees),
        "kept": len(kept),
        "min_score": args.min_score,
        "searches": counts,
        "stitched": stitched,
    }
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
