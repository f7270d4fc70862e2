"""What the expert knows about the house: what it has seen, and where things usually are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_THING = re.compile(r"\ba ([a-z]+ \d+)")
_OFTEN_CLOSED = frozenset(("cabinet", "drawer", "fridge", "microwave", "safe"))
_HARDLY = 0.005
"""Assumed share of places that hold a thing that was never seen in such a place."""


@cache
def usual_places() -> dict[str, dict[str, float]]:
    """How often a place of each kind holds an object of each kind; from benchmarks/alfworld_usual_places.py."""
    text = files("trajtree.envs.alfworld").joinpath("usual_places.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, float]] = json.loads(text)
    return found


def kind(thing: str) -> str:
    """The kind of "cabinet 3" is "cabinet"."""
    return thing.split()[0]


def things(observation: str) -> list[str]:
    """The things that an observation lists after "you see"."""
    return _THING.findall(observation.partition("you see ")[2].partition("Your task is to")[0])


class Memory:
    """The places of a house, and what was seen in each."""

    def __init__(self, first_observation: str) -> None:
        self.places = things(first_observation)
        self.seen: dict[str, list[str]] = {}

    def where(self, what: str, but: Iterable[str] = ()) -> tuple[str, str] | None:
        """A seen thing of the kind `what`, except those in `but`, and its place."""
        left_alone = set(but)
        for place, inside in self.seen.items():
            for thing in inside:
                if kind(thing) == what and thing not in left_alone:
                    return thing, place
        return None

    def next_place(self, wanted: Iterable[str]) -> str | None:
        """The place not yet seen where one of the kinds `wanted` is likeliest found for the effort of looking."""
        tables = [usual_places().get(what, {}) for what in wanted]

        def promise(place: str) -> float:
            chance = sum(table.get(kind(place), _HARDLY) for table in tables)
            return chance / (2 if kind(place) in _OFTEN_CLOSED else 1)

        unseen = [place for place in self.places if place not in self.seen]
        # Of equals the lowest number first, as a person would.
        return max(reversed(unseen), key=promise, default=None)

    def of_kind(self, what: str) -> list[str]:
        """Places of a kind."""
        return [place for place in reversed(self.places) if kind(place) == what]


__all__ = ["Memory", "kind", "things", "usual_places"]
