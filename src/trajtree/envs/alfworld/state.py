"""What changes in a game. States are immutable: an action makes a new one, so a snapshot is just the state."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

Contents: TypeAlias = "MappingProxyType[str, tuple[str, ...]]"
"""Sorted ids, by place."""

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class State:
    """The state of a game, in ids.

    Attributes:
        place: location of the agent.
        inside: by receptacle, the objects in or on it. An object may be in two overlapping receptacles.
        at: by location, the objects within reach, whether in a receptacle or not.
        held: the object in hand.
        opened: open receptacles.
        clean, hot, cool, sliced, toggled: objects in that condition.
        removed: (object, receptacle) pairs where the object was but no longer is.
    """

    place: str
    inside: Contents
    at: Contents
    held: str | None = None
    opened: frozenset[str] = NOTHING
    clean: frozenset[str] = NOTHING
    hot: frozenset[str] = NOTHING
    cool: frozenset[str] = NOTHING
    sliced: frozenset[str] = NOTHING
    toggled: frozenset[str] = NOTHING
    removed: frozenset[tuple[str, str]] = frozenset()


def contents(pairs: dict[str, set[str]]) -> Contents:
    """Frozen contents."""
    return MappingProxyType({where: tuple(sorted(ids)) for where, ids in pairs.items()})


def without(there: Contents, where: str, id: str) -> Contents:
    """Contents after removing `id` from `where`."""
    return MappingProxyType({**there, where: tuple(other for other in there.get(where, ()) if other != id)})


def with_(there: Contents, where: str, id: str) -> Contents:
    """Contents after adding `id` to `where`."""
    return MappingProxyType({**there, where: tuple(sorted({*there.get(where, ()), id}))})


__all__ = ["Contents", "State", "contents", "with_", "without"]
