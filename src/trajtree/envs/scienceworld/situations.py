"""The situation of a ScienceWorld task: what determines it, apart from the names of rooms and boxes.

The simulator makes a variation from parameters: things that it adds to the world or removes from it, and values that it
inserts into the task description. They are read from the simulator, without loading a world, so that apart from
`DECIDED_ALIKE` and `_DECIDING` no table here can be wrong for another version.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from typing import Any

from trajtree.envs.jvm import SCIENCEWORLD, Jvm, shared_jvm, through_deaths
from trajtree.envs.scienceworld.env import parse_task

DECIDED_ALIKE = {"find-living-thing": "find-animal"}
"""Types whose variations with the same number are determined by the same things and so share a situation.

Both of these are solved with an animal from outside. Over 20 rows of the demo's earlier form in three worlds, success
in the two correlates by .89, and by -.40 to .19 for every other pair of find types
(`benchmarks/situations_between_types.py`).
"""

_DECIDING = {
    "lifespan-longest-lived": slice(1),
    "lifespan-shortest-lived": slice(-1, None),
    "lifespan-longest-lived-then-shortest-lived": slice(1),
}
"""Which of the added things decide a task, where not all do.

A lifespan variation adds one of five long-lived animals, then one of five in between, then one of five short-lived
ones, and what has to be named is the first or the last. A model that knows one of the five wins all of its variations.
Where both have to be named, the long-lived one counts: naming a wrong one first ends the task. Tasks that share the
short-lived one are related too, which this does not count.
"""

_LIST = re.compile(r"\(([^()]+(?:, [^()]+)+)\)")
"""The two planes of the inclined-plane types, which are named in random order."""


def situation(task: str) -> str:
    """The task description without rooms and boxes, and the kinds of things in the world that decide the task.

    Kinds, not names, because a red light bulb is used like a blue one. Containers are left out: boxes, cupboards, cups
    and pots only hold things, and the pots are chosen randomly. Takes a few milliseconds per task.

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


class _Variations:
    """What the simulator's tasks are made from, valid as long as its virtual machine lives."""

    def __init__(self, jvm: Jvm) -> None:
        self._maker = jvm.interface().taskMaker()
        # What a part says, as JSON, by the part. Variations are combinations of the same few parts, and each question
        # to the simulator is a message to Java and back; the map is Java's, because only there is a part itself.
        self._said = jvm.identity_map()

    def of(self, kind: str, variation: int) -> tuple[str, set[str], list[str]]:
        """A variation's description, the names of its rooms and boxes, and the kinds of its other things, in order."""
        made = self._maker.getTask(kind).get()
        words = str(made.setupGoals(variation).description())
        places, things = set[str](), list[str]()
        for part in made.getCombination(variation):
            said = self._said.get(part)
            if said is None:
                said = json.dumps(_part(part))
                self._said.put(part, said)
            its_places, its_things = json.loads(said)
            places.update(its_places)
            things += its_things
        return words, places, things


_variations = lru_cache(maxsize=1)(_Variations)


def _part(part: Any) -> tuple[list[str], list[str]]:
    """The names of rooms and boxes that a part of a variation mentions, and the kinds of other things."""
    what = str(part.getClass().getSimpleName())
    if what == "TaskDisable":
        return [], [f"no {part.name()}"]
    if what != "TaskObject":
        return [], []
    room, example = str(part.roomToGenerateIn()), part.exampleInstance()
    if example.isEmpty():
        return [room], []
    thing = example.get()
    kind = str(thing.getClass().getSimpleName())
    if kind == "AnswerBox":
        return [room, str(part.name())], []
    return [room], [kind] if thing.propContainer().isEmpty() else []


def _read(jvm: Jvm, kind: str, variation: int) -> str:
    with jvm.lock:
        words, places, things = _variations(jvm).of(kind, variation)
    for place in sorted(places - {""}, key=len, reverse=True):
        words = re.sub(rf"\b{re.escape(place)}\b", "...", words)
    words = _LIST.sub(lambda found: f"({', '.join(sorted(found[1].split(', ')))})", words)
    words = " ".join(words.removeprefix("Your task is to ").split())
    deciding = set(things[_DECIDING.get(kind, slice(None))])
    return f"{kind}: {words} [{', '.join(sorted(deciding))}]"


__all__ = ["DECIDED_ALIKE", "situation"]
