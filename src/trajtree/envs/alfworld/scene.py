"""What does not change in a game: the furniture, what can be opened or cleaned, and the start."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from trajtree.envs.alfworld.goal import Goal
from trajtree.envs.alfworld.names import names
from trajtree.envs.alfworld.pddl import Fact, Problem, parse_problem
from trajtree.envs.alfworld.state import NOTHING, State, contents
from trajtree.errors import DataError


@dataclass(frozen=True, slots=True)
class Scene:
    """A game before anything is done in it; shared by all environments that play it.

    Attributes:
        task: the task description, without a full stop.
        names: name of each thing, by id.
        location: by receptacle, sorted by id, the location from which it is reached.
        reached: by location, its receptacles, sorted.
        fits: for each object, the types of receptacle that can hold it.
        receptacle_type: by receptacle.
        inner: by object that can hold others (a bowl, a box), the objects in it, sorted; may be empty.
        knives: objects that cut.
        start: the state at the beginning.
        goal: what must be true in the end.
    """

    task: str
    names: dict[str, str]
    location: dict[str, str]
    reached: dict[str, tuple[str, ...]]
    receptacle_type: dict[str, str]
    fits: dict[str, frozenset[str]]
    inner: dict[str, tuple[str, ...]]
    openable: frozenset[str]
    pickupable: frozenset[str]
    cleanable: frozenset[str]
    heatable: frozenset[str]
    coolable: frozenset[str]
    toggleable: frozenset[str]
    sliceable: frozenset[str]
    knives: frozenset[str]
    start: State
    goal: Goal

    @classmethod
    def parse(cls, pddl_problem: str, task: str, where: str = "game") -> Scene:
        """The scene of a PDDL problem; `task` describes its goal, `where` names it in errors.

        Raises:
            DataError: it is not a problem of this domain, or contains something that the domain does not allow.
        """
        return _Facts(parse_problem(pddl_problem, where), where).scene(task.rstrip("."))


class _Facts:
    """The facts of a problem by predicate."""

    def __init__(self, problem: Problem, where: str) -> None:
        self._problem, self._where = problem, where
        self._by: defaultdict[str, list[Fact]] = defaultdict(list)
        for predicate, *arguments in problem.facts:
            self._by[predicate].append(tuple(arguments))

    def scene(self, task: str) -> Scene:
        location = self._function("receptacleatlocation")
        kinds: dict[str, set[str]] = self._relation("objecttype")
        holders = self._relation("cancontain", inverse=True)
        reached: defaultdict[str, list[str]] = defaultdict(list)
        for receptacle in sorted(location):
            reached[location[receptacle]].append(receptacle)
        inner = {id: set[str]() for id in self._set("isreceptacleobject")}
        for id, outer in self._pairs("inreceptacleobject"):
            inner.setdefault(outer, set()).add(id)
        return Scene(
            task=task,
            names=names(id for fact in self._problem.facts for id in fact[1:]),
            location={receptacle: location[receptacle] for receptacle in sorted(location)},
            reached={place: tuple(receptacles) for place, receptacles in reached.items()},
            receptacle_type=self._function("receptacletype"),
            fits={id: frozenset().union(*(holders.get(k, NOTHING) for k in kind)) for id, kind in kinds.items()},
            inner={id: tuple(sorted(inner[id])) for id in self._set("isreceptacleobject")},
            openable=self._set("openable"),
            pickupable=self._set("pickupable"),
            cleanable=self._set("cleanable"),
            heatable=self._set("heatable"),
            coolable=self._set("coolable"),
            toggleable=self._set("toggleable"),
            sliceable=self._set("sliceable"),
            knives=frozenset(id for id, kind in kinds.items() if kind & {"knifetype", "butterknifetype"}),
            start=self._start(),
            goal=Goal(self._problem, self._where),
        )

    def _start(self) -> State:
        places = [fact for fact in self._by["atlocation"] if len(fact) == 2]
        if len(places) != 1:
            raise DataError(f"{self._where}, field pddl_problem: the agent is at {len(places)} locations, not at one")
        held = sorted(id for _, id in self._pairs("holds"))
        if len(held) > 1:
            raise DataError(f"{self._where}, field pddl_problem: the agent holds {len(held)} objects, it has one hand")
        return State(
            place=places[0][1],
            inside=contents(self._relation("inreceptacle", inverse=True)),
            at=contents(self._relation("objectatlocation", inverse=True)),
            held=held[0] if held else None,
            opened=self._set("opened"),
            clean=self._set("isclean"),
            hot=self._set("ishot"),
            cool=self._set("iscool"),
            sliced=self._set("issliced"),
            toggled=self._set("istoggled"),
        )

    def _set(self, predicate: str) -> frozenset[str]:
        return frozenset(fact[0] for fact in self._by[predicate] if fact)

    def _pairs(self, predicate: str) -> list[tuple[str, str]]:
        for fact in self._by[predicate]:
            if len(fact) != 2:
                raise DataError(f"{self._where}, field pddl_problem: {predicate} needs two arguments, has {fact}")
        return [(fact[0], fact[1]) for fact in self._by[predicate]]

    def _relation(self, predicate: str, *, inverse: bool = False) -> dict[str, set[str]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for first, second in self._pairs(predicate):
            if inverse:
                found[second].add(first)
            else:
                found[first].add(second)
        return dict(found)

    def _function(self, predicate: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for first, second in self._pairs(predicate):
            if found.setdefault(first, second) != second:
                raise DataError(f"{self._where}, field pddl_problem: {predicate} gives {first!r} two values")
        return found


__all__ = ["Scene"]
