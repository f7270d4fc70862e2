"""ALFWorld says what textworld says, keeps the contract, and is answered by nothing that an agent may say."""

from __future__ import annotations

import random
import string
from collections import Counter
from typing import Any

import pytest
from tests.envs.alfworld_data import GOLDEN, packed, task, transcripts

from trajtree.envs.alfworld import ALFWorld, ALFWorldMove
from trajtree.envs.alfworld.game import Game
from trajtree.envs.alfworld.scene import Scene
from trajtree.envs.check import check_env
from trajtree.errors import DataError

GAMES = {**packed("valid_seen"), **packed("train")}
TASKS = [task(game) for game in GAMES.values()]
KINDS = {"put": ALFWorld, "move": ALFWorldMove}


def make(dialect: str = "put", **options: Any) -> ALFWorld:
    return KINDS[dialect](folder=GOLDEN, **options)


def scene(game: dict[str, Any]) -> Scene:
    return Scene.parse(game["pddl_problem"], game["goal"], game["id"])


def wander(env: ALFWorld, rng: random.Random, steps: int) -> list[str]:
    """Seeded admissible commands, rare verbs as often as common ones."""
    played = []
    for _ in range(steps):
        commands = env.admissible()
        verb = rng.choice(sorted({command.split()[0] for command in commands}))
        played.append(rng.choice([command for command in commands if command.split()[0] == verb]))
        if any(env.step(played[-1])[2:]):
            break
    return played


def test_every_transcript_of_textworld_is_ours_to_the_letter() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    verbs: Counter[str] = Counter()
    for told in transcripts():
        game = Game(scene(GAMES[told["game"]]), told["dialect"])
        where = f"{told['game']} {told['dialect']} {told['kind']}"
        assert (game.opening(), game.commands(), game.won) == (told["first"], told["admissible"], False), where
        for number, (action, observation, commands, won) in enumerate(told["steps"]):
            ours = (game.perform(action), game.commands(), game.won)
            assert ours == (observation, commands, won), f"{where}, action {number}: {action!r}"
            verbs[action.split()[0] if observation != "Nothing happens." else "-"] += 1
            kinds[told["kind"], told["dialect"]] += won
    assert {"look", "inventory", "help", "go", "open", "close", "take", "put", "move", "examine", "use"} <= verbs.keys()
    assert {"clean", "heat", "cool", "slice"} <= verbs.keys()
    assert kinds["expert", "put"] and kinds["expert", "move"]


def test_the_environment_shortens_two_texts_and_no_other() -> None:
    told = next(t for t in transcripts() if t["kind"] == "expert" and t["dialect"] == "put")
    name = task(GAMES[told["game"]])
    short, verbatim = make(), make(verbatim=True)
    assert verbatim.reset(name) == told["first"]
    banner, room, goal = told["first"].split("\n\n")
    assert banner.startswith("-=") and short.reset(name) == f"{room}\n{goal}"
    for action, observation, commands, _ in told["steps"]:
        assert verbatim.step(action).observation == observation
        _, arrived, rest = observation.partition(". ") if observation.startswith("You arrive at loc") else ("", "", "")
        assert short.step(action).observation == (rest if arrived else observation)
        assert short.admissible() == verbatim.admissible() == commands


@pytest.mark.parametrize("dialect", ["put", "move"])
def test_the_contract_holds(dialect: str) -> None:
    def actions(name: str) -> list[str]:
        env = make(dialect)
        env.reset(name)
        return wander(env, random.Random(name), 40)

    report = check_env(lambda: make(dialect), TASKS[:6], actions=actions)
    assert (report.name, report.version) == ("alfworld", f"1-{dialect}")
    assert report.episodes == 79


def test_winning_scores_one_and_ends_the_episode() -> None:
    game = next(game for game in packed("train").values() if len(game["gt_actions"]) <= 40)
    env = make()
    env.reset(task(game))
    results = [env.step(action) for action in game["gt_actions"]]
    assert [result.reward for result in results] == [0.0] * (len(results) - 1) + [1.0]
    assert results[-1].terminated and not any(result.terminated for result in results[:-1])
    assert env.step("look") == ("The episode is over.", 0.0, True, False)


