"""Episodes each at its own pace, as model servers allow it: a slow reply holds up no other episode."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic

from trajtree.chat import Parser
from trajtree.envs.base import Environment
from trajtree.explore.episode import Episode, EpisodeSpec
from trajtree.explore.faults import ATTEMPTS, Soundness, is_innocent, worth_another_try
from trajtree.explore.tally import Tally
from trajtree.policies.base import C, Reply, ServedPolicy
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Trajectory

_MOST_LOST = 100
"""How often an episode is played again because another one ended its environment's process."""


@dataclass
class Paced(Generic[C]):
    """Plays episodes, and stores each when it ends.

    Attributes:
        policy: who plays.
        pool: the threads in which environments reset and step.
        store: where trajectories go.
        seed: every episode's random stream comes from (seed, task, sample).
        batch: episodes that are judged together when faults are many.
        parse: takes a reply apart.
        suffix: added to the environment's instruction.
        tally: counts each episode that is stored.
        soundness: judges the episodes.
    """

    policy: ServedPolicy[C]
    pool: ThreadPoolExecutor
    store: TrajectoryStore
    seed: int
    batch: int
    parse: Parser
    suffix: str
    tally: Tally
    soundness: Soundness

    async def play_all(self, episodes: Iterator[EpisodeSpec], envs: Sequence[Environment]) -> None:
        """Play the episodes, begun in their order; one in each environment at a time.

        Raises:
            EnvError, EngineError, LimitError, PolicyError: as `rollout` does.
        """
        left = enumerate(episodes)
        ended: defaultdict[int, list[Trajectory]] = defaultdict(list)  # by wave

        async def play_in(env: Environment, ask: Callable[[C], Awaitable[Reply]]) -> None:
            for number, spec in left:
                trajectory = await self._play_until_sound(spec, env, ask)
                self.store.append([trajectory])
                self.tally.played([trajectory])
                # Faults end episodes early, so the first to end say little of all: a wave is judged as a whole.
                wave = number // self.batch
                ended[wave].append(trajectory)
                if len(ended[wave]) == self.batch:
                    self.soundness.judge(ended.pop(wave))

        try:
            async with self.policy.session() as ask, asyncio.TaskGroup() as group:
                for env in envs:
                    group.create_task(play_in(env, ask))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        for last in ended.values():
            self.soundness.judge(last)

    async def _play_until_sound(
        self, spec: EpisodeSpec, env: Environment, ask: Callable[[C], Awaitable[Reply]]
    ) -> Trajectory:
        attempts = lost = 0
        while True:
            trajectory = await self._play(spec, env, ask)
            if is_innocent(trajectory) and lost < _MOST_LOST:
                lost += 1
                continue
            attempts += 1
            if attempts == ATTEMPTS or not worth_another_try(trajectory):
                return trajectory

    async def _play(self, spec: EpisodeSpec, env: Environment, ask: Callable[[C], Awaitable[Reply]]) -> Trajectory:
        loop = asyncio.get_running_loop()
        episode = Episode.of(spec, env, self.policy, self.seed, self.suffix)
        await loop.run_in_executor(self.pool, episode.begin)
        while episode.outcome is None:
            step = episode.read(await ask(episode.conversation), self.parse)
            if step is not None:
                await loop.run_in_executor(self.pool, episode.act, step)
        return episode.trajectory(self.policy, self.seed)


__all__ = ["Paced"]
