"""Weak-to-strong generalization from trajectory trees.

A weak agent's runs, failures included, become trees; the trees' forks become preference pairs and their best paths
become demonstrations; both teach a stronger model.
"""

import sys

# `python -m trajtree` begins Python's path with the current folder, and so would run whatever modules lie there under
# the name of one that we import. Only names such as module:Class may bring code of that folder in. (While Python looks
# for the module that it is to run, `sys.argv` begins with "-m".)
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    for option, module in zip(sys.orig_argv, [*sys.orig_argv[1:], ""], strict=True):
        if f"{option}{module}".startswith("-mtrajtree"):
            del sys.path[0]
            break

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajtree.envs.base import Environment as Environment
    from trajtree.envs.base import StepResult as StepResult
    from trajtree.errors import DataError as DataError
    from trajtree.errors import EnvError as EnvError
    from trajtree.errors import PolicyError as PolicyError
    from trajtree.errors import RecipeError as RecipeError
    from trajtree.errors import RunError as RunError
    from trajtree.errors import TrajtreeError as TrajtreeError
    from trajtree.experiment.recipe import Recipe as Recipe
    from trajtree.experiment.recipe import load_recipe as load_recipe
    from trajtree.formats.importing import import_files as import_files
    from trajtree.formats.pairs import PairMessages as PairMessages
    from trajtree.formats.pairs import pair_messages as pair_messages
    from trajtree.statistics.summary import summarise as summarise
    from trajtree.store.trajectory_store import TrajectoryStore as TrajectoryStore
    from trajtree.store.trajectory_store import write_store as write_store
    from trajtree.store.tree_store import read_trees as read_trees
    from trajtree.store.tree_store import write_trees as write_trees
    from trajtree.trajectory import Message as Message
    from trajtree.trajectory import Outcome as Outcome
    from trajtree.trajectory import Sampling as Sampling
    from trajtree.trajectory import Step as Step
    from trajtree.trajectory import Tokens as Tokens
    from trajtree.trajectory import ToolCall as ToolCall
    from trajtree.trajectory import Trajectory as Trajectory
    from trajtree.trees.forks import pairs as pairs
    from trajtree.trees.merge import Merger as Merger
    from trajtree.trees.merge import build as build
    from trajtree.trees.merge import build_tree as build_tree
    from trajtree.trees.pair import Pair as Pair
    from trajtree.trees.quality import TreeQuality as TreeQuality
    from trajtree.trees.quality import quality as quality
    from trajtree.trees.search import SearchResult as SearchResult
    from trajtree.trees.search import best_of_n as best_of_n
    from trajtree.trees.search import exact as exact
    from trajtree.trees.search import mcts as mcts
    from trajtree.trees.stitching import propose as propose
    from trajtree.trees.stitching import stitch as stitch
    from trajtree.trees.tree import TrajectoryTree as TrajectoryTree

_NAMES = {
    "envs.base": ("Environment", "StepResult"),
    "errors": ("DataError", "EnvError", "PolicyError", "RecipeError", "RunError", "TrajtreeError"),
    "experiment.recipe": ("Recipe", "load_recipe"),
    "formats.importing": ("import_files",),
    "formats.pairs": ("PairMessages", "pair_messages"),
    "statistics.summary": ("summarise",),
    "store.trajectory_store": ("TrajectoryStore", "write_store"),
    "store.tree_store": ("read_trees", "write_trees"),
    "trajectory": ("Message", "Outcome", "Sampling", "Step", "Tokens", "ToolCall", "Trajectory"),
    "trees.forks": ("pairs",),
    "trees.merge": ("Merger", "build", "build_tree"),
    "trees.pair": ("Pair",),
    "trees.quality": ("TreeQuality", "quality"),
    "trees.search": ("SearchResult", "best_of_n", "exact", "mcts"),
    "trees.stitching": ("propose", "stitch"),
    "trees.tree": ("TrajectoryTree",),
}
"""Public names by their module, which is imported when one of them is first used: every command begins here."""

__all__ = sorted(name for names in _NAMES.values() for name in names)


def __getattr__(name: str) -> Any:
    """A name of __all__, or the version."""
    if name == "__version__":
        return import_module("importlib.metadata").version("trajtree")
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
