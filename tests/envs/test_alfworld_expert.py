"""ALFWorld's demonstrations win, and the handcoded expert sees no more than the agent."""

from __future__ import annotations

import pytest
from tests.envs.alfworld_data import GOLDEN, all_games, needs_all_games, packed, task

from trajtree.envs.alfworld import DOMAIN, TASK_TYPES, ALFWorld, ALFWorldMove, demonstrate, solve
from trajtree.envs.alfworld.game_files import Games
from trajtree.envs.alfworld.task_words import Errand, parse_errand
from trajtree.envs.domain import BUILT_IN, NoDemonstration, load_domain
from trajtree.trajectory import Outcome, Trajectory

TRAIN = [task(game) for game in packed("train").values()]
SEEN = [task(game) for game in packed("valid_seen").values()]


def test_the_short_name_loads_the_domain() -> None:
    assert load_domain("alfworld").environment is DOMAIN.environment and "alfworld" in BUILT_IN
    assert isinstance(DOMAIN.make(7), ALFWorld) and DOMAIN.make(7).max_steps("") == 7  # type: ignore[attr-defined]
    assert load_domain("trajtree.envs.alfworld:MOVE_DOMAIN").environment is ALFWorldMove


@pytest.mark.parametrize("kind", [ALFWorld, ALFWorldMove])
def test_demonstrations_win(kind: type[ALFWorld]) -> None:
    env = kind(folder=GOLDEN)
    for name in (*TRAIN, *SEEN):
        shown = demonstrate(env, name)
        assert isinstance(shown, Trajectory), shown
        assert shown.success and shown.outcome is Outcome.COMPLETED and shown.policy == "expert"
        assert len(shown.steps) <= 40 and shown.messages[0].content == kind.instruction


def test_the_games_own_actions_come_first() -> None:
    env = ALFWorld(folder=GOLDEN)
    for game in packed("train").values():
        shown = demonstrate(env, task(game))
        assert isinstance(shown, Trajectory)
        actions = [step.action for step in shown.steps]
        assert actions == game["gt_actions"] or len(game["gt_actions"]) > 40


def test_a_rejection_says_why() -> None:
    shown = demonstrate(ALFWorld(folder=GOLDEN, max_steps=2), TRAIN[0])
    assert isinstance(shown, NoDemonstration) and shown.task == TRAIN[0]
    assert "the limit is 2" in shown.reason and "handcoded expert does not win in 2 actions" in shown.reason


def test_the_expert_uses_what_the_agent_sees() -> None:
    source = set(solve.__code__.co_names)
    assert "admissible" in source and not source & {"_game", "state", "snapshot", "scene_of", "games_in"}


@pytest.mark.parametrize(
    ("said", "errand"),
    [
        ("look at cd under the desklamp", Errand("cd", lamp="desklamp")),
        ("examine the bowl with the floorlamp", Errand("bowl", lamp="floorlamp")),
        ("put two mug in shelf", Errand("mug", 2, where="shelf")),
        ("find two mug and put them in shelf", Errand("mug", 2, where="shelf")),
        ("put a hot egg in fridge", Errand("egg", verb="heat", where="fridge")),
        ("heat some egg and put it in fridge", Errand("egg", verb="heat", where="fridge")),
        ("cool some egg and put it in microwave", Errand("egg", verb="cool", where="microwave")),
        ("put a clean fork in drawer", Errand("fork", verb="clean", where="drawer")),
        ("put some vase on safe", Errand("vase", where="safe")),
        ("put a vase in safe", Errand("vase", where="safe")),
        ("fly to the moon", None),
    ],
)
def test_errands(said: str, errand: Errand | None) -> None:
    assert parse_errand(f"You see a room.\nYour task is to: {said}.") == errand


@needs_all_games
def test_the_handcoded_expert_solves_the_seen_rooms() -> None:
    folder = all_games()
    assert folder is not None
    games = Games(folder / "alfworld")
    env = ALFWorld(folder=games.folder)
    names = [name for kind in TASK_TYPES for split in ("dev", "test") for name in games.tasks(kind, split)]
    won = 0
    for name in names:
        solve(env, name)
        won += env.snapshot().won
    assert len(names) == 140
    # 140 of 140 when this was written.
    assert won >= 138
