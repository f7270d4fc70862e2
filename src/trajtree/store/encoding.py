"""How a trajectory is encoded: one JSON object per line, version 2 of the store.

Every text is stored once. What the agent saw, did and thought is already in the messages, so a step only says how to
find it there: by default its action is its whole reply (or the reply's tool calls), its observation is everything said
since the previous reply, and it has no thought. Fields with their default value are left out, so fields that are added
later change no byte of trajectories that do not use them.

    {"task": "find-plant/3", "sample": 0, "policy": "weak", "env": "scienceworld", "score": 0.5,
     "messages": [["s", "You act ..."], ["u", "Find a plant."], ["a", "look"], ["u", "You see ..."]], "steps": [0.5]}

A message is [role, text] or [role, text, more]; roles are s(ystem), u(ser), a(ssistant), t(ool). A step is its reward,
or [reward, action, thought, observation]: an action or a thought may be [start, end] in the reply's text, or its own
text; a thought of `true` is the reply's reasoning.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import chain
from types import NoneType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from trajtree.chat import action_of
from trajtree.trajectory import Cause, Made, Message, Origin, Outcome, Sampling, Step, Tokens, ToolCall, Trajectory

_ROLES: dict[str, Literal["s", "u", "a", "t"]] = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}
_NAMES: dict[str, Any] = {letter: name for name, letter in _ROLES.items()}
_PLACE = ("source", "row", "line", "digest", "content")
"""What an import adds to a trajectory's metadata, stored separately because every imported one has it."""
_PLACED = frozenset(_PLACE)

_LARGEST = sys.float_info.max
Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
"""A number that JSON can hold."""

_DIGEST = re.compile("[0-9a-f]{16}")
Digest = Annotated[str, Meta(pattern=f"^{_DIGEST.pattern}$")]
Place = tuple[str, Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=0)], Digest, Digest]
"""The source of an imported trajectory: its file, record number, line, and hashes of its bytes and its content."""


