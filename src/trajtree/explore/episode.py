"""One episode: which one to play, and how far it has come.

An episode holds its own environment and its own conversation with the policy. Whatever goes wrong ends it with an
outcome and a typed cause; nothing is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from trajtree.chat import Parser
from trajtree.envs.guard import Guarded
from trajtree.errors import EnvError
from trajtree.policies.base import C, Policy, Reply
from trajtree.trajectory import Cause, Message, Outcome, Sampling, Step, Trajectory


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to play: `sample` counts the episodes of a task."""

    task: str
    sample: int
    sampling: Sampling

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the trajectory in its store: (task, sample)."""
        return self.task, self.sample


@dataclass
class Episode(Generic[C]):
    """An episode under way."""

    spec: EpisodeSpec
    env: Guarded
    conversation: C
    observation: str = ""
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome | None = None
    error: str | None = None
    cause: Cause | None = None

    def begin(self) -> None:
        """Reset the environment and tell the policy what it shows."""
        try:
            self._see(self.env.reset(self.spec.task))
        except EnvError as error:
            self._end(Cause.ENVIRONMENT_FAULT, str(error))

    def read(self, reply: Reply, parse: Parser) -> Step | None:
        """The step that a reply means to take; None when there is none, which ends the episode."""
        if reply.error is not None:
            self._end(reply.cause, reply.error)
            return None
        parsed = parse(reply.text)
        if parsed is None:
            self._end(Cause.UNPARSEABLE_REPLY, f"no action in the reply {reply.text!r}")
            return None
        return Step(self.observation, parsed.action, parsed.thought)

    def act(self, step: Step) -> None:
        """Take the step in the environment and tell the policy what came of it."""
        try:
            result = self.env.step(step.action)
        except EnvError as error:
            self._end(Cause.ENVIRONMENT_FAULT, str(error))
            return
        self.steps.append(Step(step.observation, step.action, step.thought, result.reward))
        self._see(result.observation)
        if result.terminated:
            self.outcome = Outcome.COMPLETED
        elif result.truncated:
            self.outcome = Outcome.TRUNCATED

    def trajectory(self, policy: Policy[C], seed: int) -> Trajectory:
        """What happened, once the episode has ended."""
        assert self.outcome is not None
        return Trajectory(
            task=self.spec.task,
            sample=self.spec.sample,
            policy=policy.name,
            env=self.env.env.name,
            env_version=self.env.env.version,
            seed=seed,
            sampling=self.spec.sampling,
            messages=tuple(self.conversation.messages),
            steps=tuple(self.steps),
            score=min(1.0, max(0.0, sum(step.reward for step in self.steps))),
            outcome=self.outcome,
            tokens=self.conversation.tokens(),
            error=self.error,
            cause=self.cause,
        )

    def _see(self, observation: str) -> None:
        self.observation = observation
        self.conversation.messages.append(Message("user", observation))

    def _end(self, cause: Cause | None, error: str) -> None:
        """End in an error; a policy that names no cause means that the agent could not go on."""
        self.outcome = Outcome.AGENT_ERROR if cause is None else cause.outcome
        self.cause, self.error = cause, error


__all__ = ["Episode", "EpisodeSpec"]
