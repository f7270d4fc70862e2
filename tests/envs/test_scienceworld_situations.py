"""Which variations of ScienceWorld are one situation, told by the simulator and seen in its worlds."""

from __future__ import annotations

from contextlib import closing

import pytest

from trajtree.envs import jvm
from trajtree.envs.scienceworld import DOMAIN, TASK_TYPES, ScienceWorld, situation, situations, splits
from trajtree.envs.scienceworld.situations import DECIDED_ALIKE
from trajtree.errors import EnvError
from trajtree.trajectory import Trajectory

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
FIND = ("find-animal", "find-plant", "find-non-living-thing")
INCIDENTAL = ("the agent", "air", "an axe", "fire pit", "fountain", "the ground", "wood", "shovel", "adult bee")


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        jvm.package_folder(), jvm.find_java()
    except EnvError as error:
        pytest.skip(str(error))


def told(kind: str, split: str, step: int = 1) -> list[str]:
    return [situation(f"{kind}/{number}") for number in splits(kind, split)[::step]]  # type: ignore[arg-type]


def outside(task: str) -> tuple[str, ...]:
    """The animals that stand outside, as the agent sees them."""
    with closing(ScienceWorld()) as env:
        env.reset(task)
        env.step("teleport to outside")
        here = env.step("look around").observation.split("You also see")[0].splitlines()[1:]
    return tuple(sorted(line.strip() for line in here if line and not any(word in line for word in INCIDENTAL)))


@pytest.mark.parametrize("kind", FIND)
def test_rooms_and_boxes_make_no_situation(kind: str) -> None:
    # In blocks of 30 variations: 5 rooms, 6 boxes. One block is halved between dev and test.
    train, dev, test = (set(told(kind, split, 15)) for split in ("train", "dev", "test"))
    assert (len(train), len(dev), len(test)) == (5, 3, 3)
    assert not train & (dev | test) and len(dev & test) == 1


def test_a_block_is_one_situation_throughout() -> None:
    assert len(set(told("find-animal", "train"))) == 5
    assert told("find-animal", "train") == sorted(told("find-animal", "train"), key=told("find-animal", "train").index)


def test_what_decides_two_types_is_one_situation_for_both() -> None:
    assert DECIDED_ALIKE == {"find-living-thing": "find-animal"}
    for number in range(0, 300, 30):
        assert situation(f"find-living-thing/{number}") == situation(f"find-animal/{number}")
        assert situation(f"find-plant/{number}") != situation(f"find-animal/{number}")
    assert outside("find-living-thing/40") == outside("find-animal/40")


def test_situations_are_what_the_agent_sees_outside() -> None:
    tasks = [f"find-animal/{number}" for number in (0, 7, 29, 30, 150, 299)]
    seen = {task: outside(task) for task in tasks}
    same_told = {(a, b) for a in tasks for b in tasks if situation(a) == situation(b)}
    same_seen = {(a, b) for a in tasks for b in tasks if seen[a] == seen[b]}
    assert same_told == same_seen


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("lifespan-longest-lived", (5, 5, 5)),
        ("lifespan-shortest-lived", (5, 5, 5)),
        ("lifespan-longest-lived-then-shortest-lived", (5, 5, 5)),
        ("chemistry-mix", (8, 4, 4)),
        ("chemistry-mix-paint-secondary-color", (2, 2, 1)),
        ("identify-life-stages-2", (4, 2, 4)),
        ("power-component", (10, 5, 5)),
        ("use-thermometer", (15, 5, 15)),
    ],
)
def test_situations_of_other_types(kind: str, counts: tuple[int, int, int]) -> None:
    assert tuple(len(set(told(kind, split))) for split in ("train", "dev", "test")) == counts


@pytest.mark.parametrize("kind", ["longest-lived", "shortest-lived", "longest-lived-then-shortest-lived"])
def test_what_has_to_be_named_is_the_situation(kind: str) -> None:
    tasks = [f"lifespan-{kind}/{number}" for number in (0, 1, 2, 31, 62, 124)]
    named = {}
    for task in tasks:
        with closing(ScienceWorld()) as env:
            shown = DOMAIN.demonstrate(env, task)
        assert isinstance(shown, Trajectory)
        named[task] = next(step.action for step in shown.steps if step.action.startswith("focus on"))
    same_told = {(a, b) for a in tasks for b in tasks if situation(a) == situation(b)}
    assert same_told == {(a, b) for a in tasks for b in tasks if named[a] == named[b]}
    assert 1 < len(set(named.values())) < len(tasks)


def test_colours_of_lights_make_none_but_what_is_powered_does() -> None:
    assert situation("test-conductivity/0") == situation("test-conductivity/1")
    assert len({situation(f"test-conductivity/{number}") for number in range(0, 75)}) == 3, "bulb, buzzer, motor"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_situation_is_drawn_by_lot(seed: int) -> None:
    # The simulator draws flower pots and the order of inclined planes when it sets up its list of tasks.
    tasks = [f"{kind}/{number}" for kind, it in TASK_TYPES.items() for number in (0, 1, it.variations - 1)]
    before = DOMAIN.situations(tasks)
    situations._situation.cache_clear()
    situations._variations.cache_clear()
    jvm.shared_jvm().seed(seed)
    assert DOMAIN.situations(tasks) == before


def test_parts_that_variations_share_are_asked_for_once() -> None:
    situations._situation.cache_clear()
    situations._variations.cache_clear()
    assert len(told("find-plant", "train")) == 150, "of eleven parts each"
    assert 11 < situations._variations(jvm.shared_jvm())._said.size() < 300


def test_it_survives_the_death_of_java() -> None:
    before = situation("find-plant/1")
    jvm.shared_jvm().kill()
    situations._situation.cache_clear()
    assert situation("find-plant/1") == before


def test_an_unknown_task() -> None:
    with pytest.raises(KeyError, match="find-plant/0 to find-plant/299"):
        situation("find-plant/300")
