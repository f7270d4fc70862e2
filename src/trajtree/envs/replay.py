"""Playing known actions from the beginning of a task."""

from __future__ import annotations

from collections.abc import Sequence

from trajtree.envs.base import Environment
from trajtree.envs.guard import Guarded
from trajtree.trajectory import Message, Outcome, Step, Trajectory
from trajtree.trees.stitching import Replay


def replay(
    env: Environment,
    task: str,
    actions: Sequence[str],
    *,
    policy: str,
    thoughts: Sequence[str | None] | None = None,
    opening: Sequence[Message] = (),
) -> Trajectory:
    """Play `actions` in `task` until they or the episode end, and return the trajectory.

    Args:
        env: the environment.
        task: its task.
        actions: the actions.
        policy: what the trajectory calls its policy.
        thoughts: the thought before each action, if any; with them, replies have `Thought:` and `Action:` lines.
        opening: messages before the first observation, instead of the environment's instruction.

    Raises:
        DataError: the task does not exist.
        EnvError: the environment failed.
    """
    guarded = Guarded(env)
    observation = guarded.reset(task)
    given = opening or (Message("system", env.instruction),)
    messages = [*given, Message("user", observation)]
    steps: list[Step] = []
    outcome = Outcome.TRUNCATED
    for thought, action in zip(thoughts or [None] * len(actions), actions, strict=True):
        result = guarded.step(action)
        steps.append(Step(observation, action, thought, result.reward))
        observation = result.observation
        line = action if thoughts is None else f"Action: {action}"
        reply = line if thought is None else f"Thought: {thought}\n{line}"
        messages += [Message("assistant", reply), Message("user", observation)]
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
        context_turns=sum(message.role == "assistant" for message in given),
    )


def replayer(env: Environment) -> Replay:
    """A function that replays actions in an environment; the policy of its trajectories is called `stitched`."""
    return lambda task, actions: replay(env, task, actions, policy="stitched")


__all__ = ["replay", "replayer"]
