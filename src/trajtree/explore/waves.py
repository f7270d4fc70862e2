"""A wave: episodes that play together in this process, again after a fault, until each has an end that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from trajtree.chat import Parser
from trajtree.envs.base import Environment
from trajtree.envs.guard import closed
from trajtree.explore.episode import Episode, EpisodeSpec
from trajtree.explore.faults import ATTEMPTS, is_innocent, worth_another_try
from trajtree.policies.base import Policy
from trajtree.trajectory import Trajectory


class Table:
    """Environments to play in and the threads in which they reset and step; use it as a context manager.

    Args:
        make_env: makes one environment.
        threads: environments that reset or step at the same time.
        seed: every episode's random stream is derived from (seed, task, sample).
        parse: takes a reply apart.
        suffix: added to the environment's instruction.
    """

    def __init__(
        self, make_env: Callable[[], Environment], *, threads: int, seed: int, parse: Parser, suffix: str
    ) -> None:
        self._make_env, self._seed, self._parse, self._suffix = make_env, seed, parse, suffix
        self._envs: list[Environment] = []
        # Environments are closed after the pool's last step, so none is closed during one.
        self._made = ExitStack()
        self.pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Table:
        """The table itself; environments are made when they are needed."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Wait for the steps under way, then close the environments."""
        with self._made, self.pool:
            pass

    def envs(self, count: int) -> Sequence[Environment]:
        """At least `count` environments, which stay until the end."""
        while len(self._envs) < count:
            self._envs.append(self._made.enter_context(closed(self._make_env())))
        return self._envs

    def play(self, wave: Sequence[EpisodeSpec], policy: Policy[Any]) -> list[Trajectory]:
        """Play a wave, and again on their own the episodes lost to faults that may pass, up to ATTEMPTS times.

        Episodes that were lost with another one's process are played again first and without that other one, so that
        an environment that hangs each time costs nobody else an attempt. They get fewer each time, because every lost
        process has an episode that is to blame.

        Returns:
            The trajectories in the wave's order.
        """
        done: dict[tuple[str, int], Trajectory] = {}
        attempts: Counter[tuple[str, int]] = Counter()
        todo, later = list(wave), list[EpisodeSpec]()
        while todo:
            for trajectory in self._play_once(todo, policy):
                done[trajectory.key] = trajectory
            innocent = [spec for spec in todo if is_innocent(done[spec.key])]
            to_blame = [spec for spec in todo if _is_to_blame(done[spec.key])]
            attempts.update(spec.key for spec in to_blame)
            later += [spec for spec in to_blame if attempts[spec.key] < ATTEMPTS]
            if not to_blame:  # nobody is left to take the blame, so what is lost stays lost
                innocent = []
            todo, later = (innocent, later) if innocent else (later, [])
        return [done[spec.key] for spec in wave]

    def _play_once(self, wave: Sequence[EpisodeSpec], policy: Policy[Any]) -> list[Trajectory]:
        episodes: list[Episode[Any]] = []
        for spec, env in zip(wave, self.envs(len(wave)), strict=False):
            episodes.append(Episode.of(spec, env, policy, self._seed, self._suffix))
        list(self.pool.map(Episode.begin, episodes))
        while waiting := [e for e in episodes if e.outcome is None]:
            replies = policy.reply([e.conversation for e in waiting])
            meant = [(e, e.read(reply, self._parse)) for e, reply in zip(waiting, replies, strict=True)]
            acting = [(episode, step) for episode, step in meant if step is not None]
            list(self.pool.map(lambda both: both[0].act(both[1]), acting))
        return [e.trajectory(policy, self._seed) for e in episodes]


def _is_to_blame(trajectory: Trajectory) -> bool:
    return worth_another_try(trajectory) and not is_innocent(trajectory)


__all__ = ["Table"]
