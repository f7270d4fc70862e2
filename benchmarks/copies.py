"""How much of what rows learn from is the expert's own demonstration again, and how alike their pairs and tasks are.

    python benchmarks/copies.py runs/scienceworld/seed0 runs/scienceworld/seed1 --out benchmarks/results/copies.json

The weak model is tuned on demonstrations of the tasks that it then explores, so its runs may repeat them action by
action. Counted for each run directory are

* of the paths that rows imitate and of the chosen sides of the weak model's pairs, how many succeed and how many have
  the demonstration's actions;
* of every other set of pairs, how many join the same two runs as a pair at a fork of the same exploration;
* of the tasks that nobody demonstrated, how many are in the situation of a demonstrated one, and how many of the others
  have its world.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trajtree.experiment.lessons import PAIRS, read_pairs
from trajtree.experiment.tasks import STORE, read_tasks
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory


def folders(run: Path, stage: str) -> list[Path]:
    """The folders of a stage, one for each time that it was made with other settings."""
    return sorted(path for path in run.glob(f"{stage}/*") if path.is_dir())


def runs_in(folder: Path) -> list[Trajectory]:
    """The trajectories of a stage's folder."""
    return list(TrajectoryStore(folder / STORE))


def copied(runs: Iterable[Trajectory], shown: Iterable[Trajectory], canonical: Callable[[str], str]) -> dict[str, int]:
    """How many runs there are, how many succeed, and how many do what the demonstration of their task does."""

    def actions(run: Trajectory) -> list[str]:
        return [canonical(step.action) for step in run.steps]

    demonstrated = {run.task: actions(run) for run in shown}
    all_runs = list(runs)
    same = sum(actions(run) == demonstrated.get(run.task) for run in all_runs)
    return {"runs": len(all_runs), "succeed": sum(run.success for run in all_runs), "demonstrations": same}


def seen_before(shown: Iterable[str], unseen: Iterable[str], situations: Mapping[str, str]) -> dict[str, int]:
    """How many unseen tasks are in a shown task's situation, and how many others in its world (its [] at the end)."""
    known = {situations[task] for task in shown}
    worlds = {situation.rpartition("[")[2] for situation in known}
    new = [situations[task] for task in unseen]
    same = sum(situation in known for situation in new)
    world = sum(situation not in known and situation.rpartition("[")[2] in worlds for situation in new)
    return {"tasks": len(new), "in a demonstrated situation": same, "in a demonstrated world": world}


def counts(run: Path) -> dict[str, Any]:
    """The counts of a run directory, by stage."""
    from trajtree.envs.scienceworld import ScienceWorld

    found: dict[str, Any] = {}
    shown = [one for folder in folders(run, "demonstrations") for one in runs_in(folder)]
    for stage in sorted(path.name for path in run.glob("paths-weak-*")):
        for folder in folders(run, stage):
            found[stage] = copied(runs_in(folder), shown, ScienceWorld.canonical_action)
    explored = {one.key: one for folder in folders(run, "explore-weak") for one in runs_in(folder)}
    for folder in folders(run, "pairs-weak"):
        chosen = [explored[pair.task, pair.chosen_sample] for pair in read_pairs(folder)]
        found["pairs-weak, chosen"] = copied(chosen, shown, ScienceWorld.canonical_action)
    for stage in sorted(path.name for path in run.glob("pairs-*-*")):
        at_forks = {
            (pair.task, pair.chosen_sample, pair.rejected_sample)
            for folder in folders(run, "-".join(stage.split("-")[:2]))
            for pair in read_pairs(folder)
        }
        for folder in (path for path in folders(run, stage) if at_forks and (path / PAIRS).exists()):
            pairs = [(pair.task, pair.chosen_sample, pair.rejected_sample) for pair in read_pairs(folder)]
            found[stage] = {"pairs": len(pairs), "at a fork too": len(at_forks.intersection(pairs))}
    for folder in folders(run, "unseen"):
        (tasks,) = folders(run, "tasks")
        known, new = (one.task for one in shown), json.loads((folder / "tasks.json").read_text())
        found["unseen"] = seen_before(known, new, read_tasks(tasks)["situations"])
    return found


def main() -> None:
    """Print the counts of every run directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="also write them as JSON")
    args = parser.parse_args()
    found = {run.name: counts(run) for run in args.runs}
    for name, of_run in found.items():
        for stage, numbers in of_run.items():
            print(f"{name}, {stage}: {', '.join(f'{number} {what}' for what, number in numbers.items())}")
    if args.out is not None:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
