"""How much of what rows learn from is the expert's own demonstration again, and how alike their pairs are.

    python benchmarks/copies.py runs/scienceworld/seed0 runs/scienceworld/seed1

The weak model is tuned on demonstrations of the tasks that it then explores, so its runs may repeat them action by
action. Printed for each run directory are, of the paths that rows imitate and of the chosen sides of the weak model's
pairs, how many succeed and how many have the demonstration's actions; and of every other set of pairs, how many join
the same two runs as a pair at a fork of the same exploration.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from trajtree.experiment.lessons import PAIRS, read_pairs
from trajtree.experiment.tasks import STORE
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory


def folders(run: Path, stage: str) -> list[Path]:
    """The folders of a stage, one for each time that it was made with other settings."""
    return sorted(path for path in run.glob(f"{stage}/*") if path.is_dir())


def runs_in(folder: Path) -> list[Trajectory]:
    """The trajectories of a stage's folder."""
    return list(TrajectoryStore(folder / STORE))


def copied(runs: Iterable[Trajectory], shown: Iterable[Trajectory], canonical: Callable[[str], str]) -> str:
    """How many runs there are, how many succeed, and how many do what the demonstration of their task does."""

    def actions(run: Trajectory) -> list[str]:
        return [canonical(step.action) for step in run.steps]

    demonstrated = {run.task: actions(run) for run in shown}
    all_runs = list(runs)
    same = sum(actions(run) == demonstrated.get(run.task) for run in all_runs)
    return f"{len(all_runs)}, {sum(run.success for run in all_runs)} succeed, {same} are the demonstration"


def main() -> None:
    """Print the counts of every run directory."""
    from trajtree.envs.scienceworld import ScienceWorld

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    for run in parser.parse_args().runs:
        shown = [one for folder in folders(run, "demonstrations") for one in runs_in(folder)]
        for stage in sorted(path.name for path in run.glob("paths-weak-*")):
            for folder in folders(run, stage):
                print(f"{folder}: {copied(runs_in(folder), shown, ScienceWorld.canonical_action)}")
        explored = {one.key: one for folder in folders(run, "explore-weak") for one in runs_in(folder)}
        for folder in folders(run, "pairs-weak"):
            chosen = [explored[pair.task, pair.chosen_sample] for pair in read_pairs(folder)]
            print(f"{folder}, chosen: {copied(chosen, shown, ScienceWorld.canonical_action)}")
        for stage in sorted(path.name for path in run.glob("pairs-*-*")):
            at_forks = {
                (pair.task, pair.chosen_sample, pair.rejected_sample)
                for folder in folders(run, "-".join(stage.split("-")[:2]))
                for pair in read_pairs(folder)
            }
            for folder in (path for path in folders(run, stage) if at_forks and (path / PAIRS).exists()):
                found = [(pair.task, pair.chosen_sample, pair.rejected_sample) for pair in read_pairs(folder)]
                print(f"{folder}: {len(found)} pairs, {len(at_forks.intersection(found))} at a fork too")


if __name__ == "__main__":
    main()
