"""Every task is played under the step limit of its type."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import toy

from trajtree.envs.base import Environment
from trajtree.experiment.play import maker
from trajtree.experiment.recipe import Recipe

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
