"""Interactive text environments, one folder each, their contract, and what guards, checks and adapts them."""

from trajtree.envs.base import Environment, StepResult

__all__ = ["Environment", "StepResult"]
