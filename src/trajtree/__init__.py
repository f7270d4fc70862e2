"""Weak-to-strong generalization from trajectory trees.

A weak agent's runs, failures included, become trees; the trees' forks become preference pairs and their best paths
become demonstrations; both teach a stronger model.
"""

from trajtree.envs import Environment, StepResult
from trajtree.errors import DataError, EnvError, PolicyError, RecipeError, RunError, TrajtreeError
from trajtree.experiment.recipe import Recipe, load_recipe
from trajtree.formats.importing import import_files
from trajtree.statistics.summary import summarise
from trajtree.store.trajectory_store import TrajectoryStore, write_store
from trajtree.store.tree_store import read_trees, write_trees
from trajtree.trajectory import Message, Outcome, Sampling, Step, Tokens, ToolCall, Trajectory
from trajtree.trees.forks import Pair, pairs
from trajtree.trees.merge import build, build_tree
from trajtree.trees.quality import TreeQuality, quality
from trajtree.trees.search import SearchResult, best_of_n, exact, mcts
from trajtree.trees.stitching import propose, stitch
from trajtree.trees.tree import TrajectoryTree

__all__ = [
    "DataError",
    "EnvError",
    "Environment",
    "Message",
    "Outcome",
    "Pair",
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
    "pairs",
    "propose",
    "quality",
    "read_trees",
    "stitch",
    "summarise",
    "write_store",
    "write_trees",
]
