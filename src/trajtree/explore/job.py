"""Playing into a store outside recipes: which tasks, how often, by whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajtree.envs.domain import load_domain
from trajtree.explore.branching import tree_maker
from trajtree.explore.made_with import claim
from trajtree.explore.place import HERE, Place, Setting
from trajtree.explore.rollout import explore
from trajtree.explore.strategies import STRATEGIES, ExploreSettings, Independent, independent
from trajtree.explore.workers import EnvMaker
from trajtree.models.weights import ModelRef, adapter_fingerprint, pick_dtype
from trajtree.policies.base import ServedPolicy
from trajtree.policies.opening import Opening, is_local, key_of_model
from trajtree.policies.spending import Spending
from trajtree.store.lock import locked
from trajtree.store.progress import Progress
from trajtree.store.trajectory_store import TrajectoryStore

_WAY_OUT = "give the same settings, or name another file with --out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to play, and how.

    Attributes:
        env: name of the environment, as recipes write it.
        model: who plays.
        tasks: which tasks.
        strategy: a name in STRATEGIES.
        explored: how much is explored.
        max_steps: step limit of an episode; the environment's own by default.
        thoughts: whether replies carry `Thought:` and `Action:` lines.
        max_new_tokens: longest reply.
        batch: episodes at once.
        dtype: of the arithmetic, where the model is here.
        seed: of the sampling.
        workers: processes that hold the environments; 0 for none, and then no time limit; None for the place's own
            number, which is one per core here.
        seconds: longest that an environment may take for one reset or step.
    """

    env: str
    model: ModelRef
    tasks: tuple[str, ...]
    strategy: str
    explored: ExploreSettings
    max_steps: int | None
    thoughts: bool
    max_new_tokens: int
    batch: int
    dtype: str
    seed: int
    workers: int | None
    seconds: float

    @property
    def name(self) -> str:
        """What trajectories and tables call the model."""
        return self.model.name if is_local(self.model.base) else key_of_model(self.model.base)["model"]

    @property
    def first_episodes(self) -> Independent:
        """The episodes from the tasks' beginnings: all of independent exploration without a budget."""
        return independent(self.tasks, self.explored.rollouts, self.explored.grid)

    @property
    def opening(self) -> Opening:
        """The policy, which is not open yet."""
        return Opening(
            ref=self.model,
            max_new_tokens=self.max_new_tokens,
            one_line=not self.thoughts,
            dtype=self.dtype,
            name=self.name,
        )

    @property
    def setting(self) -> Setting:
        """What it plays in."""
        return Setting(
            make=EnvMaker(self.env, self.max_steps),
            seed=self.seed,
            thoughts=self.thoughts,
            workers=self.workers,
            seconds=self.seconds,
        )

    def settings(self) -> dict[str, Any]:
        """What a store of such episodes is made with.

        Further tasks may be added, and further rollouts if every episode starts at the task's beginning. Where others
        branch off, these have the sample numbers from `rollouts` on.

        Raises:
            PolicyError: the model's name means nothing, or a folder holds no model.
        """
        domain = load_domain(self.env)
        explored = self.explored
        branching = {"rollouts": explored.rollouts, "branches": explored.branches}
        return {
            "env": {"name": self.env, "version": domain.environment.version, "data": domain.data()},
            "max_steps": self.max_steps,
            "thoughts": self.thoughts,
            "model": key_of_model(self.model.base),
            "adapters": [adapter_fingerprint(folder) for folder in self.model.adapters],
            "max_new_tokens": self.max_new_tokens,
            **({"dtype": pick_dtype(self.dtype)} if is_local(self.model.base) else {}),
            "strategy": self.strategy,
            **(branching if self.strategy != "independent" else {}),
            "sampling": [[sampling.temperature, sampling.top_p] for sampling in explored.grid],
            "seed": self.seed,
        }


def play(job: Job, path: Path, spending: Spending, progress: Progress, place: Place = HERE) -> None:
    """Play what a store lacks, and again what was lost to faults.

    Raises:
        RunError: another process plays into the store, or it was made with other settings or on another server.
        TrajtreeError: as `explore` and `Opening.open` do.
    """
    setting = job.setting
    taken = f"{path}: another process ({{holder}}) plays into it"
    with (
        locked(path.with_name(f".{path.name}.playing.lock"), taken),
        place.policy(job.opening, setting, spending) as policy,
    ):
        server = {"server": dict(policy.identity)} if isinstance(policy, ServedPolicy) else {}
        claim(path, {**job.settings(), **server}, _WAY_OUT)
        domain = load_domain(job.env)
        passes = STRATEGIES[job.strategy].passes(job.tasks, job.explored, tree_maker(domain.environment))
        with place.environments(setting) as make:
            explore(
                passes,
                policy,
                make,
                TrajectoryStore(path, create=True),
                seed=job.seed,
                batch=job.batch,
                parse=setting.parse,
                suffix=setting.suffix,
                progress=progress,
                threads=place.threads,
            )


__all__ = ["Job", "play"]