def test_the_step_limit_truncates() -> None:
    env = make(max_steps=3)
    env.reset(TASKS[0])
    assert [env.step("look")[2:] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    assert env.step("look") == ("The episode is over.", 0.0, False, True)
    assert make().max_steps(TASKS[0]) == 40


def test_a_command_must_be_right_to_the_letter() -> None:
    env = make()
    env.reset(TASKS[0])
    command = next(command for command in env.admissible() if command.startswith("go to"))
    for wrong in (
        command.upper(),
        command.replace(" ", "  "),
        command + ".",
        "go to moon 1",
        "move x 1 to y 1",
        "help",
    ):
        assert env.step(wrong) == ("Nothing happens.", 0.0, False, False)
    assert env.step(f"  {command} ").observation != "Nothing happens."


def test_nothing_that_an_agent_says_breaks_it() -> None:
    rng = random.Random(0)
    env = make(max_steps=20_000)
    env.reset(TASKS[0])
    words = sorted({word for command in env.admissible() for word in command.split()} | {"put", "in/on", "{}", "%s"})
    letters = string.printable + "é☃🙂\ud800\x00"
    for number in range(10_000):
        if number % 2:
            said = " ".join(rng.choices(words, k=rng.randrange(8)))
        else:
            said = "".join(rng.choices(letters, k=rng.randrange(60)))
        result = env.step(said)
        assert isinstance(result.observation, str) and not result.truncated
    assert env.step("x" * 1_000_000).observation == "Nothing happens."


@pytest.mark.parametrize("dialect", ["put", "move"])
def test_a_snapshot_is_a_replay(dialect: str) -> None:
    for number, name in enumerate(TASKS):
        rng = random.Random(number)
        env, other = make(dialect), make(dialect)
        env.reset(name)
        prefix = wander(env, rng, 15)
        saved = env.snapshot()
        after = [(command, env.step(command), env.admissible()) for command in env.admissible()[:5]]
        env.restore(saved)
        other.reset(name)
        for command in prefix:
            other.step(command)
        assert env.snapshot() == other.snapshot() == saved
        for command, result, commands in after:
            assert env.step(command) == other.step(command) == result
            assert env.admissible() == other.admissible() == commands


def test_a_thousand_environments_do_not_disturb_one_another() -> None:
    envs = [make() for _ in range(1000)]
    rngs = [random.Random(number) for number in range(1000)]
    said: list[list[str]] = [[env.reset(TASKS[number % len(TASKS)])] for number, env in enumerate(envs)]
    for _ in range(8):
        for env, rng, heard in zip(envs, rngs, said, strict=True):
            heard += wander(env, rng, 1)
            heard.append("\n".join(env.admissible()))
    for number in range(0, 1000, 37):
        alone, rng = make(), random.Random(number)
        heard = [alone.reset(TASKS[number % len(TASKS)])]
        for _ in range(8):
            heard += wander(alone, rng, 1)
            heard.append("\n".join(alone.admissible()))
        assert heard == said[number]


def test_the_instructions_name_every_verb() -> None:
    for dialect, kind in KINDS.items():
        env = make(dialect)
        verbs = set()
        for name in TASKS:
            env.reset(name)
            for command in wander(env, random.Random(name), 40):
                verbs.add(command.split()[0])
        assert verbs <= set(kind.instruction.replace("\n", " ").split()), dialect
        assert ("put" if dialect == "put" else "move") in verbs


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "cut off"),
        (lambda text: text + ")", "not a single expression|unmatched closing"),
        (lambda text: text.replace("(:domain alfred)", "(:domain blocks)"), "domain alfred"),
        (lambda text: text.replace("(:goal", "(:aim"), "no :goal section"),
        (lambda text: text.replace("exists", "forall"), "forall"),
        (lambda text: text.replace("(atLocation agent1", "(notHere agent1"), "at 0 locations"),
        (lambda text: "", "not a single expression"),
    ],
)
def test_a_damaged_problem_is_named(damage: Any, message: str) -> None:
    game = next(iter(GAMES.values()))
    with pytest.raises(DataError, match=message) as error:
        Scene.parse(damage(game["pddl_problem"]), game["goal"], "games.jsonl, line 7")
    assert "games.jsonl, line 7, field pddl_problem" in str(error.value)


def test_a_deep_problem_is_no_crash() -> None:
    with pytest.raises(DataError, match="cut off"):
        Scene.parse("(" * 50_000, "", "here")
