"""The situation of a ScienceWorld task: what determines it, apart from the names of rooms and boxes.

The simulator makes a variation from parameters: things that it adds to the world or removes from it, and values that it
inserts into the task description. They are read from the simulator, without loading a world, so no table here can be
wrong for another version.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from trajtree.envs.jvm import SCIENCEWORLD, Jvm, shared_jvm, through_deaths
from trajtree.envs.scienceworld.env import parse_task

DECIDED_ALIKE = {"find-living-thing": "find-animal"}
"""Types whose variations with the same number are determined by the same things and so share a situation.

Both of these are solved with an animal from outside. Over 20 rows of the demo in three worlds, success in the two
correlates by .89, and by -.40 to .19 for every other pair of find types (`benchmarks/situations_between_types.py`).
"""


_LIST = re.compile(r"\(([^()]+(?:, [^()]+)+)\)")
"""The two planes of the inclined-plane types, which are named in random order."""


def situation(task: str) -> str:
    """The task description without rooms and boxes, and the kinds of things that the simulator adds to the world.

    Kinds, not names, because a red light bulb is used like a blue one. Containers are left out: boxes, cupboards, cups
    and pots only hold things, and the pots are chosen randomly. Takes about 10 ms per task.

    Raises:
        KeyError: there is no such task.
        EnvError: Java or the simulator is missing, or the virtual machine died repeatedly.
    """
    kind, variation = parse_task(task)
    return _situation(DECIDED_ALIKE.get(kind, kind), variation)


@cache
def _situation(kind: str, variation: int) -> str:
    def call() -> str:
        return _read(shared_jvm(), kind, variation)

    return through_deaths(SCIENCEWORLD, f"{kind}/{variation}", call, lambda: shared_jvm().kill())


@lru_cache(maxsize=1)
def _task_maker(jvm: Jvm) -> Any:
    """The simulator's tasks by name, valid as long as their virtual machine lives."""
    return jvm.interface().taskMaker()


def _read(jvm: Jvm, kind: str, variation: int) -> str:
    with jvm.lock:
        made = _task_maker(jvm).getTask(kind).get()
        words = str(made.setupGoals(variation).description())
        places, things = set[str](), set[str]()
        for part in made.getCombination(variation):
            what = str(part.getClass().getSimpleName())
            if what == "TaskDisable":
                things.add(f"no {part.name()}")
            elif what == "TaskObject":
                places.add(str(part.roomToGenerateIn()))
                example = part.exampleInstance()
                if example.isEmpty():
                    continue
                thing = example.get()
                if str(thing.getClass().getSimpleName()) == "AnswerBox":
                    places.add(str(part.name()))
                elif thing.propContainer().isEmpty():
                    things.add(str(thing.getClass().getSimpleName()))
    for place in sorted(places - {""}, key=len, reverse=True):
        words = re.sub(rf"\b{re.escape(place)}\b", "...", words)
    words = _LIST.sub(lambda found: f"({', '.join(sorted(found[1].split(', ')))})", words)
    words = " ".join(words.removeprefix("Your task is to ").split())
    return f"{kind}: {words} [{', '.join(sorted(things))}]"


__all__ = ["DECIDED_ALIKE", "situation"]
