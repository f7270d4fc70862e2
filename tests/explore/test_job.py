"""Playing into a store outside recipes: when it stops, and what may be added to a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.explore.test_branching import Wanderer
from tests.toy import DOMAIN, Toy

from trajtree.errors import EnvError, RunError
from trajtree.explore.job import Job, play
from trajtree.explore.place import Here
from trajtree.explore.strategies import ExploreSettings
from trajtree.models.weights import ModelRef
from trajtree.policies.spending import Spending
from trajtree.store.progress import SILENT
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Sampling


class Dead(Toy):
    """Cannot be begun."""

    def reset(self, task: str) -> str:
        raise EnvError("no world")


DEAD = replace(DOMAIN, environment=Dead, make=lambda max_steps: Dead())


class Wandering(Here):
    """This machine, where a scripted policy plays instead of the model."""

    @contextmanager
    def policy(self, *opened: Any) -> Iterator[Wanderer]:
        yield Wanderer()


def job(**more: Any) -> Job:
    said: dict[str, Any] = {
        "env": "tests.toy:DOMAIN",
        "model": ModelRef("openai:stub@http://localhost:1/v1"),
        "tasks": tuple(f"toy/{number}" for number in range(6)),
        "strategy": "independent",
        "explored": ExploreSettings(4, [Sampling(1.0)]),
        "max_steps": None,
        "thoughts": False,
        "max_new_tokens": 8,
        "batch": 4,
        "dtype": "auto",
        "seed": 0,
        "workers": 0,
        "seconds": 9.0,
    }
    return Job(**{**said, **more})


def played(path: Path, **more: Any) -> TrajectoryStore:
    play(job(**more), path, Spending(), SILENT, Wandering())
    return TrajectoryStore(path)


def test_a_dead_environment_stops_it_where_all_episodes_of_a_wave_are_of_one_task(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"the environment failed in 8 of 8 episodes, 3 times each; in toy/0: no world"):
        played(tmp_path / "s.jsonl", env="tests.explore.test_job:DEAD")
    assert len(list(played(tmp_path / "t.jsonl"))) == 24


def test_rollouts_are_added_only_where_no_episode_branches_off(tmp_path: Path) -> None:
    """Branches have the sample numbers after the rollouts, so further rollouts would be taken for stored ones."""
    for path, strategy in ((tmp_path / "i.jsonl", "independent"), (tmp_path / "b.jsonl", "branching")):
        few, more = (ExploreSettings(rollouts, [Sampling(1.0)], None, 2) for rollouts in (3, 6))
        store = played(path, strategy=strategy, explored=few)
        before = path.read_bytes()
        assert any(t.origin is not None for t in store) == (strategy == "branching")
        if strategy == "branching":
            with pytest.raises(RunError, match="made with other settings: rollouts 3 then, 6 now; give the same"):
                played(path, strategy=strategy, explored=more)
            assert path.read_bytes() == before
            played(path, strategy=strategy, explored=few)
            assert path.read_bytes() == before
        else:
            assert len(list(played(path, explored=more))) == 36
