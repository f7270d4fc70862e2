"""One episode: which one to play, where it begins, and its state while it is played.

An episode holds its own environment and its own conversation with the policy. Whatever goes wrong ends it with an
outcome and a typed cause; nothing is raised.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Generic

from trajtree.chat import Parser, action_of
from trajtree.envs.base import Environment
from trajtree.envs.guard import Guarded
from trajtree.errors import EnvError, WorkerLost
from trajtree.policies.base import C, Policy, Reply, TakesOver, ToolCaller
from trajtree.trajectory import SCORE_TOLERANCE, Cause, Message, Origin, Outcome, Sampling, Step, Tokens, Trajectory


@dataclass(frozen=True, slots=True)
class Start:
    """Where a branched episode begins: after the first `steps` steps of `parent`, an episode of the same task."""

    parent: Trajectory
    steps: int

    def __post_init__(self) -> None:
        """Raise ValueError if the parent has no step, and so no reply, after them."""
        if not 1 <= self.steps < len(self.parent.steps):
            raise ValueError(f"an episode of {len(self.parent.steps)} steps cannot be branched off after {self.steps}")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages up to where the next reply was due."""
        return self.parent.messages[: self.parent.replies[self.steps]]

    @property
    def next_observation(self) -> str:
        """What the agent saw at that point."""
        return self.parent.steps[self.steps].observation


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to play.

    Attributes:
        task: its task.
        sample: counts the episodes of a task.
        sampling: how replies are sampled.
        start: where it branches off; None for one from the beginning.
        by: name of the policy that plays it; None for the one that explores.
    """

    task: str
    sample: int
    sampling: Sampling
    start: Start | None = None
    by: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the trajectory in its store: (task, sample)."""
        return self.task, self.sample


