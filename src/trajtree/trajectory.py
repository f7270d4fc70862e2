"""Trajectories: what one agent did in one task, exactly as it happened.

A trajectory keeps two views of the same episode. `steps` is the decision view (observation, thought, action,
reward) from which trees are built; `messages` and `tokens` are the model's view, from which it is trained:
nothing is re-tokenised where the engine's ids are present.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import accumulate
from math import isfinite
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import structs
from pydantic import ConfigDict, Field, with_config

SCORE_TOLERANCE = 1e-6
"""Scores closer than this count as equal, because they are sums of floats. Used wherever scores are compared."""


class Outcome(StrEnum):
    """How an episode ended. Only the environment says `completed`; it does not mean success."""

    COMPLETED = "completed"
    TRUNCATED = "truncated"
    AGENT_ERROR = "agent_error"
    ENV_ERROR = "env_error"
    ENGINE_ERROR = "engine_error"

    @property
    def is_fault(self) -> bool:
        """Whether the environment or the engine failed: such an episode says nothing about the policy.

        It is played again, reported if it keeps failing, never trained on and never part of a metric.
        """
        return self in (Outcome.ENV_ERROR, Outcome.ENGINE_ERROR)


class Cause(StrEnum):
    """What exactly went wrong in an episode that ended in an error."""

    CONTEXT_OVERFLOW = "context_overflow"
    """The conversation no longer fits the model's context."""
    UNPARSEABLE_REPLY = "unparseable_reply"
    """No action could be read from the agent's reply."""
    REPLY_TOO_LONG = "reply_too_long"
    """The agent's reply had not ended when it reached its length limit."""
    ENVIRONMENT_FAULT = "environment_fault"
    """The environment failed."""
    WORKER_LOST = "worker_lost"
    """The environment's process was ended because of another episode in it."""
    REPLAY_DIVERGED = "replay_diverged"
    """A branched episode could not begin: the environment answered the replayed steps differently."""
    TRANSIENT_ENGINE_FAULT = "transient_engine_fault"
    """The engine that runs the model failed temporarily: a retry may succeed."""
    PERMANENT_ENGINE_FAULT = "permanent_engine_fault"
    """The engine failed permanently: a retry would fail again."""

    @property
    def outcome(self) -> Outcome:
        """The outcome of an episode that ended with this cause."""
        return _OUTCOMES[self]


_OUTCOMES = {
    Cause.CONTEXT_OVERFLOW: Outcome.AGENT_ERROR,
    Cause.UNPARSEABLE_REPLY: Outcome.AGENT_ERROR,
    Cause.REPLY_TOO_LONG: Outcome.AGENT_ERROR,
    Cause.ENVIRONMENT_FAULT: Outcome.ENV_ERROR,
    Cause.WORKER_LOST: Outcome.ENV_ERROR,
    Cause.REPLAY_DIVERGED: Outcome.ENV_ERROR,
    Cause.TRANSIENT_ENGINE_FAULT: Outcome.ENGINE_ERROR,
    Cause.PERMANENT_ENGINE_FAULT: Outcome.ENGINE_ERROR,
}


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a trajectory, of which there are very many.

    A frozen dataclass in all but its speed: it is much faster to create, and the garbage collector has less to do.
    `msgspec.structs.replace` makes changed copies.
    """


class ToolCall(_Part, frozen=True, gc=False):
    """A call of a tool by the agent; `arguments` is the text that the agent wrote, JSON unless it made a mistake."""

    id: str
    name: str
    arguments: str


class Message(_Part, frozen=True, gc=False):
    """One chat message as the model saw it.

    Only an assistant's message has `reasoning` and `tool_calls`; `tool_call_id` and `name` say which call a tool's
    message answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


