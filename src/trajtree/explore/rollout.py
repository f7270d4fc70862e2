"""Playing many episodes at once, in waves or each at its own pace, and retrying after a fault.

Episodes are divided into waves in their given order. With a model in this process, a wave's episodes play together,
with one policy call per turn for all that are waiting, and are appended to the store together. A killed run repeats the
incomplete waves; since a wave's batches depend only on the wave, it ends with the same trajectories as an uninterrupted
run.

On model servers each episode plays at its own pace and is stored when it ends, so a slow reply delays no other episode.
A killed run plays the missing episodes; it ends with the same tasks and samples, but not with the same bytes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

from trajtree.chat import Parser, parse_act
from trajtree.envs.base import Environment
from trajtree.envs.guard import closed
from trajtree.explore.episode import Episode, EpisodeSpec
from trajtree.explore.faults import ATTEMPTS, check_sound, is_innocent, is_passing, worth_another_try
from trajtree.explore.open_files import make_room_for
from trajtree.explore.paced import Paced
from trajtree.explore.strategies import Passes, one_pass
from trajtree.explore.tally import Tally
from trajtree.policies import interruptible
from trajtree.policies.base import C, Policy, ServedPolicy
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

_THREADS = max(2, os.cpu_count() or 1)
"""Environments that reset or step at the same time: one per worker process, where there are any."""


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
    """Play every episode that the store lacks or that was lost to a fault; this is one pass of `explore`."""
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
    others: Mapping[str, Policy[Any]] = MappingProxyType({}),
) -> None:
    """Play one pass after another: every episode that the store lacks or that was lost to a fault.

    Args:
        passes: what to play; (task, sample) must be unique.
        policy: plays the episodes, except those whose slot of the grid names another policy.
        make_env: makes one environment; up to `batch` of them exist at once.
        store: receives the trajectories, one wave at a time, or one episode at a time from model servers.
        seed: every episode's random stream is derived from (seed, task, sample).
        batch: episodes per wave, or at once on model servers.
        parse: parses a reply; an unparseable one ends the episode as agent_error.
        suffix: added to the environment's instruction.
        progress: counts the stored episodes, and shows how they went.
        others: the other policies by their names in the grid. Each plays its episodes of a pass in waves of its own.

    Raises:
        EnvError, EngineError: more than BROKEN_SHARE of a wave's tasks, and at least two, are lost to faults; they can
            be played again once the cause is fixed.
        LimitError: a limit of the command would be exceeded; every finished episode is stored.
        RunError: the system does not allow as many open files as there are to be episodes at once on model servers.
    """
    store.drop(is_passing)
    present = {t.key for t in store}
    total, tally = 0, Tally(progress)
    with ExitStack() as stack:
        # Environments are closed after the pool's last step, so none is closed during one.
        made = stack.enter_context(ExitStack())
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        envs: list[Environment] = []
        played: Iterator[Trajectory] | None = None
        while (episodes := _next(passes, played)) is not None:
            total += len(episodes)
            tally.total(total)
            if any(isinstance(player, ServedPolicy) for player in (policy, *others.values())):
                make_room_for(min(batch, len(episodes)))
            while len(envs) < min(batch, len(episodes)):
                envs.append(made.enter_context(closed(make_env())))
            for by, group in _by_policy(episodes, others):
                player = policy if by is None else others[by]
                if isinstance(player, ServedPolicy):
                    paced = Paced(player, pool, store, seed, batch, parse, suffix, tally)
                    interruptible.run(paced.play_all(_missing(group, present, tally), envs))
                    continue
                for wave in _waves(group, batch):
                    missing = {spec.key for spec in wave} - present
                    tally.kept(len(wave) - len(missing))
                    if missing:
                        found = _play_until_sound(wave, envs, player, pool, seed, parse, suffix)
                        check_sound(found)
                        new = [t for t in found if t.key in missing]
                        store.append(new)
                        tally.played(new)
            played = _stored(store, episodes)


def _by_policy(
    episodes: Sequence[EpisodeSpec], others: Mapping[str, Policy[Any]]
) -> Iterable[tuple[str | None, Sequence[EpisodeSpec]]]:
    """The episodes of each policy, in the order in which the policies first occur."""
    if not others:
        return [(None, episodes)]
    found: dict[str | None, list[EpisodeSpec]] = {}
    for spec in episodes:
        found.setdefault(spec.by, []).append(spec)
    return found.items()


def _missing(
    episodes: Sequence[EpisodeSpec], present: Container[tuple[str, int]], tally: Tally
) -> Iterator[EpisodeSpec]:
    """The episodes that are not present; the others are counted as kept."""
    for spec in episodes:
        if spec.key in present:
            tally.kept(1)
        else:
            yield spec


def _stored(store: TrajectoryStore, episodes: Sequence[EpisodeSpec]) -> Iterator[Trajectory]:
    """The trajectories of the episodes; nothing is read before the first is asked for."""
    keys = {spec.key for spec in episodes}
    yield from (trajectory for trajectory in store if trajectory.key in keys)


def _next(passes: Passes, played: Iterator[Trajectory] | None) -> Sequence[EpisodeSpec] | None:
    """The next pass, given the trajectories of the previous one, if any; None after the last."""
    try:
        return next(passes) if played is None else passes.send(played)
    except StopIteration:
        return None


def _waves(episodes: Sequence[EpisodeSpec], batch: int) -> Iterator[Sequence[EpisodeSpec]]:
    for start in range(0, len(episodes), batch):
        yield episodes[start : start + batch]


def _play_until_sound(
    wave: Sequence[EpisodeSpec],
    envs: Sequence[Environment],
    policy: Policy[C],
    pool: ThreadPoolExecutor,
    seed: int,
    parse: Parser,
    suffix: str,
) -> list[Trajectory]:
    """Play a wave; play again on their own the episodes lost to faults that may be temporary, up to ATTEMPTS times.

    Episodes that were lost with another one's process are played again first and without that other one, so that an
    environment that hangs each time costs nobody else an attempt. They get fewer each time, because every lost process
    has an episode that is to blame.
    """
    done: dict[tuple[str, int], Trajectory] = {}
    attempts: Counter[tuple[str, int]] = Counter()
    todo, later = list(wave), list[EpisodeSpec]()
    while todo:
        for trajectory in _play(todo, envs, policy, pool, seed, parse, suffix):
            done[trajectory.key] = trajectory
        innocent = [spec for spec in todo if is_innocent(done[spec.key])]
        to_blame = [spec for spec in todo if _is_to_blame(done[spec.key])]
        attempts.update(spec.key for spec in to_blame)
        later += [spec for spec in to_blame if attempts[spec.key] < ATTEMPTS]
        if not to_blame:  # nobody is left to take the blame, so what is lost stays lost
            innocent = []
        todo, later = (innocent, later) if innocent else (later, [])
    return [done[spec.key] for spec in wave]


def _is_to_blame(trajectory: Trajectory) -> bool:
    return worth_another_try(trajectory) and not is_innocent(trajectory)


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
        episodes.append(Episode.of(spec, env, policy, seed, suffix))
    list(pool.map(Episode.begin, episodes))
    while waiting := [e for e in episodes if e.outcome is None]:
        replies = policy.reply([e.conversation for e in waiting])
        meant = [(e, e.read(reply, parse)) for e, reply in zip(waiting, replies, strict=True)]
        acting = [(episode, step) for episode, step in meant if step is not None]
        list(pool.map(lambda both: both[0].act(both[1]), acting))
    return [e.trajectory(policy, seed) for e in episodes]


__all__ = ["explore", "rollout"]
