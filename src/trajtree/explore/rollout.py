"""Playing many episodes at once, in waves or each at its own pace, and retrying after a fault.

Episodes are divided into waves in their given order. With a model in this process, or in others, a
wave's episodes play together, with one policy call per turn for all that are waiting, and are appended to the store
together, in the order of the waves. A killed run repeats the incomplete waves; since a wave's batches depend only on
the wave, it ends with the same trajectories as an uninterrupted run.

On model servers each episode plays at its own pace and is stored when it ends, so a slow reply delays no other episode.
A killed run plays the missing episodes; it ends with the same tasks and samples, but not with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trajtree.chat import Parser, parse_act
from trajtree.envs.base import Environment
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.faults import Soundness, is_passing
from trajtree.explore.open_files import make_room_for
from trajtree.explore.paced import Paced
from trajtree.explore.place import HERE, Elsewhere
from trajtree.explore.strategies import Passes, one_pass
from trajtree.explore.tally import Tally
from trajtree.explore.waves import Table
from trajtree.policies import interruptible
from trajtree.policies.base import C, Policy, ServedPolicy
from trajtree.store.progress import SILENT, Progress
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory


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
    policy: Policy[Any] | Elsewhere,
    make_env: Callable[[], Environment],
    store: TrajectoryStore,
    *,
    seed: int,
    batch: int = 32,
    parse: Parser = parse_act,
    suffix: str = "",
    progress: Progress = SILENT,
    others: Mapping[str, Policy[Any] | Elsewhere] = MappingProxyType({}),
    threads: int = HERE.threads,
) -> None:
    """Play one pass after another: every episode that the store lacks or that was lost to a fault.

    Args:
        passes: what to play; (task, sample) must be unique.
        policy: plays the episodes, except those whose slot of the grid names another policy.
        make_env: makes one environment; up to `batch` of them exist at once, none for a policy that plays elsewhere.
        store: receives the trajectories, one wave at a time, or one episode at a time from model servers.
        seed: every episode's random stream is derived from (seed, task, sample).
        batch: episodes per wave, or at once on model servers.
        parse: parses a reply; an unparseable one ends the episode as agent_error.
        suffix: added to the environment's instruction.
        progress: counts the stored episodes, and shows how they went.
        others: the other policies by their names in the grid. Each plays its episodes of a pass in waves of its own.
        threads: environments that reset or step at the same time.

    Raises:
        EnvError, EngineError: more than BROKEN_SHARE of the tasks that are judged together, and at least two, are lost
            to faults; they can be played again once the cause is fixed.
        LimitError: a limit of the command would be exceeded; every finished episode is stored.
        RunError: the system does not allow enough open files for that many episodes at once on model servers.
    """
    store.drop(is_passing)
    present = {t.key for t in store}
    total, tally, soundness = 0, Tally(progress), Soundness()
    with Table(make_env, threads=threads, seed=seed, parse=parse, suffix=suffix) as table:
        played: Iterator[Trajectory] | None = None
        while (episodes := _next(passes, played)) is not None:
            total += len(episodes)
            tally.total(total)
            if any(isinstance(player, ServedPolicy) for player in (policy, *others.values())):
                make_room_for(min(batch, len(episodes)))
            for by, group in _by_policy(episodes, others):
                player = policy if by is None else others[by]
                if isinstance(player, ServedPolicy):
                    paced = Paced(player, table.pool, store, seed, batch, parse, suffix, tally, soundness)
                    envs = table.envs(min(batch, len(group)))
                    interruptible.run(paced.play_all(_missing(group, present, tally), envs))
                    continue
                due = _due(_waves(group, batch), present, tally)
                for wave, found in player.play(due) if isinstance(player, Elsewhere) else _here(due, table, player):
                    soundness.judge(found)
                    new = [t for t in found if t.key not in present]
                    tally.kept(len(wave) - len(new))
                    store.append(new)
                    tally.played(new)
            played = _stored(store, episodes)


def _here(
    waves: Iterable[Sequence[EpisodeSpec]], table: Table, policy: Policy[Any]
) -> Iterator[tuple[Sequence[EpisodeSpec], list[Trajectory]]]:
    for wave in waves:
        yield wave, table.play(wave, policy)


def _due(
    waves: Iterable[Sequence[EpisodeSpec]], present: Container[tuple[str, int]], tally: Tally
) -> Iterator[Sequence[EpisodeSpec]]:
    """The waves of which an episode is not present; the others are counted as kept."""
    for wave in waves:
        if all(spec.key in present for spec in wave):
            tally.kept(len(wave))
        else:
            yield wave


def _by_policy(
    episodes: Sequence[EpisodeSpec], others: Mapping[str, Policy[Any] | Elsewhere]
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


__all__ = ["explore", "rollout"]
