"""From logs that you have to preference pairs for TRL, in Python.

    python examples/own_logs.py [LOGS] [OUT]

LOGS is a file or folder in any format that `trajtree import` reads; by default the runs that come with the package.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path

import trajtree
from trajtree.formats.write import PAIR_TARGETS

logs = sys.argv[1] if len(sys.argv) > 1 else str(files("trajtree.cli") / "demo_runs.jsonl")
out = Path(sys.argv[2] if len(sys.argv) > 2 else "pairs.jsonl")

report = trajtree.import_files(logs, "runs.jsonl")
print(f"{report.added} runs added, {report.skipped} were there already, {report.left_out_count} left out")

rows = []
for tree in trajtree.build(trajtree.TrajectoryStore("runs.jsonl")):
    found = list(trajtree.pairs(tree, min_gap=0.2))
    figures = trajtree.quality(tree)
    print(
        f"{tree.task}: {figures.trajectories} runs, {figures.informative_forks} informative forks, {len(found)} pairs"
    )
    for pair in found:
        better, worse = pair.sides(tree)  # the whole trajectories
        print(
            f"  after {pair.depth} steps: {better.steps[pair.depth].action!r}, not {worse.steps[pair.depth].action!r}"
        )
    rows += [PAIR_TARGETS["trl"].row(messages) for messages in trajtree.pair_messages(tree, found)]
out.write_text("".join(json.dumps(row) + "\n" for row in rows))
print(f"{len(rows)} pairs in {out}; load them with datasets.load_dataset('json', data_files='{out}')")
