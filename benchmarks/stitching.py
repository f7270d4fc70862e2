"""How often stitching beats the best sampled score, re-executed, on ScienceWorld runs.

    python benchmarks/stitching.py runs/demo/explore/*/trajectories.jsonl --out benchmarks/results/stitching.json

For every task of every store: the best of its samples, MCTS on the tree of all of them, and the best that stitching
made and played. Also with only the first few samples per task, where there is more to gain.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import trajtree
from trajtree.envs.replay import replayer
from trajtree.envs.scienceworld import ScienceWorld
from trajtree.trajectory import SCORE_TOLERANCE
from trajtree.trees.stitching import stitch


def measure(store: Path, samples: int, env: ScienceWorld) -> dict[str, float]:
    """Figures over the tasks of one store, with the first `samples` trajectories per task."""
    forms = {"canonical_action": env.canonical_action, "canonical_observation": env.canonical_observation}

    def state(trajectory: trajtree.Trajectory, step: int) -> str | None:
        if step == len(trajectory.steps):
            return None
        return env.canonical_observation(trajectory.steps[step].observation)

    start, rows, lost = time.perf_counter(), [], 0
    for group in trajtree.TrajectoryStore(store).by_task():
        group = [t for t in group if t.outcome is not trajtree.Outcome.ENV_ERROR and t.sample < samples]
        tree = trajtree.build_tree(group, **forms)
        rows.append(stitch(tree, replayer(env), state=state))
        lost += trajtree.mcts(tree).value < trajtree.exact(tree).value - 1e-9
    tasks = len(rows)
    return {
        "samples": samples,
        "tasks": tasks,
        "best sample, mean score": sum(r.sampled_score for r in rows) / tasks,
        "best sample, success": sum(r.sampled_score >= 1 - SCORE_TOLERANCE for r in rows) / tasks,
        "stitched, mean score": sum(r.best.score for r in rows) / tasks,
        "stitched, success": sum(r.best.reaches(1.0) for r in rows) / tasks,
        "tasks with a higher score": sum(r.improves_score for r in rows),
        "tasks with the same score in fewer steps": sum(r.gained and not r.improves_score for r in rows),
        "best sample, mean steps": sum(r.sampled_steps for r in rows) / tasks,
        "stitched, mean steps": sum(len(r.best.steps) for r in rows) / tasks,
        "proposals played": sum(r.played for r in rows),
        "tasks in which MCTS is below the best sample": lost,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Measure every store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--samples", type=int, nargs="+", default=[2, 3, 6])
    parser.add_argument("--max-steps", type=int, default=8, help="step limit of the runs; the demo's by default")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    env = ScienceWorld(max_steps=args.max_steps)
    results = []
    try:
        for store in args.stores:
            digest = hashlib.sha256(store.read_bytes()).hexdigest()[:16]
            for samples in args.samples:
                results.append({"store": digest, **measure(store, samples, env)})
                print(json.dumps(results[-1], indent=1), flush=True)
    finally:
        env.close()
    if args.out:
        record = {"scienceworld": env.version, "max_steps": args.max_steps, "results": results}
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
