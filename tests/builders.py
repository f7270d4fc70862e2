"""Trajectories for tests: written out by hand, or random ones that the environment might have given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from trajtree.trajectory import Cause, Message, Origin, Outcome, Sampling, Step, Tokens, ToolCall, Trajectory

TASK = "toy/0"
SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)

quick = settings(
    max_examples=int(os.environ.get("TRAJTREE_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""How hard to look for counterexamples; set TRAJTREE_EXAMPLES to look harder."""


class Told:
    """Progress that writes down what it is told."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.amounts: list[int] = []

    def total(self, amount: int) -> None:
        self.totals.append(amount)

    def advance(self, amount: int, note: str = "") -> None:
        self.amounts.append(amount)


def trajectory(
    actions: Sequence[str],
    score: float = 0.0,
    *,
    sample: int = 0,
    task: str = TASK,
    outcome: Outcome = Outcome.COMPLETED,
    seen: Sequence[str] | None = None,
) -> Trajectory:
    """Observations tell what was done before, unless `seen` says otherwise."""
    if seen is None:
        seen = ["after " + ",".join(a.strip() for a in actions[:i]) for i in range(len(actions))]
    steps = tuple(Step(o, a) for o, a in zip(seen, actions, strict=True))
    return Trajectory(task, sample, "weak", "toy", "1", 0, Sampling(), (), steps, score, outcome)


@st.composite
def trajectories(draw: st.DrawFn, *, faults: bool = False, most: int = 10) -> list[Trajectory]:
    """Trajectories of one task that agree often: few actions, few scores, now and then weather by chance."""
    outcomes = [o for o in Outcome if faults or not o.is_fault]
    found = []
    for sample in range(draw(st.integers(1, most))):
        actions = draw(st.lists(st.sampled_from(("a", "b", "c", " a", "b ")), max_size=4))
        rain = draw(st.lists(st.sampled_from(("", "", "", "; rain")), min_size=len(actions), max_size=len(actions)))
        seen = [f"after {','.join(a.strip() for a in actions[:i])}{rain[i]}" for i in range(len(actions))]
        score, outcome = draw(st.sampled_from(SCORES)), draw(st.sampled_from(outcomes))
        found.append(trajectory(actions, score, sample=sample, outcome=outcome, seen=seen))
    return found


@st.composite
def branched(draw: st.DrawFn) -> list[Trajectory]:
    """As `trajectories`, but some say that they took their beginning over from an earlier one that begins alike."""
    found: list[Trajectory] = []
    for one in draw(trajectories()):
        shared = [(other.sample, _shared(key_path(one), key_path(other))) for other in found]
        origins = [Origin(sample, steps) for sample, most in shared for steps in range(1, most + 1)]
        found.append(replace(one, origin=draw(st.none() | st.sampled_from(origins)) if origins else None))
    return found


def _shared(one: tuple[object, ...], other: tuple[object, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def key_path(trajectory: Trajectory) -> tuple[tuple[str, str], ...]:
    """Canonical (observation, action) of each step."""
    return tuple((s.observation.strip(), s.action.strip()) for s in trajectory.steps)


text = st.text(max_size=12) | st.sampled_from(
    (
        "two\nlines",
        'a "quote"',
        "back\\slash",
        "\u2028",
        "\u2029",
        "\x85",
        "\r\n",
        "\x00",
        "日本",
        "🗝️",
        "click[Buy Now]",
    )
)


@st.composite
def _tokens(draw: st.DrawFn) -> Tokens:
    ids = draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=8))
    cut = draw(st.integers(1, len(ids) - 1))
    agent = draw(st.sampled_from(((), ((0, cut),), ((0, cut), (cut, len(ids))))))
    said = sum(end - start for start, end in agent)
    logprobs = draw(st.just([]) | st.lists(st.floats(-99, 0), min_size=said, max_size=said))
    return Tokens(tuple(ids), agent, tuple(logprobs))


def _agreeing(
    *,
    tokens: tuple[Tokens, ...],
    messages: tuple[Message, ...],
    steps: tuple[Step, ...],
    cause: Cause | None,
    **more: Any,
) -> Trajectory:
    """With as many replies as the tokens have ranges, and no more steps than replies."""
    ranges = sum(len(t.agent) for t in tokens)
    missing = max(0, ranges - sum(m.role == "assistant" for m in messages))
    if tokens and (messages or missing):
        messages = (*messages, *(Message("assistant", "so") for _ in range(missing)))
        more["context_turns"] = min(more["context_turns"], ranges)
        steps = steps[: ranges - more["context_turns"]]
    origin = Origin(7, len(steps)) if steps and more["sample"] % 2 else None
    if cause is not None:
        more["outcome"] = cause.outcome
    return Trajectory(tokens=tokens, messages=messages, steps=steps, cause=cause, origin=origin, **more)


_calls = st.lists(st.builds(ToolCall, text, text, text), max_size=2).map(tuple)
_part = st.none() | text | st.sampled_from(("o", "so", "", "reasoning"))
_message = st.one_of(
    st.builds(Message, st.sampled_from(("system", "user", "assistant")), text),
    st.builds(Message, st.just("assistant"), text, reasoning=_part, tool_calls=_calls),
    st.builds(Message, st.just("tool"), text, tool_call_id=st.none() | text, name=st.none() | text),
)

anything = st.builds(
    _agreeing,
    task=text,
    sample=st.integers(0, 99),
    policy=text,
    env=text,
    env_version=text,
    seed=st.integers(0, 2**63),
    sampling=st.builds(Sampling, st.floats(0, 2), st.floats(0.1, 1)),
    messages=st.lists(_message, max_size=4).map(tuple),
    steps=st.lists(st.builds(Step, text, text, _part, st.floats(-1, 1)), max_size=3).map(tuple),
    score=st.floats(0, 1),
    outcome=st.sampled_from(Outcome),
    tokens=st.lists(_tokens(), max_size=2).map(tuple),
    error=st.none() | text,
    cause=st.none() | st.sampled_from(Cause),
    context_turns=st.integers(0, 2),
    tools=st.lists(text, max_size=2).map(tuple),
    metadata=st.dictionaries(text, text | st.integers(-(2**53), 2**53) | st.floats(-9, 9) | st.booleans(), max_size=3),
)
"""Every field a trajectory can have, filled with what JSON and line-based files may stumble over."""
