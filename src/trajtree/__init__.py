"""Weak-to-strong generalization from trajectory trees.

A weak agent's runs, failures included, become trees; the trees' forks become preference pairs and their best paths
become demonstrations; both teach a stronger model.
"""

from trajtree.envs import Environment, StepResult
from trajtree.errors import DataError, EnvError, PolicyError, RecipeError, RunError, TrajtreeError
from trajtree.forks import Pair, pairs
from trajtree.metrics import summarise
from trajtree.recipe import Recipe, load_recipe
from trajtree.search import SearchResult, exact, mcts
from trajtree.store import TrajectoryStore
from trajtree.trajectory import Message, Outcome, Sampling, Step, Tokens, Trajectory
from trajtree.tree import TrajectoryTree, build, quality

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
    "Trajectory",
    "TrajectoryStore",
    "TrajectoryTree",
    "TrajtreeError",
    "build",
    "exact",
    "load_recipe",
    "mcts",
    "pairs",
    "quality",
    "summarise",
]
