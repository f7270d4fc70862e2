"""An estimate of episodes and tokens before anything is played."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from trajtree.envs.domain import load_domain
from trajtree.envs.guard import Guarded, closed
from trajtree.explore.job import Job
from trajtree.trajectory import Trajectory

STEPS = 30
"""Steps of an episode where neither a limit nor an earlier episode says more."""
_CHARACTERS = 4
"""Characters in a token of English, about."""
_TURN = 8
"""Tokens that a template puts around each message, about."""
_LOOKED_AT = 3
"""Tasks whose first observation is looked at where nothing was played yet."""


@dataclass(frozen=True, slots=True)
class Size:
    """What an episode comes to, on average: its replies, and the tokens of all its prompts and of its replies."""

    steps: float
    prompt: float
    reply: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left to play.

    Attributes:
        stored: episodes that the store has.
        faults: of the stored ones, how many were lost to faults and are played again.
        left: episodes to play, those included.
        size: of one of them.
        played: how many stored episodes that is the average of; 0 where it is a guess from first observations.
    """

    stored: int
    faults: int
    left: int
    size: Size
    played: int


def estimate(job: Job, stored: Iterable[Trajectory]) -> Estimate:
    """What is left to play and about what it comes to, without a single request.

    Of a strategy that goes in passes only the episodes from the tasks' beginnings are counted: what the others will be
    depends on what comes of those.

    Prompts are counted whole, as servers count them, although a cache of prefixes makes most of them cheap.
    """
    tasks, first = set(job.tasks), job.first_episodes
    there, faults, sizes = 0, 0, list[Size]()
    for trajectory in stored:
        if trajectory.task in tasks and trajectory.sample < first.rollouts:
            there += 1
            faults += trajectory.outcome.is_fault
            if trajectory.steps and not trajectory.outcome.is_fault:
                sizes.append(_size(trajectory))
    left = len(first) - (there - faults)
    return Estimate(there, faults, left, _mean(sizes) if sizes else _guess(job), len(sizes))


def _size(trajectory: Trajectory) -> Size:
    before = prompt = reply = steps = 0.0
    for message in trajectory.messages:
        tokens = len(message.content) / _CHARACTERS + _TURN
        if message.role == "assistant":
            prompt, reply, steps = prompt + before, reply + tokens - _TURN, steps + 1
        before += tokens
    return Size(steps, prompt, reply)


def _mean(sizes: Sequence[Size]) -> Size:
    return Size(fmean(s.steps for s in sizes), fmean(s.prompt for s in sizes), fmean(s.reply for s in sizes))


def _guess(job: Job) -> Size:
    """As if every reply were as long as it may be, every observation as the first, and no episode ended early."""
    domain = load_domain(job.env)
    tasks = job.tasks[:_LOOKED_AT]
    with closed(domain.make(job.max_steps)) as env:
        seen = fmean(len(Guarded(env).reset(task)) for task in tasks) / _CHARACTERS + _TURN
        system = len(env.instruction) / _CHARACTERS + _TURN
    steps = job.max_steps or STEPS
    turn = seen + job.max_new_tokens + _TURN
    prompt = steps * (system + seen) + turn * steps * (steps - 1) / 2  # step k has k turns before it
    return Size(steps, prompt, steps * job.max_new_tokens)


__all__ = ["STEPS", "Estimate", "Size", "estimate"]
