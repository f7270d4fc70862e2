"""When an episode is played again after a fault of the environment or the engine, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from trajtree.errors import EngineError, EnvError
from trajtree.trajectory import Cause, Outcome, Trajectory

ATTEMPTS = 3
"""How often an episode is played, if the environment or the engine fails, before the fault is recorded."""
BROKEN_SHARE = 0.5
"""Largest share of the tasks judged together that may be lost to faults; beyond it, the cause is not in the tasks."""
LATELY = 8
"""Number of tasks that are judged together where each was played alone in its wave."""


@dataclass(frozen=True, slots=True)
class Soundness:
    """Judges waves as they end, and stops where it is not their tasks that break.

    One task says nothing of the others. So a wave of a single task is judged together with earlier ones of that kind:
    the last wave of each of the last LATELY tasks, where a task is lost if its whole wave is.
    """

    _lately: dict[str, Sequence[Trajectory]] = field(default_factory=dict)

    def judge(self, wave: Sequence[Trajectory]) -> None:
        """Judge the next wave.

        Raises:
            EnvError, EngineError: more than BROKEN_SHARE of the tasks, and at least two, are lost to faults.
        """
        tasks = {trajectory.task for trajectory in wave}
        if len(tasks) > 1:
            check_sound(wave)
            return
        for task in tasks:
            self._lately.pop(task, None)
            self._lately[task] = wave
        if len(self._lately) > LATELY:
            del self._lately[next(iter(self._lately))]
        check_sound(chain.from_iterable(self._lately.values()), wholly=True)


def check_sound(played: Iterable[Trajectory], *, wholly: bool = False, fewest: int = 2) -> None:
    """Stop where it is not these tasks that break.

    Args:
        played: trajectories that are judged together.
        wholly: whether a task is lost only if all of these episodes of it are; by default one is enough.
        fewest: how many lost tasks say something.

    Raises:
        EnvError, EngineError: more than BROKEN_SHARE of their tasks, and at least `fewest`, are lost to faults.
    """
    episodes, sound, broken = 0, set[str](), list[Trajectory]()
    for trajectory in played:
        episodes += 1
        if is_passing(trajectory):
            broken.append(trajectory)
        else:
            sound.add(trajectory.task)
    touched = {trajectory.task for trajectory in broken}
    lost = touched - sound if wholly else touched
    if len(lost) >= fewest and len(lost) > BROKEN_SHARE * len(touched | sound):
        what, kind = ("engine", EngineError) if broken[0].outcome is Outcome.ENGINE_ERROR else ("environment", EnvError)
        tries = f", {ATTEMPTS} times each" if all(map(worth_another_try, broken)) else ""
        raise kind(
            f"the {what} failed in {len(broken)} of {episodes} episodes{tries}; in {broken[0].task}: "
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


__all__ = [
    "ATTEMPTS",
    "BROKEN_SHARE",
    "LATELY",
    "Soundness",
    "check_sound",
    "is_innocent",
    "is_passing",
    "worth_another_try",
]
