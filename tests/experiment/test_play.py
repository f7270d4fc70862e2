"""Every task is played under the step limit of its type, and a stage in which most were lost is not finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import toy
from tests.explore.test_rollout import Scripted, winning

from trajtree.envs.base import Environment
from trajtree.errors import EnvError
from trajtree.experiment.play import evaluate, maker
from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Work
from trajtree.experiment.tasks import STORE, TASKS
from trajtree.explore.faults import check_sound
from trajtree.explore.place import Here
from trajtree.store.progress import SILENT
from trajtree.store.trajectory_store import TrajectoryStore
from trajtree.trajectory import Outcome, Trajectory

KINDS = {"even": toy.TASKS[::2], "odd": toy.TASKS[1::2]}


@pytest.mark.parametrize(
    ("limits", "made"), [({"odd": 3}, [None, 3, None]), ({"even": 4, "odd": 3}, [4, 3, 4]), (5, [5]), (None, [None])]
)
def test_step_limits_by_type(limits: object, made: list[int | None], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def make(limit: int | None) -> Environment:
        asked.append(limit)
        return toy.Toy()

    domain = replace(toy.DOMAIN, make=make, tasks=lambda kind, split: KINDS[kind])
    env = {"name": "tests.toy:DOMAIN", "max_steps": limits}
    recipe = Recipe.model_validate({"name": "toy", "env": env, "tasks": {"types": list(KINDS)}})
    for module in ("experiment.tasks", "experiment.play", "explore.workers"):
        monkeypatch.setattr(f"trajtree.{module}.load_domain", lambda name: domain)
    environment = maker(recipe, "dev")()
    for task in ("toy/0", "toy/1", "toy/3", "toy/2"):
        environment.reset(task)
    assert asked == made


class Winning(Here):
    """This machine, where a policy that wins plays instead of the row's model."""

    @contextmanager
    def policy(self, *opened: Any) -> Iterator[Scripted]:
        yield Scripted(winning)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("tasks", "broken", "said"),
    [
        (6, {0, 1, 2, 3, 4, 5}, r"failed in \d of \d episodes"),
        (12, {2, 3, 6, 7, 8, 10, 11}, r"failed in \d+ of \d+ episodes"),
        (6, {1, 4}, None),
        (2, {1}, None),
        (1, {0}, "failed in 1 of 1 episodes, 3 times each"),
        (0, set(), None),
    ],
)
def test_a_stage_in_which_most_tasks_were_lost_is_not_finished(
    tasks: int, broken: set[int], said: str | None, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in a wave; played again once the cause is gone, it has an episode of each task."""
    names = [f"toy/{number}" for number in range(tasks)]
    lost = {f"toy/{number}" for number in broken}

    class Breaks(toy.Toy):
        def reset(self, task: str) -> str:
            if task in lost:
                raise EnvError("no world")
            return super().reset(task)

    domain = replace(toy.DOMAIN, environment=Breaks, make=lambda max_steps: Breaks())
    monkeypatch.setattr(toy, "BREAKS", domain, raising=False)
    (tmp_path / TASKS).write_text(json.dumps({"test": {"toy": names}}))
    recipe = Recipe.model_validate(
        {
            "name": "toy",
            "env": {"name": "tests.toy:BREAKS"},
            "tasks": {"types": ["toy"]},
            "play": {"batch": batch, "workers": 0, "servers": {"weak": "openai:stub@http://localhost:1/v1"}},
        }
    )

    def play() -> None:
        evaluate(recipe, recipe.all_rows["weak"], Work(tmp_path, {"tasks": tmp_path}, SILENT, place=Winning()))

    if said is None:
        play()
    else:
        with pytest.raises(EnvError, match=said):
            play()
        lost.clear()
        play()
        assert all(t.success for t in TrajectoryStore(tmp_path / STORE))
    assert {t.task for t in TrajectoryStore(tmp_path / STORE, create=True)} == set(names)


def test_a_task_of_a_finished_stage_is_lost_only_with_all_of_its_episodes() -> None:
    """In one of its waves, one lost episode is enough: the others of that task have not been played yet."""
    shown = toy.demonstrate(toy.Toy(), "toy/0")
    assert isinstance(shown, Trajectory)
    lost = replace(shown, outcome=Outcome.ENV_ERROR, cause=None, error="it died")
    some = [replace(run, task=f"toy/{n}", sample=sample) for n in range(4) for sample, run in enumerate((shown, lost))]
    check_sound(some, wholly=True, fewest=1)
    with pytest.raises(EnvError, match="failed in 4 of 8 episodes"):
        check_sound(some)
    with pytest.raises(EnvError, match="failed in 4 of 4 episodes"):
        check_sound([run for run in some if run.outcome.is_fault], wholly=True, fewest=1)