@dataclass
class Episode(Generic[C]):
    """An episode in progress.

    An environment's tools are offered to a policy that can call them; a call is the step's action, spelled as
    `action_of` spells it. Any other policy writes its actions as text.
    """

    spec: EpisodeSpec
    env: Guarded
    conversation: C
    observation: str = ""
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome | None = None
    error: str | None = None
    cause: Cause | None = None
    context_turns: int = 0

    @classmethod
    def of(cls, spec: EpisodeSpec, env: Environment, policy: Policy[C], seed: int, suffix: str) -> Episode[C]:
        """An episode that has not begun; `suffix` is added to the environment's instruction."""
        instruction = f"{env.instruction} {suffix}".strip()
        stream = (seed, zlib.crc32(spec.task.encode()), spec.sample)
        if spec.start is not None and spec.start.parent.policy != policy.name:
            # Another model's token ids mean nothing to this one: it reads the messages.
            spec = replace(spec, start=replace(spec.start, parent=replace(spec.start.parent, tokens=())))
        return cls.open(spec, env, policy.start(instruction, spec.sampling, stream))

    @classmethod
    def open(cls, spec: EpisodeSpec, env: Environment, conversation: C) -> Episode[C]:
        """An episode that has not begun; the conversation of a branched one continues its parent's."""
        start = spec.start
        if start is not None:
            if isinstance(conversation, TakesOver) and start.parent.tokens:
                conversation.take_over(start.messages, start.parent.tokens)
            else:
                conversation.messages[:] = start.messages
            return cls(spec, Guarded(env), conversation, context_turns=start.parent.context_turns)
        given = sum(message.role == "assistant" for message in conversation.messages)
        return cls(spec, Guarded(env), conversation, context_turns=given)

    def begin(self) -> None:
        """Reset the environment, replay the steps to where the episode begins, and show the policy the observation."""
        if self.env.tools and isinstance(self.conversation, ToolCaller):
            self.conversation.tools = self.env.tools
        start = self.spec.start
        try:
            observation = self.env.reset(self.spec.task)
            if start is None:
                self._see(observation)
            elif self._arrives(observation, start):
                # The policy's conversation already has these messages.
                self.observation, self.steps = start.next_observation, list(start.parent.steps[: start.steps])
        except EnvError as error:
            self._end(_cause_of(error), str(error))

    def _arrives(self, observation: str, start: Start) -> bool:
        """Replay the steps that lead to `start`; if the environment answers differently, end the episode: False."""
        canonical = self.env.canonical_observation
        over = False
        for number in range(start.steps + 1):
            step = start.parent.steps[number]
            if over or canonical(observation) != canonical(step.observation):
                seen = "the end of the episode" if over else repr(observation[:60])
                why = f"before step {number + 1} of sample {start.parent.sample} it shows {seen}"
                self._end(Cause.REPLAY_DIVERGED, f"{why}, not {step.observation[:60]!r}")
                return False
            if number < start.steps:
                result = self.env.step(step.action)
                observation, over = result.observation, result.terminated or result.truncated
                if abs(result.reward - step.reward) > SCORE_TOLERANCE:
                    why = f"step {number + 1} of sample {start.parent.sample} earned {step.reward:g}"
                    self._end(Cause.REPLAY_DIVERGED, f"{why}, and now {result.reward:g}")
                    return False
        return True

    def read(self, reply: Reply, parse: Parser) -> Step | None:
        """The step that a reply takes; None if there is none, which ends the episode."""
        if reply.error is not None:
            self._end(reply.cause, reply.error)
            return None
        said = self.conversation.messages[-1]
        if said.tool_calls:
            return Step(self.observation, action_of(said), said.reasoning or said.content or None)
        parsed = parse(reply.text)
        if parsed is None:
            self._end(Cause.UNPARSEABLE_REPLY, f"no action in the reply {reply.text!r}")
            return None
        thought = parsed.thought if parsed.thought is not None else said.reasoning
        return Step(self.observation, parsed.action, thought)

    def act(self, step: Step) -> None:
        """Take the step in the environment and show the policy the result."""
        try:
            result = self.env.step(step.action)
        except EnvError as error:
            self._end(_cause_of(error), str(error))
            return
        self.steps.append(Step(step.observation, step.action, step.thought, result.reward))
        self._see(result.observation)
        if result.terminated:
            self.outcome = Outcome.COMPLETED
        elif result.truncated:
            self.outcome = Outcome.TRUNCATED

    def trajectory(self, policy: Policy[C], seed: int) -> Trajectory:
        """The finished episode as a trajectory."""
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
            tokens=self._tokens(),
            context_turns=self._given(),
            tools=self.conversation.tools if isinstance(self.conversation, ToolCaller) else (),
            error=self.error,
            cause=self.cause,
            origin=self._origin(),
        )

    def _given(self) -> int:
        """The assistant's messages that are no steps' of this trajectory; all of its parent's if it never began."""
        start = self.spec.start
        if start is None or self._origin() is not None:
            return self.context_turns
        return sum(message.role == "assistant" for message in start.messages)

    def _tokens(self) -> tuple[Tokens, ...]:
        """The conversation's tokens; none if those of replies that it did not make itself are unknown.

        Such replies are those that a branched episode took over, and those of an opening.
        """
        start = self.spec.start
        if start is not None and not (isinstance(self.conversation, TakesOver) and start.parent.tokens):
            return ()
        if self.context_turns and not isinstance(self.conversation, TakesOver):
            return ()
        return self.conversation.tokens()

    def _origin(self) -> Origin | None:
        """Where the episode branched off; None if it began at the beginning, or never reached its start."""
        start = self.spec.start
        return None if start is None or len(self.steps) < start.steps else Origin(start.parent.sample, start.steps)

    def _see(self, observation: str) -> None:
        self.observation = observation
        calls = self.conversation.messages[-1].tool_calls
        self.conversation.messages.append(
            Message("tool", observation, tool_call_id=calls[0].id) if calls else Message("user", observation)
        )

    def _end(self, cause: Cause | None, error: str) -> None:
        """End with an error; if a policy gives no cause, the agent could not continue."""
        self.outcome = Outcome.AGENT_ERROR if cause is None else cause.outcome
        self.cause, self.error = cause, error


def _cause_of(error: EnvError) -> Cause:
    return Cause.WORKER_LOST if isinstance(error, WorkerLost) else Cause.ENVIRONMENT_FAULT


def sampled_tokens(trajectory: Trajectory) -> int:
    """Agent tokens that were sampled for a trajectory, without those taken over from its parent or its opening.

    If the engine reported no tokens, four characters of the replies count as a token.
    """
    taken_over = trajectory.context_turns + (0 if trajectory.origin is None else trajectory.origin.steps)
    if trajectory.tokens:
        ranges = [end - start for tokens in trajectory.tokens for start, end in tokens.agent]
        return sum(ranges[taken_over:])
    replies = [m.content for m in trajectory.messages if m.role == "assistant"]
    return sum(-(-len(reply) // 4) for reply in replies[taken_over:])


def tokens_per_step(trajectory: Trajectory) -> float:
    """Agent tokens per sampled step; 1 if nothing was sampled."""
    taken_over = 0 if trajectory.origin is None else trajectory.origin.steps
    steps = len(trajectory.steps) - taken_over
    return sampled_tokens(trajectory) / steps if steps else 1.0


__all__ = ["Episode", "EpisodeSpec", "Start", "sampled_tokens", "tokens_per_step"]
