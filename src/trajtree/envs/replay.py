"""Playing known actions from the beginning of a task."""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.envs.base import Environment
from trajtree.envs.guard import Guarded
from trajtree.trajectory import Message, Outcome, Step, Trajectory
from trajtree.trees.stitching import Replay


def replay(env: Environment, task: str, actions: Sequence[str], *, policy: str) -> Trajectory:
    """Play `actions` in `task` until they or the episode end, and return the trajectory.

    Raises:
        DataError: the task does not exist.
        EnvError: the environment failed.
    """
    guarded = Guarded(env)
    observation = guarded.reset(task)
    messages = [Message("system", env.instruction), Message("user", observation)]
    steps: list[Step] = []
    outcome = Outcome.TRUNCATED
    for action in actions:
        result = guarded.step(action)
        steps.append(Step(observation, action, reward=result.reward))
        observation = result.observation
        messages += [Message("assistant", action), Message("user", observation)]
        if result.terminated:
            outcome = Outcome.COMPLETED
        if result.terminated or result.truncated:
            break
    return Trajectory(
        task=task,
        sample=0,
        policy=policy,
        env=env.name,
        env_version=env.version,
        seed=None,
        sampling=None,
        messages=tuple(messages),
        steps=tuple(steps),
        score=min(1.0, max(0.0, sum(step.reward for step in steps))),
        outcome=outcome,
    )


def replayer(env: Environment) -> Replay:
    """A function that replays actions in an environment; the policy of its trajectories is called `stitched`."""
    return lambda task, actions: replay(env, task, actions, policy="stitched")


__all__ = ["replay", "replayer"]
