"""When an episode is played again after a fault of the environment or the engine, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.errors import EngineError, EnvError
from trajtree.trajectory import Cause, Outcome, Trajectory

ATTEMPTS = 3
"""How often an episode is played, if the environment or the engine fails, before the fault is recorded."""
BROKEN_SHARE = 0.5
"""Largest share of a wave's tasks that may be lost to faults; beyond it, the cause is not in the tasks."""


def check_sound(played: Sequence[Trajectory]) -> None:
    """Stop where it is not these tasks that break.

    Args:
        played: the trajectories of a wave.

    Raises:
        EnvError, EngineError: more than BROKEN_SHARE of their tasks, and at least two, are lost to faults.
    """
    broken = [t for t in played if is_passing(t)]
    tasks = len({t.task for t in played})
    if len({t.task for t in broken}) > max(1, BROKEN_SHARE * tasks):
        what, kind = ("engine", EngineError) if broken[0].outcome is Outcome.ENGINE_ERROR else ("environment", EnvError)
        tries = f", {ATTEMPTS} times each" if all(map(worth_another_try, broken)) else ""
        raise kind(
            f"the {what} failed in {len(broken)} of {len(played)} episodes{tries}; in {broken[0].task}: "
            f"{broken[0].error}; fix the cause and run the same command again, which plays them again"
        )


def is_innocent(trajectory: Trajectory) -> bool:
    """Whether the episode was lost because another one ended its environment's process: no attempt of its own."""
    return trajectory.cause is Cause.WORKER_LOST


def worth_another_try(trajectory: Trajectory) -> bool:
    """Whether the episode was lost to a fault that may pass at once."""
    return is_passing(trajectory) and trajectory.cause is not Cause.PERMANENT_ENGINE_FAULT


def is_passing(trajectory: Trajectory) -> bool:
    """Whether the episode was lost to a fault that somebody can put right, so that a later command plays it again.

    A replay that diverged will diverge again: the world has changed since it was recorded.
    """
    return trajectory.outcome.is_fault and trajectory.cause is not Cause.REPLAY_DIVERGED


__all__ = ["ATTEMPTS", "BROKEN_SHARE", "check_sound", "is_innocent", "is_passing", "worth_another_try"]
