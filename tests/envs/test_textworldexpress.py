"""TextWorldExpress as it really is: the protocol, the gold paths of every game, hostile actions, a dead Java."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from trajtree.envs import jvm
from trajtree.envs.check import check_env
from trajtree.envs.domain import load_domain
from trajtree.envs.jvm import TEXTWORLD_EXPRESS
from trajtree.envs.splits import read_splits
from trajtree.envs.textworldexpress import DOMAIN, GAMES, TextWorldExpress, demonstrate, gold_actions, parse_task
from trajtree.envs.textworldexpress.env import World
from trajtree.errors import EnvError
from trajtree.trajectory import Trajectory

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        jvm.package_folder(TEXTWORLD_EXPRESS), jvm.find_java()
    except EnvError as error:
        pytest.skip(str(error))


def test_it_keeps_the_protocol() -> None:
    tasks = [f"{game}/3" for game in GAMES]
    report = check_env(TextWorldExpress, tasks, actions=cache(gold_actions))  # twc's differ from call to call
    assert report.terminated >= 3 * len(GAMES)


@pytest.mark.parametrize("game", GAMES)
def test_gold_paths_win(game: str) -> None:
    env = TextWorldExpress()
    for split in ("train", "test"):
        shown = demonstrate(env, DOMAIN.tasks(game, split)[0])
        assert isinstance(shown, Trajectory), shown
        assert shown.success and len(shown.steps) <= 50
    env.close()


def words(tasks: Iterable[str]) -> set[str]:
    """The words of the tasks' solutions."""
    return {word for task in tasks for action in gold_actions(task) for word in re.findall("[a-z]+", action)}


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(
    ("game", "new"),
    [("arithmetic", 8), ("sorting", 8), ("simonsays", 8), ("peckingorder", 8), ("coin", 0), ("mapreader", 0)],
)
def test_in_four_games_the_splits_name_other_things(game: str, split: str, new: int) -> None:
    """The section on TextWorldExpress in docs/environments.md: why a model from scratch cannot win there."""
    known = words(DOMAIN.tasks(game, "train")[:25])
    assert sum(bool(words([task]) - known) for task in DOMAIN.tasks(game, split)[:8]) == new


def test_the_splits_of_the_branching_recipe_share_their_words() -> None:
    recipes = Path(__file__).parents[2] / "benchmarks" / "recipes"
    splits = read_splits(recipes / "textworldexpress-splits.json")
    assert words(splits.dev) | words(splits.test) <= words(splits.train)


def test_partial_credit_and_the_limit() -> None:
    env = TextWorldExpress(max_steps=20)
    env.reset("cookingworld/3")
    results = [env.step(action) for action in gold_actions("cookingworld/3")[:20]]
    assert results[-1].truncated and not results[-1].terminated
    assert 0 < sum(result.reward for result in results) < 1
    assert env.step("look around") == ("The game is over.", 0.0, False, True)
    env.close()


def test_nothing_that_is_said_breaks_it() -> None:
    env, rng = TextWorldExpress(max_steps=10_000), random.Random(0)
    env.reset("coin/5")
    for _ in range(500):
        said = "".join(
            chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x3000)])) for _ in range(rng.randrange(40))
        )
        result = env.step(said)
        assert result.observation is not None and not result.truncated
    env.close()


def test_it_survives_the_death_of_java() -> None:
    env = TextWorldExpress()
    gold = gold_actions("twc/2")
    env.reset("twc/2")
    half = len(gold) // 2
    rewards = [env.step(action).reward for action in gold[:half]]
    jvm.shared_jvm(TEXTWORLD_EXPRESS).kill()
    rewards += [env.step(action).reward for action in gold[half:]]
    assert sum(rewards) == pytest.approx(1.0)
    env.close()


def test_unknown_tasks() -> None:
    for task, what in {"chess/1": "no game", "coin/1500": "seeds are", "coin/x": "seeds are"}.items():
        with pytest.raises(KeyError, match=what):
            parse_task(task)
    assert load_domain("textworldexpress").environment is DOMAIN.environment


def test_a_situation_is_the_map_or_the_task() -> None:
    tasks = DOMAIN.tasks("twc", "train")[:60]
    maps = set(DOMAIN.situations(tasks).values())
    assert 1 < len(maps) < len(tasks), "three rooms have few maps"
    assert DOMAIN.situations(["sorting/3"]) == {"sorting/3": "sorting/3"}


@pytest.mark.parametrize("task", ["twc/0", "twc/1", "mapreader/1"])
def test_the_map_is_what_the_player_sees(task: str) -> None:
    world = World(jvm.shared_jvm(TEXTWORLD_EXPRESS), task)
    room = re.search(r"You are in the ([\w ]+)\.", world.opening)
    assert room is not None
    exits = re.findall(r"To the (\w+) you see the ([\w ]+)\.", world.opening)
    seen = sorted(f"{room[1]} {direction.lower()} {beyond}" for direction, beyond in exits)
    assert seen and seen == [door for door in world.doors() if re.match(rf"{room[1]} (north|south|east|west) ", door)]
    world.close()
