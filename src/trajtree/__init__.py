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

from typing import TYPE_CHECKING, Any

from trajtree.envs import Environment, StepResult
from trajtree.errors import DataError, EnvError, PolicyError, RecipeError, RunError, TrajtreeError
from trajtree.formats.pairs import PairMessages, pair_messages
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Message, Outcome, Sampling, Step, Tokens, ToolCall, Trajectory
from trajtree.trees.forks import Pair, pairs
from trajtree.trees.merge import build, build_tree
from trajtree.trees.quality import TreeQuality, quality
from trajtree.trees.search import SearchResult, best_of_n, exact, mcts
from trajtree.trees.stitching import propose, stitch
from trajtree.trees.tree import TrajectoryTree

if TYPE_CHECKING:
    from trajtree.experiment.recipe import Recipe, load_recipe
    from trajtree.formats.importing import import_files
    from trajtree.statistics.summary import summarise

_LATER = {
    "Recipe": "experiment.recipe",
    "load_recipe": "experiment.recipe",
    "import_files": "formats.importing",
    "summarise": "statistics.summary",
}
"""Names that are imported when they are first used, because their modules take a third of the whole import time."""


def __getattr__(name: str) -> Any:
    """A name of _LATER, or the version."""
    if name == "__version__":
        from importlib.metadata import version

        return version("trajtree")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "DataError",
    "EnvError",
    "Environment",
    "Message",
    "Outcome",
    "Pair",
    "PairMessages",
    "PolicyError",
    "Recipe",
    "RecipeError",
    "RunError",
    "Sampling",
    "SearchResult",
    "Step",
    "StepResult",
    "Tokens",
    "ToolCall",
    "Trajectory",
    "TrajectoryStore",
    "TrajectoryTree",
    "TrajtreeError",
    "TreeQuality",
    "best_of_n",
    "build",
    "build_tree",
    "exact",
    "import_files",
    "load_recipe",
    "mcts",
    "pair_messages",
    "pairs",
    "propose",
    "quality",
    "read_trees",
    "stitch",
    "summarise",
    "write_store",
    "write_trees",
]
