"""Expert demonstrations for ScienceWorld: the simulator's own solutions, made imitable and verified by replay.

A gold path walks from door to door and refers to things by names that no observation shows ("baby baby mouse",
"flower pot 4 containing pea plant and soil in inventory"). An agent cannot learn that from what it sees, so the path
is rewritten first: one teleport instead of a walk, a look around after it, and the names that the listings use. The
rewritten path is played in the environment, and kept only if it earns the full score.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from trajtree.envs.domain import NoDemonstration
from trajtree.envs.jvm import shared_jvm
from trajtree.envs.replay import replay
from trajtree.envs.scienceworld.env import ScienceWorld, World, parse_task, simplifications_for
from trajtree.errors import EnvError
from trajtree.trajectory import Trajectory


def gold_actions(task: str, simplifications: str | None = None) -> list[str]:
    """The simulator's own solution of the task, which does not always reach the full score when played.

    Raises:
        KeyError: the task does not exist.
        EnvError: the simulator failed while planning.
    """
    from py4j.protocol import Py4JError

    in_force = simplifications_for(parse_task(task)[0]) if simplifications is None else simplifications
    try:
        with closing(World(shared_jvm(), task, in_force, gold=True)) as world:
            return world.gold()
    except Py4JError as error:
        raise EnvError(f"{task}: no gold path: {error}") from error


def demonstrate(env: ScienceWorld, task: str) -> Trajectory | NoDemonstration:
    """The most imitable version of the gold path that earns the full score.

    Raises:
        KeyError: the task does not exist.
        EnvError: the environment failed.
    """
    gold = gold_actions(task, env.simplifications(task))
    best, tried = 0.0, 0
    for actions in _versions(gold, env.simplifications(task)):
        if actions and len(actions) <= env.max_steps(task):
            trajectory = replay(env, task, actions, policy="expert")
            if trajectory.success:
                return trajectory
            best, tried = max(best, trajectory.score), tried + 1
    if not tried:
        return NoDemonstration(task, f"the gold path has {len(gold)} actions, the limit is {env.max_steps(task)}")
    return NoDemonstration(task, f"the gold path scores {best:.2f} when played")


def demonstrations(env: ScienceWorld, tasks: Iterable[str]) -> Iterator[Trajectory | NoDemonstration]:
    """`demonstrate` for every task, in order."""
    return (demonstrate(env, task) for task in tasks)


def _versions(gold: list[str], simplifications: str) -> Iterator[list[str]]:
    """Versions of the gold path, from most to least rewritten."""
    in_force = set(simplifications.split(","))
    hurried = [action for action in gold if action not in ("wait", "wait1")]
    if in_force & {"teleportAction", "easy"}:
        yield with_plain_names(with_teleports(hurried))
        yield with_teleports(hurried)
        yield with_teleports(gold)
    yield gold


def with_teleports(gold: Sequence[str]) -> list[str]:
    """Replace every walk by one `teleport to`, with a look around if the next action depends on the room.

    Only carrying something to a place that the task names needs no look.
    """
    actions: list[str] = []
    seen = False
    for action in gold:
        if action.startswith(("open door to ", "ERROR")):
            continue
        if action.startswith("go to "):
            if actions and actions[-1].startswith("teleport to "):
                actions.pop()
            actions.append(f"teleport to {action.removeprefix('go to ')}")
            seen = False
            continue
        delivers = re.match(r"move .* in inventory to ", action)
        if not seen and action != "look around" and not delivers:
            actions.append("look around")
        if action != "look around" or not seen:
            actions.append(action)
        seen = True
    return actions


def with_plain_names(actions: Sequence[str]) -> list[str]:
    """Use the names that listings show, instead of the simulator's internal ones."""
    plain: list[str] = []
    carried = ""
    for action in actions:
        text = re.sub(r"\b(\w+) \1\b", r"\1", action)
        text = re.sub(r"\begg (\w[\w ]*?)(?: egg)?(?= in | to |$)", r"\1 egg", text)
        text = re.sub(r"\badult ", "", text)
        if delivered := re.fullmatch(r"move .* in inventory to (.+)", text):
            text = f"move {carried} to {delivered[1]}" if carried else text
        text = text.removesuffix(" in inventory")
        if text.startswith("pick up "):
            carried = text.removeprefix("pick up ")
        plain.append(text)
    return plain
