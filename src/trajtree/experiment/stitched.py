"""Stitched paths: what joining runs and leaving out idle steps makes of each tree, played in the environment."""

from __future__ import annotations

from trajtree.envs.domain import load_domain
from trajtree.envs.replay import replayer
from trajtree.experiment.lessons import TREES
from trajtree.experiment.play import maker
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import STORE, store_in
from trajtree.explore.workers import environments
from trajtree.store.tree_store import read_trees
from trajtree.trajectory import Trajectory
from trajtree.trees.search import PathSettings
from trajtree.trees.stitching import stitch


def stitch_paths(recipe: Recipe, how: PathSettings, work: Work) -> None:
    """Stitch and play, and keep each tree's best trajectory, sampled or stitched, if it really scored enough.

    A state is what the agent sees, in the environment's canonical form.
    """
    canonical = load_domain(recipe.env.name).environment.canonical_observation

    def seen(trajectory: Trajectory, step: int) -> str | None:
        return None if step == len(trajectory.steps) else canonical(trajectory.steps[step].observation)

    trees = list(read_trees(work.inputs["trees"] / TREES))
    work.progress.total(len(trees))
    found: list[Trajectory] = []
    workers = 0 if recipe.play.workers == 0 else 1
    with environments(maker(recipe, "train"), workers=workers, seconds=recipe.play.seconds) as make:
        environment = make()
        for tree in trees:
            found.append(stitch(tree, replayer(environment), state=seen).best)
            work.progress.advance(1)
        environment.close()
    (work.folder / STORE).unlink(missing_ok=True)
    store_in(work.folder).append(path for path in found if path.reaches(how.min_score))


__all__ = ["stitch_paths"]
