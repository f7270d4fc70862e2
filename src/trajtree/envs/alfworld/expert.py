"""A handcoded expert that sees what the agent sees: the task description, observations, and admissible commands.

It looks where such things usually are, remembers what it saw where, and does the task's steps in order. It is not told
where anything is: it searches, occasionally for longer than the step limit, and everything it does can be learned
from what it sees.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeAlias

from trajtree.envs.alfworld.env import ALFWorld
from trajtree.envs.alfworld.task_words import Errand, parse_errand
from trajtree.envs.alfworld.usual_places import Memory, kind, things

_MACHINES = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}


class Seen(NamedTuple):
    """What the agent is shown after an action."""

    observation: str
    commands: Sequence[str]


Moves: TypeAlias = Generator[str, Seen, None]
"""Yields commands, is sent what is seen after each."""


def solve(env: ALFWorld, task: str) -> list[str]:
    """The expert's commands in the task, played in `env` until it wins, gives up, or the episode is truncated.

    Raises:
        KeyError: there is no such task.
        DataError: the games are missing or damaged.
    """
    first = env.reset(task)
    errand = parse_errand(first)
    commands: list[str] = []
    if errand is None:
        return commands
    expert = _Expert(errand, Seen(first, env.admissible()))
    moves = expert.moves()
    command = next(moves, None)
    while command is not None:
        commands.append(command)
        result = env.step(command)
        if result.terminated or result.truncated:
            break
        try:
            command = moves.send(Seen(result.observation, env.admissible()))
        except StopIteration:
            break
    return commands


class _Expert:
    """One episode of the expert. Its methods are generators: they yield a command and are sent its result."""

    def __init__(self, errand: Errand, first: Seen) -> None:
        self._errand, self._now = errand, first
        self._memory = Memory(first.observation)
        self._here = ""
        self._given_up: set[str] = set()

    def moves(self) -> Moves:
        """The whole episode."""
        if self._errand.lamp:
            yield from self._fetch(())
            yield from self._use_lamp()
            return
        placed: list[str] = []
        for _ in range(self._errand.count):
            done = self._already() if self._errand.count > 1 else placed
            thing = yield from self._fetch(done)
            if not thing:
                return
            yield from self._treat(thing)
            yield from self._put(thing)
            placed.append(thing)

    def _already(self) -> list[str]:
        """Things that are already where they belong."""
        target = self._target()
        return [t for t in self._memory.seen.get(target, ()) if kind(t) == self._errand.what] if target else []

    def _target(self) -> str | None:
        """The place to put things: one known to hold such a thing already, else the first."""
        places = self._memory.of_kind(self._errand.where)
        holding = [p for p in places if any(kind(t) == self._errand.what for t in self._memory.seen.get(p, ()))]
        return next(iter(holding if self._errand.count > 1 else ()), next(iter(places), None))

    def _do(self, command: str) -> Generator[str, Seen, bool]:
        """Give the command if it is admissible."""
        if command not in self._now.commands:
            return False
        self._now = yield command
        return True

    def _visit(self, place: str) -> Generator[str, Seen, None]:
        """Go there, open it if it is closed, and remember what is there."""
        if self._here != place or place not in self._memory.seen:
            moved = yield from self._do(f"go to {place}")
            if not moved:
                yield from self._do(f"examine {place}")
            self._here = place
        if f"open {place}" in self._now.commands:
            yield from self._do(f"open {place}")
        self._memory.seen.setdefault(place, [])
        if place in self._now.observation and "you see" in self._now.observation:
            self._memory.seen[place] = things(self._now.observation)

    def _fetch(self, but: Sequence[str]) -> Generator[str, Seen, str]:
        """Find a thing of the errand's kind and take it; returns its name, or "" if the house has none."""
        wanted = [self._errand.what]
        if self._errand.lamp and self._memory.where(self._errand.lamp) is None:
            wanted.append(self._errand.lamp)
        while True:
            found = self._memory.where(self._errand.what, {*but, *self._given_up})
            if found is None:
                place = self._memory.next_place(wanted)
                if place is None:
                    return ""
                yield from self._visit(place)
                continue
            thing, place = found
            if f"take {thing} from {place}" not in self._now.commands:
                yield from self._visit(place)
            taken = yield from self._do(f"take {thing} from {place}")
            if taken:
                self._memory.seen[place] = [other for other in self._memory.seen[place] if other != thing]
                return thing
            self._given_up.add(thing)

    def _treat(self, thing: str) -> Generator[str, Seen, None]:
        """Clean, heat or cool the thing in hand."""
        verb = self._errand.verb
        for machine in self._memory.of_kind(_MACHINES[verb]) if verb else ():
            yield from self._walk(machine)
            done = yield from self._do(f"{verb} {thing} with {machine}")
            if done:
                return

    def _walk(self, place: str) -> Generator[str, Seen, None]:
        """Go there without looking inside."""
        if self._here != place:
            yield from self._do(f"go to {place}")
            self._here = place

    def _put(self, thing: str) -> Generator[str, Seen, None]:
        """Put the thing in hand where it belongs, or in the next such place if it does not fit."""
        first = self._target()
        places = self._memory.of_kind(self._errand.where)
        for place in sorted(places, key=lambda place: place != first):
            yield from self._visit(place)
            for command in (f"put {thing} in/on {place}", f"move {thing} to {place}"):
                done = yield from self._do(command)
                if done:
                    self._memory.seen[place].append(thing)
                    return

    def _use_lamp(self) -> Generator[str, Seen, None]:
        """Find the lamp and switch it on."""
        while (found := self._memory.where(self._errand.lamp, self._given_up)) is None:
            place = self._memory.next_place([self._errand.lamp])
            if place is None:
                return
            yield from self._visit(place)
        lamp, place = found
        if f"use {lamp}" not in self._now.commands:
            yield from self._walk(place)
        yield from self._do(f"use {lamp}")


__all__ = ["Seen", "solve"]
