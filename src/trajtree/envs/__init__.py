"""Interactive text environments."""

from trajtree.envs.base import Environment, StepResult

__all__ = ["Environment", "StepResult"]
