"""Rows that are one model, and rows whose chosen sides became less likely, are called out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.toy import TASKS, Toy, demonstrate

from trajtree.experiment.recipe import Recipe
from trajtree.experiment.stage import Done
from trajtree.experiment.statements import Statements
from trajtree.experiment.tasks import STORE
from trajtree.store.trajectory_store import TrajectoryStore

ROWS = ["weak", "strong_sft", "w2sg_exact", "w2sg_dpo", "treedpo_sft", "chosen_sft"]


def notes(
    figures: dict[str, Any], inputs: dict[str, str] | None = None, tasks: dict[str, int] | None = None
) -> list[str]:
    """What is said of rows whose trainings went so; `inputs` are the models that they were evaluated with.

    `tasks` are the numbers of tasks of those that were evaluated on fewer than there are.
    """
    sections = {"env": {"name": "tests.toy:DOMAIN"}, "tasks": {"types": ["toy"]}, "evaluate": {"rows": ROWS}}
    recipe = Recipe.model_validate({"name": "toy", **sections})
    done = {
        f"evaluate-{row}": Done(
            Path(row), "", 0, False, {"inputs": {"model": (inputs or {}).get(row, row)}, "settings": {"policy": row}}
        )
        for row in ROWS
    }
    for row, number in (tasks or {}).items():
        done[f"evaluate-{row}"].record["settings"]["tasks"] = number
    done |= {f"train-{row}": Done(Path(row), "", 0, False, {"figures": one}) for row, one in figures.items()}
    return Statements(recipe, done).notes()


def epochs(*both: tuple[float, float]) -> dict[str, Any]:
    return {"epochs": [{"loss": 1.0, "chosen": chosen, "rejected": rejected} for chosen, rejected in both]}


def test_a_row_whose_chosen_sides_fall_is_called_out() -> None:
    (said,) = notes({"w2sg_dpo": epochs((0.5, -1.0), (-1.25, -8.0)), "chosen_sft": {"epochs": [{"loss": 1.0}]}})
    assert said == (
        "W2SG + DPO at forks: the chosen sides became less likely in training. Mean log-ratio to the reference in the "
        "last of 2 epochs, in nats: chosen -1.25 (before: +0.00), rejected -8.00."
    )
    assert notes({"w2sg_dpo": epochs((-0.5, -1.0), (0.25, -8.0))}) == [], "the last epoch counts"


def test_with_another_reference_the_first_epoch_is_what_was_before() -> None:
    assert notes({"treedpo_sft": epochs((-30.0, -40.0))}) == []
    (said,) = notes({"treedpo_sft": epochs((-30.0, -40.0), (-31.0, -50.0))})
    assert said.startswith("TreeDPO as published, from strong SFT: ") and "chosen -31.00 (before: -30.00)" in said


def test_trainings_of_earlier_versions_say_nothing() -> None:
    assert notes({"w2sg_dpo": {}}) == []


@pytest.mark.parametrize("tasks", [{}, {"w2sg_dpo": 5}])
def test_equal_models_are_named(tasks: dict[str, int]) -> None:
    said = notes({}, {"w2sg_dpo": "same", "w2sg_exact": "same"}, tasks)
    assert said == [
        "W2SG + search (exact) and W2SG + DPO at forks are one model: their training data and settings are equal."
    ]


def test_all_players_of_an_exploration_are_named(tmp_path: Path) -> None:
    """A slot of the grid may be played by another row, and what that row learned from is behind the data too."""
    recipe = Recipe.model_validate(
        {
            "name": "toy",
            "env": {"name": "tests.toy:DOMAIN"},
            "tasks": {"types": ["toy"]},
            "weak": {"model": "org/small"},
            "explore": {"by": "weak_untouched", "grid": [{"temperature": 0.7}, {"temperature": 1.0, "by": "weak"}]},
        }
    )
    stages = ("demonstrations", "explore-weak")
    done = {name: Done(tmp_path / name, "", 0, False) for name in stages}
    for name in stages:
        (tmp_path / name).mkdir()
    (TrajectoryStore(tmp_path / "demonstrations" / STORE, create=True)).append(
        demonstrate(Toy(), task) for task in TASKS[:3]
    )
    said = Statements(recipe, done).of("w2sg_exact")
    assert said.data == "paths of Weak, untouched and Weak (teacher)'s runs (weak)"
    assert said.demonstrations == 3
