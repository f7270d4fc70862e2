"""When an episode is played again after a fault of the environment or the engine, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
    the last wave of each of the last LATELY tasks.
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
        # Of a task that was played alone, one broken episode says little: it is lost if its whole last wave was.
        whole = [
            wave if all(map(is_passing, wave)) else [t for t in wave if not is_passing(t)]
            for wave in self._lately.values()
        ]
        check_sound(trajectory for lately in whole for trajectory in lately)


def check_sound(played: Iterable[Trajectory], *, finished: bool = False) -> None:
    """Stop where it is not these tasks that break.

    Args:
        played: trajectories that are judged together.
        finished: whether they are all that there will be. Then a task is lost only if all of its episodes are, and one
            must not be.

    Raises:
        EnvError, EngineError: more than BROKEN_SHARE of their tasks, and at least two, are lost to faults.
    """
    episodes, sound, broken = 0, set[str](), list[Trajectory]()
    for trajectory in played:
        episodes += 1
        if is_passing(trajectory):
            broken.append(trajectory)
        else:
            sound.add(trajectory.task)
    lost = {trajectory.task for trajectory in broken}
    tasks = len(lost | sound)
    too_many = len(lost - sound if finished else lost) > max(1, BROKEN_SHARE * tasks)
    if too_many or (finished and 0 < episodes == len(broken)):
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