class Step(_Part, frozen=True, gc=False):
    """One decision: what the agent saw, thought and did, and the reward that followed.

    `reward` is the change in the score, so the rewards of an episode add up to its score.
    """

    observation: str
    action: str
    thought: str | None = None
    reward: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError if the reward is not a finite number."""
        if not isfinite(self.reward):
            raise ValueError(f"reward is {self.reward}, must be a finite number")


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding settings. `temperature` 0 is greedy."""

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Engine tokens of an episode: `ids`, and the half-open ranges [start, end) that the agent produced.

    `logprobs` has the log-probability of each token of those ranges, in order, as its engine gives it (usually that of
    the model, before temperature and nucleus); () where the engine gives none.
    """

    ids: tuple[int, ...]
    agent: tuple[tuple[int, int], ...]
    logprobs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if a range is empty, out of order or out of bounds, or a log-probability has no token."""
        last = 0
        for start, end in self.agent:
            if not last <= start < end <= len(self.ids):
                raise ValueError(f"agent range [{start}, {end}) does not fit {len(self.ids)} tokens after {last}")
            last = end
        said = sum(end - start for start, end in self.agent)
        if self.logprobs and len(self.logprobs) != said:
            raise ValueError(f"{len(self.logprobs)} log-probabilities for {said} tokens of the agent's")
        if not all(map(isfinite, self.logprobs)):
            raise ValueError("a log-probability is not a finite number")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a branched episode begins: after the first `steps` steps of the episode `sample` of the same task."""

    sample: int
    steps: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Made:
    """How a reply was made, as far as a log says.

    Attributes:
        model: the model, if it is not the trajectory's policy.
        time: when, as the log writes it.
        cost: in US dollars.
        token_ids: the tokens of the reply, in that model's vocabulary.
        logprobs: [token_ids] their log-probabilities.
    """

    model: str | None = None
    time: str | None = None
    cost: float | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class Context(NamedTuple):
    """What an agent was given before its own first reply, except what it was told in its first observation.

    Attributes:
        given: the messages before those of the first observation: instructions, an example.
        opening: the messages of the first observation, without their text; instructions among them have theirs.
        tools: the tools' definitions.
    """

    given: tuple[Message, ...]
    opening: tuple[Message, ...]
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One whole episode: a branched one also holds everything from the beginning of its task.

    `score` is G(e) in [0, 1]; `tokens` has one entry for each sequence the model was fed: one if the chat
    template only ever appends, more where it rewrites history. `sample` counts the rollouts of one task.
    If `outcome` is an error, `error` describes what went wrong and `cause` classifies it. `seed` and `sampling`
    are None if they were not recorded.

    The assistant's messages are first `context_turns` replies that belong to the prompt (an example, an
    acknowledgement), then the replies of `steps`, in order; a reply from which no action could be read may follow.
    `tools` are the tools' definitions, each as JSON text.

    `made` says how each of the assistant's messages was made, in order; it is empty if that is unknown.

    An `unscored` trajectory was imported without a score, and its `score` of 0 says nothing.

    `origin` is None for an episode that was played from the beginning of its task. A branched episode took its first
    `origin.steps` steps from another episode, with their messages and tokens, and was sampled from there on.
    """

    task: str
    sample: int
    policy: str
    env: str
    env_version: str
    seed: int | None
    sampling: Sampling | None
    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    score: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    outcome: Outcome
    tokens: tuple[Tokens, ...] = ()
    error: str | None = None
    context_turns: Annotated[int, Field(ge=0)] = 0
    tools: tuple[str, ...] = ()
    metadata: dict[str, str | int | float | bool] = field(default_factory=dict)
    origin: Origin | None = None
    cause: Cause | None = None
    unscored: bool = False
    made: tuple[Made, ...] = ()

    def __post_init__(self) -> None:
        """Check that the fields are consistent.

        Raises:
            ValueError: the score is outside [0, 1], a number in the metadata is infinite or NaN, the cause belongs to
                another outcome, the origin has more steps than the episode, or the agent's token ranges or `made` do
                not match its replies.
        """
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score is {self.score}, must be in [0, 1]")
        for name, value in self.metadata.items():
            if isinstance(value, float) and not isfinite(value):
                raise ValueError(f"metadata {name!r} is {value}, must be a finite number")
        if self.cause is not None and self.cause.outcome is not self.outcome:
            raise ValueError(f"cause {self.cause} belongs to outcome {self.cause.outcome}, not to {self.outcome}")
        if self.origin is not None and self.origin.steps > len(self.steps):
            raise ValueError(f"origin has {self.origin.steps} steps, the episode has {len(self.steps)}")
        if self.made and len(self.made) != sum(message.role == "assistant" for message in self.messages):
            raise ValueError(f"made has {len(self.made)} entries, but there is one for each of the replies")
        if self.tokens and self.messages:
            # The last reply may be empty, and then has no tokens; every reply with a step has some.
            ranges = sum(len(tokens.agent) for tokens in self.tokens)
            replies = sum(message.role == "assistant" for message in self.messages)
            if not self.context_turns + len(self.steps) <= ranges <= replies:
                raise ValueError(
                    f"tokens have {ranges} ranges of the agent's, messages have {replies} replies for "
                    f"{len(self.steps)} steps: every reply must have its range"
                )

    @property
    def replies(self) -> tuple[int, ...]:
        """[steps] index in `messages` of each step's reply."""
        said = [index for index, message in enumerate(self.messages) if message.role == "assistant"]
        return tuple(said[self.context_turns : self.context_turns + len(self.steps)])

    @property
    def context(self) -> Context:
        """What the agent was given before its own first reply, except its first observation."""
        said = [index for index, message in enumerate(self.messages) if message.role == "assistant"]
        first = said[self.context_turns] if len(said) > self.context_turns else len(self.messages)
        # The first observation is everything that others said after the last reply of the context. Who said it, and
        # where instructions stand among it, is part of the context.
        begin = said[: self.context_turns][-1] + 1 if self.context_turns and said else 0
        opening = (m if m.role == "system" else structs.replace(m, content="") for m in self.messages[begin:first])
        return Context(self.messages[:begin], tuple(opening), self.tools)

    @property
    def prompt(self) -> tuple[Context, str]:
        """What the agent was given before its own first reply: its context and its first observation, if any."""
        return self.context, self.steps[0].observation.strip() if self.steps else ""

    def past(self, step: int) -> Hashable:
        """Everything before step number `step`, for exact comparison with another trajectory: messages and tools.

        The ids of calls are numbers here: engines draw them anew in every run, and they only say what answers what.
        Without messages, the observations and actions.
        """
        replies = self.replies
        if step < len(replies):
            return _with_ids_numbered(self.messages[: replies[step]]), self.tools
        seen = self.steps[step].observation if step < len(self.steps) else None
        return tuple((s.observation, s.action, s.thought) for s in self.steps[:step]), seen, self.tools

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the trajectory in its store: (task, sample)."""
        return self.task, self.sample

    @property
    def counts(self) -> bool:
        """Whether its score says something about the policy: only such trajectories are compared and measured."""
        return not self.unscored and not self.outcome.is_fault

    @property
    def success(self) -> bool:
        """True when the environment completed the episode with the full score."""
        return self.outcome is Outcome.COMPLETED and not self.unscored and self.reaches(1.0)

    def reaches(self, score: float) -> bool:
        """Whether the score is at least `score`, within SCORE_TOLERANCE."""
        return self.score >= score - SCORE_TOLERANCE

    @property
    def best_score(self) -> float:
        """Best score reached at any point, as ETO counts ScienceWorld; never below the final score."""
        return min(1.0, max([self.score, *accumulate(step.reward for step in self.steps)]))

    def without_idle_end(self) -> Trajectory:
        """The episode up to the step that reached its final score; later steps neither gained nor lost anything.

        An episode that the environment completed is whole, because its last step is what ended it.
        """
        if self.outcome is Outcome.COMPLETED:
            return self
        gained = [index for index, step in enumerate(self.steps) if abs(step.reward) > SCORE_TOLERANCE]
        return self.first(gained[-1] + 1 if gained else len(self.steps))

    def first(self, steps: int) -> Trajectory:
        """The first `steps` steps of the episode, up to the last of their replies, with the score of the whole."""
        replies = self.replies[:steps]
        end = replies[-1] + 1 if replies else len(self.messages)
        origin = self.origin if self.origin is not None and self.origin.steps <= steps else None
        return replace(
            self,
            steps=self.steps[:steps],
            messages=self.messages[:end],
            tokens=(),
            origin=origin,
            made=self.made[: self.context_turns + len(replies)] if replies else self.made,
        )


def _with_ids_numbered(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with numbers for the ids of calls, in the order in which they occur."""
    ids = dict.fromkeys(call.id for message in messages for call in message.tool_calls)
    if not ids:
        return messages
    numbers: dict[str | None, str] = {name: str(number) for number, name in enumerate(ids)}
    return tuple(
        structs.replace(
            message,
            tool_calls=tuple(ToolCall(numbers[call.id], call.name, call.arguments) for call in message.tool_calls),
            tool_call_id=numbers.get(message.tool_call_id, message.tool_call_id),
        )
        if message.tool_calls or message.tool_call_id is not None
        else message
        for message in messages
    )


__all__ = [
    "SCORE_TOLERANCE",
    "Cause",
    "Context",
    "Made",
    "Message",
    "Origin",
    "Outcome",
    "Sampling",
    "Step",
    "Tokens",
    "ToolCall",
    "Trajectory",
]
