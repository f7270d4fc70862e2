"""Making trajectories: many episodes at once, stored wave by wave.

Jobs are cut into waves in their given order. A wave's episodes play together, one policy call a turn for all that
wait, and are appended to the store together. A killed run repeats the waves that are not complete; since a wave's
batches depend on the wave alone, it ends with the same trajectories as a run that was never broken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Generic

from trajtree.chat import Parser, parse_act
from trajtree.envs.base import Environment, StepResult
from trajtree.errors import EnvError
from trajtree.policies.base import C, Policy
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Message, Outcome, Sampling, Step, Trajectory

ATTEMPTS = 3
"""How often an episode is played when the environment breaks, before env_error is recorded."""
BROKEN_SHARE = 0.5
"""Largest share of a wave's tasks that may be env_error; when more are, it is not these tasks that break."""
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Job:
    """One trajectory to make."""

    task: str
    sample: int
    sampling: Sampling


@dataclass
class _Episode(Generic[C]):
    """An episode under way in its own environment."""

    job: Job
    env: Environment
    conversation: C
    observation: str = ""
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def score(self) -> float:
        return min(1.0, max(0.0, sum(s.reward for s in self.steps)))


def jobs_of(tasks: Sequence[str], rollouts: int, grid: Sequence[Sampling]) -> list[Job]:
    """`rollouts` jobs a task, going round the sampling grid."""
    return [Job(task, sample, grid[sample % len(grid)]) for task in tasks for sample in range(rollouts)]


def rollout(
    jobs: Sequence[Job],
    policy: Policy[C],
    make_env: Callable[[], Environment],
    store: TrajectoryStore,
    *,
    seed: int,
    batch: int = 32,
    parse: Parser = parse_act,
    suffix: str = "",
    progress: Callable[[int], None] = lambda episodes: None,
) -> None:
    """Play every job that the store does not hold yet.

    Args:
        jobs: what to play; (task, sample) must be unique.
        policy: who plays.
        make_env: makes one environment; up to `batch` of them live at once.
        store: where trajectories go, a wave at a time.
        seed: every episode's random stream comes from (seed, task, sample).
        batch: episodes in a wave.
        parse: takes a reply apart; an unparseable one ends the episode as agent_error.
        suffix: added to the environment's instruction.
        progress: called with the number of episodes done since the last call.

    Raises:
        EnvError: the environment breaks in more than BROKEN_SHARE of a wave's tasks, and in two at least; the wave is
            not stored, so that it is played when the environment is mended.
    """
    present = {t.key for t in store}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        envs = [stack.enter_context(closing(make_env())) for _ in range(min(batch, len(jobs)))]
        for wave in _waves(jobs, batch):
            missing = [(j.task, j.sample) for j in wave if (j.task, j.sample) not in present]
            if missing:
                played = _play_until_sound(wave, envs, policy, pool, seed, parse, suffix)
                _check_sound(played)
                store.append(t for t in played if t.key in set(missing))
            progress(len(wave))


def _waves(jobs: Sequence[Job], batch: int) -> Iterator[Sequence[Job]]:
    for start in range(0, len(jobs), batch):
        yield jobs[start : start + batch]


def _check_sound(played: Sequence[Trajectory]) -> None:
    broken = [t for t in played if t.outcome is Outcome.ENV_ERROR]
    tasks = len({t.task for t in played})
    if len({t.task for t in broken}) > max(1, BROKEN_SHARE * tasks):
        raise EnvError(
            f"the environment broke in {len(broken)} of {len(played)} episodes, {ATTEMPTS} times each; in "
            f"{broken[0].task}: {broken[0].error}; they are not stored: mend the cause and run the same command again"
        )


def _play_until_sound(
    wave: Sequence[Job],
    envs: Sequence[Environment],
    policy: Policy[C],
    pool: ThreadPoolExecutor,
    seed: int,
    parse: Parser,
    suffix: str,
) -> list[Trajectory]:
    """Play a wave; replay alone what the environment broke, up to ATTEMPTS times."""
    done: dict[tuple[str, int], Trajectory] = {}
    todo = list(wave)
    for _ in range(ATTEMPTS):
        for trajectory in _play(todo, envs, policy, pool, seed, parse, suffix):
            done[trajectory.key] = trajectory
        todo = [j for j in todo if done[j.task, j.sample].outcome is Outcome.ENV_ERROR]
        if not todo:
            break
    return [done[j.task, j.sample] for j in wave]


def _play(
    jobs: Sequence[Job],
    envs: Sequence[Environment],
    policy: Policy[C],
    pool: ThreadPoolExecutor,
    seed: int,
    parse: Parser,
    suffix: str,
) -> list[Trajectory]:
    episodes: list[_Episode[C]] = []
    for job, env in zip(jobs, envs, strict=False):
        instruction = f"{env.instruction} {suffix}".strip()
        stream = (seed, zlib.crc32(job.task.encode()), job.sample)
        episodes.append(_Episode(job, env, policy.start(instruction, job.sampling, stream)))
    list(pool.map(_reset, episodes))
    while active := [e for e in episodes if e.outcome is None]:
        replies = policy.reply([e.conversation for e in active])
        acting = []
        for episode, reply in zip(active, replies, strict=True):
            parsed = parse(reply.text) if reply.error is None else None
            if parsed is None:
                episode.outcome = Outcome.AGENT_ERROR
                episode.error = reply.error or f"no action in the reply {reply.text!r}"
            else:
                acting.append((episode, Step(episode.observation, parsed.action, parsed.thought)))
        list(pool.map(_act, acting))
    return [_trajectory(e, policy, seed) for e in episodes]


def _reset(episode: _Episode[Any]) -> None:
    try:
        episode.observation = episode.env.reset(episode.job.task)
    except EnvError as error:
        episode.outcome, episode.error = Outcome.ENV_ERROR, str(error)
        return
    episode.conversation.messages.append(Message("user", episode.observation))


def _act(acting: tuple[_Episode[Any], Step]) -> None:
    episode, step = acting
    try:
        result: StepResult = episode.env.step(step.action)
    except EnvError as error:
        episode.outcome, episode.error = Outcome.ENV_ERROR, str(error)
        return
    episode.steps.append(Step(step.observation, step.action, step.thought, result.reward))
    episode.observation = result.observation
    episode.conversation.messages.append(Message("user", result.observation))
    if result.terminated:
        episode.outcome = Outcome.COMPLETED
    elif result.truncated:
        episode.outcome = Outcome.TRUNCATED


def _trajectory(episode: _Episode[C], policy: Policy[C], seed: int) -> Trajectory:
    assert episode.outcome is not None
    return Trajectory(
        task=episode.job.task,
        sample=episode.job.sample,
        policy=policy.name,
        env=episode.env.name,
        env_version=episode.env.version,
        seed=seed,
        sampling=episode.job.sampling,
        messages=tuple(episode.conversation.messages),
        steps=tuple(episode.steps),
        score=episode.score,
        outcome=episode.outcome,
        tokens=episode.conversation.tokens(),
        error=episode.error,
    )


__all__ = ["ATTEMPTS", "BROKEN_SHARE", "Job", "jobs_of", "rollout"]
