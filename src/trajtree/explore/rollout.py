"""Playing many episodes at once, stored wave by wave, and retrying after a fault of the environment or the engine.

Episodes are divided into waves in their given order. A wave's episodes play together, with one policy call per turn for
all that are waiting, and are appended to the store together. A killed run repeats the incomplete waves; since a wave's
batches depend only on the wave, it ends with the same trajectories as an uninterrupted run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from trajtree.chat import Parser, parse_act
from trajtree.envs.base import Environment
from trajtree.errors import EngineError, EnvError
from trajtree.explore.episode import Episode, EpisodeSpec
from trajtree.explore.strategies import Passes, one_pass
from trajtree.policies.base import C, Policy
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Cause, Outcome, Trajectory

ATTEMPTS = 3
"""How often an episode is played, if the environment or the engine fails, before the fault is recorded."""
BROKEN_SHARE = 0.5
"""Largest share of a wave's tasks that may be lost to faults; beyond it, the cause is not in the tasks."""
_THREADS = 2


def rollout(
    episodes: Sequence[EpisodeSpec],
    policy: Policy[C],
    make_env: Callable[[], Environment],
    store: TrajectoryStore,
    *,
    seed: int,
    batch: int = 32,
    parse: Parser = parse_act,
    suffix: str = "",
    progress: Progress = SILENT,
) -> None:
    """Play every episode that is not in the store yet; this is one pass of `explore`."""
    once = one_pass(episodes)
    explore(once, policy, make_env, store, seed=seed, batch=batch, parse=parse, suffix=suffix, progress=progress)


def explore(
    passes: Passes,
    policy: Policy[C],
    make_env: Callable[[], Environment],
    store: TrajectoryStore,
    *,
    seed: int,
    batch: int = 32,
    parse: Parser = parse_act,
    suffix: str = "",
    progress: Progress = SILENT,
) -> None:
    """Play one pass after another: every episode that is not in the store yet.

    Args:
        passes: what to play; (task, sample) must be unique.
        policy: plays the episodes.
        make_env: makes one environment; up to `batch` of them exist at once.
        store: receives the trajectories, one wave at a time.
        seed: every episode's random stream is derived from (seed, task, sample).
        batch: episodes per wave.
        parse: parses a reply; an unparseable one ends the episode as agent_error.
        suffix: added to the environment's instruction.
        progress: counts the episodes, one wave at a time.

    Raises:
        EnvError, EngineError: more than BROKEN_SHARE of a wave's tasks, and at least two, are lost to faults; the
            wave is not stored, so that it can be played again once the cause is fixed.
    """
    present = {t.key for t in store}
    total = 0
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        envs: list[Environment] = []
        played: Iterator[Trajectory] | None = None
        while (episodes := _next(passes, played)) is not None:
            total += len(episodes)
            progress.total(total)
            while len(envs) < min(batch, len(episodes)):
                envs.append(stack.enter_context(closing(make_env())))
            for wave in _waves(episodes, batch):
                missing = {spec.key for spec in wave} - present
                if missing:
                    found = _play_until_sound(wave, envs, policy, pool, seed, parse, suffix)
                    _check_sound(found)
                    store.append(t for t in found if t.key in missing)
                    present |= missing
                progress.advance(len(wave))
            played = _stored(store, {spec.key for spec in episodes})


def _stored(store: TrajectoryStore, keys: set[tuple[str, int]]) -> Iterator[Trajectory]:
    return (trajectory for trajectory in store if trajectory.key in keys)


def _next(passes: Passes, played: Iterator[Trajectory] | None) -> list[EpisodeSpec] | None:
    """The next pass, given the trajectories of the previous one, if any; None after the last."""
    try:
        return next(passes) if played is None else passes.send(played)
    except StopIteration:
        return None


def _waves(episodes: Sequence[EpisodeSpec], batch: int) -> Iterator[Sequence[EpisodeSpec]]:
    for start in range(0, len(episodes), batch):
        yield episodes[start : start + batch]


def _check_sound(played: Sequence[Trajectory]) -> None:
    broken = [t for t in played if t.outcome.is_fault and t.cause is not Cause.REPLAY_DIVERGED]
    tasks = len({t.task for t in played})
    if len({t.task for t in broken}) > max(1, BROKEN_SHARE * tasks):
        what, kind = ("engine", EngineError) if broken[0].outcome is Outcome.ENGINE_ERROR else ("environment", EnvError)
        tries = f", {ATTEMPTS} times each" if _worth_another_try(broken[0]) else ""
        raise kind(
            f"the {what} failed in {len(broken)} of {len(played)} episodes{tries}; in "
            f"{broken[0].task}: {broken[0].error}; they are not stored: fix the cause and run the same command again"
        )


def _play_until_sound(
    wave: Sequence[EpisodeSpec],
    envs: Sequence[Environment],
    policy: Policy[C],
    pool: ThreadPoolExecutor,
    seed: int,
    parse: Parser,
    suffix: str,
) -> list[Trajectory]:
    """Play a wave; replay on their own the episodes lost to faults that may be temporary, up to ATTEMPTS times."""
    done: dict[tuple[str, int], Trajectory] = {}
    todo = list(wave)
    for _ in range(ATTEMPTS):
        for trajectory in _play(todo, envs, policy, pool, seed, parse, suffix):
            done[trajectory.key] = trajectory
        todo = [spec for spec in todo if _worth_another_try(done[spec.key])]
        if not todo:
            break
    return [done[spec.key] for spec in wave]


def _worth_another_try(trajectory: Trajectory) -> bool:
    return trajectory.outcome.is_fault and trajectory.cause not in (Cause.PERMANENT_ENGINE_FAULT, Cause.REPLAY_DIVERGED)


def _play(
    wave: Sequence[EpisodeSpec],
    envs: Sequence[Environment],
    policy: Policy[C],
    pool: ThreadPoolExecutor,
    seed: int,
    parse: Parser,
    suffix: str,
) -> list[Trajectory]:
    episodes: list[Episode[C]] = []
    for spec, env in zip(wave, envs, strict=False):
        instruction = f"{env.instruction} {suffix}".strip()
        stream = (seed, zlib.crc32(spec.task.encode()), spec.sample)
        episodes.append(Episode.open(spec, env, policy.start(instruction, spec.sampling, stream)))
    list(pool.map(Episode.begin, episodes))
    while waiting := [e for e in episodes if e.outcome is None]:
        replies = policy.reply([e.conversation for e in waiting])
        meant = [(e, e.read(reply, parse)) for e, reply in zip(waiting, replies, strict=True)]
        acting = [(episode, step) for episode, step in meant if step is not None]
        list(pool.map(lambda both: both[0].act(both[1]), acting))
    return [e.trajectory(policy, seed) for e in episodes]


__all__ = ["ATTEMPTS", "BROKEN_SHARE", "explore", "rollout"]
