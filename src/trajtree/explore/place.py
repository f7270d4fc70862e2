"""Where episodes are played: in this process and its workers, or in other places that open policies themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from trajtree.chat import REACT, Parser, parse_act, parse_react
from trajtree.envs.base import Environment
from trajtree.explore.episode import EpisodeSpec
from trajtree.explore.workers import EnvMaker, cores, environments
from trajtree.policies.base import Policy
from trajtree.policies.opening import Opening
from trajtree.policies.spending import Spending
from trajtree.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The environment that is played in, and how.

    Attributes:
        make: makes one environment.
        seed: every episode's random stream is derived from (seed, task, sample).
        thoughts: whether replies carry `Thought:` and `Action:` lines.
        workers: processes that hold the environments; 0 for none; None for the place's own number.
        seconds: longest that an environment may take for one reset or step.
        needs: what one worker of a cluster takes, by the cluster's names for resources; the place decides the rest.
    """

    make: EnvMaker
    seed: int
    thoughts: bool
    workers: int | None
    seconds: float
    needs: Mapping[str, float] = field(default_factory=dict)

    @property
    def parse(self) -> Parser:
        """Takes a reply apart."""
        return parse_react if self.thoughts else parse_act

    @property
    def suffix(self) -> str:
        """What is added to the environment's instruction."""
        return REACT if self.thoughts else ""


@runtime_checkable
class Elsewhere(Protocol):
    """A policy that is open in other processes, which play whole waves with environments of their own."""

    def play(self, waves: Iterable[Sequence[EpisodeSpec]]) -> Iterator[tuple[Sequence[EpisodeSpec], list[Trajectory]]]:
        """Each wave with its trajectories, both in the given order; later waves may be under way already.

        Raises:
            TrajtreeError: the policy cannot be opened, or the processes end again and again.
        """
        ...


class Place(Protocol):
    """Where a policy is opened and environments are made."""

    @property
    def threads(self) -> int:
        """Environments that reset or step at the same time, as far as they are driven from this process."""
        ...

    def policy(
        self, opening: Opening, setting: Setting, spending: Spending
    ) -> AbstractContextManager[Policy[Any] | Elsewhere]:
        """The policy, open as long as the context lasts. Raises PolicyError as `Opening.open` does."""
        ...

    def environments(self, setting: Setting) -> AbstractContextManager[Callable[[], Environment]]:
        """A maker of environments that live as long as the context."""
        ...


class Here:
    """This process, and worker processes for its environments.

    Args:
        shared: number of processes that share this machine's cores.
    """

    def __init__(self, shared: int = 1) -> None:
        self._cores = max(1, cores() // shared)
        self.threads = max(2, self._cores)

    @contextmanager
    def policy(self, opening: Opening, setting: Setting, spending: Spending) -> Iterator[Policy[Any]]:
        yield opening.open(spending)

    def environments(self, setting: Setting) -> AbstractContextManager[Callable[[], Environment]]:
        workers = self._cores if setting.workers is None else setting.workers
        return environments(setting.make, workers=workers, seconds=setting.seconds)


HERE: Place = Here()

__all__ = ["HERE", "Elsewhere", "Here", "Place", "Setting"]