class _More(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Fields that few messages have."""

    reasoning: str | None = None
    calls: list[tuple[str, str, str]] = []
    answers: str | None = None
    name: str | None = None


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    role: Literal["s", "u", "a", "t"]
    content: str
    more: _More | None = None


class _Step(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    reward: Finite
    action: tuple[int, int] | str | None = None
    thought: tuple[int, int] | str | bool | None = None
    observation: str | None = None


class _Tokens(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    ids: list[int]
    agent: list[int]
    """start, end, start, end, ... of the agent's ranges."""
    logprobs: list[float] = []


class _Made(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """How a reply was made; fields that a log does not give are left out."""

    model: str | None = None
    time: str | None = None
    cost: Finite | None = None
    ids: Sequence[int] = ()
    logprobs: Sequence[Finite] = ()


HIGHEST_SAMPLE = 2**63 - 1
Sample = Annotated[int, Meta(ge=-(2**63), le=HIGHEST_SAMPLE)]
"""A sample's number: indexes keep 64 bits of it."""


class Head(msgspec.Struct):
    """The part of a line that an import and an index need; the parser skips the rest."""

    task: str
    sample: Sample = 0
    place: Place | None = None


class Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A line as read."""

    task: str
    sample: Sample
    policy: str
    env: str
    env_version: str = ""
    seed: int | None = None
    sampling: tuple[Annotated[float, Meta(ge=0)], Annotated[float, Meta(gt=0, le=1)]] | None = None
    messages: list[_Message]
    steps: list[Finite | _Step]
    score: Annotated[float, Meta(ge=0, le=1)]
    outcome: Outcome = Outcome.COMPLETED
    tokens: list[_Tokens] = []
    error: str | None = None
    cause: Cause | None = None
    context_turns: Annotated[int, Meta(ge=0)] = 0
    tools: list[str] = []
    place: Place | None = None
    metadata: dict[str, str | int | Finite | bool] = {}
    origin: tuple[Sample, Annotated[int, Meta(ge=1)]] | None = None
    unscored: bool = False
    made: list[_Made] = []


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as a row, ready to be encoded."""
    row: dict[str, Any] = {
        "task": trajectory.task,
        "sample": trajectory.sample,
        "policy": trajectory.policy,
        "env": trajectory.env,
        "score": _number(trajectory.score),
        "messages": _messages_written(trajectory.messages),
        "steps": _steps_written(trajectory),
    }
    if trajectory.env_version:
        row["env_version"] = trajectory.env_version
    if trajectory.seed is not None:
        row["seed"] = trajectory.seed
    if trajectory.sampling is not None:
        row["sampling"] = [_number(trajectory.sampling.temperature), _number(trajectory.sampling.top_p)]
    if trajectory.outcome is not Outcome.COMPLETED:
        row["outcome"] = trajectory.outcome.value
    if trajectory.tokens:
        row["tokens"] = [
            [t.ids, list(chain.from_iterable(t.agent)), *([t.logprobs] if t.logprobs else [])]
            for t in trajectory.tokens
        ]
    if trajectory.error is not None:
        row["error"] = trajectory.error
    if trajectory.cause is not None:
        row["cause"] = trajectory.cause.value
    if trajectory.context_turns:
        row["context_turns"] = trajectory.context_turns
    if trajectory.tools:
        row["tools"] = trajectory.tools
    place, metadata = place_of(trajectory), trajectory.metadata
    if place is not None:
        row["place"] = place
        metadata = {name: value for name, value in metadata.items() if name not in _PLACE}
    if metadata:
        row["metadata"] = metadata
    if trajectory.origin is not None:
        row["origin"] = [trajectory.origin.sample, trajectory.origin.steps]
    if trajectory.unscored:
        row["unscored"] = True
    if trajectory.made:
        row["made"] = [_made_written(made) for made in trajectory.made]
    return row


def from_row(row: Row) -> Trajectory:
    """The trajectory of a line.

    Raises:
        ValueError: the fields contradict one another.
    """
    names = _NAMES
    messages = tuple([Message(names[m.role], m.content) if m.more is None else _read(m) for m in row.messages])
    metadata = dict(row.metadata)
    if row.place is not None:
        metadata.update(zip(_PLACE, row.place, strict=True))
    return Trajectory(
        task=row.task,
        sample=row.sample,
        policy=row.policy,
        env=row.env,
        env_version=row.env_version,
        seed=row.seed,
        sampling=None if row.sampling is None else Sampling(*row.sampling),
        messages=messages,
        steps=_steps_read(row.steps, messages, row.context_turns),
        score=row.score,
        outcome=row.outcome,
        tokens=tuple(_tokens(number, tokens) for number, tokens in enumerate(row.tokens)),
        error=row.error,
        context_turns=row.context_turns,
        tools=tuple(row.tools),
        metadata=metadata,
        origin=None if row.origin is None else Origin(*row.origin),
        cause=row.cause,
        unscored=row.unscored,
        made=tuple([Made(m.model, m.time, m.cost, tuple(m.ids), tuple(m.logprobs)) for m in row.made]),
    )


def _tokens(number: int, tokens: _Tokens) -> Tokens:
    if len(tokens.agent) % 2:
        raise ValueError(f"field tokens.{number}.1: the last range has no end")
    try:
        ranges = tuple(zip(tokens.agent[::2], tokens.agent[1::2], strict=True))
        return Tokens(tuple(tokens.ids), ranges, tuple(tokens.logprobs))
    except ValueError as error:
        raise ValueError(f"field tokens.{number}.1: {error}") from None


def _number(value: float) -> float | int:
    """Whole numbers without a fraction, because most rewards are whole."""
    return int(value) if value == 0 or value == 1 else value


def _messages_written(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    roles = _ROLES
    return [
        (roles[m.role], m.content)
        if m.reasoning is None and not m.tool_calls and m.tool_call_id is None and m.name is None
        else (roles[m.role], m.content, _more_written(m))
        for m in messages
    ]


def _more_written(message: Message) -> dict[str, Any]:
    """The fields of `_More` that a message has."""
    more: dict[str, Any] = {}
    if message.reasoning is not None:
        more["reasoning"] = message.reasoning
    if message.tool_calls:
        more["calls"] = [(c.id, c.name, c.arguments) for c in message.tool_calls]
    if message.tool_call_id is not None:
        more["answers"] = message.tool_call_id
    if message.name is not None:
        more["name"] = message.name
    return more


def _made_written(made: Made) -> dict[str, Any]:
    """The fields of `_Made` that are known of a reply."""
    known = (made.model, made.time, made.cost, made.token_ids, made.logprobs)
    return {name: value for name, value in zip(_Made.__struct_fields__, known, strict=True) if value not in (None, ())}


def _read(message: _Message) -> Message:
    more = message.more
    assert more is not None
    calls = tuple(ToolCall(*call) for call in more.calls)
    return Message(_NAMES[message.role], message.content, more.reasoning, calls, more.answers, more.name)


def _steps_written(trajectory: Trajectory) -> list[Any]:
    replies = trajectory.replies
    written: list[Any] = []
    messages = trajectory.messages
    for step, seen, index in zip(trajectory.steps, _seen(messages, replies), replies, strict=False):
        reply = messages[index]
        whole = step.action == (action_of(reply) if reply.tool_calls else reply.content)
        if whole and step.thought is None and step.observation == seen:  # most steps
            written.append(_number(step.reward))
            continue
        action = None if whole else _place_in(reply.content, step.action)
        observation = None if step.observation == seen else step.observation
        fields = [_number(step.reward), action, _thought_written(step.thought, reply), observation]
        while fields[-1] is None:
            fields.pop()
        written.append(fields)
    # Steps without a reply: a trajectory without messages.
    for step in trajectory.steps[len(replies) :]:
        written.append([_number(step.reward), step.action, step.thought, step.observation])
    return written


def _steps_read(steps: Sequence[float | _Step], messages: Sequence[Message], context_turns: int) -> tuple[Step, ...]:
    said = [index for index, message in enumerate(messages) if message.role == "assistant"]
    replies = said[context_turns : context_turns + len(steps)]
    found: list[Step] = []
    for written, seen, index in zip(steps, _seen(messages, replies), replies, strict=False):
        reply = messages[index]
        if not isinstance(written, _Step):
            found.append(Step(seen, action_of(reply) if reply.tool_calls else reply.content, None, written))
            continue
        try:
            action = action_of(reply) if written.action is None else _found_in(reply.content, written.action)
            thought = _thought_read(written.thought, reply)
        except ValueError as error:
            raise ValueError(f"field steps.{len(found)}: {error}") from None
        found.append(
            Step(seen if written.observation is None else written.observation, action, thought, written.reward)
        )
    for number, step in enumerate(steps[len(replies) :], start=len(replies)):
        if not (isinstance(step, _Step) and isinstance(step.action, str) and isinstance(step.observation, str)):
            raise ValueError(f"field steps.{number}: there is no reply for it among the messages")
        thought = step.thought if isinstance(step.thought, str) else None
        found.append(Step(step.observation, step.action, thought, step.reward))
    return tuple(found)


def _seen(messages: Sequence[Message], replies: Sequence[int]) -> list[str]:
    """[replies] what the agent saw before each of its replies: everything that others said since the previous reply.

    Instructions at the very beginning are not an observation.
    """
    begin = replies[0] if replies else 0
    while begin > 0 and messages[begin - 1].role != "assistant":
        begin -= 1
    seen = []
    for number, end in enumerate(replies):
        if end - begin == 1 and (number or messages[begin].role != "system"):
            seen.append(messages[begin].content)
        else:
            seen.append("\n".join(m.content for m in messages[begin:end] if number or m.role != "system"))
        begin = end + 1
    return seen


def _place_in(text: str, part: str) -> list[int] | str:
    """The position of a part in a text; the part itself if the text does not contain it."""
    start = text.rfind(part)
    return part if start < 0 else [start, start + len(part)]


def _found_in(text: str, part: tuple[int, int] | str) -> str:
    if isinstance(part, str):
        return part
    start, end = part
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"characters {start} to {end} of a reply of {len(text)}")
    return text[start:end]


def _thought_written(thought: str | None, reply: Message) -> list[int] | str | bool | None:
    if thought is None:
        return None
    if thought == reply.reasoning:
        return True
    start = 0 if thought == reply.content else reply.content.find(thought)
    return thought if start < 0 else [start, start + len(thought)]


def _thought_read(thought: tuple[int, int] | str | bool | None, reply: Message) -> str | None:
    if thought is None or thought is False:
        return None
    return reply.reasoning if thought is True else _found_in(reply.content, thought)


def is_read_back(trajectory: Trajectory, row: dict[str, Any]) -> bool:
    """Whether the types of a trajectory and its row leave no doubt that the row is read back as that trajectory.

    Of values of the types that its fields have, `from_row` makes what `to_row` was given, and JSON keeps any text, any
    whole number of 64 bits and any finite number. So checking types is enough, and much faster than reading. False
    says nothing: a trajectory with a value of another type, or with a field that logs do not have, has to be read.
    """
    messages, steps, made = trajectory.messages, trajectory.steps, trajectory.made
    if not (
        {type(messages), type(steps), type(made), type(trajectory.tools)} == _TUPLE
        and type(trajectory.metadata) is dict
        and type(trajectory.env_version) is str
        and type(trajectory.score) is float
        and type(trajectory.context_turns) is int
        and type(trajectory.unscored) is bool
        and trajectory.tokens == ()
        and (trajectory.sampling, trajectory.origin, trajectory.cause) == (None, None, None)
        and {type(m.tool_calls) for m in messages} <= _TUPLE
        and {(type(s.observation), type(s.action), type(s.thought), type(s.reward)) for s in steps} <= _STEPS
        and all(type(m.cost) in _COSTS and m.token_ids == m.logprobs == () for m in made)
        and len(made) in (0, sum(m.role == "assistant" for m in messages))
    ):
        return False
    try:
        msgspec.convert(row, Row)
    except msgspec.ValidationError:
        return False
    return True


_TUPLE = frozenset((tuple,))
_STEPS = frozenset(((str, str, NoneType, float), (str, str, str, float)))
_COSTS = frozenset((float, NoneType))


def place_of(trajectory: Trajectory) -> Place | None:
    """The record and file that a trajectory was imported from; None if it was not imported, or that is unknown."""
    metadata = trajectory.metadata
    if not metadata.keys() >= _PLACED:
        return None
    source, row, line, digest, content = [metadata[name] for name in _PLACE]
    if not (type(source) is type(digest) is type(content) is str and type(row) is type(line) is int):
        return None  # fields with these names from another source
    placed = row >= 1 and line >= 0 and _DIGEST.fullmatch(digest) and _DIGEST.fullmatch(content)
    return (source, row, line, digest, content) if placed else None


__all__ = [
    "HIGHEST_SAMPLE",
    "Digest",
    "Head",
    "Place",
    "Row",
    "Sample",
    "from_row",
    "is_read_back",
    "place_of",
    "to_row",
]
